//! Writes Weir filters in Rust.
//!
//! This complete filter sets a header on every request to the upstream:
//!
//! ```
//! use weir_sdk::{Action, HttpFilter, Rc, RequestHeaders};
//!
//! #[derive(serde::Deserialize)]
//! struct Config {
//!     stamp: String,
//! }
//!
//! struct Stamp(Rc<Config>);
//!
//! impl HttpFilter for Stamp {
//!     type Config = Config;
//!     fn new(config: &Rc<Config>) -> Self {
//!         Self(Rc::clone(config))
//!     }
//!     fn on_request_headers(&mut self, request: &mut RequestHeaders) -> Action {
//!         request.set("x-stamp", &self.0.stamp);
//!         Action::Continue
//!     }
//! }
//!
//! weir_sdk::register!(Stamp);
//! # fn main() {}
//! ```
//!
//! Compile it as a `cdylib` for `wasm32-unknown-unknown` and name the file in a `Filter` resource:
//!
//! ```yaml
//! apiVersion: weir.dev/v1alpha1
//! kind: Filter
//! metadata: {name: stamp, namespace: default}
//! spec:
//!   targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: everything}]
//!   module: {file: ./stamp.wasm}
//!   config: {stamp: hello}
//! ```
//!
//! The callbacks of a stream, in order (`*` any number of times, `?` at most once):
//!
//! ```text
//!  on_request_headers ─► on_request_body* ─► on_request_trailers?  ─►  upstream
//!                                                                        │
//!  on_log ◄─ on_response_trailers? ◄─ on_response_body* ◄─ on_response_headers
//! ```
//!
//! Each callback returns an [`Action`]: continue, pause (the host buffers the message until a callout resumes it), pause
//! for a time, or a [`Reply`] that is sent instead. This crate never panics on the content of a request.
//!
//! The crate is a layer on [`proxy_wasm`], so a module runs in every Proxy-Wasm host, including Envoy. The module
//! `testing` (not on wasm32) runs the compiled filter in `weir-proxy` from `cargo test`.

pub mod register;

#[doc(hidden)]
pub mod dispatch;

mod stream;
mod pauses;
mod timer;

pub mod callout;
pub mod filter;

pub mod body;
pub mod headers;
pub mod reply;

pub mod random;
pub mod clock;
pub mod matching;
pub mod path;
pub mod config;
pub mod access_log;
pub mod metrics;
pub mod property;
pub mod shared;

mod raw;
mod wasi;
pub mod memory;

pub mod error;

#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

pub use body::Body;
pub use callout::{CallResponse, HttpCall};
pub use config::NoConfig;
pub use error::HostError;
pub use filter::{Action, HttpFilter, StreamEnd};
pub use headers::{Headers, RequestHeaders, ResponseHeaders};
pub use reply::Reply;

pub use log;
pub use proxy_wasm;
pub use std::rc::Rc;
