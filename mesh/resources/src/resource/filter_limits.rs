//! What a Filter, or the manifest of a bundle, says of what the module may use and do.

use std::sync::Arc;
use std::time::Duration;

use weir_model::limits::{
    MAX_PLUGIN_ALLOWED, MAX_PLUGIN_BODY_BYTES, MAX_PLUGIN_CALL_TIME, MAX_PLUGIN_CALLOUTS,
    MAX_PLUGIN_CONFIGURATION_BYTES, MAX_PLUGIN_CPU, MAX_PLUGIN_ENVIRONMENT, MAX_PLUGIN_HEAD_BYTES,
    MAX_PLUGIN_LOG_BYTES, MAX_PLUGIN_MEMORY_BYTES, MAX_PLUGIN_METRICS, MAX_PLUGIN_SHARED_BYTES, MAX_PLUGIN_START_TIME,
    MAX_PLUGIN_TABLE_ELEMENTS, MIN_PLUGIN_MEMORY_BYTES,
};
use weir_model::{ByteSize, HumanDuration, PluginAllowance, PluginLimits, PluginVm, Recycling};

use crate::document::{Faults, Path};
use crate::grammar;
use crate::resource::field::{duration, is_bounded};
use crate::written::{AllowSpec, LimitsSpec, RecycleSpec, VmSpec};

/// Limits, as far as somebody has said some.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SaidLimits {
    memory: Option<ByteSize>,
    call_time: Option<Duration>,
    start_time: Option<Duration>,
    cpu_per_second: Option<Duration>,
    table_elements: Option<u32>,
    log_per_second: Option<ByteSize>,
    head: Option<ByteSize>,
    body: Option<ByteSize>,
    callouts: Option<u32>,
    shared_data: Option<ByteSize>,
    metrics: Option<u32>,
}

impl SaidLimits {
    /// These, then what somebody else has said, then the defaults.
    pub(crate) fn or(self, other: Self) -> PluginLimits {
        let defaults = PluginLimits::default();
        PluginLimits {
            memory: self.memory.or(other.memory).unwrap_or(defaults.memory),
            call_time: self.call_time.or(other.call_time).unwrap_or(defaults.call_time),
            start_time: self.start_time.or(other.start_time).unwrap_or(defaults.start_time),
            cpu_per_second: self.cpu_per_second.or(other.cpu_per_second).unwrap_or(defaults.cpu_per_second),
            table_elements: self.table_elements.or(other.table_elements).unwrap_or(defaults.table_elements),
            log_per_second: self.log_per_second.or(other.log_per_second).unwrap_or(defaults.log_per_second),
            head: self.head.or(other.head).unwrap_or(defaults.head),
            body: self.body.or(other.body).unwrap_or(defaults.body),
            callouts: self.callouts.or(other.callouts).unwrap_or(defaults.callouts),
            shared_data: self.shared_data.or(other.shared_data).unwrap_or(defaults.shared_data),
            metrics: self.metrics.or(other.metrics).unwrap_or(defaults.metrics),
        }
    }
}

/// What somebody says of limits.
pub(crate) fn check_limits(limits: Option<LimitsSpec>, path: &Path<'_>, faults: &mut Faults) -> SaidLimits {
    let Some(limits) = limits else { return SaidLimits::default() };
    let LimitsSpec { memory, call_time, start_time, cpu_per_second, table_elements, log_per_second, .. } = &limits;
    let LimitsSpec { head, body, callouts, shared_data, metrics, .. } = &limits;
    let mut size = |text: &Option<String>, name: &'static str, (least, most): (u64, u64)| {
        check_size(text.as_deref()?, (ByteSize(least), ByteSize(most)), &path.field(name), faults)
    };
    let memory = size(memory, "memory", (MIN_PLUGIN_MEMORY_BYTES, MAX_PLUGIN_MEMORY_BYTES));
    let log_per_second = size(log_per_second, "logPerSecond", (0, MAX_PLUGIN_LOG_BYTES));
    let head = size(head, "head", (1_024, MAX_PLUGIN_HEAD_BYTES));
    let body = size(body, "body", (0, MAX_PLUGIN_BODY_BYTES));
    let shared_data = size(shared_data, "sharedData", (0, MAX_PLUGIN_SHARED_BYTES));
    let mut time = |text: &Option<String>, name: &'static str, most: Duration| {
        check_time(text.as_deref()?, most, &path.field(name), faults)
    };
    let call_time = time(call_time, "callTime", MAX_PLUGIN_CALL_TIME);
    let start_time = time(start_time, "startTime", MAX_PLUGIN_START_TIME);
    let cpu_per_second = time(cpu_per_second, "cpuPerSecond", MAX_PLUGIN_CPU);
    let mut count = |number: &Option<u32>, name: &'static str, most: u32| {
        let number = (*number)?;
        if number > most {
            faults.add(&path.field(name), format!("{number} is too much"), format!("use 0 to {most}"));
        }
        Some(number)
    };
    SaidLimits {
        table_elements: count(table_elements, "tableElements", MAX_PLUGIN_TABLE_ELEMENTS),
        callouts: count(callouts, "callouts", MAX_PLUGIN_CALLOUTS),
        metrics: count(metrics, "metrics", MAX_PLUGIN_METRICS),
        memory,
        call_time,
        start_time,
        cpu_per_second,
        log_per_second,
        head,
        body,
        shared_data,
    }
}

fn check_size(
    text: &str,
    (least, most): (ByteSize, ByteSize),
    path: &Path<'_>,
    faults: &mut Faults,
) -> Option<ByteSize> {
    match text.parse::<ByteSize>() {
        Ok(size) if (least..=most).contains(&size) => Some(size),
        Ok(size) => {
            faults.add(path, format!("{size} is too much or too little"), format!("use {least} to {most}"));
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

/// When a VM has served long enough.
pub(super) fn check_recycling(recycle: Option<RecycleSpec>, path: &Path<'_>, faults: &mut Faults) -> Recycling {
    let Some(RecycleSpec { requests, age, memory }) = recycle else { return Recycling::default() };
    if requests == Some(0) {
        faults.add(&path.field("requests"), "0 is too little", "use 1 or more, or leave it out");
    }
    let age = age.and_then(|text| duration(&text, &path.field("age"), faults));
    if age.is_some_and(|age| age < Duration::from_secs(1)) {
        faults.add(&path.field("age"), "is too short", "use 1s or more, or leave it out");
    }
    let bounds = (ByteSize(MIN_PLUGIN_MEMORY_BYTES), ByteSize(MAX_PLUGIN_MEMORY_BYTES));
    let memory = memory.and_then(|text| check_size(&text, bounds, &path.field("memory"), faults));
    Recycling { requests: requests.map(u64::from), age, memory }
}

/// What VMs are started with.
pub(super) fn check_vm(vm: Option<VmSpec>, path: &Path<'_>, faults: &mut Faults) -> PluginVm {
    let Some(VmSpec { id, config, environment }) = vm else { return PluginVm::default() };
    if let Some(id) = &id {
        faults.check(&path.field("id"), grammar::name::object_name(id));
    }
    let configuration = config.unwrap_or_default().into_bytes();
    if configuration.len() > MAX_PLUGIN_CONFIGURATION_BYTES {
        let hint = format!("use at most {MAX_PLUGIN_CONFIGURATION_BYTES}");
        faults.add(&path.field("config"), format!("{} bytes", configuration.len()), hint);
    }
    let environment: Vec<_> = environment.unwrap_or_default().into_iter().collect();
    is_bounded(&environment, MAX_PLUGIN_ENVIRONMENT, &path.field("environment"), faults);
    for (name, value) in &environment {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            let hint = "a name has no `=`, and neither name nor value has a NUL";
            faults.add(&path.field("environment").field(name), "is no environment variable", hint);
        }
    }
    PluginVm {
        id: Arc::from(id.unwrap_or_default()),
        configuration: Arc::from(configuration),
        environment: environment.into_iter().map(|(name, value)| (Arc::from(name), Arc::from(value))).collect(),
    }
}

/// What it may do.
pub(super) fn check_allow(allow: Option<AllowSpec>, path: &Path<'_>, faults: &mut Faults) -> PluginAllowance {
    let Some(AllowSpec { capabilities, services }) = allow else { return PluginAllowance::default() };
    let mut names = |list: Option<Vec<String>>, name: &'static str| {
        let list = list?;
        is_bounded(&list, MAX_PLUGIN_ALLOWED, &path.field(name), faults);
        Some(list.into_iter().map(Arc::from).collect())
    };
    PluginAllowance { capabilities: names(capabilities, "capabilities"), services: names(services, "services") }
}
