//! What a proxy holds, as bytes: so that it can start from what it was told last when nobody is there to ask.

use prost::Message;

use crate::kind::Kind;
use crate::proto::{Any, DeltaDiscoveryResponse, Resource};

/// One resource as it was accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct SavedResource {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The resource.
    pub resource: Any,
}

/// The resources as bytes: one `DeltaDiscoveryResponse`.
pub fn to_bytes<'a>(resources: impl Iterator<Item = &'a SavedResource>) -> Vec<u8> {
    let resource = |saved: &SavedResource| Resource {
        name: saved.name.clone(),
        version: saved.version.clone(),
        resource: Some(saved.resource.clone()),
        ..Resource::default()
    };
    let resources = resources.map(resource).collect();
    DeltaDiscoveryResponse { resources, ..DeltaDiscoveryResponse::default() }.encode_to_vec()
}

/// The resources that the bytes say, in the order of kinds; `None` when they are not whole.
pub fn from_bytes(bytes: &[u8]) -> Option<Vec<SavedResource>> {
    let response = DeltaDiscoveryResponse::decode(bytes).ok()?;
    let saved = |Resource { name, version, resource, .. }: Resource| {
        let resource = resource?;
        Some(SavedResource { kind: Kind::of_url(&resource.type_url)?, name, version, resource })
    };
    let mut saved: Vec<SavedResource> = response.resources.into_iter().map(saved).collect::<Option<_>>()?;
    saved.sort_by_key(|saved| saved.kind);
    Some(saved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_read_again() {
        let resource = |kind: Kind, name: &str| SavedResource {
            kind,
            name: name.to_owned(),
            version: "1".to_owned(),
            resource: Any { type_url: kind.type_url(), value: vec![1, 2] },
        };
        let all = [resource(Kind::Cluster, "a"), resource(Kind::Listener, "b")];
        let bytes = to_bytes(all.iter().rev());
        assert_eq!(from_bytes(&bytes), Some(all.to_vec()));
        assert_eq!(from_bytes(&bytes[..bytes.len() - 1]), None);
        assert_eq!(from_bytes(b""), Some(Vec::new()));
    }
}
