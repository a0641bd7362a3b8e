//! Accepted resources as bytes. A proxy stores them, and starts from them when the control plane is unreachable.

use prost::Message;

use crate::proto::{Any, DeltaDiscoveryResponse, Resource, control_plane, mesh_id};
use crate::resource_type::ResourceType;

/// One accepted resource, as it was received.
#[derive(Debug, Clone, PartialEq)]
pub struct PersistedResource {
    /// The resource type.
    pub resource_type: ResourceType,
    /// The name of the resource.
    pub name: String,
    /// The version in the response that contained it.
    pub version: String,
    /// The undecoded message.
    pub resource: Any,
}

/// The stored resources of a mesh.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PersistedMesh {
    /// The id of the mesh; `None` if its control plane sends none.
    pub mesh: Option<String>,
    /// The resources, sorted by type.
    pub resources: Vec<PersistedResource>,
}

/// Encodes resources of a mesh as one `DeltaDiscoveryResponse`.
pub fn to_bytes<'a>(mesh: Option<&str>, resources: impl Iterator<Item = &'a PersistedResource>) -> Vec<u8> {
    let resource = |persisted: &PersistedResource| Resource {
        name: persisted.name.clone(),
        version: persisted.version.clone(),
        resource: Some(persisted.resource.clone()),
        ..Resource::default()
    };
    let resources = resources.map(resource).collect();
    let control_plane = mesh.map(|mesh| control_plane(Some(mesh)));
    DeltaDiscoveryResponse { resources, control_plane, ..DeltaDiscoveryResponse::default() }.encode_to_vec()
}

/// Decodes resources and sorts them by type; `None` when the bytes are cut or contain an unknown type.
pub fn from_bytes(bytes: &[u8]) -> Option<PersistedMesh> {
    let response = DeltaDiscoveryResponse::decode(bytes).ok()?;
    let mesh = mesh_id(&response).map(str::to_owned);
    let persisted = |Resource { name, version, resource, .. }: Resource| {
        let resource = resource?;
        Some(PersistedResource {
            resource_type: ResourceType::from_type_url(&resource.type_url)?,
            name,
            version,
            resource,
        })
    };
    let mut persisted: Vec<PersistedResource> = response.resources.into_iter().map(persisted).collect::<Option<_>>()?;
    persisted.sort_by_key(|persisted| persisted.resource_type);
    Some(PersistedMesh { mesh, resources: persisted })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_resources_decode_to_themselves_sorted_by_type() {
        let resource = |resource_type: ResourceType, name: &str| PersistedResource {
            resource_type,
            name: name.to_owned(),
            version: "1".to_owned(),
            resource: Any { type_url: resource_type.type_url(), value: vec![1, 2] },
        };
        let all = [resource(ResourceType::Cluster, "a"), resource(ResourceType::Listener, "b")];
        for mesh in [None, Some("a".to_owned())] {
            let bytes = to_bytes(mesh.as_deref(), all.iter().rev());
            assert_eq!(from_bytes(&bytes), Some(PersistedMesh { mesh, resources: all.to_vec() }));
            assert_eq!(from_bytes(&bytes[..bytes.len() - 1]), None);
        }
        assert_eq!(from_bytes(b""), Some(PersistedMesh::default()));
    }
}
