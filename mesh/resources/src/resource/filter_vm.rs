//! Start parameters of a Filter's VMs.

use std::sync::Arc;

use weir_model::VmConfig;
use weir_model::limits::{MAX_PLUGIN_CONFIGURATION_BYTES, MAX_PLUGIN_ENVIRONMENT};

use crate::resource::field::is_bounded;
use crate::resource::secret_ref::{SecretUse, text_or_use};
use crate::spec::VmSpec;
use crate::syntax;
use crate::yaml::{FieldErrors, FieldPathRef};

/// Start parameters that are values of Secrets.
#[derive(Debug, Default)]
pub(crate) struct VmReferences {
    /// The VM configuration.
    pub(crate) configuration: Option<SecretUse>,
    /// Environment variables, by name.
    pub(crate) environment: Vec<(Arc<str>, SecretUse)>,
}

/// Valid start parameters.
#[derive(Debug, Default)]
pub(super) struct CheckedVm {
    /// The parameters that are written as texts.
    pub(super) vm: VmConfig,
    /// The others.
    pub(super) references: VmReferences,
}

/// Validates the start parameters of VMs.
pub(super) fn check_vm(vm: Option<VmSpec>, path: &FieldPathRef<'_>, errors: &mut FieldErrors) -> CheckedVm {
    let Some(VmSpec { id, config, environment }) = vm else { return CheckedVm::default() };
    if let Some(id) = &id {
        errors.check(&path.field("id"), syntax::name::object_name(id));
    }
    let mut references = VmReferences::default();
    let configuration = match config.map(|config| text_or_use(config, &path.field("config"))) {
        None => String::new(),
        Some(Ok(text)) => text,
        Some(Err(reference)) => {
            references.configuration = Some(reference);
            String::new()
        }
    };
    check_vm_configuration(&configuration, &path.field("config"), errors);
    let environment: Vec<_> = environment.unwrap_or_default().into_iter().collect();
    let variables = path.field("environment");
    is_bounded(&environment, MAX_PLUGIN_ENVIRONMENT, &variables, errors);
    let mut texts: Vec<(Arc<str>, Arc<str>)> = Vec::with_capacity(environment.len());
    for (name, value) in environment {
        let at = variables.field(&name);
        match text_or_use(value, &at) {
            Ok(text) => {
                check_variable(&name, &text, &at, errors);
                texts.push((Arc::from(name), Arc::from(text)));
            }
            Err(reference) => {
                check_variable(&name, "", &at, errors);
                references.environment.push((Arc::from(name), reference));
            }
        }
    }
    let id = Arc::from(id.unwrap_or_default());
    let vm = VmConfig { id, configuration: Arc::from(configuration.into_bytes()), environment: texts.into() };
    CheckedVm { vm, references }
}

/// Checks the length of a VM configuration.
pub(crate) fn check_vm_configuration(text: &str, path: &FieldPathRef<'_>, errors: &mut FieldErrors) {
    if text.len() > MAX_PLUGIN_CONFIGURATION_BYTES {
        let hint = format!("use at most {MAX_PLUGIN_CONFIGURATION_BYTES}");
        errors.add(path, format!("{} bytes", text.len()), hint);
    }
}

/// Checks the name and the value of an environment variable.
pub(crate) fn check_variable(name: &str, value: &str, path: &FieldPathRef<'_>, errors: &mut FieldErrors) {
    if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
        let hint = "a name has no `=`, and neither name nor value has a NUL";
        errors.add(path, "is no environment variable", hint);
    }
}
