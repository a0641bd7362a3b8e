//! Registered workloads: each registers its address for a Service, and renews its lease in time. A workload whose
//! lease expires is removed.
//!
//! ```text
//! workloads/NAMESPACE/SERVICE/NAME ─► registration, and the time of the last written renewal as `expires`
//! ```
//!
//! Leases are measured by the monotonic clock, so that a jump of the wall clock ends none and prolongs none. The time in
//! the store is for operators, and is never compared with a clock. In a shared store a renewal is written when half of
//! the lease is over. Another replica notices that the stored value has changed, and measures the lease from then on.
//!
//! Methods block on the store, unless their documentation states otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use tokio::time::Instant;
use tracing::debug;
use weir_resources::{RegisteredEndpoints, registered_endpoints};

use crate::clock::Clock;
use crate::limits::{
    MAX_LEASE, MAX_NAMESPACE_WORKLOADS, MAX_SERVICE_VERSIONS, MAX_STORE_SILENCE, MAX_WORKLOADS, MIN_LEASE,
    RENEWAL_WRITE_TIME,
};
use crate::store::{ResourceStore, StoreError};

/// The kind of these records in the store.
const KIND: &str = "workloads";

/// The registration of a workload, as it sends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Registration {
    /// The address and port of the workload: `10.0.0.5:8080`.
    #[schemars(with = "String")]
    #[serde(deserialize_with = "reachable_address")]
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

/// Deserializes an IP address and port. A Unix socket would be one of the proxy's host, which is not the workload's.
fn reachable_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    let reason = match text.starts_with("unix:") {
        true => "is a Unix socket, which other hosts cannot reach",
        false => "is not an IP address with a port",
    };
    text.parse().map_err(|_| {
        D::Error::custom(format!("`{}` {reason}; register an address as in `10.0.0.5:8080`", text.escape_debug()))
    })
}

const fn default_healthy() -> bool {
    true
}

impl Registration {
    fn ttl(&self) -> Duration {
        Duration::from_secs(u64::from(self.lease_seconds))
    }
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
    /// The end of its lease, if the wall clock is not set until then.
    #[schemars(with = "String")]
    pub expires: Timestamp,
}

impl RegisteredWorkload {
    fn key(&self) -> WorkloadKey {
        let Self { namespace, service, name, .. } = self.clone();
        WorkloadKey { namespace, service, name }
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
    clock: Clock,
    /// True if other replicas may renew leases.
    is_shared: bool,
    state: Mutex<LeaseTable>,
    /// Serializes writes to the store together with the matching change of `state`.
    changing: Mutex<()>,
}

#[derive(Debug)]
struct LeaseTable {
    leases: BTreeMap<WorkloadKey, Lease>,
    /// The time when the store was read completely.
    loaded: Instant,
}

#[derive(Debug, Clone)]
struct Lease {
    /// The value in the store. Its registration is the last one.
    stored: RegisteredWorkload,
    /// The time when this process wrote or first saw the stored value.
    seen: Instant,
    /// The time of the last renewal that this process knows of. Not before `seen`.
    renewed: Instant,
}

impl Lease {
    fn new(stored: RegisteredWorkload, now: Instant) -> Self {
        Self { stored, seen: now, renewed: now }
    }

    fn ttl(&self) -> Duration {
        self.stored.registration.ttl()
    }

    /// Returns the end of the lease, as far as this process knows.
    fn end(&self) -> Instant {
        self.renewed + self.ttl()
    }

    /// Returns true if a renewal at `now` must be written to a shared store.
    fn must_write(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.seen) > self.ttl() / 2
    }

    /// Returns whether the lease has expired. In a shared store, another replica may have renewed it without writing
    /// that for half of its duration.
    fn is_expired(&self, now: Instant, is_shared: bool) -> bool {
        let unwritten = if is_shared { self.ttl() / 2 + RENEWAL_WRITE_TIME } else { Duration::ZERO };
        self.end() <= now && self.seen + self.ttl() + unwritten <= now
    }
}

impl WorkloadRegistry {
    /// Loads the workloads from the store. Each gets one more lease, because it could not renew while this process was
    /// down.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn open(store: Arc<ResourceStore>) -> Result<Self, StoreError> {
        let is_shared = store.is_shared();
        Self::open_with(store, is_shared, Clock::System)
    }

    fn open_with(store: Arc<ResourceStore>, is_shared: bool, clock: Clock) -> Result<Self, StoreError> {
        let state = LeaseTable { leases: BTreeMap::new(), loaded: clock.read().monotonic };
        let registry = Self { store, clock, is_shared, state: Mutex::new(state), changing: Mutex::default() };
        registry.reload()?;
        Ok(registry)
    }

    /// Loads what other replicas have written. Returns false if no endpoint has changed.
    ///
    /// A changed value begins a lease. So do all values after the store was not readable for a while, because renewals
    /// at other replicas were not visible.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn reload(&self) -> Result<bool, StoreError> {
        let _changing = self.changing.lock();
        let stored: Vec<RegisteredWorkload> = self.store.list_entries(KIND)?;
        let before = self.endpoints();
        let now = self.clock.read().monotonic;
        let mut state = self.state.lock();
        let is_current = state.is_current(now);
        let known = std::mem::take(&mut state.leases);
        for workload in stored {
            let key = workload.key();
            let unchanged = known.get(&key).filter(|lease| is_current && lease.stored == workload);
            let lease = unchanged.cloned().unwrap_or_else(|| Lease::new(workload, now));
            state.leases.insert(key, lease);
        }
        state.loaded = now;
        drop(state);
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
        if !(MIN_LEASE..=MAX_LEASE).contains(&registration.ttl()) {
            let (least, most) = (MIN_LEASE.as_secs(), MAX_LEASE.as_secs());
            return Err(RegistryError::Invalid(format!("`leaseSeconds` is between {least} and {most}")));
        }
        registered_endpoints::endpoint(registration.address, registration.weight, registration.version.as_deref())
            .map_err(RegistryError::Invalid)?;
        let _changing = self.changing.lock();
        let (WorkloadKey { namespace, service, name }, now) = (key.clone(), self.clock.read());
        let expires = now.wall_time(now.monotonic + registration.ttl());
        let workload = RegisteredWorkload { namespace, service, name, registration, expires };
        let before = self.state.lock().leases.get(key).cloned();
        self.check_quota(&workload, before.is_none())?;
        let renewed = before.filter(|before| before.stored.registration == workload.registration);
        let is_same = renewed.is_some();
        let lease = match renewed {
            // After a restart each workload gets a lease, so renewals need not be written for this process.
            Some(lease) if !self.is_shared || !lease.must_write(now.monotonic) => {
                Lease { renewed: now.monotonic, ..lease }
            }
            renewed => match (self.store.put_entry(KIND, &key.store_key(), &workload), renewed) {
                (Ok(()), _) => Lease::new(workload.clone(), now.monotonic),
                // A renewal succeeds in memory, so that a store outage does not remove healthy workloads.
                (Err(error), Some(lease)) => {
                    debug!(%error, name = workload.name, "a lease is not written yet");
                    Lease { renewed: now.monotonic, ..lease }
                }
                (Err(error), None) => return Err(error.into()),
            },
        };
        self.state.lock().leases.insert(key.clone(), lease);
        Ok((workload, !is_same))
    }

    fn check_quota(&self, workload: &RegisteredWorkload, is_new: bool) -> Result<(), RegistryError> {
        let full = |what: String| Err(RegistryError::Full(what));
        let leases = &self.state.lock().leases;
        let namespace = leases.keys().filter(|key| key.namespace == workload.namespace).count();
        if is_new && (leases.len() >= MAX_WORKLOADS || namespace >= MAX_NAMESPACE_WORKLOADS) {
            return full(format!(
                "{namespace} workloads of {} are registered, {} of all",
                workload.namespace,
                leases.len()
            ));
        }
        let others = leases.values().map(|lease| &lease.stored);
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
        if !self.state.lock().leases.contains_key(key) {
            return Ok(None);
        }
        self.store.delete_entries(KIND, &[&key.store_key()])?;
        Ok(self.state.lock().leases.remove(key).map(|lease| lease.stored))
    }

    /// Removes workloads whose lease has expired. Returns false if there was none.
    ///
    /// # Errors
    /// The store failed. The remaining workloads stay until the next call.
    pub(crate) fn expire(&self) -> Result<bool, StoreError> {
        let _changing = self.changing.lock();
        let expired = self.expired();
        let (mut has_removed, mut failed) = (false, None);
        for (key, lease) in expired {
            // Another replica may have written a renewal that is not loaded yet.
            let is_unchanged = |stored: &RegisteredWorkload| *stored == lease.stored;
            match self.store.delete_entry_if(KIND, &key.store_key(), is_unchanged) {
                Ok(true) => has_removed |= self.state.lock().leases.remove(&key).is_some(),
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
        !self.expired().is_empty()
    }

    /// Returns the expired leases: none while renewals at other replicas are not visible.
    fn expired(&self) -> Vec<(WorkloadKey, Lease)> {
        let (now, state) = (self.clock.read().monotonic, self.state.lock());
        if self.is_shared && !state.is_current(now) {
            return Vec::new();
        }
        let expired = state.leases.iter().filter(|(_, lease)| lease.is_expired(now, self.is_shared));
        expired.map(|(key, lease)| (key.clone(), lease.clone())).collect()
    }

    /// Returns all workloads. Does not block.
    pub fn all(&self) -> Vec<RegisteredWorkload> {
        let (now, state) = (self.clock.read(), self.state.lock());
        let workload =
            |lease: &Lease| RegisteredWorkload { expires: now.wall_time(lease.end()), ..lease.stored.clone() };
        state.leases.values().map(workload).collect()
    }

    /// Returns the endpoints of the healthy workloads. Does not block.
    pub(crate) fn endpoints(&self) -> RegisteredEndpoints {
        let mut endpoints = RegisteredEndpoints::default();
        let state = self.state.lock();
        for Lease { stored, .. } in state.leases.values().filter(|lease| lease.stored.registration.healthy) {
            let RegisteredWorkload { namespace, service, registration, .. } = stored;
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

impl LeaseTable {
    /// Returns true if the store was read recently enough to have shown the renewals at other replicas.
    fn is_current(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.loaded) < MAX_STORE_SILENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store of the process, and registries that open it.
    struct Fixture {
        _folder: tempfile::TempDir,
        store: Arc<ResourceStore>,
    }

    impl Fixture {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let store = Arc::new(ResourceStore::in_folder(folder.path()).unwrap());
            Self { _folder: folder, store }
        }

        /// Returns a registry and its clocks. Registries of a shared store are replicas.
        fn open(&self, is_shared: bool) -> (WorkloadRegistry, Clock) {
            let clock = Clock::manual();
            (WorkloadRegistry::open_with(Arc::clone(&self.store), is_shared, clock.clone()).unwrap(), clock)
        }
    }

    fn register(registry: &WorkloadRegistry, name: &str) -> RegisteredWorkload {
        let address = ([127, 0, 0, 1], 80).into();
        let registration = Registration { address, weight: None, version: None, healthy: true, lease_seconds: 60 };
        registry.register(&key(name), registration).unwrap().0
    }

    fn key(name: &str) -> WorkloadKey {
        WorkloadKey { namespace: "default".to_owned(), service: "origin".to_owned(), name: name.to_owned() }
    }

    fn names(registry: &WorkloadRegistry) -> Vec<String> {
        registry.expire().unwrap();
        registry.all().into_iter().map(|workload| workload.name).collect()
    }

    #[test]
    fn jump_of_wall_clock_ends_no_lease_and_prolongs_none() {
        for jump in [3_600, -7_200] {
            let fixture = Fixture::new();
            let (registry, clock) = fixture.open(false);
            register(&registry, "renewed");
            register(&registry, "dead");
            clock.advance(40);
            clock.set_wall(jump);
            assert_eq!(names(&registry), ["dead", "renewed"], "{jump}");
            let renewed = register(&registry, "renewed");
            assert_eq!(renewed.expires, clock.read().wall + jiff::SignedDuration::from_secs(60));
            clock.advance(19);
            assert_eq!(names(&registry), ["dead", "renewed"], "{jump}");
            clock.advance(1);
            assert!(registry.has_expired_leases());
            assert_eq!(names(&registry), ["renewed"], "{jump}");
            clock.set_wall(jump);
            assert_eq!(registry.all()[0].expires, clock.read().wall + jiff::SignedDuration::from_secs(40));
            clock.advance(40);
            assert!(names(&registry).is_empty(), "{jump}");
        }
    }

    #[test]
    fn registration_has_one_more_lease_after_restart() {
        let fixture = Fixture::new();
        let (registry, clock) = fixture.open(false);
        register(&registry, "one");
        clock.advance(59);
        drop(registry);
        let (registry, clock) = fixture.open(false);
        clock.set_wall(-100_000);
        clock.advance(59);
        assert_eq!(names(&registry), ["one"]);
        clock.advance(1);
        assert!(names(&registry).is_empty());
        assert!(fixture.open(false).0.all().is_empty(), "the store has it no more");
    }

    /// Replicas whose wall clocks differ by hours, and whose monotonic clocks are not comparable.
    #[test]
    fn replica_measures_lease_from_when_it_saw_the_renewal() {
        let fixture = Fixture::new();
        let ((one, first), (other, second)) = (fixture.open(true), fixture.open(true));
        second.set_wall(-7_200);
        let advance = |seconds| {
            for _ in 0..seconds {
                first.advance(1);
                second.advance(1);
                one.reload().unwrap();
                other.reload().unwrap();
            }
        };
        register(&one, "one");
        assert!(other.reload().unwrap(), "a new endpoint");
        // Renewals at one replica reach the other, although not every one is written.
        for _ in 0..12 {
            advance(20);
            register(&one, "one");
            assert_eq!((names(&one), names(&other)), (vec!["one".to_owned()], vec!["one".to_owned()]));
        }
        first.set_wall(36_000);
        advance(59);
        assert_eq!((names(&one), names(&other)), (vec!["one".to_owned()], vec!["one".to_owned()]));
        // Half of a lease may have been unwritten.
        advance(33);
        assert_eq!((names(&other), names(&one)), (vec![], vec![]));
    }

    #[test]
    fn replica_removes_no_workload_that_was_renewed_meanwhile() {
        let fixture = Fixture::new();
        let ((one, first), (other, second)) = (fixture.open(true), fixture.open(true));
        register(&one, "one");
        other.reload().unwrap();
        for _ in 0..90 {
            second.advance(1);
            other.reload().unwrap();
        }
        first.advance(40);
        register(&one, "one");
        second.advance(1);
        assert!(other.has_expired_leases());
        assert_eq!(names(&other), ["one"], "the store has a renewal that the replica has not loaded");
        assert!(!other.reload().unwrap());
        assert!(!other.has_expired_leases());
    }

    #[test]
    fn lease_begins_again_after_outage_of_shared_store() {
        let fixture = Fixture::new();
        let (registry, clock) = fixture.open(true);
        register(&registry, "one");
        clock.advance(600); // Without `reload`, as the store was not readable.
        assert!(!registry.has_expired_leases());
        registry.reload().unwrap();
        assert_eq!(names(&registry), ["one"]);
        for _ in 0..91 {
            clock.advance(1);
            registry.reload().unwrap();
        }
        assert!(names(&registry).is_empty());
    }
}
