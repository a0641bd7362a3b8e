//! Obtains the identity and renews it until the process exits. The current identity serves until the next one is
//! issued, at most until it expires.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tracing::{error, info, warn};
use weir_identity::trust_bundle::control_plane_workload;
use weir_identity::{CertificateRequest, JoinToken, WorkloadIdentity};

use crate::control_plane::ControlPlane;
use crate::identity::current::{CurrentIdentity, Identity};
use crate::limits::{CERTIFICATE_SIGN_TIMEOUT, MAX_RENEWAL_BACKOFF, MIN_RENEWAL_BACKOFF};
use crate::replica_files::ReplicaFiles;
use crate::task;

/// The start of the first line of the file, before the hash of the join token. The other lines are PEM.
const JOINED_BY: &str = "joined by ";

/// The source and the storage of an identity.
#[derive(Debug, Clone)]
pub(crate) struct IdentityOptions {
    /// The control plane that signs certificates.
    pub(crate) control_plane: Arc<ControlPlane>,
    /// The file of the join token. Read for every use, because it may change.
    pub(crate) join_token: Option<PathBuf>,
    /// The files that store the identity.
    pub(crate) files: ReplicaFiles,
}

/// The stored identity of an earlier process.
pub(crate) struct RestoredIdentity {
    /// The hash of the join token that the identity was first issued for.
    joined_by: Option<String>,
    /// True if the join token must be used: no identity is stored, or the token has changed. A changed token means that
    /// the operator wants another identity or another mesh.
    must_join: bool,
}

/// Sets the stored identity of an earlier process, if there is one. Blocks on the disk.
pub(crate) fn restore(options: &IdentityOptions, identity: &Identity) -> RestoredIdentity {
    let nothing = RestoredIdentity { joined_by: None, must_join: true };
    let Some(path) = options.files.newest() else { return nothing };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return nothing,
        Err(error) => {
            warn!(path = %path.display(), %error, "the stored identity cannot be read");
            return nothing;
        }
    };
    match WorkloadIdentity::from_pem(&text) {
        Ok(stored) => {
            info!(id = %stored.id, "starting with the stored identity");
            identity.set(stored);
        }
        Err(error) => {
            warn!(path = %path.display(), "the stored identity is invalid: {error}");
            return nothing;
        }
    }
    let joined_by = text.lines().next().and_then(|line| line.strip_prefix(JOINED_BY)).map(str::to_owned);
    let token = options.join_token.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
    let must_join = token.is_some_and(|token| Some(token_hash(&token)) != joined_by);
    RestoredIdentity { joined_by, must_join }
}

/// Obtains an identity unless one exists, and renews it at half of its lifetime. Never returns.
pub(crate) async fn renew_forever(options: IdentityOptions, identity: Arc<Identity>, restored: RestoredIdentity) {
    let RestoredIdentity { mut joined_by, mut must_join } = restored;
    let mut pause = MIN_RENEWAL_BACKOFF;
    loop {
        if let Some(current) = identity.get().filter(|_| !must_join) {
            let due = SystemTime::now() + until_renewal(&current);
            // In short sleeps, because the clock may jump and the machine may be suspended.
            while let Some(remaining) = due.duration_since(SystemTime::now()).ok().filter(|_| identity.get().is_some())
            {
                tokio::time::sleep(remaining.clamp(MIN_RENEWAL_BACKOFF, MAX_RENEWAL_BACKOFF)).await;
            }
        }
        loop {
            match renew(&options, identity.get().as_deref(), must_join).await {
                Ok(issued) => {
                    let lifetime_s = remaining_lifetime(&issued.identity).as_secs();
                    info!(id = %issued.identity.id, lifetime_s, "certificate issued by the control plane");
                    joined_by = issued.joined_by.or(joined_by);
                    store(&options, &issued.identity, joined_by.as_deref()).await;
                    identity.set(issued.identity);
                    (pause, must_join) = (MIN_RENEWAL_BACKOFF, false);
                    break;
                }
                Err(reason) => {
                    identity.record_renewal_failure(&reason);
                    log_failure(&options, &identity, &reason);
                }
            }
            let jitter = SmallRng::from_os_rng().random_range(0.5..1.0);
            tokio::time::sleep(pause.mul_f64(jitter)).await;
            // At least eight attempts in the remaining lifetime, so that a short outage of the control plane does not
            // matter.
            let limit = identity.get().map_or(MAX_RENEWAL_BACKOFF, |current| remaining_lifetime(&current.identity) / 8);
            pause = (pause * 2).min(MAX_RENEWAL_BACKOFF).min(limit.max(MIN_RENEWAL_BACKOFF));
        }
    }
}

/// Returns half of the remaining lifetime, with jitter so that proxies do not renew at the same time.
fn until_renewal(current: &CurrentIdentity) -> Duration {
    remaining_lifetime(&current.identity).mul_f64(SmallRng::from_os_rng().random_range(0.45..0.55))
}

fn remaining_lifetime(identity: &WorkloadIdentity) -> Duration {
    identity.not_after.duration_since(SystemTime::now()).unwrap_or_default()
}

/// An identity that the control plane has just issued.
struct IssuedIdentity {
    identity: WorkloadIdentity,
    /// The hash of the join token; `None` if the previous certificate was renewed.
    joined_by: Option<String>,
}

/// The credential of a signing request.
#[derive(Clone, Copy)]
enum Credential {
    Certificate,
    JoinToken,
}

/// Requests a certificate for a new key with the current certificate, else with the join token. If `must_join`, the
/// token is tried first.
///
/// # Errors
/// The reasons of all attempts.
async fn renew(
    options: &IdentityOptions,
    current: Option<&CurrentIdentity>,
    must_join: bool,
) -> Result<IssuedIdentity, String> {
    let order = if must_join {
        [Credential::JoinToken, Credential::Certificate]
    } else {
        [Credential::Certificate, Credential::JoinToken]
    };
    let mut reasons = Vec::new();
    for credential in order {
        let (how, result) = match (credential, current, &options.join_token) {
            (Credential::Certificate, Some(current), _) => {
                ("with the certificate", with_timeout(renew_certificate(options, current)).await)
            }
            (Credential::JoinToken, _, Some(path)) => ("with the join token", with_timeout(join(options, path)).await),
            _ => continue,
        };
        match result {
            Ok(issued) => return Ok(issued),
            Err(reason) => reasons.push(format!("{how}: {reason}")),
        }
    }
    if reasons.is_empty() {
        return Err("there is no identity and no join token; set --join-token-path".to_owned());
    }
    Err(reasons.join("; "))
}

async fn with_timeout(signed: impl Future<Output = Result<IssuedIdentity, String>>) -> Result<IssuedIdentity, String> {
    let signed = tokio::time::timeout(CERTIFICATE_SIGN_TIMEOUT, signed).await;
    signed.unwrap_or_else(|_| Err("the control plane does not respond".to_owned()))
}

async fn renew_certificate(options: &IdentityOptions, current: &CurrentIdentity) -> Result<IssuedIdentity, String> {
    let request = CertificateRequest::new().map_err(|error| format!("no key can be made: {error}"))?;
    let config = current.identity.client_config(&control_plane_workload(), b"h2");
    let (channel, replica) = options.control_plane.connect(Some(&config)).await?;
    let signed = request.sign(channel, None).await;
    let identity = signed.inspect_err(|_| options.control_plane.demote(replica)).and_then(check_issued)?;
    if identity.id != current.identity.id {
        return Err(format!("the control plane has signed {}, not {}", identity.id, current.identity.id));
    }
    Ok(IssuedIdentity { identity, joined_by: None })
}

async fn join(options: &IdentityOptions, path: &Path) -> Result<IssuedIdentity, String> {
    let request = CertificateRequest::new().map_err(|error| format!("no key can be made: {error}"))?;
    let text = tokio::fs::read_to_string(path).await;
    let text = text.map_err(|error| format!("--join-token-path {} cannot be read: {error}", path.display()))?;
    let token: Result<JoinToken, _> = text.parse();
    let token = token.map_err(|reason| format!("--join-token-path {}: this {reason}", path.display()))?;
    let (channel, replica) = options.control_plane.connect(Some(&token.client_config())).await?;
    let signed = request.sign(channel, Some(&token)).await;
    let identity = signed.inspect_err(|_| options.control_plane.demote(replica)).and_then(check_issued)?;
    Ok(IssuedIdentity { identity, joined_by: Some(token_hash(&text)) })
}

/// Returns the identity if its certificate is valid by this machine's clock. Peers would reject it otherwise, and the
/// current one serves on.
fn check_issued(identity: WorkloadIdentity) -> Result<WorkloadIdentity, String> {
    match identity.check() {
        Ok(()) => Ok(identity),
        Err(error) => Err(format!("the control plane has issued a certificate that is of no use here: {error}")),
    }
}

/// Returns the hash that identifies a join token in the file. The token itself is not stored.
fn token_hash(token: &str) -> String {
    weir_model::ContentHash::of(&token.trim()).to_string()
}

fn log_failure(options: &IdentityOptions, identity: &Identity, reason: &str) {
    let control_plane = &options.control_plane;
    match (identity.get(), identity.outage()) {
        (Some(current), _) => {
            let left_s = remaining_lifetime(&current.identity).as_secs();
            warn!(%control_plane, left_s, "the certificate is not renewed yet; the current one serves: {reason}");
        }
        (None, Some(outage)) => error!(%control_plane, "mutual TLS fails: {outage}"),
        (None, None) => {
            error!(%control_plane, "this proxy has no identity, and mutual TLS fails without one: {reason}");
        }
    }
}

async fn store(options: &IdentityOptions, identity: &WorkloadIdentity, joined_by: Option<&str>) {
    let text = format!("{JOINED_BY}{}\n{}", joined_by.unwrap_or_default(), identity.to_pem());
    let files = options.files.clone();
    let write = move || {
        files.write(text.as_bytes(), |path, error| {
            let path = path.display();
            warn!(%path, %error, "the identity cannot be stored; a restart needs a join token");
        });
    };
    task::blocking("identity", write).await;
}
