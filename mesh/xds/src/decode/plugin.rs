//! Plugins: Envoy's Wasm filter as it is, or in our own message with limits around it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use weir_model::limits::{
    MAX_PLUGIN_BODY_BYTES, MAX_PLUGIN_CALL_TIME, MAX_PLUGIN_CALLOUTS, MAX_PLUGIN_CONFIGURATION_BYTES, MAX_PLUGIN_CPU,
    MAX_PLUGIN_ENVIRONMENT, MAX_PLUGIN_HEAD_BYTES, MAX_PLUGIN_LOG_BYTES, MAX_PLUGIN_MEMORY_BYTES, MAX_PLUGIN_METRICS,
    MAX_PLUGIN_SHARED_BYTES, MAX_PLUGIN_START_TIME, MAX_PLUGIN_TABLE_ELEMENTS, MIN_PLUGIN_MEMORY_BYTES,
};
use weir_model::{
    ByteSize, FailurePolicy, HeaderPause, Isolation, ModuleHash, ModuleSource, Plugin, PluginAllowance, PluginLimits,
    PluginName, PluginVm, Recycling, Rejection, RemoteModule, ResourceId, ResourceKind, StreamSight,
};

use super::fault::{Spot, unsupported};
use super::value::duration;
use super::whole;
use crate::proto::{self, NetworkWasm, Wasm, core, protobuf, wasm};

/// Decodes a `TypedExtensionConfig` that is a plugin.
pub(crate) fn extension(name: &str, bytes: &[u8]) -> Result<Plugin, Vec<Rejection>> {
    let resource = ResourceId { kind: ResourceKind::Plugin, name: name.to_owned() };
    whole(&resource, bytes, |message: core::TypedExtensionConfig, spot| {
        let core::TypedExtensionConfig { name, typed_config } = message;
        let name = spot.field("name").checked(PluginName::new(&name));
        let spot = spot.field("typed_config");
        inline_plugin(name?, &spot.required(typed_config)?, &spot)
    })
}

/// What Envoy's message has no fields for.
#[derive(Default)]
struct Extras {
    limits: PluginLimits,
    isolation: Isolation,
    sight: StreamSight,
    services: Option<Arc<[Arc<str>]>>,
    recycling: Recycling,
}

/// A plugin of this name.
pub(super) fn inline_plugin(name: PluginName, config: &protobuf::Any, spot: &Spot<'_>) -> Option<Plugin> {
    let (filter, extras) = if config.type_url == proto::type_url::<proto::Plugin>() {
        let mut plugin = spot.checked(proto::Plugin::decode(&*config.value))?;
        let filter = plugin.wasm.take();
        (spot.field("wasm").required(filter)?, extras(&plugin, spot)?)
    } else if config.type_url == proto::type_url::<Wasm>() {
        (spot.checked(Wasm::decode(&*config.value))?, Extras::default())
    } else if config.type_url == proto::type_url::<NetworkWasm>() {
        let NetworkWasm { config } = spot.checked(NetworkWasm::decode(&*config.value))?;
        (Wasm { config }, Extras::default())
    } else {
        return spot.none(&format!("is a {}", config.type_url), "every filter is a Wasm module: use the Wasm filter");
    };
    let Wasm { config } = filter;
    let spot = spot.field("config");
    plugin(name, extras, spot.required(config)?, &spot)
}

fn extras(plugin: &proto::Plugin, spot: &Spot<'_>) -> Option<Extras> {
    let proto::Plugin { wasm: _, vm_for_each_stream, kind, services, .. } = plugin;
    if kind & !(proto::SEES_ENDS | proto::ONE_VM) != 0 {
        return spot.field("kind").none("is not known", "this proxy is older than who tells it");
    }
    let isolation = match (vm_for_each_stream, kind & proto::ONE_VM != 0) {
        (false, false) => Isolation::Worker,
        (true, false) => Isolation::Stream,
        (false, true) => Isolation::Process,
        (true, true) => return spot.none("has one VM and one for each stream", "choose one of the two"),
    };
    let sight = if kind & proto::SEES_ENDS != 0 { StreamSight::End } else { StreamSight::Whole };
    let services = services.as_ref().map(|list| list.names.iter().map(|name| Arc::from(name.as_str())).collect());
    let age = plugin.recycle_age.map(|age| duration(age, &spot.field("recycle_age")));
    let recycling = Recycling {
        requests: plugin.recycle_requests.filter(|requests| *requests > 0),
        age: age.flatten(),
        memory: plugin.recycle_memory_bytes.map(ByteSize),
    };
    Some(Extras { limits: limits(plugin, spot)?, isolation, sight, services, recycling })
}

fn limits(plugin: &proto::Plugin, spot: &Spot<'_>) -> Option<PluginLimits> {
    let proto::Plugin { memory_bytes, call_time, start_time, cpu_per_second, table_elements, .. } = *plugin;
    let proto::Plugin { log_bytes_per_second, head_bytes, body_bytes, callouts, shared_data_bytes, metrics, .. } =
        *plugin;
    let defaults = PluginLimits::default();
    let time = |time: protobuf::Duration, name: &str, most: Duration| {
        let spot = spot.field(name);
        let time = duration(time, &spot)?;
        if time.is_zero() || time > most {
            return spot.none("is out of bounds", &format!("more than 0, and at most {} ms", most.as_millis()));
        }
        Some(time)
    };
    let number = |number: Option<u64>, name: &str, (least, default, most): (u64, u64, u64)| {
        let number = number.unwrap_or(default);
        if !(least..=most).contains(&number) {
            spot.field(name).refuse("is out of bounds", &format!("from {least} to {most}"));
        }
        number
    };
    let size = |given, name, bounds| ByteSize(number(given, name, bounds));
    let count = |given: Option<u32>, name, default: u32, most: u32| {
        let number = number(given.map(u64::from), name, (0, u64::from(default), u64::from(most)));
        u32::try_from(number).unwrap_or(default)
    };
    let (memory, bodies) = (defaults.memory.0, defaults.body.0);
    let (head, log, shared) = (defaults.head.0, defaults.log_per_second.0, defaults.shared_data.0);
    let call_time = time(spot.field("call_time").required(call_time)?, "call_time", MAX_PLUGIN_CALL_TIME);
    let start_time = time(spot.field("start_time").required(start_time)?, "start_time", MAX_PLUGIN_START_TIME);
    let cpu = cpu_per_second.map_or(Some(defaults.cpu_per_second), |it| time(it, "cpu_per_second", MAX_PLUGIN_CPU));
    Some(PluginLimits {
        memory: size(Some(memory_bytes), "memory_bytes", (MIN_PLUGIN_MEMORY_BYTES, memory, MAX_PLUGIN_MEMORY_BYTES)),
        call_time: call_time?,
        start_time: start_time?,
        cpu_per_second: cpu?,
        table_elements: count(table_elements, "table_elements", defaults.table_elements, MAX_PLUGIN_TABLE_ELEMENTS),
        log_per_second: size(log_bytes_per_second, "log_bytes_per_second", (0, log, MAX_PLUGIN_LOG_BYTES)),
        head: size(head_bytes, "head_bytes", (1_024, head, MAX_PLUGIN_HEAD_BYTES)),
        body: size(body_bytes, "body_bytes", (0, bodies, MAX_PLUGIN_BODY_BYTES)),
        callouts: count(callouts, "callouts", defaults.callouts, MAX_PLUGIN_CALLOUTS),
        shared_data: size(shared_data_bytes, "shared_data_bytes", (0, shared, MAX_PLUGIN_SHARED_BYTES)),
        metrics: count(metrics, "metrics", defaults.metrics, MAX_PLUGIN_METRICS),
    })
}

fn plugin(name: PluginName, extras: Extras, config: wasm::PluginConfig, spot: &Spot<'_>) -> Option<Plugin> {
    let wasm::PluginConfig {
        name: _, // What counts is the resource's name.
        root_id,
        configuration,
        fail_open,
        failure_policy,
        reload_config: _, // A dead VM is always replaced, with a back-off of our own.
        capability_restriction_config,
        allow_on_headers_stop_iteration,
        vm,
    } = config;
    let failure = match wasm::FailurePolicy::try_from(failure_policy) {
        Ok(wasm::FailurePolicy::FailOpen) => Some(FailurePolicy::Open),
        Ok(wasm::FailurePolicy::Unspecified) if fail_open => Some(FailurePolicy::Open),
        // A VM is replaced after a failure in any case, so the two are one.
        Ok(wasm::FailurePolicy::Unspecified | wasm::FailurePolicy::FailClosed | wasm::FailurePolicy::FailReload) => {
            Some(FailurePolicy::Closed)
        }
        Err(_) => spot.field("failure_policy").none("is not known", ""),
    };
    let configuration = configuration.map_or_else(|| Some(Vec::new()), |it| text(&it, &spot.field("configuration")));
    let holds_headers = allow_on_headers_stop_iteration.is_some_and(|allow| allow.value);
    let vm = vm_of(spot.field("vm_config").required(vm)?, &name, &spot.field("vm_config"));
    let (module, vm, capabilities) = vm?;
    let capabilities = capability_restriction_config.and_then(names_of).or(capabilities);
    let Extras { limits, isolation, sight, services, recycling } = extras;
    Some(Plugin {
        name,
        module,
        configuration: Arc::from(configuration?),
        root_id: Arc::from(root_id),
        vm,
        failure: failure?,
        header_pause: if holds_headers { HeaderPause::HoldHeaders } else { HeaderPause::HoldAll },
        sight,
        isolation,
        recycling,
        limits,
        allow: PluginAllowance { capabilities, services },
    })
}

/// The names of a list of capabilities; an empty one restricts nothing.
fn names_of(config: wasm::CapabilityRestrictionConfig) -> Option<Arc<[Arc<str>]>> {
    let wasm::CapabilityRestrictionConfig { allowed_capabilities } = config;
    let mut names: Vec<Arc<str>> = allowed_capabilities.into_keys().map(Arc::from).collect();
    names.sort();
    (!names.is_empty()).then(|| names.into_iter().filter(|name| &**name != proto::NO_CAPABILITY).collect())
}

/// What Envoy calls a filter's VM: its module, what it is started with, and what it may do.
type Vm = (ModuleSource, PluginVm, Option<Arc<[Arc<str>]>>);

/// The bytes that the guest reads as its configuration, as Envoy unpacks them.
fn text(configuration: &protobuf::Any, spot: &Spot<'_>) -> Option<Vec<u8>> {
    let value = &*configuration.value;
    let bytes = match configuration.type_url.strip_prefix("type.googleapis.com/google.protobuf.") {
        Some("StringValue") => spot.checked(protobuf::StringValue::decode(value))?.value.into_bytes(),
        Some("BytesValue") => spot.checked(protobuf::BytesValue::decode(value))?.value,
        _ => {
            let reason = format!("is a {}", configuration.type_url);
            return spot.none(&reason, "write the configuration as text in a google.protobuf.StringValue");
        }
    };
    if bytes.len() > MAX_PLUGIN_CONFIGURATION_BYTES {
        let reason = format!("has {} bytes", bytes.len());
        return spot.none(&reason, &format!("at most {MAX_PLUGIN_CONFIGURATION_BYTES}"));
    }
    Some(bytes)
}

fn vm_of(vm: wasm::plugin_config::Vm, plugin: &PluginName, spot: &Spot<'_>) -> Option<Vm> {
    let wasm::plugin_config::Vm::VmConfig(vm) = vm;
    let wasm::VmConfig {
        vm_id,
        runtime: _, // There is one.
        code,
        configuration,
        allow_precompiled: _,       // Modules are compiled here.
        nack_on_code_cache_miss: _, // A module that cannot be had is told in the status.
        environment_variables,
        capability_restriction_config,
    } = vm;
    let configuration = configuration.map_or_else(|| Some(Vec::new()), |it| text(&it, &spot.field("configuration")));
    let environment = environment_variables.map_or_else(Vec::new, |variables| {
        let wasm::EnvironmentVariables { host_env_keys, key_values } = variables;
        let spot = spot.field("environment_variables");
        unsupported!(spot; host_env_keys);
        let mut pairs: Vec<_> =
            key_values.into_iter().map(|(name, value)| (Arc::from(name), Arc::from(value))).collect();
        pairs.sort();
        pairs
    });
    if environment.len() > MAX_PLUGIN_ENVIRONMENT {
        let hint = format!("at most {MAX_PLUGIN_ENVIRONMENT}");
        spot.field("environment_variables").refuse(&format!("has {}", environment.len()), &hint);
    }
    let module = module(code, &spot.field("code"))?;
    let vm = PluginVm {
        id: Arc::from(own_id(&vm_id, plugin)),
        configuration: Arc::from(configuration?),
        environment: environment.into(),
    };
    Some((module, vm, capability_restriction_config.and_then(names_of)))
}

/// The id without its namespace; empty when it is the plugin's own. The shared state of another namespace is out of
/// reach.
fn own_id<'v>(vm_id: &'v str, plugin: &PluginName) -> &'v str {
    let inside = vm_id.strip_prefix(plugin.namespace()).and_then(|rest| rest.strip_prefix("/vm:"));
    if vm_id == plugin.as_str() { "" } else { inside.unwrap_or(vm_id) }
}

fn module(code: Option<core::AsyncDataSource>, spot: &Spot<'_>) -> Option<ModuleSource> {
    let core::AsyncDataSource { specifier } = spot.required(code)?;
    match spot.required(specifier)? {
        core::async_data_source::Specifier::Local(source) => local(source, &spot.field("local")),
        core::async_data_source::Specifier::Remote(source) => remote(source, &spot.field("remote")),
    }
}

fn local(source: core::DataSource, spot: &Spot<'_>) -> Option<ModuleSource> {
    let core::DataSource { watched_directory, specifier } = source;
    unsupported!(spot; watched_directory);
    match specifier {
        Some(core::data_source::Specifier::Filename(path)) if !path.is_empty() => {
            Some(ModuleSource::File(PathBuf::from(path)))
        }
        _ => spot.none("is no file", "give `filename`, or `remote` with the module's hash"),
    }
}

fn remote(source: core::RemoteDataSource, spot: &Spot<'_>) -> Option<ModuleSource> {
    let core::RemoteDataSource { http_uri, sha256, retry_policy: _ } = source; // It is fetched until it is there.
    let sha256 = sha256.parse::<ModuleHash>().map_err(|error| error.reason);
    let sha256 = spot.field("sha256").checked(sha256);
    let spot = spot.field("http_uri");
    let core::HttpUri { uri, timeout: _, http_upstream_type: _ } = spot.required(http_uri)?; // Fetched by the URI alone.
    if !uri.starts_with("http://") {
        return spot.field("uri").none(&format!("`{uri}` is not fetched"), "give a URI that begins with http://");
    }
    Some(ModuleSource::Remote(RemoteModule { url: uri.into(), sha256: sha256? }))
}
