//! Filter bundles: a Wasm module with its manifest and its signatures in one file. Manifest and signatures are custom
//! sections, which hosts skip, so a bundle is a valid module for every host.
//!
//! ```text
//! \0asm  1   sections of the module …   weir.manifest   weir.signature   weir.signature
//!            └──────────────── signed ────────────────┘   key, signature
//! ```
//!
//! Reads bytes and returns bytes; no IO. Other crates parse the manifest and load the module.

// Reads and writes bundles.
pub mod bundle;

// Keys that sign, and keys that verify.
pub mod key;

// Every bound.
pub mod limits;

pub use bundle::{Bundle, BundleError};
pub use key::{KeyError, PublicKey, SigningKey};
