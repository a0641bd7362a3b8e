//! Decodes Envoy's messages to the model, from any control plane. Called by `resource_cache.rs` with the bytes of one
//! resource. Every field that the proxy does not support is rejected with its path.
//!
//! Each message is destructured without `..`. So a field that Envoy adds is a compile error until it is decoded,
//! rejected or explicitly ignored here.

#![expect(deprecated, reason = "deprecated fields are destructured, too: decoded or rejected")]

mod action;
mod chain;
mod cluster;
mod cors;
mod field_cursor;
mod headers;
mod listener;
mod metadata;
mod plugin;
mod protocol_options;
mod retry;
mod route;
mod tcp;
mod tls;
mod upstream_tls;
mod value;

use prost::Message;
use weir_model::{Rejection, ResourceId};

pub(crate) use chain::{FilterEntry, RouteSource};
pub(crate) use cluster::{DecodedCluster, EndpointSource, cluster, endpoints};
use field_cursor::FieldCursor;
pub(crate) use listener::{DecodedListener, listener};
pub(crate) use plugin::extension;
pub(crate) use route::{DecodedHost, DecodedRoute, DecodedRouteTable, route_table};
pub(crate) use tls::secret;

/// Decodes one resource with `read`, which reports rejections through the cursor.
///
/// # Errors
/// Returns all rejections of the resource.
fn decode_resource<M: Message + Default, T>(
    resource: &ResourceId,
    bytes: &[u8],
    read: impl FnOnce(M, &FieldCursor<'_>) -> Option<T>,
) -> Result<T, Vec<Rejection>> {
    let faults = std::cell::RefCell::default();
    let cursor = FieldCursor::new(resource, &faults);
    let read = match M::decode(bytes) {
        Ok(message) => read(message, &cursor),
        Err(error) => {
            cursor.reject(&format!("is no message of its type: {error}"), "");
            None
        }
    };
    let faults = faults.into_inner();
    match read {
        Some(read) if faults.is_empty() => Ok(read),
        _ => Err(faults),
    }
}
