//! What is told is tried first: filters are started with their configurations, certificates are put together with their
//! keys. So what no proxy would take is refused to whoever brings it.

use std::collections::HashSet;

use weir_identity::ServerCertificate;
use weir_model::{Rejection, ResourceId, ResourceKind};
use weir_resources::{Compiled, ObjectId, object_of};

use crate::board::{NotTold, Told};
use crate::limits::MAX_FAILED_TRIALS;
use crate::loader::{LoadRefusal, Loader, Start, TrialTime, start_of};
use crate::publish::Publisher;

impl Publisher {
    /// What is told of something that was compiled; filters that are new have been started with it.
    pub(super) fn prepare(&self, compiled: &Compiled) -> Result<Told, NotTold> {
        self.prepare_but(compiled, |_| false)
    }

    /// The same, but some objects are not tried.
    pub(super) fn prepare_but(
        &self,
        compiled: &Compiled,
        is_trusted: impl Fn(&ObjectId) -> bool,
    ) -> Result<Told, NotTold> {
        let told = self.board.prepare(&compiled.snapshot)?;
        let mut rejections = Vec::new();
        let time = TrialTime::begin();
        for (plugin, hash) in told.plugins_not_in(&self.board.told()) {
            let Some(bytes) = self.board.module(&hash).filter(|_| Loader::can_try(plugin)) else { continue };
            let resource = ResourceId { kind: ResourceKind::Plugin, name: plugin.name.to_string() };
            if object_of(&resource).is_some_and(|id| is_trusted(&id)) {
                continue;
            }
            if time.is_over() {
                let reason =
                    "the filters of this change take too long to try; apply fewer at once, or mend the slow one";
                return Err(NotTold::TooMuch(reason.to_owned()));
            }
            if rejections.len() >= MAX_FAILED_TRIALS {
                break;
            }
            if let Err(LoadRefusal { field, reason, hint }) = self.loader.try_start(plugin, hash, &bytes) {
                rejections.push(Rejection { resource, field: field.to_owned(), reason, hint });
            }
        }
        rejections.extend(told.secrets_not_in(&self.board.told()).filter_map(|secret| {
            let reason = ServerCertificate::from_pem(&secret.certificates, &secret.key.0).err()?.to_string();
            let resource = ResourceId { kind: ResourceKind::Secret, name: secret.name.to_string() };
            let hint = "write the certificate with its chain into tls.crt, and its own key into tls.key".to_owned();
            Some(Rejection { resource, field: String::new(), reason, hint })
        }));
        if rejections.is_empty() { Ok(told) } else { Err(NotTold::Rejected(rejections)) }
    }

    /// Forgets what was read and tried and is not told. For the one writer, with its lock: what it prepares is not told yet.
    pub(super) fn forget_unused(&self) {
        let told = self.board.told();
        self.board.forget_modules(&told);
        self.forget_tried(&told);
    }

    /// Forgets what was tried and is not told: who tries it again loads it again.
    pub(super) fn forget_tried(&self, told: &Told) {
        let starts = || -> HashSet<Start> { told.plugins().map(|(plugin, hash)| start_of(plugin, hash)).collect() };
        self.loader.retain(|hash| told.uses(hash), starts);
    }
}
