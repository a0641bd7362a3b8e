//! Settings of TLS with servers outside the mesh: CAs and client certificates loaded from secrets, ready for handshakes.
//! Called during warming.

use std::sync::Arc;

use tracing::warn;
use weir_identity::{Authorities, CertificateError, ServerCertificate};
use weir_model::{
    Cluster, ClusterName, Rejection, ResourceId, ResourceKind, SecretName, ServerTls, ServerTrust, Snapshot,
    UpstreamTls,
};

use crate::active::active_config::ActiveConfig;
use crate::fast_hash::FastMap;
use crate::tls::{ClientTls, machine_authorities};

/// The result for a secret that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnusableSecret {
    /// The configuration is rejected.
    Rejected,
    /// The previous settings of the cluster stay. Without previous ones, connections to it fail.
    Left,
}

/// Returns the settings of each cluster with TLS to servers, shared with `previous` where cluster and secrets are
/// unchanged.
pub(super) fn client_settings(
    snapshot: &Snapshot,
    previous: &ActiveConfig,
    unusable: UnusableSecret,
    rejections: &mut Vec<Rejection>,
) -> FastMap<ClusterName, Arc<ClientTls>> {
    let mut all = FastMap::default();
    let mut loader = Loader { snapshot, machine: None };
    for cluster in snapshot.clusters.values() {
        let Some(settings) = cluster.tls.as_ref().and_then(UpstreamTls::server) else { continue };
        let before = previous.upstream_tls.get(&cluster.name);
        if let Some(before) = before.filter(|_| is_same(cluster, snapshot, &previous.snapshot)) {
            all.insert(cluster.name.clone(), Arc::clone(before));
            continue;
        }
        let loaded = match loader.load(settings) {
            Ok(loaded) => Arc::new(loaded),
            Err(UnusableError { secret, reason }) => {
                if unusable == UnusableSecret::Rejected {
                    rejections.push(rejection(cluster, secret, reason));
                    continue;
                }
                warn!(cluster = %cluster.name, reason, "the TLS settings of the cluster cannot be used");
                before.map_or_else(|| Arc::new(ClientTls::unusable(reason)), Arc::clone)
            }
        };
        all.insert(cluster.name.clone(), loaded);
    }
    all
}

fn is_same(cluster: &Cluster, now: &Snapshot, before: &Snapshot) -> bool {
    let known = before.clusters.get(&cluster.name).and_then(|cluster| cluster.tls.as_ref());
    let mut secrets = cluster.tls.iter().flat_map(UpstreamTls::secrets);
    known == cluster.tls.as_ref() && secrets.all(|name| now.secrets.get(name) == before.secrets.get(name))
}

fn rejection(cluster: &Cluster, secret: Option<SecretName>, reason: String) -> Rejection {
    let (kind, name, field) = match secret {
        Some(secret) => (ResourceKind::Secret, secret.to_string(), ""),
        None => (ResourceKind::Cluster, cluster.name.to_string(), "tls"),
    };
    Rejection {
        resource: ResourceId { kind, name },
        field: field.to_owned(),
        reason,
        hint: "TLS needs CA certificates as PEM, and a client certificate its own key".to_owned(),
    }
}

/// The reason for which settings cannot be used, with the secret at fault.
struct UnusableError {
    secret: Option<SecretName>,
    reason: String,
}

/// Loads secrets of a snapshot.
struct Loader<'a> {
    snapshot: &'a Snapshot,
    /// The CAs of the machine, which are read once.
    machine: Option<Result<Authorities, CertificateError>>,
}

impl Loader<'_> {
    fn load(&mut self, settings: &ServerTls) -> Result<ClientTls, UnusableError> {
        let authorities = match &settings.trust {
            ServerTrust::System => {
                let machine = self.machine.get_or_insert_with(machine_authorities);
                machine.clone().map_err(|error| UnusableError { secret: None, reason: error.to_string() })?
            }
            ServerTrust::Secret(name) => self.authorities(name).map_err(|reason| unusable(name, &reason))?,
        };
        let certificate = settings.client_certificate.as_ref();
        let certificate =
            certificate.map(|name| self.certificate(name).map_err(|reason| unusable(name, &reason))).transpose()?;
        Ok(ClientTls::new(settings, &authorities, certificate.as_ref()))
    }

    fn authorities(&self, name: &SecretName) -> Result<Authorities, String> {
        let secret = self.snapshot.secrets.get(name).and_then(|secret| secret.authorities());
        Authorities::from_pem(secret.ok_or("has no CA certificates")?).map_err(|error| error.to_string())
    }

    fn certificate(&self, name: &SecretName) -> Result<ServerCertificate, String> {
        let secret = self.snapshot.secrets.get(name).and_then(|secret| secret.certificate());
        let secret = secret.ok_or("has no certificate with its key")?;
        ServerCertificate::from_pem(&secret.certificates, &secret.key.0).map_err(|error| error.to_string())
    }
}

fn unusable(secret: &SecretName, reason: &str) -> UnusableError {
    UnusableError { secret: Some(secret.clone()), reason: format!("the secret {secret}: {reason}") }
}
