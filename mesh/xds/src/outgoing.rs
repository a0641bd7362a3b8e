//! A response on its way: what it says first, and the resources that it shares with everybody who gets them. It becomes
//! bytes piece by piece, as the peer takes them in, so that a thousand peers that are told everything do not cost a
//! thousand copies of it.

use std::collections::VecDeque;
use std::sync::Arc;

use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use crate::kind::Kind;
use crate::limits::RESPONSE_PIECE_BYTES;
use crate::offer::{Named, Offered};
use crate::proto::{CONTROL_PLANE, ControlPlane, DeltaDiscoveryResponse, DiscoveryResponse};
use crate::protocol::Protocol;

/// `resources`: in both protocols' responses.
const RESOURCES: u32 = 2;

// Fields of `Resource`.
const VERSION: u32 = 1;
const RESOURCE: u32 = 2;
const NAME: u32 = 3;

// Fields of `Any`.
const TYPE_URL: u32 = 1;
const VALUE: u32 = 2;

/// A response on its way.
#[derive(Debug)]
pub struct Outgoing {
    protocol: Protocol,
    /// Everything but the resources, encoded.
    head: Vec<u8>,
    resources: VecDeque<Named>,
    length: usize,
}

impl Outgoing {
    /// A response of the delta protocol.
    pub(crate) fn delta(kind: Kind, put: Vec<Named>, removed: &[Arc<str>], nonce: String) -> Self {
        let head = DeltaDiscoveryResponse {
            type_url: kind.type_url(),
            removed_resources: removed.iter().map(|name| name.as_ref().to_owned()).collect(),
            nonce,
            control_plane: Some(ControlPlane { identifier: CONTROL_PLANE.to_owned() }),
            ..DeltaDiscoveryResponse::default()
        };
        Self::new(Protocol::Delta, head.encode_to_vec(), put)
    }

    /// A response that says the state of the world.
    pub(crate) fn state(kind: Kind, all: Vec<Named>, nonce: String) -> Self {
        let head = DiscoveryResponse {
            version_info: nonce.clone(),
            type_url: kind.type_url(),
            nonce,
            control_plane: Some(ControlPlane { identifier: CONTROL_PLANE.to_owned() }),
            ..DiscoveryResponse::default()
        };
        Self::new(Protocol::StateOfTheWorld, head.encode_to_vec(), all)
    }

    fn new(protocol: Protocol, head: Vec<u8>, resources: Vec<Named>) -> Self {
        let of = |(name, offered): &Named| field_len(RESOURCES, entry_len(protocol, name, offered));
        let length = head.len() + resources.iter().map(of).sum::<usize>();
        Self { protocol, head, resources: resources.into(), length }
    }

    /// Bytes of the whole message, before any of it was taken.
    pub fn encoded_len(&self) -> usize {
        self.length
    }

    /// The next bytes: about [`RESPONSE_PIECE_BYTES`], or what is left; nothing at the end.
    pub fn next_piece(&mut self) -> Option<Vec<u8>> {
        let mut piece = std::mem::take(&mut self.head);
        while piece.len() < RESPONSE_PIECE_BYTES {
            let Some((name, offered)) = self.resources.pop_front() else { break };
            put_key(RESOURCES, entry_len(self.protocol, &name, &offered), &mut piece);
            put_entry(self.protocol, &name, &offered, &mut piece);
        }
        (!piece.is_empty()).then_some(piece)
    }

    /// All of it at once.
    pub fn into_bytes(mut self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.length);
        while let Some(piece) = self.next_piece() {
            bytes.extend_from_slice(&piece);
        }
        bytes
    }
}

/// What stands in `resources`: a `Resource`, or in the state of the world the `Any` alone.
fn entry_len(protocol: Protocol, name: &str, offered: &Offered) -> usize {
    let any = any_len(offered);
    match protocol {
        Protocol::Delta => {
            field_len(VERSION, offered.version.len()) + field_len(RESOURCE, any) + field_len(NAME, name.len())
        }
        Protocol::StateOfTheWorld => any,
    }
}

fn put_entry(protocol: Protocol, name: &str, offered: &Offered, out: &mut Vec<u8>) {
    if protocol == Protocol::Delta {
        put_field(VERSION, offered.version.as_bytes(), out);
        put_field(NAME, name.as_bytes(), out);
        put_key(RESOURCE, any_len(offered), out);
    }
    put_field(TYPE_URL, offered.resource.type_url.as_bytes(), out);
    put_field(VALUE, &offered.resource.value, out);
}

fn any_len(offered: &Offered) -> usize {
    field_len(TYPE_URL, offered.resource.type_url.len()) + field_len(VALUE, offered.resource.value.len())
}

/// Bytes of a field of so many bytes with its key and its length.
fn field_len(number: u32, bytes: usize) -> usize {
    key_len(number) + encoded_len_varint(bytes as u64) + bytes
}

fn put_key(number: u32, bytes: usize, out: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(bytes as u64, out);
}

fn put_field(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    put_key(number, bytes.len(), out);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{Any, Resource};

    fn offered(count: usize) -> Vec<Named> {
        let one = |number: usize| {
            let value = vec![7; number * 37];
            let resource = Any { type_url: "type.googleapis.com/x".to_owned(), value };
            (Arc::from(format!("name-{number}")), Arc::new(Offered { version: format!("v{number}"), resource }))
        };
        (0..count).map(one).collect()
    }

    #[test]
    fn pieces_are_what_prost_would_write() {
        for count in [0, 1, 3, 500] {
            let put = offered(count);
            let removed = [Arc::from("gone")];
            let mut outgoing = Outgoing::delta(Kind::Cluster, put.clone(), &removed, "17".to_owned());
            let length = outgoing.encoded_len();
            let mut bytes = Vec::new();
            while let Some(piece) = outgoing.next_piece() {
                assert!(piece.len() < RESPONSE_PIECE_BYTES + 500 * 37 + 200, "{}", piece.len());
                bytes.extend_from_slice(&piece);
            }
            assert_eq!(bytes.len(), length);
            let read = DeltaDiscoveryResponse::decode(&*bytes).unwrap();
            assert_eq!((read.nonce.as_str(), read.removed_resources), ("17", vec!["gone".to_owned()]));
            let resource = |(name, offered): Named| Resource {
                name: name.to_string(),
                version: offered.version.clone(),
                resource: Some(offered.resource.clone()),
                ..Resource::default()
            };
            assert_eq!(read.resources, put.clone().into_iter().map(resource).collect::<Vec<_>>());

            let state = Outgoing::state(Kind::Cluster, put.clone(), "18".to_owned());
            let length = state.encoded_len();
            let bytes = state.into_bytes();
            assert_eq!(bytes.len(), length);
            let read = DiscoveryResponse::decode(&*bytes).unwrap();
            assert_eq!((read.nonce.as_str(), read.version_info.as_str()), ("18", "18"));
            assert_eq!(read.resources, put.iter().map(|(_, it)| it.resource.clone()).collect::<Vec<_>>());
        }
    }
}
