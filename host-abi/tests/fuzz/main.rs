//! Fuzz tests of the host: serialized maps, property paths, pointers, and whole guests that call any function from any
//! callback. For any input the process survives, a guest accesses only its own data, and a failed VM stays dead.
//!
//! ```text
//! bytes ──► FuzzInput ──► map, path, arguments, or guest with events ──► real VMs ──► assertions
//!   ▲                                                                       │
//!   └── mutation ◄── pool of inputs with new coverage ◄─────────────────────┘
//! ```
//!
//! Each target replays its folder of `corpus/` and then runs new inputs for `WEIR_SECONDS`; 600 seconds were run for
//! acceptance. A failure prints the input, and the seed for `WEIR_SEED`. `WEIR_KEEP=1` rewrites the corpus.

#[cfg(test)]
#[path = "../test_host/mod.rs"]
mod test_host;
#[cfg(test)]
mod calls; // Arguments, writes and results of each hostcall.
#[cfg(test)]
mod fuzz_input; // Decisions decoded from bytes.
#[cfg(test)]
mod guest; // Generated guests.
#[cfg(test)]
mod vm_model; // Generated events, checked against a model of the VM.
#[cfg(test)]
mod maps; // Target: serialized maps.
#[cfg(test)]
mod pointers; // Target: pointers and lengths.
#[cfg(test)]
mod properties; // Target: property paths.
#[cfg(test)]
mod test_guest; // A guest that makes the requested calls.
#[cfg(test)]
mod run; // Replays, mutates and stores inputs.
#[cfg(test)]
mod sequences; // Target: whole guests.
