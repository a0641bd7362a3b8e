//! Gets the identity and renews it for as long as the process lives. What was there before goes on until the new one is
//! there, and to its end when there is none.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tracing::{error, info, warn};
use weir_identity::roots::control_plane;
use weir_identity::{CertificateRequest, JoinToken, WorkloadIdentity};

use crate::identity::link::ControlPlane;
use crate::identity::{Identity, Own};
use crate::limits::{CERTIFICATE_SIGN_TIMEOUT, MAX_RENEWAL_PAUSE, MIN_RENEWAL_PAUSE};
use crate::{private_file, task};

/// The first line of the file; the rest is PEM.
const JOINED_BY: &str = "joined by ";

/// What an identity is got with.
#[derive(Debug, Clone)]
pub(crate) struct IdentityOptions {
    /// Who signs.
    pub(crate) control_plane: Arc<ControlPlane>,
    /// The file of the join token; read when it is needed.
    pub(crate) join_token: Option<PathBuf>,
    /// Where the identity is kept: at each of these.
    pub(crate) paths: Vec<PathBuf>,
}

/// What the last process has left.
pub(crate) struct Left {
    /// The join token that it became somebody with, by its hash.
    joined_by: Option<String>,
    /// The token is another now: whoever gave it wants this proxy to be somebody else, or in another mesh.
    must_join: bool,
}

/// Takes up what the last process has left. Blocks.
pub(crate) fn restore(options: &IdentityOptions, identity: &Identity) -> Left {
    let nothing = Left { joined_by: None, must_join: true };
    let Some(path) = private_file::newest(&options.paths) else { return nothing };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return nothing,
        Err(error) => {
            warn!(path = %path.display(), %error, "the identity on disk cannot be read");
            return nothing;
        }
    };
    match WorkloadIdentity::from_pem(&text) {
        Ok(kept) => {
            info!(id = %kept.id, "begins with the identity of the last process");
            identity.set(kept);
        }
        Err(error) => {
            warn!(path = %path.display(), "what is kept as identity is none: {error}");
            return nothing;
        }
    }
    let joined_by = text.lines().next().and_then(|line| line.strip_prefix(JOINED_BY)).map(str::to_owned);
    let given = options.join_token.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
    let must_join = given.is_some_and(|given| Some(hash_of(&given)) != joined_by);
    Left { joined_by, must_join }
}

/// Gets an identity if there is none, and renews it. Never ends.
pub(crate) async fn keep(options: IdentityOptions, identity: Arc<Identity>, left: Left) {
    let Left { mut joined_by, mut must_join } = left;
    let mut pause = MIN_RENEWAL_PAUSE;
    loop {
        if let Some(own) = identity.get().filter(|_| !must_join) {
            let due = SystemTime::now() + until_renewal(&own);
            // In short sleeps: the clock may jump, and a machine may have been asleep itself.
            while let Some(left) = due.duration_since(SystemTime::now()).ok().filter(|_| identity.get().is_some()) {
                tokio::time::sleep(left.clamp(MIN_RENEWAL_PAUSE, MAX_RENEWAL_PAUSE)).await;
            }
        }
        loop {
            match renew(&options, identity.get().as_deref(), must_join).await {
                Ok((new, token)) => {
                    info!(id = %new.id, lives_s = lives(&new).as_secs(), "the control plane has signed our certificate");
                    joined_by = token.or(joined_by);
                    keep_on_disk(&options, &new, joined_by.as_deref()).await;
                    identity.set(new);
                    (pause, must_join) = (MIN_RENEWAL_PAUSE, false);
                    break;
                }
                Err(reason) => {
                    report(&options, identity.get().as_deref(), &reason);
                }
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

/// A new identity, and the hash of the join token, if it was got by that.
type Renewed = (WorkloadIdentity, Option<String>);

/// What we prove ourselves by.
#[derive(Clone, Copy)]
enum Proof {
    Certificate,
    JoinToken,
}

/// Has a new key signed: as who we are, or else by the join token. By the token first when that is new.
async fn renew(options: &IdentityOptions, own: Option<&Own>, must_join: bool) -> Result<Renewed, String> {
    let order = if must_join { [Proof::JoinToken, Proof::Certificate] } else { [Proof::Certificate, Proof::JoinToken] };
    let mut reasons = Vec::new();
    for proof in order {
        let (how, tried) = match (proof, own, &options.join_token) {
            (Proof::Certificate, Some(own), _) => ("as ourselves", in_time(renew_as(options, own)).await),
            (Proof::JoinToken, _, Some(path)) => ("by the join token", in_time(join(options, path)).await),
            _ => continue,
        };
        match tried {
            Ok(renewed) => return Ok(renewed),
            Err(reason) => reasons.push(format!("{how}: {reason}")),
        }
    }
    if reasons.is_empty() {
        return Err("there is no identity and no join token: give --join-token-path".to_owned());
    }
    Err(reasons.join("; "))
}

async fn in_time(signed: impl Future<Output = Result<Renewed, String>>) -> Result<Renewed, String> {
    let signed = tokio::time::timeout(CERTIFICATE_SIGN_TIMEOUT, signed).await;
    signed.unwrap_or_else(|_| Err("the control plane does not answer".to_owned()))
}

async fn renew_as(options: &IdentityOptions, own: &Own) -> Result<Renewed, String> {
    let request = CertificateRequest::new().map_err(|error| format!("no key can be made: {error}"))?;
    let config = own.identity.client_config(&control_plane(), b"h2");
    let (channel, replica) = options.control_plane.connect(Some(&config)).await?;
    let signed = request.sign(channel, None).await;
    let new = signed.inspect_err(|_| options.control_plane.leave(replica))?;
    if new.id != own.identity.id {
        return Err(format!("the control plane has signed {}, and we are {}", new.id, own.identity.id));
    }
    Ok((new, None))
}

async fn join(options: &IdentityOptions, path: &Path) -> Result<Renewed, String> {
    let request = CertificateRequest::new().map_err(|error| format!("no key can be made: {error}"))?;
    let text = tokio::fs::read_to_string(path).await;
    let text = text.map_err(|error| format!("--join-token-path {} cannot be read: {error}", path.display()))?;
    let token: Result<JoinToken, _> = text.parse();
    let token = token.map_err(|reason| format!("--join-token-path {}: this {reason}", path.display()))?;
    let (channel, replica) = options.control_plane.connect(Some(&token.client_config())).await?;
    let signed = request.sign(channel, Some(&token)).await;
    Ok((signed.inspect_err(|_| options.control_plane.leave(replica))?, Some(hash_of(&text))))
}

/// What a token is recognised by.
fn hash_of(token: &str) -> String {
    weir_model::Version::of(&token.trim()).to_string()
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

async fn keep_on_disk(options: &IdentityOptions, identity: &WorkloadIdentity, joined_by: Option<&str>) {
    let text = format!("{JOINED_BY}{}\n{}", joined_by.unwrap_or_default(), identity.to_pem());
    for path in options.paths.clone() {
        let (bytes, shown) = (text.clone().into_bytes(), path.display().to_string());
        let written = task::blocking("identity", move || private_file::write(&path, &bytes)).await;
        if let Some(Err(error)) = written {
            warn!(path = shown, %error, "the identity is not kept on disk; a restart needs a join token");
        }
    }
}
