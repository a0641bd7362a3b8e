//! Whole-proxy tests: a real `weir-proxy` between scripted origins and asserting clients. One binary, by subject.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod requests; // Requests and responses in both protocols: bodies, trailers, headers, connections.
mod http1_wire; // HTTP/1 byte by byte.
mod http1_cases; // HTTP/1 messages that other proxies mishandle.
mod http1_cuts; // HTTP/1 connections that are cut anywhere.
mod http1_bounds; // Bounds of HTTP/1 exchanges.
mod message_framing; // Lengths of filters, trailers and bodies that could break the framing.
mod scenarios; // The files in `scenarios/`: route matches, and edits of requests.
mod tcp; // TCP listeners and network filters.
mod routing; // Weights, mirrors, redirects, timeouts.
mod dns; // Endpoints from DNS.
mod unix_sockets; // Endpoints on Unix sockets.
mod retries; // Retries of routes, and retry budgets.
mod outlier_detection; // Endpoints that are left out.
mod cors; // Cross-origin requests.
mod grpc_route; // GRPCRoutes, and filters of backends.
mod grpc_replies; // Local replies and deadlines of gRPC requests.
mod canary; // The routing filter: versions, weights, sticky users.
mod no_bypass; // Invariant I9: no request bypasses the filters of its route.
mod upgrades; // WebSockets and other protocols that a request switches to.
mod failures; // Upstream and downstream failures: statuses, response flags, faults.
mod filters; // Filters that edit requests and responses.
mod filter_pause; // Filters that pause a stream.
#[path = "conformance/probe_script.rs"]
mod probe_script; // The script and log of the probe.
mod faults; // The fault filter: delays and aborts.
mod pause_for; // Pauses for a time, by filters of the SDK.
mod filter_calls; // Hostcalls that modules of other makers make.
mod filter_failures; // Filters that fail.
mod isolation; // One VM per request, VM recycling, limits of filters.
mod shared_vm; // One VM for several filters, singleton filters, log filters.
mod limits; // Limits per downstream connection and request.
mod client_traffic_policy; // ClientTrafficPolicies: bounds.
mod connection_timeouts; // ClientTrafficPolicies: timeouts.
mod backend_traffic_policy; // BackendTrafficPolicies: bounds and timeouts of connections to endpoints.
mod header_case; // Upper and lower case of header names.
mod streaming; // Long bodies, flat memory, backpressure.
mod config_change; // Changes of resources in files.
mod listeners; // Listeners that are added, removed and moved.
mod drain; // Graceful shutdown.
mod xds_removal; // Listeners that the control plane removes.
mod admin; // Admin pages, and errors of the command line.
mod rejections; // Rejections that depend on modules, filters and sockets.
mod control_api; // The control plane's API and the `weir` tool.
mod api_bounds; // Bounds of the control plane's listeners.
mod api_errors; // Errors of the API.
mod api_round_trip; // Printed objects that are applied again.
mod api_secrets; // Secrets of objects in the API.
mod cli_output; // Output of the `weir` tool.
mod secret_refs; // Values of Secrets in Filters and AuthorizationPolicies.
mod release_upgrade; // Folders that an older release wrote.
mod bundles; // Bundles in the control plane: pushed, signed, used, deleted.
mod authorization_policy; // AuthorizationPolicies.
mod revoked_access; // AuthorizationPolicies that end streams in flight.
mod https; // Certificates by host.
mod identity; // Workload identities and mutual TLS.
mod api_tls; // The control plane's API by TLS.
mod workload_registration; // Endpoints that register themselves.
mod permissive_mtls; // A mesh that still accepts plaintext.
mod external_ca; // A CA that signs with keys from files.
