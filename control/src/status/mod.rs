//! What became of what was told: each proxy with what it serves and refuses, and of each object how many proxies have it.

mod objects;
mod proxies;

pub use objects::{Condition, ObjectStatus, Programmed, Seen};
pub use proxies::{FailedResource, ProxyBook, ProxyEntry, ProxyStatus};
