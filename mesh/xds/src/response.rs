//! An encoded response. It shares resources with all other streams and is written in chunks as the client reads, so a
//! push to a thousand clients does not make a thousand copies.
//!
//! The chunks concatenate to what `prost` would encode.

use std::collections::VecDeque;
use std::sync::Arc;

use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use crate::limits::RESPONSE_CHUNK_BYTES;
use crate::proto::{DeltaDiscoveryResponse, DiscoveryResponse, control_plane};
use crate::protocol::Protocol;
use crate::resource_set::{NamedResource, VersionedResource};
use crate::resource_type::ResourceType;

/// `resources`, the same field in `DiscoveryResponse` and `DeltaDiscoveryResponse`.
const RESOURCES: u32 = 2;

// Fields of `Resource`.
const VERSION: u32 = 1;
const RESOURCE: u32 = 2;
const NAME: u32 = 3;

// Fields of `Any`.
const TYPE_URL: u32 = 1;
const VALUE: u32 = 2;

/// The nonce of a response, and the id of the mesh that sends it, if it has one.
#[derive(Debug, Clone)]
pub(crate) struct ResponseStamp<'a> {
    pub(crate) nonce: String,
    pub(crate) mesh: Option<&'a str>,
}

/// A response that is encoded chunk by chunk.
#[derive(Debug)]
pub struct ChunkedResponse {
    protocol: Protocol,
    /// All fields but `resources`, encoded.
    head: Vec<u8>,
    resources: VecDeque<NamedResource>,
    length: usize,
}

impl ChunkedResponse {
    /// Creates a `DeltaDiscoveryResponse`.
    pub(crate) fn delta(
        resource_type: ResourceType,
        updated: Vec<NamedResource>,
        removed: &[Arc<str>],
        stamp: ResponseStamp<'_>,
    ) -> Self {
        let head = DeltaDiscoveryResponse {
            type_url: resource_type.type_url(),
            removed_resources: removed.iter().map(|name| name.as_ref().to_owned()).collect(),
            nonce: stamp.nonce,
            control_plane: Some(control_plane(stamp.mesh)),
            ..DeltaDiscoveryResponse::default()
        };
        Self::new(Protocol::Delta, head.encode_to_vec(), updated)
    }

    /// Creates a SotW `DiscoveryResponse` with all resources of the type.
    pub(crate) fn state(resource_type: ResourceType, all: Vec<NamedResource>, stamp: ResponseStamp<'_>) -> Self {
        let head = DiscoveryResponse {
            version_info: stamp.nonce.clone(),
            type_url: resource_type.type_url(),
            nonce: stamp.nonce,
            control_plane: Some(control_plane(stamp.mesh)),
            ..DiscoveryResponse::default()
        };
        Self::new(Protocol::StateOfTheWorld, head.encode_to_vec(), all)
    }

    fn new(protocol: Protocol, head: Vec<u8>, resources: Vec<NamedResource>) -> Self {
        let len = |(name, resource): &NamedResource| field_len(RESOURCES, entry_len(protocol, name, resource));
        let length = head.len() + resources.iter().map(len).sum::<usize>();
        Self { protocol, head, resources: resources.into(), length }
    }

    /// Returns the length of the whole message in bytes, including chunks that were already taken.
    pub fn encoded_len(&self) -> usize {
        self.length
    }

    /// Returns the next chunk, of about [`RESPONSE_CHUNK_BYTES`]; `None` at the end of the message.
    pub fn next_chunk(&mut self) -> Option<Vec<u8>> {
        let mut chunk = std::mem::take(&mut self.head);
        while chunk.len() < RESPONSE_CHUNK_BYTES {
            let Some((name, resource)) = self.resources.pop_front() else { break };
            write_key(RESOURCES, entry_len(self.protocol, &name, &resource), &mut chunk);
            write_entry(self.protocol, &name, &resource, &mut chunk);
        }
        (!chunk.is_empty()).then_some(chunk)
    }

    /// Encodes the rest of the message at once.
    pub fn into_bytes(mut self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.length);
        while let Some(chunk) = self.next_chunk() {
            bytes.extend_from_slice(&chunk);
        }
        bytes
    }
}

/// Length of one entry of `resources`: a `Resource`, or in SotW an `Any`.
fn entry_len(protocol: Protocol, name: &str, resource: &VersionedResource) -> usize {
    let any = any_len(resource);
    match protocol {
        Protocol::Delta => {
            field_len(VERSION, resource.version.len()) + field_len(RESOURCE, any) + field_len(NAME, name.len())
        }
        Protocol::StateOfTheWorld => any,
    }
}

fn write_entry(protocol: Protocol, name: &str, resource: &VersionedResource, out: &mut Vec<u8>) {
    if protocol == Protocol::Delta {
        write_field(VERSION, resource.version.as_bytes(), out);
        write_field(NAME, name.as_bytes(), out);
        write_key(RESOURCE, any_len(resource), out);
    }
    write_field(TYPE_URL, resource.resource.type_url.as_bytes(), out);
    write_field(VALUE, &resource.resource.value, out);
}

fn any_len(resource: &VersionedResource) -> usize {
    field_len(TYPE_URL, resource.resource.type_url.len()) + field_len(VALUE, resource.resource.value.len())
}

/// Length of a length-delimited field, including its key and length prefix.
fn field_len(number: u32, bytes: usize) -> usize {
    key_len(number) + encoded_len_varint(bytes as u64) + bytes
}

fn write_key(number: u32, bytes: usize, out: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(bytes as u64, out);
}

fn write_field(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    write_key(number, bytes.len(), out);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{Any, Resource};

    fn resources(count: usize) -> Vec<NamedResource> {
        let one = |number: usize| {
            let value = vec![7; number * 37];
            let resource = Any { type_url: "type.googleapis.com/x".to_owned(), value };
            (
                Arc::from(format!("name-{number}")),
                Arc::new(VersionedResource { version: format!("v{number}"), resource }),
            )
        };
        (0..count).map(one).collect()
    }

    fn stamp(nonce: &str) -> ResponseStamp<'static> {
        ResponseStamp { nonce: nonce.to_owned(), mesh: Some("a") }
    }

    #[test]
    fn chunks_concatenate_to_the_encoding_of_prost() {
        for count in [0, 1, 3, 500] {
            let put = resources(count);
            let removed = [Arc::from("gone")];
            let mut response = ChunkedResponse::delta(ResourceType::Cluster, put.clone(), &removed, stamp("17"));
            let length = response.encoded_len();
            let mut bytes = Vec::new();
            while let Some(chunk) = response.next_chunk() {
                assert!(chunk.len() < RESPONSE_CHUNK_BYTES + 500 * 37 + 200, "{}", chunk.len());
                bytes.extend_from_slice(&chunk);
            }
            assert_eq!(bytes.len(), length);
            let read = DeltaDiscoveryResponse::decode(&*bytes).unwrap();
            assert_eq!((read.nonce.as_str(), read.removed_resources), ("17", vec!["gone".to_owned()]));
            let resource = |(name, resource): NamedResource| Resource {
                name: name.to_string(),
                version: resource.version.clone(),
                resource: Some(resource.resource.clone()),
                ..Resource::default()
            };
            assert_eq!(read.resources, put.clone().into_iter().map(resource).collect::<Vec<_>>());

            let state = ChunkedResponse::state(ResourceType::Cluster, put.clone(), stamp("18"));
            let length = state.encoded_len();
            let bytes = state.into_bytes();
            assert_eq!(bytes.len(), length);
            let read = DiscoveryResponse::decode(&*bytes).unwrap();
            assert_eq!((read.nonce.as_str(), read.version_info.as_str()), ("18", "18"));
            assert_eq!(read.resources, put.iter().map(|(_, named)| named.resource.clone()).collect::<Vec<_>>());
        }
    }
}
