//! Runs the compiled filter in `weir-proxy`, from `cargo test`.
//!
//! ```no_run
//! use weir_sdk::testing::{self, Harness};
//!
//! # fn main() -> Result<(), testing::Error> {
//! let module = testing::build(env!("CARGO_MANIFEST_DIR"))?; // cargo build --target wasm32-unknown-unknown
//! let harness = Harness::new(module).config(r#"{"stamp": "hello"}"#).start()?;
//!
//! let response = harness.get("/anything").header("accept", "text/plain").send()?;
//!
//! assert_eq!(response.status(), 200);
//! assert_eq!(response.upstream().and_then(|request| request.header("x-stamp")).as_deref(), Some("hello"));
//! # Ok(())
//! # }
//! ```
//!
//! The tests do not build a Wasm engine; they start `weir-proxy`. Its path is the variable `WEIR_PROXY`, else the
//! folders above the test (`target/debug`), else `PATH`.
//!
//! ```text
//!  test ─► weir-proxy (a folder of resources, port 0) ─► filter ─► Origin (a thread of the test, port 0)
//! ```

mod build;
mod error;
mod temp_dir;
mod harness;
mod origin;
mod proxy;

pub mod http;

pub use build::{build, build_with_profile};
pub use error::Error;
pub use harness::{Harness, Pending, Response, Running};
pub use origin::Origin;
pub use proxy::Proxy;
pub use temp_dir::TempDir;
