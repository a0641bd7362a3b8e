//! `Filter`: a Wasm module with its configuration, and the requests that go through it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use weir_model::limits::{
    MAX_PLUGIN_CALL_TIME, MAX_PLUGIN_CONFIGURATION_BYTES, MAX_PLUGIN_MEMORY_BYTES, MAX_PLUGIN_START_TIME,
    MIN_PLUGIN_MEMORY_BYTES,
};
use weir_model::{ByteSize, FailurePolicy, HeaderPause, HumanDuration, ModuleSource, PluginLimits};

use crate::document::{Faults, Path};
use crate::limits::MAX_TARGET_REFS;
use crate::resource::field::{duration, is_bounded};
use crate::suggest::{hint, quoted};
use crate::written::{
    FailureName, FilterSpec, HeaderPauseName, Isolation, Kind, LimitsSpec, ModuleSpec, Phase, TargetRef,
};

/// The modules shipped with the proxy.
pub const BUILTIN_MODULES: [&str; 4] = ["auth", "rate-limit", "routing", "telemetry"];

/// A Wasm module with its configuration, and the requests that go through it.
#[derive(Debug)]
pub(crate) struct Filter {
    /// What it is put before; `None` = the whole mesh.
    pub(crate) targets: Option<Vec<(TargetKind, String)>>,
    /// Where its module comes from; a relative file is relative to the folder of the Filter's own file.
    pub(crate) module: ModuleSource,
    /// Where it stands among the filters of a request.
    pub(crate) phase: Phase,
    /// And among those of the same phase: lower first.
    pub(crate) priority: i32,
    /// JSON text, or nothing.
    pub(crate) configuration: Arc<[u8]>,
    /// What happens to a stream when it fails.
    pub(crate) failure: FailurePolicy,
    /// What its Pause in a headers callback holds.
    pub(crate) header_pause: HeaderPause,
    /// What a VM of it may use.
    pub(crate) limits: PluginLimits,
}

/// What a Filter can be put before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum TargetKind {
    Gateway,
    HttpRoute,
}

impl TargetKind {
    /// As a kind of object.
    pub(crate) const fn kind(self) -> Kind {
        match self {
            Self::Gateway => Kind::Gateway,
            Self::HttpRoute => Kind::HttpRoute,
        }
    }
}

/// Checks the fields of a Filter.
pub(crate) fn check(spec: FilterSpec, path: &Path<'_>, faults: &mut Faults) -> Option<Filter> {
    let FilterSpec { target_refs, module, phase, priority, config, failure, limits, isolation, header_pause } = spec;
    // The only one there is so far.
    let (None | Some(Isolation::Worker)) = isolation;
    let targets = match target_refs {
        None => None,
        Some(targets) => Some(check_targets(targets, &path.field("targetRefs"), faults)?),
    };
    let module = check_module(module, &path.field("module"), faults);
    let limits = check_limits(limits, &path.field("limits"), faults);
    let configuration = config.map(|config| serde_json::Value::Object(config).to_string()).unwrap_or_default();
    if configuration.len() > MAX_PLUGIN_CONFIGURATION_BYTES {
        let reason = format!("{} bytes as JSON", configuration.len());
        faults.add(&path.field("config"), reason, format!("use at most {MAX_PLUGIN_CONFIGURATION_BYTES}"));
    }
    Some(Filter {
        targets,
        module: module?,
        phase: phase.unwrap_or(Phase::Transform),
        priority: priority.unwrap_or_default(),
        configuration: Arc::from(configuration.into_bytes()),
        failure: match failure {
            None | Some(FailureName::Closed) => FailurePolicy::Closed,
            Some(FailureName::Open) => FailurePolicy::Open,
        },
        header_pause: match header_pause {
            None | Some(HeaderPauseName::HoldAll) => HeaderPause::HoldAll,
            Some(HeaderPauseName::HoldHeaders) => HeaderPause::HoldHeaders,
        },
        limits: limits?,
    })
}

fn check_targets(targets: Vec<TargetRef>, path: &Path<'_>, faults: &mut Faults) -> Option<Vec<(TargetKind, String)>> {
    if targets.is_empty() {
        faults.add(path, "no target", "leave `targetRefs` out for the whole mesh, or name a Gateway or an HTTPRoute");
    }
    if !is_bounded(&targets, MAX_TARGET_REFS, path, faults) {
        return None;
    }
    let mut checked = Vec::with_capacity(targets.len());
    for (index, TargetRef { group, kind, name }) in targets.into_iter().enumerate() {
        let at = path.entry(index);
        let target = match kind.as_str() {
            "Gateway" => TargetKind::Gateway,
            "HTTPRoute" => TargetKind::HttpRoute,
            "Service" => {
                let hint = "name the HTTPRoutes that forward to it, or their Gateway";
                faults.add(&at.field("kind"), "a Filter on a Service is not supported yet", hint);
                continue;
            }
            other => {
                let hint = hint(other, ["Gateway", "HTTPRoute"], "a Filter is put before one of");
                faults.add(&at.field("kind"), format!("{} cannot have a Filter", quoted(other)), hint);
                continue;
            }
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
    match module {
        ModuleSpec { file: Some(file), builtin: None } if file.is_empty() => {
            faults.add(&path.field("file"), "the path is empty", "write the path of a `.wasm` file");
            None
        }
        ModuleSpec { file: Some(file), builtin: None } => Some(ModuleSource::File(PathBuf::from(file))),
        ModuleSpec { file: None, builtin: Some(name) } if BUILTIN_MODULES.contains(&name.as_str()) => {
            Some(ModuleSource::Builtin(Arc::from(name)))
        }
        ModuleSpec { file: None, builtin: Some(name) } => {
            let reason = format!("no module {} is shipped with the proxy", quoted(&name));
            faults.add(&path.field("builtin"), reason, hint(&name, BUILTIN_MODULES, "there is"));
            None
        }
        ModuleSpec { file: Some(_), builtin: Some(_) } => {
            faults.add(&path.field("builtin"), "both `file` and `builtin`", "keep one of the two");
            None
        }
        ModuleSpec { file: None, builtin: None } => {
            faults.add(path, "neither `file` nor `builtin`", "write `file: ./my_filter.wasm`, or `builtin: auth`");
            None
        }
    }
}

fn check_limits(limits: Option<LimitsSpec>, path: &Path<'_>, faults: &mut Faults) -> Option<PluginLimits> {
    let defaults = PluginLimits::default();
    let Some(LimitsSpec { memory, call_time, start_time }) = limits else { return Some(defaults) };
    let memory = match memory {
        None => Some(defaults.memory),
        Some(text) => check_memory(&text, &path.field("memory"), faults),
    };
    let call_time = match call_time {
        None => Some(defaults.call_time),
        Some(text) => check_time(&text, MAX_PLUGIN_CALL_TIME, &path.field("callTime"), faults),
    };
    let start_time = match start_time {
        None => Some(defaults.start_time),
        Some(text) => check_time(&text, MAX_PLUGIN_START_TIME, &path.field("startTime"), faults),
    };
    Some(PluginLimits { memory: memory?, call_time: call_time?, start_time: start_time? })
}

fn check_memory(text: &str, path: &Path<'_>, faults: &mut Faults) -> Option<ByteSize> {
    let (least, most) = (ByteSize(MIN_PLUGIN_MEMORY_BYTES), ByteSize(MAX_PLUGIN_MEMORY_BYTES));
    match text.parse::<ByteSize>() {
        Ok(memory) if (least..=most).contains(&memory) => Some(memory),
        Ok(memory) => {
            faults.add(path, format!("{memory} is too much or too little"), format!("use {least} to {most}"));
            None
        }
        Err(error) => {
            faults.object(path, error.into());
            None
        }
    }
}

fn check_time(text: &str, most: Duration, path: &Path<'_>, faults: &mut Faults) -> Option<Duration> {
    let time = duration(text, path, faults)?;
    if time.is_zero() || time > most {
        let reason = format!("{} is too much or too little", HumanDuration(time));
        faults.add(path, reason, format!("use 1ms to {}", HumanDuration(most)));
        return None;
    }
    Some(time)
}
