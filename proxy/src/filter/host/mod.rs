//! The proxy as a guest sees and changes it during a call: [`ProxyHost`] answers hostcalls from the stream, the VM and the
//! callouts of the plugin. Commands for streams are queued in their exchanges, effects in the worker's queue; both happen
//! after the call. Nothing here calls a guest or spawns a task.
//!
//! ```text
//! guest ─► hostcalls (weir_host_abi::Host) ─► scope: which stream? ─► header_map, properties, body_edit
//!                                          └► callouts: may it, and is there a permit? ─► Effect::StartHttpCallout
//! ```

mod hostcalls; // Answers hostcalls.
mod callouts; // Admits callouts.
mod guest_reply; // Local replies of guests.
mod scope; // What one call into a guest may read and change.
mod body_edit; // Replaces a range of a body.
mod properties; // Properties of a stream, by path.
mod header_map; // Header maps as guests see them.
mod header_names; // Interned header names.

pub(crate) use header_map::{header_count, trailer_count};
pub(crate) use scope::{CallScope, CurrentStream, ProxyHost};
