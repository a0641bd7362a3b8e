//! Validates what a snapshot changes: starts filters with their configurations, and loads certificates with their
//! keys. A configuration that every proxy would reject is so rejected at its source.

use std::collections::HashSet;

use weir_identity::{Authorities, ServerCertificate};
use weir_model::{CertificateWithKey, Rejection, ResourceId, ResourceKind, SecretContent};
use weir_resources::{Compiled, ObjectId, source_object};

use crate::filter_validation::{FilterError, FilterValidator, StartKey, ValidationDeadline, start_key};
use crate::limits::MAX_VALIDATION_FAILURES;
use crate::publish::publisher::Publisher;
use crate::snapshot_cache::{EncodeError, EncodedSnapshot};

impl Publisher {
    /// Encodes a compiled snapshot, after all new or changed filters and certificates were validated.
    pub(super) fn build_validated(&self, compiled: &Compiled) -> Result<EncodedSnapshot, EncodeError> {
        self.build_validated_except(compiled, |_| false)
    }

    /// Like [`Publisher::build_validated`], without starting the filters of objects for which `is_valid` returns true.
    pub(super) fn build_validated_except(
        &self,
        compiled: &Compiled,
        is_valid: impl Fn(&ObjectId) -> bool,
    ) -> Result<EncodedSnapshot, EncodeError> {
        let encoded = self.snapshot_cache.encode(&compiled.snapshot)?;
        let mut rejections = Vec::new();
        let deadline = ValidationDeadline::start();
        for (plugin, hash) in encoded.changed_plugins(&self.snapshot_cache.current()) {
            let Some(bytes) = self.snapshot_cache.module(&hash).filter(|_| FilterValidator::can_validate(plugin))
            else {
                continue;
            };
            let resource = ResourceId { kind: ResourceKind::Plugin, name: plugin.name.to_string() };
            if source_object(&resource).is_some_and(|id| is_valid(&id)) {
                continue;
            }
            if deadline.has_passed() {
                let reason =
                    "the filters of this change take too long to start; apply fewer at once, or fix the slow one";
                return Err(EncodeError::TooLarge(reason.to_owned()));
            }
            if rejections.len() >= MAX_VALIDATION_FAILURES {
                break;
            }
            if let Err(FilterError { field, reason, hint }) = self.validator.validate(plugin, hash, &bytes) {
                rejections.push(Rejection { resource, field: field.to_owned(), reason, hint });
            }
        }
        rejections.extend(encoded.changed_secrets(&self.snapshot_cache.current()).filter_map(|secret| {
            let (checked, hint) = match &secret.content {
                SecretContent::Certificate(CertificateWithKey { certificates, key }) => {
                    let hint = "write the certificate with its chain into tls.crt, and its own key into tls.key";
                    (ServerCertificate::from_pem(certificates, &key.0).map(drop), hint)
                }
                SecretContent::Authorities { authorities } => {
                    (Authorities::from_pem(authorities).map(drop), "write CA certificates as PEM into ca.crt")
                }
            };
            let reason = checked.err()?.to_string();
            let resource = ResourceId { kind: ResourceKind::Secret, name: secret.name.to_string() };
            Some(Rejection { resource, field: String::new(), reason, hint: hint.to_owned() })
        }));
        if rejections.is_empty() { Ok(encoded) } else { Err(EncodeError::Rejected(rejections)) }
    }

    /// Evicts modules and started filters that the current snapshot does not use. Requires the writer's lock, because
    /// a snapshot that is being built is not current yet.
    pub(super) fn evict_unused(&self) {
        let encoded = self.snapshot_cache.current();
        self.snapshot_cache.evict_modules(&encoded);
        self.evict_unused_filters(&encoded);
    }

    /// Evicts started filters that a snapshot does not use.
    pub(super) fn evict_unused_filters(&self, encoded: &EncodedSnapshot) {
        let starts =
            || -> HashSet<StartKey> { encoded.plugins().map(|(plugin, hash)| start_key(plugin, hash)).collect() };
        self.validator.retain(|hash| encoded.uses_module(hash), starts);
    }
}
