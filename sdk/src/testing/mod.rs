//! Run the compiled filter in the real proxy, from `cargo test`.
//!
//! ```no_run
//! use weir_sdk::testing::{self, Harness};
//!
//! # fn main() -> Result<(), testing::Error> {
//! let module = testing::build(env!("CARGO_MANIFEST_DIR"))?; // cargo build --target wasm32-unknown-unknown
//! let harness = Harness::new(module).config(r#"{"stamp": "hello"}"#).start()?;
//!
//! let answer = harness.get("/anything").header("accept", "text/plain").send()?;
//!
//! assert_eq!(answer.status(), 200);
//! assert_eq!(answer.upstream().and_then(|request| request.header("x-stamp")).as_deref(), Some("hello"));
//! # Ok(())
//! # }
//! ```
//!
//! What runs is `weir-proxy` itself, so a filter's author never builds a Wasm engine. It is looked for in the
//! variable `WEIR_PROXY`, then beside the test (`target/debug`), then on `PATH`.
//!
//! ```text
//!  test ─► weir-proxy (a folder of resources, port 0) ─► filter ─► Origin (a thread of the test, port 0)
//! ```

mod build;
mod error;
mod folder;
mod harness;
mod origin;
mod proxy;

pub mod http;

pub use build::{build, build_with_profile};
pub use error::Error;
pub use folder::TestFolder;
pub use harness::{Answer, Harness, Pending, Running};
pub use origin::Origin;
pub use proxy::Proxy;
