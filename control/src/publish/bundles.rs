//! Bundles: tried, kept, and deleted when nothing names them. By the one writer, so that no Filter comes to name what is
//! just going.

use std::sync::Arc;

use tracing::{info, warn};
use weir_host_abi::Module;
use weir_model::{BundleName, ModuleSource, Plugin, PluginName};
use weir_resources::Refusal;

use crate::bundle::{BundleShelf, KeptBundle, PushedFile, ShelfError};
use crate::limits::{MAX_CONFLICTS, MAX_TRIAL_MEMORY, MAX_TRIAL_TIME};
use crate::loader::{LoadRefusal, Loader};
use crate::publish::replicas::overtaken;
use crate::publish::{Publisher, Refused, Request};

/// What became of a bundle that was pushed.
#[derive(Debug)]
pub struct Pushed {
    /// It, as it is kept.
    pub bundle: KeptBundle,
    /// False when it was there already, just so, or when only what would happen was asked for.
    pub is_new: bool,
    /// What it imports and no host of ours has: it starts, and may fail when it calls them.
    pub unknown_imports: Vec<String>,
}

impl Publisher {
    /// All bundles.
    pub fn bundles(&self) -> &BundleShelf {
        &self.bundles
    }

    /// Keeps a bundle that starts here as it would start in a proxy.
    ///
    /// # Errors
    /// Nobody who is trusted has signed it; it does not load, start or take its example; another module has its name and
    /// version. Nothing has happened.
    pub fn push(&self, name: &BundleName, bytes: Arc<[u8]>, request: &Request) -> Result<Pushed, Refused> {
        let file = PushedFile::read(bytes).map_err(Refused::Invalid)?;
        let said = &file.manifest.bundle;
        if said != name {
            return Err(invalid(format!("its manifest says that it is {said}, and it is pushed as {name}"), "say one"));
        }
        check_name(name, request)?;
        // Nothing of it runs before it is known that it would be kept.
        let bundle = file.kept(String::new(), &request.author);
        self.bundles.trusted().check(&bundle.signers).map_err(|reason| {
            invalid(format!("{name} {reason}"), "sign it with `weir plugin sign`, with a key of --trusted-signers")
        })?;
        if !self.bundles.check(&bundle)? {
            let bundle = self.bundles.get(name).unwrap_or(bundle);
            return Ok(Pushed { bundle, is_new: false, unknown_imports: Vec::new() });
        }
        let tried = self.try_bundle(&file);
        self.forget_tried(&self.board.told());
        let module = tried?;
        let abi = module.abi_version().to_string();
        if let Some(said) = file.manifest.abi.as_ref().filter(|said| **said != abi) {
            return Err(invalid(format!("its manifest says `abi: {said}`, and it was built for {abi}"), "correct it"));
        }
        let bundle = KeptBundle { abi, ..bundle };
        let unknown_imports = module.unknown_imports().to_vec();
        if request.is_dry_run {
            return Ok(Pushed { bundle, is_new: false, unknown_imports });
        }
        let mut inner = self.inner.lock();
        self.take_others(&mut inner)?;
        let is_new = self.bundles.keep(bundle.clone(), &file.bytes)?;
        if is_new {
            info!(bundle = %name, sha256 = bundle.sha256, author = request.author, "a bundle was pushed");
        }
        if is_new && !self.users_of(name).is_empty() {
            // The same module with more signatures, so another hash. It is kept in any case.
            if let Err(refused) = self.tell_again(&mut inner) {
                warn!(bundle = %name, "it is told with the next change: {refused}");
            }
        }
        drop(inner);
        let bundle = self.bundles.get(name).unwrap_or(bundle);
        Ok(Pushed { bundle, is_new, unknown_imports })
    }

    /// Deletes a bundle that no Filter names.
    ///
    /// # Errors
    /// It is not there, or which Filters name it.
    pub fn delete_bundle(&self, name: &BundleName, request: &Request) -> Result<KeptBundle, Refused> {
        let missing = || Refused::NotFound(format!("there is no bundle {name}"));
        let mut inner = self.inner.lock();
        for _ in 0..MAX_CONFLICTS {
            self.take_others(&mut inner)?;
            let bundle = self.bundles.get(name).ok_or_else(missing)?;
            check_name(name, request)?;
            let users = self.users_of(name);
            if !users.is_empty() {
                return Err(Refused::Conflict(format!("the bundle {name} is used by Filter {}", users.join(", "))));
            }
            if request.is_dry_run {
                return Ok(bundle);
            }
            if self.bundles.delete(name, &inner.state)? {
                info!(bundle = %name, author = request.author, "a bundle was deleted");
                return Ok(bundle);
            }
        }
        Err(overtaken())
    }

    /// The Filters that name a bundle.
    pub fn users_of(&self, name: &BundleName) -> Vec<String> {
        let told = self.board.told();
        let users = told.snapshot.plugins.values().filter(|plugin| plugin.module == ModuleSource::Bundle(name.clone()));
        users.map(|plugin| plugin.name.to_string()).collect()
    }

    fn try_bundle(&self, file: &PushedFile) -> Result<Module, Refused> {
        let manifest = &file.manifest;
        let name = PluginName::new(&format!("bundle/{}", manifest.bundle.name))
            .map_err(|error| invalid(error.to_string(), "give it another name"))?;
        let module = ModuleSource::Bundle(manifest.bundle.clone());
        let plugin = Plugin::new(name, module, Arc::clone(&manifest.example));
        let plugin = Plugin { limits: manifest.plugin_limits(), ..plugin };
        let refused = |refusal: LoadRefusal| {
            let LoadRefusal { field, reason, hint } = refusal;
            let hint = match field {
                "configuration" => "write a configuration that it takes into `example` of its manifest".to_owned(),
                _ => hint,
            };
            Refused::Invalid(vec![Refusal { field: field.to_owned(), ..Refusal::unplaced(reason, hint) }])
        };
        if !Loader::can_try(&plugin) {
            let reason =
                format!("its limits are more than {MAX_TRIAL_MEMORY}, or a start of {} s", MAX_TRIAL_TIME.as_secs());
            return Err(invalid(reason, "say less in its manifest; a Filter may say more"));
        }
        let module = self.loader.load(file.sha256, &file.bytes).map_err(|refusal| refused(refusal.into()))?;
        self.loader.try_start(&plugin, file.sha256, &file.bytes).map_err(refused)?;
        Ok(module)
    }
}

/// A token that is for some namespaces names its bundles after them.
fn check_name(name: &BundleName, request: &Request) -> Result<(), Refused> {
    let Some(namespaces) = &request.namespaces else { return Ok(()) };
    let is_of = |namespace: &String| name.name.strip_prefix(namespace.as_str()).is_some_and(|it| it.starts_with('.'));
    if namespaces.iter().any(is_of) {
        return Ok(());
    }
    let allowed: Vec<String> = namespaces.iter().map(|namespace| format!("`{namespace}.…`")).collect();
    Err(Refused::Forbidden(format!("the token may push and delete bundles named {} only", allowed.join(" or "))))
}

fn invalid(reason: impl Into<String>, hint: impl Into<String>) -> Refused {
    Refused::Invalid(vec![Refusal::unplaced(reason, hint)])
}

impl From<ShelfError> for Refused {
    fn from(error: ShelfError) -> Self {
        match error {
            ShelfError::Store(error) => Self::Store(error),
            other => Self::Conflict(other.to_string()),
        }
    }
}
