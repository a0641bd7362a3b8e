//! Protobuf to model: what another control plane may send, refused by field where we do not support it. Called by
//! `held.rs` with the bytes of one resource. Every message is taken apart without `..`, so that a field that Envoy adds
//! does not compile until somebody has decided what it means here.

#![expect(deprecated, reason = "deprecated fields are named too: understood, or refused")]

mod action;
mod cluster;
mod fault;
mod listener;
mod metadata;
mod plugin;
mod route;
mod tcp;
mod tls;
mod value;

use prost::Message;
use weir_model::{Rejection, ResourceId};

pub(crate) use cluster::{DecodedCluster, Members, cluster, endpoints};
use fault::Spot;
pub(crate) use listener::{DecodedListener, FilterEntry, RouteSource, listener};
pub(crate) use plugin::extension;
pub(crate) use route::{DecodedHost, DecodedRoute, DecodedRouteTable, route_table};
pub(crate) use tls::secret;

/// Decodes one resource with `read`, which refuses through the spot that it is given.
fn whole<M: Message + Default, T>(
    resource: &ResourceId,
    bytes: &[u8],
    read: impl FnOnce(M, &Spot<'_>) -> Option<T>,
) -> Result<T, Vec<Rejection>> {
    let faults = std::cell::RefCell::default();
    let spot = Spot::new(resource, &faults);
    let read = match M::decode(bytes) {
        Ok(message) => read(message, &spot),
        Err(error) => {
            spot.refuse(&format!("is no message of its type: {error}"), "");
            None
        }
    };
    let faults = faults.into_inner();
    match read {
        Some(read) if faults.is_empty() => Ok(read),
        _ => Err(faults),
    }
}
