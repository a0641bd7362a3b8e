//! `Filter`: validation.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use weir_model::limits::{MAX_CLUSTER_ALIAS_BYTES, MAX_CLUSTER_ALIASES, MAX_PLUGIN_CONFIGURATION_BYTES};
use weir_model::{BundleName, FailurePolicy, HeaderPause, ModuleSource, PluginCapabilities, RecyclePolicy, VmConfig};

use crate::limits::MAX_TARGET_REFS;
use crate::resource::field::is_bounded;
use crate::resource::filter_limits::{PartialLimits, check_allow, check_limits, check_recycling};
use crate::resource::filter_vm::{CheckedVm, VmReferences, check_vm};
use crate::resource::id::ObjectId;
use crate::resource::secret_ref::{SecretTemplate, SecretUse};
use crate::resource::service_ref::{CORE_SERVICE, SERVICE_ENTRY, renamed_service_hint, service_group};
use crate::spec::{
    ClusterRefSpec, FailurePolicySpec, FilterSpec, HeaderPauseSpec, Isolation, Kind, ModuleSpec, Phase, TargetRef,
};
use crate::suggest::{hint, listing, quoted};
use crate::syntax;
use crate::yaml::{FieldErrors, FieldPathRef};

/// The modules shipped with the proxy.
pub const BUILTIN_MODULES: [&str; 5] = ["auth", "fault", "rate-limit", "routing", "telemetry"];

/// A validated Filter.
#[derive(Debug)]
pub(crate) struct Filter {
    /// The targets; `None` for the whole mesh.
    pub(crate) targets: Option<Vec<(TargetKind, String)>>,
    /// The source of the module. A relative file is relative to the folder of the resource file.
    pub(crate) module: ModuleSource,
    /// The phase, if the Filter has one.
    pub(crate) phase: Option<Phase>,
    /// The order within the phase: lower first.
    pub(crate) priority: i32,
    /// The configuration: JSON text, other text, or empty. References to Secrets are in it as written.
    pub(crate) configuration: Arc<[u8]>,
    /// The configuration, if it has references to Secrets.
    pub(crate) template: Option<SecretTemplate>,
    /// The name of the filter within its module.
    pub(crate) root_id: Arc<str>,
    /// Start parameters of the VMs, without the values of Secrets.
    pub(crate) vm: VmConfig,
    /// The start parameters that are values of Secrets.
    pub(crate) vm_references: VmReferences,
    /// The failure policy.
    pub(crate) failure: FailurePolicy,
    /// The effect of a pause in a headers callback.
    pub(crate) header_pause: HeaderPause,
    /// The streams that share a VM.
    pub(crate) isolation: weir_model::Isolation,
    /// The conditions for VM replacement.
    pub(crate) recycling: RecyclePolicy,
    /// The capabilities; Services as written.
    pub(crate) allow: PluginCapabilities,
    /// The limits that the Filter sets.
    pub(crate) limits: PartialLimits,
    /// The Service ports with other names, by that name.
    pub(crate) clusters: Vec<(Arc<str>, ClusterRef)>,
}

/// A reference to a Service port for callouts.
#[derive(Debug)]
pub(crate) struct ClusterRef {
    /// The namespace, unless it is the Filter's own.
    pub(crate) namespace: Option<String>,
    /// The name of the Service.
    pub(crate) name: String,
    /// The port.
    pub(crate) port: u16,
}

impl Filter {
    /// Returns all references to Secrets.
    pub(crate) fn secret_uses(&self) -> impl Iterator<Item = &SecretUse> {
        let template = self.template.iter().flat_map(SecretTemplate::uses);
        let VmReferences { configuration, environment } = &self.vm_references;
        template.chain(configuration).chain(environment.iter().map(|(_, reference)| reference))
    }
}

impl ClusterRef {
    /// Returns the name of its cluster, for a Filter: `namespace/service:port`.
    pub(crate) fn cluster_name(&self, filter: &ObjectId) -> String {
        format!("{}/{}:{}", self.namespace.as_deref().unwrap_or(&filter.namespace), self.name, self.port)
    }
}

/// A kind that a Filter or an AuthorizationPolicy can target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum TargetKind {
    Gateway,
    HttpRoute,
    GrpcRoute,
    TcpRoute,
    Service,
}

impl TargetKind {
    /// Returns the target that a route of this kind is.
    pub(crate) const fn of_route(kind: Kind) -> Self {
        match kind {
            Kind::GrpcRoute => Self::GrpcRoute,
            Kind::TcpRoute => Self::TcpRoute,
            _ => Self::HttpRoute,
        }
    }

    /// Returns the kind of object that a target resolves to.
    pub(crate) const fn kind(self) -> Kind {
        match self {
            Self::Gateway => Kind::Gateway,
            Self::HttpRoute => Kind::HttpRoute,
            Self::GrpcRoute => Kind::GrpcRoute,
            Self::TcpRoute => Kind::TcpRoute,
            Self::Service => Kind::ServiceEntry,
        }
    }

    /// Returns the kind as written in `targetRefs`, the preferred one.
    const fn name(self) -> &'static str {
        match self {
            Self::Service => CORE_SERVICE,
            other => other.kind().name(),
        }
    }

    /// Returns true if `kind` in `targetRefs` means this target.
    fn has_name(self, kind: &str) -> bool {
        kind == self.name() || kind == self.kind().name()
    }
}

/// Validates a Filter.
pub(crate) fn check(spec: FilterSpec, path: &FieldPathRef<'_>, errors: &mut FieldErrors) -> Option<Filter> {
    let FilterSpec { target_refs, module, phase, priority, config, config_string, root_id, vm, allow, .. } = spec;
    let FilterSpec { failure_policy, limits, isolation, recycle, header_pause, clusters, .. } = spec;
    let targets = match target_refs {
        None => None,
        Some(targets) => {
            const TARGETS: [TargetKind; 4] =
                [TargetKind::Gateway, TargetKind::HttpRoute, TargetKind::GrpcRoute, TargetKind::TcpRoute];
            Some(check_targets(targets, &TARGETS, "a Filter", &path.field("targetRefs"), errors)?)
        }
    };
    let module = check_module(module, &path.field("module"), errors);
    let limits = check_limits(limits, &path.field("limits"), errors);
    let recycling = check_recycling(recycle, &path.field("recycle"), errors);
    let CheckedVm { vm, references: vm_references } = check_vm(vm, &path.field("vm"), errors);
    let allow = check_allow(allow, &path.field("allow"), errors);
    let clusters = check_clusters(clusters.unwrap_or_default(), &path.field("clusters"), errors);
    if config.is_some() && config_string.is_some() {
        errors.add(&path.field("configString"), "both `config` and `configString`", "keep one of the two");
    }
    let config = config.map(serde_json::Value::Object);
    let template = config.as_ref().and_then(|config| SecretTemplate::new(config, &path.field("config"), errors));
    let configuration = config.map(|config| config.to_string()).or(config_string).unwrap_or_default();
    if configuration.len() > MAX_PLUGIN_CONFIGURATION_BYTES {
        let reason = format!("{} bytes", configuration.len());
        errors.add(&path.field("config"), reason, format!("use at most {MAX_PLUGIN_CONFIGURATION_BYTES}"));
    }
    Some(Filter {
        targets,
        module: module?,
        phase,
        priority: priority.unwrap_or_default(),
        configuration: Arc::from(configuration.into_bytes()),
        template,
        root_id: Arc::from(root_id.unwrap_or_default()),
        vm,
        vm_references,
        failure: match failure_policy {
            None | Some(FailurePolicySpec::FailClosed) => FailurePolicy::Closed,
            Some(FailurePolicySpec::FailOpen) => FailurePolicy::Open,
        },
        header_pause: match header_pause {
            None | Some(HeaderPauseSpec::HoldAll) => HeaderPause::All,
            Some(HeaderPauseSpec::HoldHeaders) => HeaderPause::HeadersOnly,
        },
        isolation: match isolation {
            None | Some(Isolation::Worker) => weir_model::Isolation::Worker,
            Some(Isolation::Stream) => weir_model::Isolation::Stream,
            Some(Isolation::Process) => weir_model::Isolation::Singleton,
        },
        recycling,
        allow,
        limits,
        clusters,
    })
}

/// Validates the other names of clusters.
fn check_clusters(
    clusters: BTreeMap<String, ClusterRefSpec>,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Vec<(Arc<str>, ClusterRef)> {
    let clusters: Vec<_> = clusters.into_iter().collect();
    is_bounded(&clusters, MAX_CLUSTER_ALIASES, path, errors);
    let mut checked = Vec::with_capacity(clusters.len());
    for (alias, ClusterRefSpec { name, namespace, port }) in clusters {
        let at = path.field(&alias);
        if alias.is_empty() || alias.len() > MAX_CLUSTER_ALIAS_BYTES || alias.contains(char::is_control) {
            let hint = format!("use 1 to {MAX_CLUSTER_ALIAS_BYTES} bytes without control characters");
            errors.add(&at, format!("the name has {} bytes, or control characters", alias.len()), hint);
        }
        errors.check(&at.field("name"), syntax::name::object_name(&name));
        if let Some(namespace) = &namespace {
            errors.check(&at.field("namespace"), syntax::name::object_name(namespace));
        }
        if port == 0 {
            errors.add(&at.field("port"), "0 is not a port", "use 1 to 65535");
        }
        checked.push((Arc::from(alias), ClusterRef { namespace, name, port }));
    }
    checked
}

/// Validates the targets of a policy. `kinds` are the allowed kinds; `noun` is the policy in messages.
pub(crate) fn check_targets(
    targets: Vec<TargetRef>,
    kinds: &[TargetKind],
    noun: &str,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Option<Vec<(TargetKind, String)>> {
    let names = || kinds.iter().map(|kind| kind.name());
    if targets.is_empty() {
        let hint = format!("leave `targetRefs` out for the whole mesh, or name one of {}", listing(names()));
        errors.add(path, "no target", hint);
    }
    if !is_bounded(&targets, MAX_TARGET_REFS, path, errors) {
        return None;
    }
    let mut checked = Vec::with_capacity(targets.len());
    for (index, TargetRef { group, kind, name }) in targets.into_iter().enumerate() {
        let at = path.entry(index);
        let Some(target) = kinds.iter().copied().find(|known| known.has_name(&kind)) else {
            let (reason, hint) = match kind.as_str() {
                CORE_SERVICE | SERVICE_ENTRY => (
                    format!("{noun} on a Service is not supported yet"),
                    "name the HTTPRoutes that forward to it, or their Gateway".to_owned(),
                ),
                other => (
                    format!("{} cannot have {noun}", quoted(other)),
                    hint(other, names().collect::<Vec<_>>(), &format!("{noun} can target")),
                ),
            };
            errors.add(&at.field("kind"), reason, hint);
            continue;
        };
        let own_group = if target == TargetKind::Service { service_group(&kind) } else { target.kind().group() };
        if let Some(group) = group.filter(|group| group != own_group) {
            if let Some(hint) = renamed_service_hint(&group, &kind) {
                errors.add(&at.field("kind"), format!("no kind {} in group `{group}`", quoted(&kind)), hint);
            } else {
                let reason = format!("{} is not the group of {kind}", quoted(&group));
                let hint = if own_group.is_empty() { String::new() } else { format!("write `{own_group}`, or ") };
                errors.add(&at.field("group"), reason, format!("{hint}leave it out"));
            }
        }
        if checked.contains(&(target, name.clone())) {
            errors.add(&at, format!("{kind} {} is there already", quoted(&name)), "remove one of the two");
        }
        checked.push((target, name));
    }
    Some(checked)
}

fn check_module(module: ModuleSpec, path: &FieldPathRef<'_>, errors: &mut FieldErrors) -> Option<ModuleSource> {
    let ModuleSpec { file, builtin, bundle, version } = module;
    if version.is_some() && bundle.is_none() {
        errors.add(&path.field("version"), "a version without `bundle`", "only bundles have versions");
    }
    match (file, builtin, bundle) {
        (Some(file), None, None) if file.is_empty() => {
            errors.add(&path.field("file"), "the path is empty", "write the path of a `.wasm` file");
            None
        }
        (Some(file), None, None) => Some(ModuleSource::File(PathBuf::from(file))),
        (None, Some(name), None) if BUILTIN_MODULES.contains(&name.as_str()) => {
            Some(ModuleSource::Builtin(Arc::from(name)))
        }
        (None, Some(name), None) => {
            let reason = format!("no module {} is shipped with the proxy", quoted(&name));
            errors.add(&path.field("builtin"), reason, hint(&name, BUILTIN_MODULES, "there is"));
            None
        }
        (None, None, Some(name)) => check_bundle(&name, version, path, errors).map(ModuleSource::Bundle),
        (None, None, None) => {
            let hint = "write `file: ./my_filter.wasm`, or `builtin: auth`, or `bundle` with a `version`";
            errors.add(path, "none of `file`, `builtin`, `bundle`", hint);
            None
        }
        (file, builtin, bundle) => {
            let named = [("file", file), ("builtin", builtin), ("bundle", bundle)];
            let named: Vec<_> = named.iter().filter(|(_, value)| value.is_some()).map(|(name, _)| *name).collect();
            let reason = format!("both `{}` and `{}`", named[0], named[1]);
            errors.add(&path.field(named[1]), reason, "keep one of the two");
            None
        }
    }
}

fn check_bundle(
    name: &str,
    version: Option<String>,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Option<BundleName> {
    errors.check(&path.field("bundle"), syntax::name::object_name(name));
    let Some(version) = version else {
        errors.add(&path.field("version"), "missing", "add the version of the bundle: `version: 1.2.0`");
        return None;
    };
    errors.check(&path.field("version"), syntax::name::version(&version));
    Some(BundleName { name: Arc::from(name), version: Arc::from(version) })
}
