//! Limits and capabilities of a Filter or of a bundle's manifest.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use weir_model::limits::{
    MAX_PLUGIN_BODY_BYTES, MAX_PLUGIN_CALL_TIME, MAX_PLUGIN_CALLOUTS, MAX_PLUGIN_CAPABILITIES, MAX_PLUGIN_CPU,
    MAX_PLUGIN_HEAD_BYTES, MAX_PLUGIN_LOG_BYTES, MAX_PLUGIN_MEMORY_BYTES, MAX_PLUGIN_METRICS, MAX_PLUGIN_SHARED_BYTES,
    MAX_PLUGIN_START_TIME, MAX_PLUGIN_TABLE_ELEMENTS, MIN_PLUGIN_MEMORY_BYTES,
};
use weir_model::{ByteSize, GatewayDuration, PluginCapabilities, PluginLimits, RecyclePolicy};

use crate::resource::field::{check_size, duration, is_bounded};
use crate::spec::{AllowSpec, LimitsSpec, RecycleSpec};
use crate::yaml::{FieldErrors, FieldPathRef};

/// Limits, each optional.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PartialLimits {
    memory: Option<ByteSize>,
    call_timeout: Option<Duration>,
    start_timeout: Option<Duration>,
    cpu_per_second: Option<Duration>,
    table_elements: Option<u32>,
    log_bytes_per_second: Option<ByteSize>,
    head: Option<ByteSize>,
    body: Option<ByteSize>,
    callouts: Option<u32>,
    shared_data_bytes: Option<ByteSize>,
    metrics: Option<u32>,
}

impl PartialLimits {
    /// Returns complete limits: these first, then `other`, then the defaults.
    pub(crate) fn or(self, other: Self) -> PluginLimits {
        let defaults = PluginLimits::default();
        PluginLimits {
            memory: self.memory.or(other.memory).unwrap_or(defaults.memory),
            call_time: self.call_timeout.or(other.call_timeout).unwrap_or(defaults.call_time),
            start_time: self.start_timeout.or(other.start_timeout).unwrap_or(defaults.start_time),
            cpu_per_second: self.cpu_per_second.or(other.cpu_per_second).unwrap_or(defaults.cpu_per_second),
            table_elements: self.table_elements.or(other.table_elements).unwrap_or(defaults.table_elements),
            log_per_second: self.log_bytes_per_second.or(other.log_bytes_per_second).unwrap_or(defaults.log_per_second),
            head: self.head.or(other.head).unwrap_or(defaults.head),
            body: self.body.or(other.body).unwrap_or(defaults.body),
            callouts: self.callouts.or(other.callouts).unwrap_or(defaults.callouts),
            shared_data: self.shared_data_bytes.or(other.shared_data_bytes).unwrap_or(defaults.shared_data),
            metrics: self.metrics.or(other.metrics).unwrap_or(defaults.metrics),
        }
    }
}

/// Validates limits.
pub(crate) fn check_limits(
    limits: Option<LimitsSpec>,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> PartialLimits {
    let Some(limits) = limits else { return PartialLimits::default() };
    let LimitsSpec {
        memory, call_timeout, start_timeout, cpu_per_second, table_elements, log_bytes_per_second, ..
    } = &limits;
    let LimitsSpec { head, body, callouts, shared_data_bytes, metrics, .. } = &limits;
    let mut size = |text: &Option<String>, name: &'static str, allowed: RangeInclusive<u64>| {
        let allowed = ByteSize(*allowed.start())..=ByteSize(*allowed.end());
        check_size(text.as_deref()?, &allowed, &path.field(name), errors)
    };
    let memory = size(memory, "memory", MIN_PLUGIN_MEMORY_BYTES..=MAX_PLUGIN_MEMORY_BYTES);
    let log_bytes_per_second = size(log_bytes_per_second, "logBytesPerSecond", 0..=MAX_PLUGIN_LOG_BYTES);
    let head = size(head, "head", 1_024..=MAX_PLUGIN_HEAD_BYTES);
    let body = size(body, "body", 0..=MAX_PLUGIN_BODY_BYTES);
    let shared_data_bytes = size(shared_data_bytes, "sharedDataBytes", 0..=MAX_PLUGIN_SHARED_BYTES);
    let mut time = |text: &Option<String>, name: &'static str, most: Duration| {
        check_time(text.as_deref()?, most, &path.field(name), errors)
    };
    let call_timeout = time(call_timeout, "callTimeout", MAX_PLUGIN_CALL_TIME);
    let start_timeout = time(start_timeout, "startTimeout", MAX_PLUGIN_START_TIME);
    let cpu_per_second = time(cpu_per_second, "cpuPerSecond", MAX_PLUGIN_CPU);
    let mut count = |number: &Option<u32>, name: &'static str, most: u32| {
        let number = (*number)?;
        if number > most {
            errors.add(&path.field(name), format!("{number} is too much"), format!("use 0 to {most}"));
        }
        Some(number)
    };
    PartialLimits {
        table_elements: count(table_elements, "tableElements", MAX_PLUGIN_TABLE_ELEMENTS),
        callouts: count(callouts, "callouts", MAX_PLUGIN_CALLOUTS),
        metrics: count(metrics, "metrics", MAX_PLUGIN_METRICS),
        memory,
        call_timeout,
        start_timeout,
        cpu_per_second,
        log_bytes_per_second,
        head,
        body,
        shared_data_bytes,
    }
}

fn check_time(text: &str, most: Duration, path: &FieldPathRef<'_>, errors: &mut FieldErrors) -> Option<Duration> {
    let time = duration(text, path, errors)?;
    if time.is_zero() || time > most {
        let reason = format!("{} is too much or too little", GatewayDuration(time));
        errors.add(path, reason, format!("use 1ms to {}", GatewayDuration(most)));
        return None;
    }
    Some(time)
}

/// Validates the conditions for VM replacement.
pub(super) fn check_recycling(
    recycle: Option<RecycleSpec>,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> RecyclePolicy {
    let Some(RecycleSpec { requests, age, memory }) = recycle else { return RecyclePolicy::default() };
    if requests == Some(0) {
        errors.add(&path.field("requests"), "0 is too little", "use 1 or more, or leave it out");
    }
    let age = age.and_then(|text| duration(&text, &path.field("age"), errors));
    if age.is_some_and(|age| age < Duration::from_secs(1)) {
        errors.add(&path.field("age"), "is too short", "use 1s or more, or leave it out");
    }
    let allowed = ByteSize(MIN_PLUGIN_MEMORY_BYTES)..=ByteSize(MAX_PLUGIN_MEMORY_BYTES);
    let memory = memory.and_then(|text| check_size(&text, &allowed, &path.field("memory"), errors));
    RecyclePolicy { requests: requests.map(u64::from), age, memory }
}

/// Validates the capabilities.
pub(super) fn check_allow(
    allow: Option<AllowSpec>,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> PluginCapabilities {
    let Some(AllowSpec { capabilities, services }) = allow else { return PluginCapabilities::default() };
    let mut names = |list: Option<Vec<String>>, name: &'static str| {
        let list = list?;
        is_bounded(&list, MAX_PLUGIN_CAPABILITIES, &path.field(name), errors);
        Some(list.into_iter().map(Arc::from).collect())
    };
    PluginCapabilities { functions: names(capabilities, "capabilities"), callout_clusters: names(services, "services") }
}
