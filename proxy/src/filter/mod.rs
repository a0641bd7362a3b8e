//! A request's way through its filter chain.
//!
//! ```text
//! event ─► driver (stations, outlets) ─► call ─► host-abi: guest ─► hostcalls ─► host ─► exchange
//! ```
//!
//! `driver.rs` decides, `call.rs` enters guests, `host.rs` answers what they ask.

mod driver;
mod exchange;
mod chain;
mod station;
mod outlet;
mod reply;
mod event;
mod facts;
mod plugin;

pub(crate) use driver::ChainDriver;
pub(crate) use event::{Event, LocalReply, MessageEnd, Side};
pub(crate) use exchange::Exchange;
pub(crate) use facts::Facts;
pub(crate) use outlet::Piece;
pub(crate) use plugin::ActivePlugin;
