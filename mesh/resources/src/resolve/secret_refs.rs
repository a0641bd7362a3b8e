//! References of Filters and AuthorizationPolicies to values of Secrets, in their own namespace.

use std::sync::Arc;

use weir_model::VmConfig;
use weir_model::limits::MAX_PLUGIN_CONFIGURATION_BYTES;

use crate::resolve::errors::ReferenceErrors;
use crate::resolve::index::{Lookup, ObjectIndex};
use crate::resource::filter_vm::{VmReferences, check_variable, check_vm_configuration};
use crate::resource::{AuthorizationPolicy, Filter, ObjectId, Resource, Secret, SecretTemplate, SecretUse};
use crate::spec::Kind;
use crate::suggest::{hint, quoted};
use crate::yaml::{FieldErrors, FieldPathRef};

/// The Secrets of one namespace.
#[derive(Clone, Copy)]
pub(crate) struct NamespaceSecrets<'a> {
    objects: &'a ObjectIndex<'a>,
    namespace: &'a str,
}

impl<'a> NamespaceSecrets<'a> {
    /// Returns the Secrets that an object may refer to.
    pub(crate) fn of(objects: &'a ObjectIndex<'a>, object: &'a ObjectId) -> Self {
        Self { objects, namespace: &object.namespace }
    }

    /// Returns the configuration of a Filter.
    pub(crate) fn filter_configuration(self, filter: &Filter) -> Arc<[u8]> {
        self.configuration(filter.template.as_ref(), &filter.configuration)
    }

    /// Returns the configuration of an AuthorizationPolicy.
    pub(crate) fn policy_configuration(self, policy: &AuthorizationPolicy) -> Arc<[u8]> {
        self.configuration(policy.template.as_ref(), &policy.configuration)
    }

    /// Returns the start parameters of a Filter's VMs.
    pub(crate) fn vm(self, filter: &Filter) -> VmConfig {
        let VmReferences { configuration, environment } = &filter.vm_references;
        let mut vm = filter.vm.clone();
        if let Some(text) = configuration.as_ref().and_then(|reference| self.text(reference)) {
            vm.configuration = Arc::from(text.as_bytes());
        }
        if !environment.is_empty() {
            let resolved = environment.iter().filter_map(|(name, reference)| Some((name, self.text(reference)?)));
            let resolved = resolved.map(|(name, text)| (Arc::clone(name), Arc::from(text)));
            let mut all: Vec<(Arc<str>, Arc<str>)> = vm.environment.iter().cloned().chain(resolved).collect();
            all.sort_unstable();
            vm.environment = all.into();
        }
        vm
    }

    fn configuration(self, template: Option<&SecretTemplate>, written: &Arc<[u8]>) -> Arc<[u8]> {
        let Some(template) = template else { return Arc::clone(written) };
        let resolved = template.resolve(|name, key| self.value(name, key));
        Arc::from(resolved.to_string().into_bytes())
    }

    fn text(self, SecretUse { path: _, name, key }: &SecretUse) -> Option<&'a str> {
        self.value(name, key)
    }

    fn value(self, name: &str, key: &str) -> Option<&'a str> {
        match self.secret(name)? {
            Secret::Opaque(texts) => texts.get(key).map(|text| &**text),
            Secret::Certificate { .. } => None,
        }
    }

    fn secret(self, name: &str) -> Option<&'a Secret> {
        let Lookup::Document(index) = self.objects.find(Kind::Secret, self.namespace, name) else { return None };
        match &self.objects.document(index).resource {
            Some(Resource::Secret(secret)) => Some(secret),
            _ => None,
        }
    }
}

/// Checks that the values of all references exist, and that the resolved values are valid.
pub(crate) fn check_secret_refs(objects: &ObjectIndex<'_>, errors: &mut ReferenceErrors) {
    for (document, id, filter) in objects.filters() {
        let secrets = NamespaceSecrets::of(objects, id);
        let mut found = FieldErrors::default();
        filter.secret_uses().for_each(|reference| check_use(secrets, reference, &mut found));
        if found.is_empty() {
            check_filter(secrets, filter, &mut found);
        }
        errors.add_field_errors(document, found);
    }
    for (document, id, policy) in objects.authorization_policies() {
        let Some(template) = &policy.template else { continue };
        let secrets = NamespaceSecrets::of(objects, id);
        let mut found = FieldErrors::default();
        template.uses().iter().for_each(|reference| check_use(secrets, reference, &mut found));
        check_length(&secrets.policy_configuration(policy), "credentials", &mut found);
        errors.add_field_errors(document, found);
    }
}

fn check_use(secrets: NamespaceSecrets<'_>, reference: &SecretUse, errors: &mut FieldErrors) {
    let NamespaceSecrets { objects, namespace } = secrets;
    let SecretUse { path, name, key } = reference;
    let mut report = |field: &str, reason: String, hint: String| {
        errors.add_below(path, &["secretRef", field], reason, hint);
    };
    match (objects.find(Kind::Secret, namespace, name), secrets.secret(name)) {
        (Lookup::Missing, _) => {
            let (reason, hint) = objects.missing(Kind::Secret, namespace, name);
            report("name", reason, hint);
        }
        (_, Some(Secret::Certificate { .. })) => {
            let reason = format!("the Secret {} has a certificate, whose key is for listeners alone", quoted(name));
            report("name", reason, "put the value into a Secret with `type: Opaque`".to_owned());
        }
        (_, Some(Secret::Opaque(texts))) if !texts.contains_key(key) => {
            let reason = format!("the Secret {} has no key {}", quoted(name), quoted(key));
            let hint = match texts.is_empty() {
                true => "add it to `stringData` of the Secret".to_owned(),
                false => hint(key, texts.keys().map(String::as_str).collect::<Vec<_>>(), "its keys are"),
            };
            report("key", reason, hint);
        }
        _ => {}
    }
}

/// Checks a Filter whose references resolve.
fn check_filter(secrets: NamespaceSecrets<'_>, filter: &Filter, errors: &mut FieldErrors) {
    if filter.template.is_some() {
        check_length(&secrets.filter_configuration(filter), "config", errors);
    }
    let root = FieldPathRef::ROOT;
    let spec = root.field("spec");
    let vm = spec.field("vm");
    let VmReferences { configuration, environment } = &filter.vm_references;
    if let Some(text) = configuration.as_ref().and_then(|reference| secrets.text(reference)) {
        check_vm_configuration(text, &vm.field("config"), errors);
    }
    let variables = vm.field("environment");
    for (name, reference) in environment {
        check_variable(name, secrets.text(reference).unwrap_or_default(), &variables.field(name), errors);
    }
}

fn check_length(configuration: &[u8], field: &str, errors: &mut FieldErrors) {
    if configuration.len() > MAX_PLUGIN_CONFIGURATION_BYTES {
        let reason = format!("{} bytes with the values of Secrets", configuration.len());
        let root = FieldPathRef::ROOT;
        let hint = format!("use at most {MAX_PLUGIN_CONFIGURATION_BYTES}");
        errors.add(&root.field("spec").field(field), reason, hint);
    }
}
