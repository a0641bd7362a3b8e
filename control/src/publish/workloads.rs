//! Registered workloads: their endpoints are published without a revision, because workloads come and go by themselves
//! and a rollback must not restore them.

use tracing::{debug, info, warn};
use weir_resources::{Kind, ObjectId};

use crate::publish::error::ChangeError;
use crate::publish::publisher::Publisher;
use crate::workload_registry::{RegisteredWorkload, Registration, RegistryError, WorkloadKey, WorkloadRegistry};

impl Publisher {
    /// Returns the registered workloads.
    pub fn workloads(&self) -> &WorkloadRegistry {
        &self.registry
    }

    /// Registers a workload, or renews its lease. Returns true if its registration has changed.
    ///
    /// # Errors
    /// The ServiceEntry does not exist, the registration is invalid, a quota is reached, or the store failed.
    pub fn register(
        &self,
        key: &WorkloadKey,
        registration: Registration,
    ) -> Result<(RegisteredWorkload, bool), ChangeError> {
        let WorkloadKey { namespace, service, .. } = key;
        let missing = || ChangeError::NotFound(format!("there is no ServiceEntry {namespace}/{service}"));
        let id = ObjectId::new(Kind::ServiceEntry.name(), namespace, service).ok_or_else(missing)?;
        if !self.read_view.load().active.contains_key(&id) {
            return Err(missing());
        }
        let (workload, has_changed) = self.registry.register(key, registration)?;
        if has_changed {
            let RegisteredWorkload { namespace, service, name, registration, .. } = &workload;
            info!(
                workload = name,
                service = %format!("{namespace}/{service}"),
                address = %registration.address,
                healthy = registration.healthy,
                "workload registered"
            );
            self.workloads_changed.notify_one();
        }
        Ok((workload, has_changed))
    }

    /// Removes a workload.
    ///
    /// # Errors
    /// The workload is not registered, or the store failed.
    pub fn unregister(&self, key: &WorkloadKey) -> Result<RegisteredWorkload, ChangeError> {
        let WorkloadKey { namespace, service, name } = key;
        let missing = || ChangeError::NotFound(format!("no workload {name} of {namespace}/{service} is registered"));
        let workload = self.registry.remove(key)?.ok_or_else(missing)?;
        self.workloads_changed.notify_one();
        Ok(workload)
    }

    /// Removes workloads whose lease has expired.
    pub fn expire_workloads(&self) {
        match self.registry.expire() {
            Ok(false) => {}
            Ok(true) => {
                info!("workloads removed: lease expired");
                self.workloads_changed.notify_one();
            }
            Err(error) => debug!(%error, "cannot expire leases: store unavailable"),
        }
    }

    /// Waits until the registered endpoints may have changed.
    pub async fn workloads_changed(&self) {
        self.workloads_changed.notified().await;
    }

    /// Publishes the registered endpoints. Blocks.
    pub fn publish_endpoints(&self) {
        let mut writer = self.writer.lock();
        if let Err(error) = self.republish(&mut writer) {
            warn!("endpoint publication deferred to the next change: {error}");
        }
    }
}

impl From<RegistryError> for ChangeError {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Store(error) => Self::Store(error),
            RegistryError::Full(_) => Self::Conflict(error.to_string()),
            RegistryError::Invalid(reason) => {
                Self::Invalid(vec![weir_resources::Diagnostic::without_position(reason, "")])
            }
        }
    }
}
