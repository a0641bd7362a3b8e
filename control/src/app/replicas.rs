//! Follows what other control planes write into a store that they share.

use std::sync::Arc;

use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::access::Tokens;
use crate::authority::Authority;
use crate::limits::{FOLLOW_INTERVAL, FOLLOW_PAUSE};
use crate::publish::Publisher;
use crate::store::ResourceStore;
use crate::task;

/// What is taken up, each by itself.
pub(super) type Shared = (Arc<Publisher>, Arc<Tokens>, Arc<Authority>);

/// Takes up what others write as soon as they have; ends at once when nobody else can write.
pub(super) async fn follow(store: Arc<ResourceStore>, shared: Shared) {
    let Some(mut changes) = store.changes() else { return };
    let mut told = Vec::new();
    loop {
        // A watch may be silent and broken: now and then without it.
        drop(timeout(FOLLOW_INTERVAL, changes.changed()).await);
        sleep(FOLLOW_PAUSE).await;
        changes.borrow_and_update();
        let (store, shared) = (Arc::clone(&store), shared.clone());
        let Some(reasons) = task::blocking(move || take_up(&store, &shared)).await else { continue };
        if reasons == told {
            continue; // Said before.
        }
        reasons.iter().for_each(|reason| warn!("what other control planes have written is not taken up: {reason}"));
        if reasons.is_empty() {
            info!("what other control planes write is taken up again");
        }
        told = reasons;
    }
}

/// Why something is not taken up.
fn take_up(store: &ResourceStore, (publisher, tokens, authority): &Shared) -> Vec<String> {
    let taken = [
        publisher.follow().map_err(|refused| refused.to_string()),
        tokens.reload(store).map_err(|error| error.to_string()),
        authority.reload().map_err(|error| error.to_string()),
    ];
    taken.into_iter().filter_map(Result::err).collect()
}
