//! Filter bundles: one file that is a Wasm module, says what it is, and shows who signed it. It is still the module that
//! every host runs: what is ours lies in custom sections, which hosts skip.
//!
//! ```text
//! \0asm  1   sections of the module …   weir.manifest   weir.signature   weir.signature
//!            └──────────────── signed ────────────────┘   key, signature
//! ```
//!
//! Pure: bytes in, bytes out. Whether a module loads and what its manifest means is said elsewhere.

// What a file holds, and how the parts are put into it.
pub mod file;

// Who signs, and whether they did.
pub mod key;

// Every bound.
pub mod limits;

pub use file::{Bundle, BundleError};
pub use key::{KeyError, PublicKey, SigningKey};
