//! Whole-proxy tests: a real `weir-proxy` between scripted origins and asserting clients. One binary, by subject.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod requests; // What a request looks like on the other side, in both protocols.
mod wire; // HTTP/1 byte by byte.
mod scenarios; // Every file in `scenarios/`: what a route matches, and what it does to a request.
mod tcp; // Bytes of any kind.
mod routing; // Shares, mirrors, redirects, timeouts.
mod canary; // The routing filter: versions, shares, who sticks where.
mod no_bypass; // No request reaches an upstream by a route whose filters did not run.
mod failures; // Who failed and why.
mod filters; // What filters can do to a request and an answer.
mod pauses; // Filters that wait.
mod filter_failures; // Filters that fail, and who is hurt.
mod isolation; // A VM for each request.
mod shared_vm; // One VM for several filters; services; access logs.
mod limits; // Bounds on what one downstream may ask for.
mod streaming; // Long bodies, flat memory, back-pressure.
mod config_change; // A change serves, a bad one changes nothing.
mod listeners; // Listeners come, go and move.
mod drain; // The end of a process.
mod admin; // Pages for operators, and the command line's answers.
mod refusals; // What only a proxy can see of a bad change.
mod control_api; // The control plane: applied, refused, rolled back, told; who may do what.
mod bundles; // Filters pushed to the control plane: tried, signed, named, deleted.
mod access_policy; // Who may do what.
mod https; // Certificates for the world, by host.
mod identity; // Who proves to be whom, and who is refused.
mod api_tls; // The control API by TLS.
mod workloads; // Endpoints that register themselves.
mod permissive; // A mesh on its way.
mod given_ca; // An authority above the mesh.
