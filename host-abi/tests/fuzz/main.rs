//! Nonsense for the host: serialized maps, property paths, pointers, and whole guests that call anything from anywhere.
//! Whatever comes, the process lives, a guest reaches nothing but what is its own, and a VM that failed stays dead.
//!
//! ```text
//! bytes ──► choices ──► a map, a path, arguments, a guest with its life ──► real VMs ──► what must hold
//!   ▲                                                                         │
//!   └── changed a little ◄── kept, when a call answered what it had not answered before
//! ```
//!
//! Each target replays its folder of `corpus/` and then goes on with new inputs for `WEIR_SECONDS`; 600 is what was
//! accepted. A failure prints the input, and the seed for `WEIR_SEED`. `WEIR_KEEP=1` writes the corpus anew.

#[cfg(test)]
mod calls; // What each hostcall takes, may write and may answer.
#[cfg(test)]
mod choices; // Bytes read as decisions.
#[cfg(test)]
mod guest; // Guests made from decisions.
#[cfg(test)]
mod life; // What happens to a guest, made from decisions.
#[cfg(test)]
mod maps; // Target: serialized maps.
#[cfg(test)]
mod pointers; // Target: pointers and lengths.
#[cfg(test)]
mod properties; // Target: property paths.
#[cfg(test)]
mod puppet; // A guest that makes the calls that it is told to make.
#[cfg(test)]
mod run; // Replays, changes, counts and keeps inputs.
#[cfg(test)]
mod sequences; // Target: whole guests.
