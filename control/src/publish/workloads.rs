//! Workloads that register themselves: taken up and told by the one writer, without a revision. They come and go by
//! themselves, and nobody rolls them back.

use tracing::{debug, info, warn};
use weir_resources::{Kind, ObjectId};

use crate::publish::{Publisher, Refused};
use crate::registry::{RegisteredWorkload, Registration, Registry, RegistryError};

impl Publisher {
    /// All workloads.
    pub fn workloads(&self) -> &Registry {
        &self.registry
    }

    /// Registers a workload, or keeps it registered. Also whether that is news to others.
    ///
    /// # Errors
    /// There is no such Service; what it says is wrong; the store failed.
    pub fn register(
        &self,
        (namespace, service, name): (&str, &str, &str),
        said: Registration,
    ) -> Result<(RegisteredWorkload, bool), Refused> {
        let missing = || Refused::NotFound(format!("there is no Service {namespace}/{service}"));
        let id = ObjectId::new(Kind::Service.name(), namespace, service).ok_or_else(missing)?;
        let seen = self.seen.load();
        if !seen.live.contains_key(&id) {
            return Err(missing());
        }
        drop(seen);
        let key = (namespace.to_owned(), service.to_owned(), name.to_owned());
        let (workload, is_news) = self.registry.register(&key, said)?;
        if is_news {
            let RegisteredWorkload { namespace, service, name, said, .. } = &workload;
            info!(workload = name, service = %format!("{namespace}/{service}"), address = %said.address, healthy = said.healthy, "a workload is registered");
            self.workloads_changed.notify_one();
        }
        Ok((workload, is_news))
    }

    /// Forgets a workload.
    ///
    /// # Errors
    /// There is none; the store failed.
    pub fn unregister(&self, (namespace, service, name): (&str, &str, &str)) -> Result<RegisteredWorkload, Refused> {
        let key = (namespace.to_owned(), service.to_owned(), name.to_owned());
        let missing = || Refused::NotFound(format!("no workload {name} of {namespace}/{service} is registered"));
        let workload = self.registry.forget(&key)?.ok_or_else(missing)?;
        self.workloads_changed.notify_one();
        Ok(workload)
    }

    /// Forgets those that have not said in time that they are there still.
    pub fn expire_workloads(&self) {
        match self.registry.expire() {
            Ok(false) => {}
            Ok(true) => {
                info!("workloads have not registered again in time, and are gone");
                self.workloads_changed.notify_one();
            }
            Err(error) => debug!(%error, "workloads whose time is over are there until the store is"),
        }
    }

    /// Waits until workloads have come or gone.
    pub async fn workloads_changed(&self) {
        self.workloads_changed.notified().await;
    }

    /// Tells the workloads that there are. Blocks.
    pub fn tell_workloads(&self) {
        let mut inner = self.inner.lock();
        if let Err(refused) = self.tell_again(&mut inner) {
            warn!("workloads are told with the next change: {refused}");
        }
    }
}

impl From<RegistryError> for Refused {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Store(error) => Self::Store(error),
            RegistryError::Full(_) => Self::Conflict(error.to_string()),
            RegistryError::Invalid(reason) => Self::Invalid(vec![weir_resources::Refusal::unplaced(reason, "")]),
        }
    }
}
