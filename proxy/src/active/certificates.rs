//! TLS settings of HTTPS listeners: certificates loaded from secrets, ready for handshakes. Called during warming.

use std::sync::Arc;
use std::time::SystemTime;

use tracing::{info, warn};
use weir_identity::{ServerCertificate, ServerConfig, server_tls_config};
use weir_model::{
    DownstreamTls, HostCertificate, Listener, ListenerName, Rejection, ResourceId, ResourceKind, Snapshot,
};

use crate::active::active_config::ActiveConfig;
use crate::fast_hash::FastMap;

/// Returns the TLS settings of every HTTPS listener, shared with `previous` where listener and secrets are unchanged.
///
/// Listeners whose certificates are invalid are added to `rejections`. Open connections keep their settings.
pub(super) fn https_configs(
    snapshot: &Snapshot,
    previous: &ActiveConfig,
    rejections: &mut Vec<Rejection>,
) -> FastMap<ListenerName, Arc<ServerConfig>> {
    let mut configs = FastMap::default();
    for listener in snapshot.listeners.values() {
        let Some(DownstreamTls::Https(certificates)) = &listener.tls else { continue };
        let before = previous.https.get(&listener.name).filter(|_| is_same(listener, snapshot, &previous.snapshot));
        let config = match before {
            Some(before) => Ok(Arc::clone(before)),
            None => config(listener, certificates, snapshot),
        };
        match config {
            Ok(config) => drop(configs.insert(listener.name.clone(), config)),
            Err(reason) => rejections.push(Rejection {
                resource: ResourceId { kind: ResourceKind::Listener, name: listener.name.to_string() },
                field: "tls".to_owned(),
                reason,
                hint: "the Secret needs a certificate with its chain, and its own key".to_owned(),
            }),
        }
    }
    configs
}

fn is_same(listener: &Listener, now: &Snapshot, before: &Snapshot) -> bool {
    let tls = |snapshot: &Snapshot| snapshot.listeners.get(&listener.name).map(|listener| listener.tls.clone());
    let mut secrets = listener.tls.iter().flat_map(DownstreamTls::secrets);
    tls(now) == tls(before) && secrets.all(|name| now.secrets.get(name) == before.secrets.get(name))
}

fn config(
    listener: &Listener,
    certificates: &[HostCertificate],
    snapshot: &Snapshot,
) -> Result<Arc<ServerConfig>, String> {
    let mut loaded = Vec::with_capacity(certificates.len());
    for HostCertificate { host, secret } in certificates {
        // The snapshot is closed: every secret of a listener exists.
        let Some(model) = snapshot.secrets.get(secret) else { continue };
        let model = model.certificate().ok_or_else(|| format!("the secret {secret} has no certificate"))?;
        let certificate = ServerCertificate::from_pem(&model.certificates, &model.key.0);
        let certificate = certificate.map_err(|error| format!("the secret {secret}: {error}"))?;
        match certificate.not_after.duration_since(SystemTime::now()) {
            Ok(left) => info!(listener = %listener.name, %secret, left_s = left.as_secs(), "certificate loaded"),
            Err(_) => warn!(listener = %listener.name, %secret, "certificate has expired"),
        }
        loaded.push((host.clone(), certificate));
    }
    Ok(server_tls_config(loaded, &[b"h2", b"http/1.1"]))
}
