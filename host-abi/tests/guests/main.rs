//! Runs small guests, written in the WebAssembly text format, in real VMs: what the contract says, and what hostile guests do.
//!
//! One binary for all of it, because each one links the whole engine.

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
mod refusals;
#[cfg(test)]
mod wasi;
