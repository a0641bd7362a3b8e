//! Renews the roots of the mesh before they end, and warns of the end of those that nothing renews.

use std::sync::Arc;

use tokio::time::sleep;
use tracing::{info, warn};

use crate::ca::CertificateAuthority;
use crate::limits::ROOT_CHECK_INTERVAL;
use crate::task;

/// Checks the roots each [`ROOT_CHECK_INTERVAL`]. A warning is logged once a day, when its text changes.
pub(super) async fn renew(ca: Arc<CertificateAuthority>) {
    let mut logged = Vec::new();
    loop {
        let authority = Arc::clone(&ca);
        match task::blocking(move || authority.renew_root_if_due()).await {
            Some(Ok(true)) => info!("the root ends soon: a rotation to a new one has begun"),
            Some(Err(error)) => report(&mut logged, vec![format!("the root ends soon and cannot be renewed: {error}")]),
            Some(Ok(false)) | None => report(&mut logged, ca.warnings()),
        }
        sleep(ROOT_CHECK_INTERVAL).await;
    }
}

fn report(logged: &mut Vec<String>, warnings: Vec<String>) {
    if *logged != warnings {
        warnings.iter().for_each(|warning| warn!("{warning}"));
        *logged = warnings;
    }
}
