//! `Filter`: a Wasm module with its configuration, and the requests that go through it.

use std::path::PathBuf;
use std::sync::Arc;

use weir_model::limits::MAX_PLUGIN_CONFIGURATION_BYTES;
use weir_model::{BundleName, FailurePolicy, HeaderPause, ModuleSource, PluginAllowance, PluginVm, Recycling};

use crate::document::{Faults, Path};
use crate::grammar;
use crate::limits::MAX_TARGET_REFS;
use crate::resource::field::is_bounded;
use crate::resource::filter_limits::{SaidLimits, check_allow, check_limits, check_recycling, check_vm};
use crate::suggest::{hint, listing, quoted};
use crate::written::{FailureName, FilterSpec, HeaderPauseName, Isolation, Kind, ModuleSpec, Phase, TargetRef};

/// The modules shipped with the proxy.
pub const BUILTIN_MODULES: [&str; 4] = ["auth", "rate-limit", "routing", "telemetry"];

/// A Wasm module with its configuration, and the requests that go through it.
#[derive(Debug)]
pub(crate) struct Filter {
    /// What it is put before; `None` = the whole mesh.
    pub(crate) targets: Option<Vec<(TargetKind, String)>>,
    /// Where its module comes from; a relative file is relative to the folder of the Filter's own file.
    pub(crate) module: ModuleSource,
    /// Where it stands among the filters of a request, if it says so.
    pub(crate) phase: Option<Phase>,
    /// And among those of the same phase: lower first.
    pub(crate) priority: i32,
    /// JSON text, or nothing.
    pub(crate) configuration: Arc<[u8]>,
    /// Which of the filters in its module it is.
    pub(crate) root_id: Arc<str>,
    /// What its VMs are started with.
    pub(crate) vm: PluginVm,
    /// What happens to a stream when it fails.
    pub(crate) failure: FailurePolicy,
    /// What its Pause in a headers callback holds.
    pub(crate) header_pause: HeaderPause,
    /// How many streams share a VM of it.
    pub(crate) isolation: weir_model::Isolation,
    /// When a VM of it has served long enough.
    pub(crate) recycling: Recycling,
    /// What it may do; Services as they were written.
    pub(crate) allow: PluginAllowance,
    /// What a VM of it may use, as far as it says so.
    pub(crate) limits: SaidLimits,
}

/// What a Filter or an AccessPolicy can be put before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum TargetKind {
    Gateway,
    HttpRoute,
    TcpRoute,
    Service,
}

impl TargetKind {
    /// As a kind of object.
    pub(crate) const fn kind(self) -> Kind {
        match self {
            Self::Gateway => Kind::Gateway,
            Self::HttpRoute => Kind::HttpRoute,
            Self::TcpRoute => Kind::TcpRoute,
            Self::Service => Kind::Service,
        }
    }
}

/// Checks the fields of a Filter.
pub(crate) fn check(spec: FilterSpec, path: &Path<'_>, faults: &mut Faults) -> Option<Filter> {
    let FilterSpec { target_refs, module, phase, priority, config, config_text, root_id, vm, allow, .. } = spec;
    let FilterSpec { failure, limits, isolation, recycle, header_pause, .. } = spec;
    let targets = match target_refs {
        None => None,
        Some(targets) => {
            const TARGETS: [TargetKind; 3] = [TargetKind::Gateway, TargetKind::HttpRoute, TargetKind::TcpRoute];
            Some(check_targets(targets, (&TARGETS, "a Filter"), &path.field("targetRefs"), faults)?)
        }
    };
    let module = check_module(module, &path.field("module"), faults);
    let limits = check_limits(limits, &path.field("limits"), faults);
    let recycling = check_recycling(recycle, &path.field("recycle"), faults);
    let vm = check_vm(vm, &path.field("vm"), faults);
    let allow = check_allow(allow, &path.field("allow"), faults);
    if config.is_some() && config_text.is_some() {
        faults.add(&path.field("configText"), "both `config` and `configText`", "keep one of the two");
    }
    let configuration = config.map(|config| serde_json::Value::Object(config).to_string());
    let configuration = configuration.or(config_text).unwrap_or_default();
    if configuration.len() > MAX_PLUGIN_CONFIGURATION_BYTES {
        let reason = format!("{} bytes", configuration.len());
        faults.add(&path.field("config"), reason, format!("use at most {MAX_PLUGIN_CONFIGURATION_BYTES}"));
    }
    Some(Filter {
        targets,
        module: module?,
        phase,
        priority: priority.unwrap_or_default(),
        configuration: Arc::from(configuration.into_bytes()),
        root_id: Arc::from(root_id.unwrap_or_default()),
        vm,
        failure: match failure {
            None | Some(FailureName::Closed) => FailurePolicy::Closed,
            Some(FailureName::Open) => FailurePolicy::Open,
        },
        header_pause: match header_pause {
            None | Some(HeaderPauseName::HoldAll) => HeaderPause::HoldAll,
            Some(HeaderPauseName::HoldHeaders) => HeaderPause::HoldHeaders,
        },
        isolation: match isolation {
            None | Some(Isolation::Worker) => weir_model::Isolation::Worker,
            Some(Isolation::Stream) => weir_model::Isolation::Stream,
            Some(Isolation::Process) => weir_model::Isolation::Process,
        },
        recycling,
        allow,
        limits,
    })
}

/// What something is put before; `kinds` may be, and `what` it is.
pub(crate) fn check_targets(
    targets: Vec<TargetRef>,
    (kinds, what): (&[TargetKind], &str),
    path: &Path<'_>,
    faults: &mut Faults,
) -> Option<Vec<(TargetKind, String)>> {
    let names = || kinds.iter().map(|kind| kind.kind().name());
    if targets.is_empty() {
        let hint = format!("leave `targetRefs` out for the whole mesh, or name one of {}", listing(names()));
        faults.add(path, "no target", hint);
    }
    if !is_bounded(&targets, MAX_TARGET_REFS, path, faults) {
        return None;
    }
    let mut checked = Vec::with_capacity(targets.len());
    for (index, TargetRef { group, kind, name }) in targets.into_iter().enumerate() {
        let at = path.entry(index);
        let Some(target) = kinds.iter().copied().find(|known| known.kind().name() == kind) else {
            let (reason, hint) = match kind.as_str() {
                "Service" => (
                    format!("{what} on a Service is not supported yet"),
                    "name the HTTPRoutes that forward to it, or their Gateway".to_owned(),
                ),
                other => (
                    format!("{} cannot have {what}", quoted(other)),
                    hint(other, names().collect::<Vec<_>>(), &format!("{what} is put before one of")),
                ),
            };
            faults.add(&at.field("kind"), reason, hint);
            continue;
        };
        if let Some(group) = group.filter(|group| group != target.kind().group()) {
            let reason = format!("{} is not the group of {kind}", quoted(&group));
            faults.add(&at.field("group"), reason, format!("write `{}`, or leave it out", target.kind().group()));
        }
        if checked.contains(&(target, name.clone())) {
            faults.add(&at, format!("{kind} {} is there already", quoted(&name)), "remove one of the two");
        }
        checked.push((target, name));
    }
    Some(checked)
}

fn check_module(module: ModuleSpec, path: &Path<'_>, faults: &mut Faults) -> Option<ModuleSource> {
    let ModuleSpec { file, builtin, bundle, version } = module;
    if version.is_some() && bundle.is_none() {
        faults.add(&path.field("version"), "a version without `bundle`", "only bundles have versions");
    }
    match (file, builtin, bundle) {
        (Some(file), None, None) if file.is_empty() => {
            faults.add(&path.field("file"), "the path is empty", "write the path of a `.wasm` file");
            None
        }
        (Some(file), None, None) => Some(ModuleSource::File(PathBuf::from(file))),
        (None, Some(name), None) if BUILTIN_MODULES.contains(&name.as_str()) => {
            Some(ModuleSource::Builtin(Arc::from(name)))
        }
        (None, Some(name), None) => {
            let reason = format!("no module {} is shipped with the proxy", quoted(&name));
            faults.add(&path.field("builtin"), reason, hint(&name, BUILTIN_MODULES, "there is"));
            None
        }
        (None, None, Some(name)) => check_bundle(&name, version, path, faults).map(ModuleSource::Bundle),
        (None, None, None) => {
            let hint = "write `file: ./my_filter.wasm`, or `builtin: auth`, or `bundle` with a `version`";
            faults.add(path, "none of `file`, `builtin`, `bundle`", hint);
            None
        }
        (file, builtin, bundle) => {
            let named = [("file", file), ("builtin", builtin), ("bundle", bundle)];
            let named: Vec<_> = named.iter().filter(|(_, value)| value.is_some()).map(|(name, _)| *name).collect();
            let reason = format!("both `{}` and `{}`", named[0], named[1]);
            faults.add(&path.field(named[1]), reason, "keep one of the two");
            None
        }
    }
}

fn check_bundle(name: &str, version: Option<String>, path: &Path<'_>, faults: &mut Faults) -> Option<BundleName> {
    faults.check(&path.field("bundle"), grammar::name::object_name(name));
    let Some(version) = version else {
        faults.add(&path.field("version"), "missing", "say which version of the bundle: `version: 1.2.0`");
        return None;
    };
    faults.check(&path.field("version"), grammar::name::version(&version));
    Some(BundleName { name: Arc::from(name), version: Arc::from(version) })
}
