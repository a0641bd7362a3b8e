//! Registered workloads: each registers its address for a Service, and renews its lease in time. A workload whose
//! lease expires is removed.
//!
//! ```text
//! workloads/NAMESPACE/SERVICE/NAME ─► registration and expiry (written again when half of the lease is over)
//! ```
//!
//! Methods block on the store, unless their documentation states otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::debug;
use weir_resources::{RegisteredEndpoints, registered_endpoints};

use crate::limits::{MAX_LEASE, MAX_NAMESPACE_WORKLOADS, MAX_SERVICE_VERSIONS, MAX_WORKLOADS, MIN_LEASE};
use crate::store::{ResourceStore, StoreError};

/// The kind of these records in the store.
const KIND: &str = "workloads";

/// The registration of a workload, as it sends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Registration {
    /// The address and port of the workload: `10.0.0.5:8080`.
    #[schemars(with = "String")]
    pub address: SocketAddr,
    /// The share of the requests, relative to other endpoints; 1 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// The version of the Service that the workload runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// False while the workload should receive no requests; true by default.
    #[serde(default = "default_healthy")]
    pub healthy: bool,
    /// Seconds until the workload is removed, unless it registers again.
    pub lease_seconds: u32,
}

const fn default_healthy() -> bool {
    true
}

/// A registered workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegisteredWorkload {
    /// The namespace of its Service.
    pub namespace: String,
    /// The Service that it serves.
    pub service: String,
    /// Its name, unique in the Service.
    pub name: String,
    /// Its last registration.
    #[serde(flatten)]
    pub registration: Registration,
    /// The end of its lease.
    #[schemars(with = "String")]
    pub expires: Timestamp,
}

impl RegisteredWorkload {
    fn key(&self) -> WorkloadKey {
        let Self { namespace, service, name, .. } = self.clone();
        WorkloadKey { namespace, service, name }
    }

    fn ttl(&self) -> SignedDuration {
        SignedDuration::from_secs(i64::from(self.registration.lease_seconds))
    }
}

/// The identity of a registered workload.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorkloadKey {
    /// The namespace of the Service.
    pub namespace: String,
    /// The name of the Service.
    pub service: String,
    /// The name of the workload, unique in the Service.
    pub name: String,
}

impl WorkloadKey {
    fn store_key(&self) -> String {
        let Self { namespace, service, name } = self;
        format!("{namespace}/{service}/{name}")
    }
}

/// The reason that a workload is not registered.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The registration is invalid.
    #[error("{0}")]
    Invalid(String),
    /// A quota is reached.
    #[error("{0}, which is the limit")]
    Full(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// All registered workloads: in memory, and in the store.
#[derive(Debug)]
pub struct WorkloadRegistry {
    store: Arc<ResourceStore>,
    leases: Mutex<BTreeMap<WorkloadKey, Lease>>,
    /// Serializes writes to the store together with the matching change of `leases`.
    changing: Mutex<()>,
}

#[derive(Debug, Clone)]
struct Lease {
    workload: RegisteredWorkload,
    /// The end of the lease that the store has.
    stored: Timestamp,
}

impl WorkloadRegistry {
    /// Loads the workloads from the store. Each gets one more lease, because it could not renew while this process was
    /// down.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn open(store: Arc<ResourceStore>) -> Result<Self, StoreError> {
        let registry = Self { store, leases: Mutex::default(), changing: Mutex::default() };
        registry.reload()?;
        let now = Timestamp::now();
        for lease in registry.leases.lock().values_mut() {
            lease.workload.expires = lease.workload.expires.max(now + lease.workload.ttl());
        }
        Ok(registry)
    }

    /// Loads what other replicas have written. Returns false if no endpoint has changed.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn reload(&self) -> Result<bool, StoreError> {
        let _changing = self.changing.lock();
        let stored: Vec<RegisteredWorkload> = self.store.list_entries(KIND)?;
        let before = self.endpoints();
        let mut leases = self.leases.lock();
        let known = std::mem::take(&mut *leases);
        for mut workload in stored {
            let stored = workload.expires;
            if let Some(lease) = known.get(&workload.key()) {
                workload.expires = workload.expires.max(lease.workload.expires);
            }
            leases.insert(workload.key(), Lease { workload, stored });
        }
        drop(leases);
        Ok(self.endpoints() != before)
    }

    /// Registers a workload, or renews its lease. Returns true if its registration has changed.
    ///
    /// # Errors
    /// The registration is invalid, a quota is reached, or the store failed.
    pub(crate) fn register(
        &self,
        key: &WorkloadKey,
        registration: Registration,
    ) -> Result<(RegisteredWorkload, bool), RegistryError> {
        let ttl = Duration::from_secs(u64::from(registration.lease_seconds));
        if !(MIN_LEASE..=MAX_LEASE).contains(&ttl) {
            let (least, most) = (MIN_LEASE.as_secs(), MAX_LEASE.as_secs());
            return Err(RegistryError::Invalid(format!("`leaseSeconds` is between {least} and {most}")));
        }
        registered_endpoints::endpoint(registration.address, registration.weight, registration.version.as_deref())
            .map_err(RegistryError::Invalid)?;
        let WorkloadKey { namespace, service, name } = key.clone();
        let now = Timestamp::now();
        let mut workload = RegisteredWorkload { namespace, service, name, registration, expires: now };
        workload.expires = now + workload.ttl();
        let _changing = self.changing.lock();
        let before = self.leases.lock().get(key).cloned();
        self.check_quota(&workload, before.is_none())?;
        let is_same = before.as_ref().is_some_and(|before| before.workload.registration == workload.registration);
        let mut stored = before.map(|before| before.stored).filter(|_| is_same);
        if stored.is_none_or(|stored| stored < now + workload.ttl() / 2) {
            match self.store.put_entry(KIND, &key.store_key(), &workload) {
                Ok(()) => stored = Some(workload.expires),
                // A renewal succeeds in memory, so that a store outage does not remove healthy workloads.
                Err(error) if is_same => debug!(%error, name = workload.name, "a lease is not written yet"),
                Err(error) => return Err(error.into()),
            }
        }
        let lease = Lease { workload: workload.clone(), stored: stored.unwrap_or(workload.expires) };
        self.leases.lock().insert(key.clone(), lease);
        Ok((workload, !is_same))
    }

    fn check_quota(&self, workload: &RegisteredWorkload, is_new: bool) -> Result<(), RegistryError> {
        let full = |what: String| Err(RegistryError::Full(what));
        let leases = self.leases.lock();
        let namespace = leases.keys().filter(|key| key.namespace == workload.namespace).count();
        if is_new && (leases.len() >= MAX_WORKLOADS || namespace >= MAX_NAMESPACE_WORKLOADS) {
            return full(format!(
                "{namespace} workloads of {} are registered, {} of all",
                workload.namespace,
                leases.len()
            ));
        }
        let others = leases.values().map(|lease| &lease.workload);
        let others = others.filter(|other| other.namespace == workload.namespace && other.service == workload.service);
        let mut versions: BTreeSet<&String> = others.filter_map(|other| other.registration.version.as_ref()).collect();
        versions.extend(&workload.registration.version);
        if versions.len() > MAX_SERVICE_VERSIONS {
            return full(format!("{} versions of {} are registered", versions.len() - 1, workload.service));
        }
        Ok(())
    }

    /// Removes a workload. Returns `None` if it is not registered.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) fn remove(&self, key: &WorkloadKey) -> Result<Option<RegisteredWorkload>, StoreError> {
        let _changing = self.changing.lock();
        if !self.leases.lock().contains_key(key) {
            return Ok(None);
        }
        self.store.delete_entries(KIND, &[&key.store_key()])?;
        Ok(self.leases.lock().remove(key).map(|lease| lease.workload))
    }

    /// Removes workloads whose lease has expired. Returns false if there was none.
    ///
    /// # Errors
    /// The store failed. The remaining workloads stay until the next call.
    pub(crate) fn expire(&self) -> Result<bool, StoreError> {
        let _changing = self.changing.lock();
        let now = Timestamp::now();
        let expired: Vec<WorkloadKey> = {
            let leases = self.leases.lock();
            leases.iter().filter(|(_, lease)| self.is_expired(lease, now)).map(|(key, _)| key.clone()).collect()
        };
        let (mut has_removed, mut failed) = (false, None);
        for key in expired {
            let has_expired = |stored: &RegisteredWorkload| stored.expires <= now;
            match self.store.delete_entry_if(KIND, &key.store_key(), has_expired) {
                Ok(true) => has_removed |= self.leases.lock().remove(&key).is_some(),
                Ok(false) => {}
                Err(error) => {
                    failed = Some(error);
                    break; // Further writes would wait as long.
                }
            }
        }
        // The caller must publish removals, even after an error.
        failed.filter(|_| !has_removed).map_or(Ok(has_removed), Err)
    }

    /// Returns whether any lease has expired. Does not block.
    pub(crate) fn has_expired_leases(&self) -> bool {
        let now = Timestamp::now();
        self.leases.lock().values().any(|lease| self.is_expired(lease, now))
    }

    /// Returns whether a lease has expired. In a shared store, another replica may have renewed it without
    /// writing that for half of its duration, by a clock that differs from ours.
    fn is_expired(&self, lease: &Lease, now: Timestamp) -> bool {
        let ttl = lease.workload.ttl();
        let unwritten =
            if self.store.is_shared() { ttl / 2 + SignedDuration::from_secs(1) } else { SignedDuration::ZERO };
        lease.workload.expires <= now && lease.stored + unwritten <= now
    }

    /// Returns all workloads. Does not block.
    pub fn all(&self) -> Vec<RegisteredWorkload> {
        self.leases.lock().values().map(|lease| lease.workload.clone()).collect()
    }

    /// Returns the endpoints of the healthy workloads. Does not block.
    pub(crate) fn endpoints(&self) -> RegisteredEndpoints {
        let mut endpoints = RegisteredEndpoints::default();
        for Lease { workload, .. } in self.leases.lock().values().filter(|lease| lease.workload.registration.healthy) {
            let RegisteredWorkload { namespace, service, registration, .. } = workload;
            let endpoint = registered_endpoints::endpoint(
                registration.address,
                registration.weight,
                registration.version.as_deref(),
            );
            endpoint.into_iter().for_each(|endpoint| endpoints.add(namespace, service, endpoint));
        }
        endpoints
    }
}
