//! Follows the store: reads what other replicas write, and checks that the store is still the one that this process has
//! used.

use std::sync::Arc;

use tokio::sync::watch::Receiver;
use tokio::time::{sleep, timeout};
use tracing::{error, info};

use crate::access::TokenStore;
use crate::ca::CertificateAuthority;
use crate::health::Health;
use crate::limits::{STORE_POLL_INTERVAL, STORE_WATCH_DEBOUNCE};
use crate::publish::Publisher;
use crate::store::ResourceStore;
use crate::task;

/// The parts that follow a store. One failing does not stop the others.
#[derive(Clone)]
pub(super) struct StoreFollowers {
    pub(super) publisher: Arc<Publisher>,
    pub(super) tokens: Arc<TokenStore>,
    pub(super) ca: Arc<CertificateAuthority>,
}

impl StoreFollowers {
    /// Checks the store and reads what other replicas have written. Returns the faults. Blocks.
    fn sync(&self, store: &ResourceStore) -> Vec<String> {
        if let Err(error) = store.verify() {
            return vec![error.to_string()]; // Nothing of another store is read.
        }
        let results = if store.is_shared() {
            vec![
                self.publisher.sync().map_err(|error| error.to_string()),
                self.tokens.reload(store).map_err(|error| error.to_string()),
                self.ca.reload().map_err(|error| error.to_string()),
            ]
        } else {
            vec![self.ca.check_storage().map_err(|error| error.to_string())]
        };
        let mut faults: Vec<String> = results.into_iter().filter_map(Result::err).collect();
        faults.dedup(); // A store that is lost in between is the same fault of each.
        faults
    }
}

/// Synchronizes after each change of a shared store, and checks every store each [`STORE_POLL_INTERVAL`].
pub(super) async fn run(store: Arc<ResourceStore>, followers: StoreFollowers, health: Arc<Health>) {
    let mut changes = store.changes();
    loop {
        wait_for_change(changes.as_mut()).await;
        let (store, followers) = (Arc::clone(&store), followers.clone());
        let Some(faults) = task::blocking(move || followers.sync(&store)).await else { continue };
        if !health.replace(faults.clone()) {
            continue; // Already logged.
        }
        faults.iter().for_each(|fault| error!("not ready; the last published configuration serves: {fault}"));
        if faults.is_empty() {
            info!("the store is in order again; ready");
        }
    }
}

async fn wait_for_change(changes: Option<&mut Receiver<u64>>) {
    let Some(changes) = changes else { return sleep(STORE_POLL_INTERVAL).await };
    // A broken watch may be silent, so the store is also polled.
    drop(timeout(STORE_POLL_INTERVAL, changes.changed()).await);
    sleep(STORE_WATCH_DEBOUNCE).await;
    changes.borrow_and_update();
}
