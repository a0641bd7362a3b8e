//! Workloads that register themselves: each says where it is and which Service it serves, how it is, and for how long that
//! holds. Who does not say it again in time is gone.
//!
//! ```text
//! workloads/NAMESPACE/SERVICE/NAME ─► what it said last, and until when (written when half of that is over)
//! ```
//!
//! Every call that is not said to be quick blocks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::debug;
use weir_resources::{Registered, registered};

use crate::limits::{MAX_LEASE, MAX_NAMESPACE_WORKLOADS, MAX_SERVICE_VERSIONS, MAX_WORKLOADS, MIN_LEASE};
use crate::store::{ResourceStore, StoreError};

/// What the store calls them.
const KIND: &str = "workloads";

/// What a workload says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Registration {
    /// The address and port that others reach it at: `10.0.0.5:8080`.
    #[schemars(with = "String")]
    pub address: SocketAddr,
    /// Its share of the requests beside others; 1 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// Which version of the Service it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// False while it should get no requests; true when left out.
    #[serde(default = "yes")]
    pub healthy: bool,
    /// Seconds until it is gone, if it does not say this again before.
    pub lease_seconds: u32,
}

const fn yes() -> bool {
    true
}

/// A workload that has registered itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegisteredWorkload {
    /// The namespace of its Service.
    pub namespace: String,
    /// The Service that it serves.
    pub service: String,
    /// What it calls itself; unlike all others of the Service.
    pub name: String,
    /// What it says of itself.
    #[serde(flatten)]
    pub said: Registration,
    /// When it is gone.
    #[schemars(with = "String")]
    pub expires: Timestamp,
}

impl RegisteredWorkload {
    fn key(&self) -> Key {
        (self.namespace.clone(), self.service.clone(), self.name.clone())
    }

    fn lease(&self) -> SignedDuration {
        SignedDuration::from_secs(i64::from(self.said.lease_seconds))
    }
}

/// Namespace, Service, name.
type Key = (String, String, String);

/// Why a workload is not registered.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// What it says is wrong.
    #[error("{0}")]
    Invalid(String),
    /// There are too many.
    #[error("{0}; that is as many as are taken")]
    Full(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// All workloads that have registered themselves.
#[derive(Debug)]
pub struct Registry {
    store: Arc<ResourceStore>,
    workloads: Mutex<BTreeMap<Key, Known>>,
    /// Held by the one who changes the store and what is known of it.
    changing: Mutex<()>,
}

#[derive(Debug, Clone)]
struct Known {
    workload: RegisteredWorkload,
    /// Until when the store says that it is there.
    stored: Timestamp,
}

impl Registry {
    /// What the store holds. Nobody could say anything while nobody listened: everybody has one more lease.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn open(store: Arc<ResourceStore>) -> Result<Self, StoreError> {
        let registry = Self { store, workloads: Mutex::default(), changing: Mutex::default() };
        registry.reload()?;
        let now = Timestamp::now();
        for known in registry.workloads.lock().values_mut() {
            known.workload.expires = known.workload.expires.max(now + known.workload.lease());
        }
        Ok(registry)
    }

    /// Takes up what others have written; false when nothing of it matters to anybody's endpoints.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn reload(&self) -> Result<bool, StoreError> {
        let _changing = self.changing.lock();
        let stored: Vec<RegisteredWorkload> = self.store.entries(KIND)?;
        let before = self.endpoints();
        let mut workloads = self.workloads.lock();
        let here = std::mem::take(&mut *workloads);
        for mut workload in stored {
            let stored = workload.expires;
            if let Some(known) = here.get(&workload.key()) {
                workload.expires = workload.expires.max(known.workload.expires);
            }
            workloads.insert(workload.key(), Known { workload, stored });
        }
        drop(workloads);
        Ok(self.endpoints() != before)
    }

    /// Registers a workload, or keeps it registered; false when nothing changes for others.
    ///
    /// # Errors
    /// What is wrong with what it says; the store failed.
    pub(crate) fn register(&self, key: &Key, said: Registration) -> Result<(RegisteredWorkload, bool), RegistryError> {
        let lease = Duration::from_secs(u64::from(said.lease_seconds));
        if !(MIN_LEASE..=MAX_LEASE).contains(&lease) {
            let (least, most) = (MIN_LEASE.as_secs(), MAX_LEASE.as_secs());
            return Err(RegistryError::Invalid(format!("`leaseSeconds` is between {least} and {most}")));
        }
        registered::endpoint(said.address, said.weight, said.version.as_deref()).map_err(RegistryError::Invalid)?;
        let (namespace, service, name) = key.clone();
        let now = Timestamp::now();
        let mut workload = RegisteredWorkload { namespace, service, name, said, expires: now };
        workload.expires = now + workload.lease();
        let _changing = self.changing.lock();
        let before = self.workloads.lock().get(key).cloned();
        self.check_room(&workload, before.is_none())?;
        let is_same = before.as_ref().is_some_and(|before| before.workload.said == workload.said);
        let mut stored = before.map(|before| before.stored).filter(|_| is_same);
        if stored.is_none_or(|stored| stored < now + workload.lease() / 2) {
            match self.store.put_entry(KIND, &path(key), &workload) {
                Ok(()) => stored = Some(workload.expires),
                // It is here still, and so is what it says: a store that is away is no reason to lose it.
                Err(error) if is_same => debug!(%error, name = workload.name, "a lease is not written yet"),
                Err(error) => return Err(error.into()),
            }
        }
        let known = Known { workload: workload.clone(), stored: stored.unwrap_or(workload.expires) };
        self.workloads.lock().insert(key.clone(), known);
        Ok((workload, !is_same))
    }

    fn check_room(&self, workload: &RegisteredWorkload, is_new: bool) -> Result<(), RegistryError> {
        let full = |what: String| Err(RegistryError::Full(what));
        let workloads = self.workloads.lock();
        let namespace = workloads.keys().filter(|(namespace, ..)| *namespace == workload.namespace).count();
        if is_new && (workloads.len() >= MAX_WORKLOADS || namespace >= MAX_NAMESPACE_WORKLOADS) {
            return full(format!(
                "{namespace} workloads of {} are registered, {} of all",
                workload.namespace,
                workloads.len()
            ));
        }
        let of_service = workloads.values().map(|known| &known.workload);
        let of_service = of_service.filter(|it| it.namespace == workload.namespace && it.service == workload.service);
        let mut versions: BTreeSet<&String> = of_service.filter_map(|it| it.said.version.as_ref()).collect();
        versions.extend(&workload.said.version);
        if versions.len() > MAX_SERVICE_VERSIONS {
            return full(format!("{} versions of {} are registered", versions.len() - 1, workload.service));
        }
        Ok(())
    }

    /// Forgets a workload; nothing when there is none.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) fn forget(&self, key: &Key) -> Result<Option<RegisteredWorkload>, StoreError> {
        let _changing = self.changing.lock();
        if !self.workloads.lock().contains_key(key) {
            return Ok(None);
        }
        self.store.delete_entry(KIND, &path(key))?;
        Ok(self.workloads.lock().remove(key).map(|known| known.workload))
    }

    /// Forgets those whose time is over; false when there are none.
    ///
    /// # Errors
    /// The store failed: those that it failed for are there still.
    pub(crate) fn expire(&self) -> Result<bool, StoreError> {
        let _changing = self.changing.lock();
        let now = Timestamp::now();
        let ended: Vec<Key> = {
            let workloads = self.workloads.lock();
            workloads.iter().filter(|(_, known)| self.has_ended(known, now)).map(|(key, _)| key.clone()).collect()
        };
        let (mut is_gone, mut failed) = (false, None);
        for key in ended {
            let has_ended = |stored: &RegisteredWorkload| stored.expires <= now;
            match self.store.delete_entry_if(KIND, &path(&key), has_ended) {
                Ok(true) => is_gone |= self.workloads.lock().remove(&key).is_some(),
                Ok(false) => {}
                Err(error) => {
                    failed = Some(error);
                    break; // The others would wait as long.
                }
            }
        }
        failed.filter(|_| !is_gone).map_or(Ok(is_gone), Err) // What is gone is to be told in any case.
    }

    /// Whether the time of any is over. Quick.
    pub(crate) fn is_due(&self) -> bool {
        let now = Timestamp::now();
        self.workloads.lock().values().any(|known| self.has_ended(known, now))
    }

    /// Where others write too, a lease may be renewed without being written: for half of it, by a clock that is not ours.
    fn has_ended(&self, known: &Known, now: Timestamp) -> bool {
        let lease = known.workload.lease();
        let unwritten =
            if self.store.is_shared() { lease / 2 + SignedDuration::from_secs(1) } else { SignedDuration::ZERO };
        known.workload.expires <= now && known.stored + unwritten <= now
    }

    /// All of them. Quick.
    pub fn all(&self) -> Vec<RegisteredWorkload> {
        self.workloads.lock().values().map(|known| known.workload.clone()).collect()
    }

    /// The endpoints of those that are well. Quick.
    pub(crate) fn endpoints(&self) -> Registered {
        let mut endpoints = Registered::default();
        for Known { workload, .. } in self.workloads.lock().values().filter(|known| known.workload.said.healthy) {
            let RegisteredWorkload { namespace, service, said, .. } = workload;
            let endpoint = registered::endpoint(said.address, said.weight, said.version.as_deref());
            endpoint.into_iter().for_each(|endpoint| endpoints.add((namespace, service), endpoint));
        }
        endpoints
    }
}

fn path((namespace, service, name): &Key) -> String {
    format!("{namespace}/{service}/{name}")
}
