//! Shared data, queues and metrics, ready-made for hosts.
