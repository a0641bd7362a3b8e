//! The wire between the planes: xDS v3 with Envoy's own types. Translation and protocol state, without IO.
//!
//! ```text
//!   control plane                                                                    proxy
//!  Snapshot ─► encode ─► Offer ─► ServerState ──(delta or state of the world)──► ClientState ─► decode ─► Held ─► Snapshot
//!                                     ▲                                              │                     │
//!                                     └────────────── ACK, or NACK with field paths ─┴── what it asks for ◄┘
//! ```
//!
//! One stream carries all kinds of resources (ADS). Each side keeps what the other one holds; a resource is known by its
//! name and its version, which is the hash of what it says. What is not supported is refused by name, never ignored.

// From the top: each module uses only those below it. (The blank lines keep the formatter from sorting them.)

// What a proxy has been told so far, and the snapshot that it amounts to.
pub mod held;

// What a proxy holds, as bytes.
pub mod saved;

// The proxy's side of a stream.
pub mod client;

// The control plane's side of a stream.
pub mod server;

// What a peer has asked for and holds of one kind, and what remains to be said to it.
mod subscription;

// A response on its way.
pub mod outgoing;

// The two protocols, and what requests say.
pub mod protocol;

// What a proxy says of what it has accepted.
pub mod report;

// Everything that a proxy can be told, ready to be sent.
pub mod offer;

// Protobuf to model.
pub mod decode;

// Model to protobuf.
pub mod encode;

// Who is told.
pub mod audience;

// Kinds of resources.
pub mod kind;

// Envoy's types, and a few of our own.
pub mod proto;

// Every bound.
pub mod limits;

pub use audience::Audience;
pub use client::ClientState;
pub use encode::own_secrets;
pub use held::Held;
pub use kind::Kind;
pub use offer::Offer;
pub use outgoing::Outgoing;
pub use report::Report;
pub use saved::SavedResource;
pub use server::ServerState;
