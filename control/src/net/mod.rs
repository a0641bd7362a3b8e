//! Listeners of the process, with bounds. No client can use up the file descriptors of another listener.
//!
//! ```text
//! socket ─► accept ─► connections (bounds; evicts idle ones) ─┬─► http_server (API, modules)
//!                                                             └─► preface ─► tonic (xDS, CA)
//! ```

// From the top: each module imports only modules below it. The blank lines keep rustfmt from sorting them.

// Serves the API and modules: HTTP/1 and HTTP/2, plaintext and TLS.
mod http_server;

// Bodies with a deadline.
mod body_timeout;

// Connections that close after an idle time.
mod idle;

// Connections that must begin with an HTTP/2 preface.
mod preface;

// The accept loop, and TLS handshakes.
mod accept;

// The open connections of a listener and their bounds.
mod connections;

// The limit on file descriptors, and the share of each listener.
mod file_descriptors;

pub(crate) use accept::{accept_next, accept_tls};
pub(crate) use body_timeout::BODY_TIMEOUT_REASON;
pub(crate) use connections::{ConnectionLimits, Connections};
pub(crate) use file_descriptors::ConnectionShares;
pub(crate) use http_server::{ClientAddr, HttpServer};
pub(crate) use preface::PrefaceStream;
