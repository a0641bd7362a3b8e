//! Bundles: validated, stored, and deleted when no Filter names them. The publisher's lock serializes this with
//! changes, so no Filter can name a bundle that is being deleted.

use std::sync::Arc;

use tracing::{info, warn};
use weir_host_abi::Module;
use weir_model::{BundleName, ModuleSource, Plugin, PluginName};
use weir_resources::Diagnostic;

use crate::bundle_store::{BundleStore, BundleStoreError, ParsedBundle, StoredBundle};
use crate::filter_validation::{FilterError, FilterValidator};
use crate::limits::{MAX_CONFLICTS, MAX_VALIDATION_MEMORY, MAX_VALIDATION_TIME};
use crate::publish::change::ChangeRequest;
use crate::publish::error::{ChangeError, conflict_error};
use crate::publish::publisher::Publisher;

/// The result of a push.
#[derive(Debug)]
pub struct PushResult {
    /// The bundle as it is stored.
    pub bundle: StoredBundle,
    /// True if this push stored the file. False if the same file was stored before, and for a dry run.
    pub is_new: bool,
    /// Imports that no host of Weir provides. The module starts, and may fail when it calls them.
    pub unknown_imports: Vec<String>,
}

impl Publisher {
    /// Returns the stored bundles.
    pub fn bundles(&self) -> &BundleStore {
        &self.bundles
    }

    /// Stores a bundle, after its module has started with the example configuration of its manifest.
    ///
    /// # Errors
    /// No trusted signer has signed it, it does not start, or another module has its name and version. Nothing was
    /// stored.
    pub fn push(
        &self,
        name: &BundleName,
        bytes: Arc<[u8]>,
        request: &ChangeRequest,
    ) -> Result<PushResult, ChangeError> {
        let file = ParsedBundle::read(bytes).map_err(ChangeError::Invalid)?;
        let declared = &file.manifest.bundle;
        if declared != name {
            return Err(invalid(
                format!("its manifest names it {declared}, but it is pushed as {name}"),
                "use one name",
            ));
        }
        check_name(name, request)?;
        // Signatures and quota are checked before any of its code runs.
        let bundle = file.to_stored(String::new(), &request.author);
        self.bundles.trusted().check(&bundle.signers).map_err(|reason| {
            invalid(format!("{name} {reason}"), "sign it with `weir bundle sign`, with a key of --trusted-signers")
        })?;
        if !self.bundles.check(&bundle)? {
            let bundle = self.bundles.get(name).unwrap_or(bundle);
            return Ok(PushResult { bundle, is_new: false, unknown_imports: Vec::new() });
        }
        let validated = self.validate_bundle(&file);
        self.evict_unused_filters(&self.snapshot_cache.current());
        let module = validated?;
        let abi = module.abi_version().to_string();
        if let Some(declared) = file.manifest.abi.as_ref().filter(|declared| **declared != abi) {
            return Err(invalid(
                format!("its manifest has `abi: {declared}`, but it was built for {abi}"),
                "correct it",
            ));
        }
        let bundle = StoredBundle { abi, ..bundle };
        let unknown_imports = module.unknown_imports().to_vec();
        if request.is_dry_run {
            return Ok(PushResult { bundle, is_new: false, unknown_imports });
        }
        let mut writer = self.writer.lock();
        self.sync_from_store(&mut writer)?;
        let is_new = self.bundles.insert(bundle.clone(), &file.bytes)?;
        if is_new {
            info!(bundle = %name, sha256 = bundle.sha256, author = request.author, "bundle stored");
        }
        if is_new && !self.filters_using(name).is_empty() {
            // The same module with more signatures has another hash, so proxies need a new snapshot. A failure to
            // publish does not undo the push.
            if let Err(error) = self.republish(&mut writer) {
                warn!(bundle = %name, "bundle stored; publish deferred: {error}");
            }
        }
        drop(writer);
        let bundle = self.bundles.get(name).unwrap_or(bundle);
        Ok(PushResult { bundle, is_new, unknown_imports })
    }

    /// Deletes a bundle that no Filter names.
    ///
    /// # Errors
    /// The bundle does not exist, or a Filter names it.
    pub fn delete_bundle(&self, name: &BundleName, request: &ChangeRequest) -> Result<StoredBundle, ChangeError> {
        let missing = || ChangeError::NotFound(format!("there is no bundle {name}"));
        let mut writer = self.writer.lock();
        for _ in 0..MAX_CONFLICTS {
            self.sync_from_store(&mut writer)?;
            let bundle = self.bundles.get(name).ok_or_else(missing)?;
            check_name(name, request)?;
            let users = self.filters_using(name);
            if !users.is_empty() {
                return Err(ChangeError::Conflict(format!("the bundle {name} is used by Filter {}", users.join(", "))));
            }
            if request.is_dry_run {
                return Ok(bundle);
            }
            if self.bundles.delete(name, &writer.state)? {
                info!(bundle = %name, author = request.author, "bundle deleted");
                return Ok(bundle);
            }
        }
        Err(conflict_error())
    }

    /// Returns the names of the Filters that name a bundle.
    pub fn filters_using(&self, name: &BundleName) -> Vec<String> {
        let encoded = self.snapshot_cache.current();
        let users =
            encoded.snapshot.plugins.values().filter(|plugin| plugin.module == ModuleSource::Bundle(name.clone()));
        users.map(|plugin| plugin.name.to_string()).collect()
    }

    fn validate_bundle(&self, file: &ParsedBundle) -> Result<Module, ChangeError> {
        let manifest = &file.manifest;
        let name = PluginName::new(&format!("bundle/{}", manifest.bundle.name))
            .map_err(|error| invalid(error.to_string(), "use another name"))?;
        let module = ModuleSource::Bundle(manifest.bundle.clone());
        let plugin = Plugin::new(name, module, Arc::clone(&manifest.example));
        let plugin = Plugin { limits: manifest.plugin_limits(), ..plugin };
        let to_error = |error: FilterError| {
            let FilterError { field, reason, hint } = error;
            let hint = match field {
                "configuration" => "write a configuration that it accepts into `example` of its manifest".to_owned(),
                _ => hint,
            };
            ChangeError::Invalid(vec![Diagnostic {
                field: field.to_owned(),
                ..Diagnostic::without_position(reason, hint)
            }])
        };
        if !FilterValidator::can_validate(&plugin) {
            let reason = format!(
                "its limits are more than {MAX_VALIDATION_MEMORY}, or a start of {} s",
                MAX_VALIDATION_TIME.as_secs()
            );
            return Err(invalid(reason, "set lower limits in its manifest; a Filter may set higher ones"));
        }
        let module = self.validator.load(file.sha256, &file.bytes).map_err(|error| to_error(error.into()))?;
        self.validator.validate(&plugin, file.sha256, &file.bytes).map_err(to_error)?;
        Ok(module)
    }
}

/// Checks that a token with namespaces pushes and deletes only bundles named `NAMESPACE.…`.
fn check_name(name: &BundleName, request: &ChangeRequest) -> Result<(), ChangeError> {
    let Some(namespaces) = &request.namespaces else { return Ok(()) };
    let is_in =
        |namespace: &String| name.name.strip_prefix(namespace.as_str()).is_some_and(|rest| rest.starts_with('.'));
    if namespaces.iter().any(is_in) {
        return Ok(());
    }
    let allowed: Vec<String> = namespaces.iter().map(|namespace| format!("`{namespace}.…`")).collect();
    Err(ChangeError::Forbidden(format!("the token may push and delete bundles named {} only", allowed.join(" or "))))
}

fn invalid(reason: impl Into<String>, hint: impl Into<String>) -> ChangeError {
    ChangeError::Invalid(vec![Diagnostic::without_position(reason, hint)])
}

impl From<BundleStoreError> for ChangeError {
    fn from(error: BundleStoreError) -> Self {
        match error {
            BundleStoreError::Store(error) => Self::Store(error),
            other => Self::Conflict(other.to_string()),
        }
    }
}
