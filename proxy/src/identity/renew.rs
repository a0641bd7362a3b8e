//! Gets the identity and renews it for as long as the process lives. What was there before goes on until the new one is
//! there, and to its end when there is none.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tracing::{error, info, warn};
use weir_identity::roots::control_plane;
use weir_identity::{CertificateRequest, JoinToken, WorkloadIdentity};

use crate::identity::link::{ControlAddress, connect};
use crate::identity::{Identity, Own};
use crate::limits::{CERTIFICATE_SIGN_TIMEOUT, MAX_RENEWAL_PAUSE, MIN_RENEWAL_PAUSE};
use crate::{private_file, task};

/// What an identity is got with.
#[derive(Debug, Clone)]
pub(crate) struct IdentityOptions {
    /// Who signs.
    pub(crate) control_plane: ControlAddress,
    /// The file of the join token; read when it is needed.
    pub(crate) join_token: Option<PathBuf>,
    /// Where the identity is kept.
    pub(crate) path: PathBuf,
}

/// Takes up what the last process has left. Blocks.
pub(crate) fn restore(options: &IdentityOptions, identity: &Identity) {
    let text = match std::fs::read_to_string(&options.path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
        Err(error) => return warn!(path = %options.path.display(), %error, "the identity on disk cannot be read"),
    };
    match WorkloadIdentity::from_pem(&text) {
        Ok(kept) => {
            info!(id = %kept.id, "begins with the identity of the last process");
            identity.set(kept);
        }
        Err(error) => warn!(path = %options.path.display(), "what is kept as identity is none: {error}"),
    }
}

/// Gets an identity if there is none, and renews it. Never ends.
pub(crate) async fn keep(options: IdentityOptions, identity: Arc<Identity>) {
    let mut pause = MIN_RENEWAL_PAUSE;
    loop {
        if let Some(own) = identity.get() {
            tokio::time::sleep(until_renewal(&own)).await;
        }
        loop {
            match renew(&options, identity.get().as_deref()).await {
                Ok(new) => {
                    info!(id = %new.id, lives_s = lives(&new).as_secs(), "the control plane has signed our certificate");
                    keep_on_disk(&options, &new).await;
                    identity.set(new);
                    pause = MIN_RENEWAL_PAUSE;
                    break;
                }
                Err(reason) => report(&options, identity.get().as_deref(), &reason),
            }
            let jitter = SmallRng::from_os_rng().random_range(0.5..1.0);
            tokio::time::sleep(pause.mul_f64(jitter)).await;
            // More often when the end is near, and never so rarely that the control plane could be missed.
            let rest = identity.get().map_or(MAX_RENEWAL_PAUSE, |own| lives(&own.identity) / 8);
            pause = (pause * 2).min(MAX_RENEWAL_PAUSE).min(rest.max(MIN_RENEWAL_PAUSE));
        }
    }
}

/// Half of what is left, a little earlier or later than others.
fn until_renewal(own: &Own) -> Duration {
    lives(&own.identity).mul_f64(SmallRng::from_os_rng().random_range(0.45..0.55))
}

fn lives(identity: &WorkloadIdentity) -> Duration {
    identity.not_after.duration_since(SystemTime::now()).unwrap_or_default()
}

/// Has a new key signed: as who we are, or by the join token.
async fn renew(options: &IdentityOptions, own: Option<&Own>) -> Result<WorkloadIdentity, String> {
    let signed = async {
        let request = CertificateRequest::new().map_err(|error| format!("no key can be made: {error}"))?;
        if let Some(own) = own {
            let config = own.identity.client_config(&control_plane(), b"h2");
            return request.sign(connect(&options.control_plane, config).await?, None).await;
        }
        let token = join_token(options).await?;
        let channel = connect(&options.control_plane, token.client_config()).await?;
        request.sign(channel, Some(&token)).await
    };
    let signed = tokio::time::timeout(CERTIFICATE_SIGN_TIMEOUT, signed).await;
    let new = signed.unwrap_or_else(|_| Err("the control plane does not answer".to_owned()))?;
    match own.filter(|own| own.identity.id != new.id) {
        Some(own) => Err(format!("the control plane has signed {}, and we are {}", new.id, own.identity.id)),
        None => Ok(new),
    }
}

async fn join_token(options: &IdentityOptions) -> Result<JoinToken, String> {
    let path = options.join_token.as_ref().ok_or("there is no identity and no join token: give --join-token-path")?;
    let text = tokio::fs::read_to_string(path).await;
    let text = text.map_err(|error| format!("--join-token-path {} cannot be read: {error}", path.display()))?;
    text.parse().map_err(|reason| format!("--join-token-path {}: this {reason}", path.display()))
}

fn report(options: &IdentityOptions, own: Option<&Own>, reason: &str) {
    let control_plane = &options.control_plane;
    match own {
        Some(own) => {
            let left_s = lives(&own.identity).as_secs();
            warn!(%control_plane, left_s, "our certificate is not renewed yet; the old one serves on: {reason}");
        }
        None => error!(%control_plane, "this proxy has no identity, and nothing that needs one works: {reason}"),
    }
}

async fn keep_on_disk(options: &IdentityOptions, identity: &WorkloadIdentity) {
    let (path, text) = (options.path.clone(), identity.to_pem());
    let written = task::blocking("identity", move || private_file::write(&path, text.as_bytes())).await;
    if let Some(Err(error)) = written {
        warn!(path = %options.path.display(), %error, "the identity is not kept on disk; a restart needs a join token");
    }
}
