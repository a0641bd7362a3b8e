//! Status of proxies and objects: the resources that each proxy serves and rejects, and the proxies that serve each
//! object.

mod objects;
mod overridden;
mod blocked;
mod proxies;

pub use objects::{Condition, ObjectStatus, Programmed, StatusInputs};
pub use proxies::{ConnectedProxies, FailedResource, ProxyState, ProxyStatus};
