//! Runs small guests, written in the WebAssembly text format, in real VMs. Covers the ABI and hostile guests.
//!
//! All tests are in one binary, because each binary links the whole engine.

#[cfg(test)]
#[path = "../test_host/mod.rs"]
mod test_host;
#[cfg(test)]
mod cache;
#[cfg(test)]
mod calls;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod rejected_modules;
#[cfg(test)]
mod wasi;
