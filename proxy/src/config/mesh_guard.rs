//! The mesh that a proxy follows. A control plane that has lost its store and begins anew, or an address that leads to
//! another mesh, would take away everything that serves.

use weir_xds::proto::{DeltaDiscoveryResponse, mesh_id};

/// The id of the mesh that a proxy follows, and of another one that it may change to.
#[derive(Debug)]
pub(super) struct MeshGuard {
    /// `None` before the first response, or if the control plane sends no id.
    known: Option<String>,
    accepted: Option<String>,
}

impl MeshGuard {
    /// Returns a guard that accepts the mesh of the first response. `accepted` is the id of another mesh to change to.
    pub(super) const fn new(accepted: Option<String>) -> Self {
        Self { known: None, accepted }
    }

    /// Sets the mesh that an earlier process has followed.
    pub(super) fn restore(&mut self, mesh: Option<String>) {
        self.known = mesh;
    }

    /// Returns the id of the mesh.
    pub(super) fn id(&self) -> Option<String> {
        self.known.clone()
    }

    /// Checks that a response is of the mesh that the proxy follows. A response without an id is accepted.
    ///
    /// # Errors
    /// The response is of another mesh.
    pub(super) fn check(&mut self, response: &DeltaDiscoveryResponse) -> Result<(), String> {
        let Some(mesh) = mesh_id(response) else { return Ok(()) };
        match self.known.as_deref() {
            Some(known) if known != mesh && self.accepted.as_deref() != Some(mesh) => Err(format!(
                "it is of the mesh {mesh}, and this proxy serves the mesh {known}; restore the store of the control plane, or \
                 start this proxy with --accept-mesh {mesh}"
            )),
            Some(known) if known == mesh => Ok(()),
            _ => {
                self.known = Some(mesh.to_owned());
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use weir_xds::proto::ControlPlane;

    use super::*;

    fn response(identifier: &str) -> DeltaDiscoveryResponse {
        let control_plane = Some(ControlPlane { identifier: identifier.to_owned() });
        DeltaDiscoveryResponse { control_plane, ..DeltaDiscoveryResponse::default() }
    }

    #[test]
    fn another_mesh_is_accepted_only_by_its_id() {
        let mut guard = MeshGuard::new(Some("c".to_owned()));
        for (identifier, is_accepted, id) in [
            ("weir-control", true, None),
            ("weir-control/a", true, Some("a")),
            ("weir-control/b", false, Some("a")),
            ("weir-control/a", true, Some("a")),
            ("{\"Component\": \"istiod\"}", true, Some("a")),
            ("weir-control", true, Some("a")),
            ("weir-control/c", true, Some("c")),
            ("weir-control/a", false, Some("c")),
        ] {
            assert_eq!(guard.check(&response(identifier)).is_ok(), is_accepted, "{identifier}");
            assert_eq!(guard.id().as_deref(), id, "{identifier}");
        }
        assert!(guard.check(&response("weir-control/b")).unwrap_err().contains("--accept-mesh b"));
    }
}
