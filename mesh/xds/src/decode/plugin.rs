//! Decodes plugins (ECDS): Envoy's Wasm filter, alone or inside `weir.v1.Plugin` with limits.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use weir_model::limits::{
    MAX_CLUSTER_ALIAS_BYTES, MAX_CLUSTER_ALIASES, MAX_PLUGIN_BODY_BYTES, MAX_PLUGIN_CALL_TIME, MAX_PLUGIN_CALLOUTS,
    MAX_PLUGIN_CONFIGURATION_BYTES, MAX_PLUGIN_CPU, MAX_PLUGIN_ENVIRONMENT, MAX_PLUGIN_HEAD_BYTES,
    MAX_PLUGIN_LOG_BYTES, MAX_PLUGIN_MEMORY_BYTES, MAX_PLUGIN_METRICS, MAX_PLUGIN_SHARED_BYTES, MAX_PLUGIN_START_TIME,
    MAX_PLUGIN_TABLE_ELEMENTS, MIN_PLUGIN_MEMORY_BYTES,
};
use weir_model::{
    ByteSize, ClusterAliases, ClusterName, FailurePolicy, HeaderPause, Isolation, ModuleHash, ModuleSource, Plugin,
    PluginCapabilities, PluginLimits, PluginName, PluginRole, RecyclePolicy, Rejection, RemoteModule, ResourceId,
    ResourceKind, VmConfig,
};

use super::decode_resource;
use super::field_cursor::{FieldCursor, unsupported};
use super::value::duration;
use crate::proto::{self, NetworkWasm, Wasm, core, protobuf, wasm};

/// Decodes a `TypedExtensionConfig` with a plugin.
pub(crate) fn extension(name: &str, bytes: &[u8]) -> Result<Plugin, Vec<Rejection>> {
    let resource = ResourceId { kind: ResourceKind::Plugin, name: name.to_owned() };
    decode_resource(&resource, bytes, |message: core::TypedExtensionConfig, cursor| {
        let core::TypedExtensionConfig { name, typed_config } = message;
        let name = cursor.field("name").checked(PluginName::new(&name));
        let cursor = cursor.field("typed_config");
        inline_plugin(name?, &cursor.required(typed_config)?, &cursor)
    })
}

/// The settings of a plugin that Envoy's Wasm filter has no fields for.
#[derive(Default)]
struct Extras {
    limits: PluginLimits,
    isolation: Isolation,
    role: PluginRole,
    services: Option<Arc<[Arc<str>]>>,
    recycling: RecyclePolicy,
    cluster_aliases: ClusterAliases,
}

/// Decodes a plugin under this name, from any of the supported filter types.
pub(super) fn inline_plugin(name: PluginName, config: &protobuf::Any, cursor: &FieldCursor<'_>) -> Option<Plugin> {
    let (filter, extras) = if config.type_url == proto::type_url::<proto::Plugin>() {
        let mut plugin = cursor.checked(proto::Plugin::decode(&*config.value))?;
        let filter = plugin.wasm.take();
        (cursor.field("wasm").required(filter)?, extras(&plugin, cursor)?)
    } else if config.type_url == proto::type_url::<Wasm>() {
        (cursor.checked(Wasm::decode(&*config.value))?, Extras::default())
    } else if config.type_url == proto::type_url::<NetworkWasm>() {
        let NetworkWasm { config } = cursor.checked(NetworkWasm::decode(&*config.value))?;
        (Wasm { config }, Extras::default())
    } else {
        return cursor
            .reject_value(&format!("is a {}", config.type_url), "every filter is a Wasm module: use the Wasm filter");
    };
    let Wasm { config } = filter;
    let cursor = cursor.field("config");
    plugin(name, extras, cursor.required(config)?, &cursor)
}

fn extras(plugin: &proto::Plugin, cursor: &FieldCursor<'_>) -> Option<Extras> {
    let proto::Plugin { wasm: _, vm_for_each_stream, kind, services, .. } = plugin;
    if kind & !(proto::KIND_LOG_ONLY | proto::KIND_SINGLETON) != 0 {
        return cursor.field("kind").reject_value("is not known", "the control plane is newer than this proxy");
    }
    let isolation = match (vm_for_each_stream, kind & proto::KIND_SINGLETON != 0) {
        (false, false) => Isolation::Worker,
        (true, false) => Isolation::Stream,
        (false, true) => Isolation::Singleton,
        (true, true) => return cursor.reject_value("has one VM and one for each stream", "choose one of the two"),
    };
    let role = if kind & proto::KIND_LOG_ONLY != 0 { PluginRole::AccessLog } else { PluginRole::Filter };
    let services = services.as_ref().map(|list| list.names.iter().map(|name| Arc::from(name.as_str())).collect());
    let age = plugin.recycle_age.map(|age| duration(age, &cursor.field("recycle_age")));
    let recycling = RecyclePolicy {
        requests: plugin.recycle_requests.filter(|requests| *requests > 0),
        age: age.flatten(),
        memory: plugin.recycle_memory_bytes.map(ByteSize),
    };
    let cluster_aliases = cluster_aliases(&plugin.cluster_aliases, &cursor.field("cluster_aliases"))?;
    Some(Extras { limits: limits(plugin, cursor)?, isolation, role, services, recycling, cluster_aliases })
}

fn cluster_aliases(aliases: &BTreeMap<String, String>, cursor: &FieldCursor<'_>) -> Option<ClusterAliases> {
    if aliases.len() > MAX_CLUSTER_ALIASES {
        return cursor.reject_value(&format!("has {}", aliases.len()), &format!("at most {MAX_CLUSTER_ALIASES}"));
    }
    let alias = |(alias, cluster): (&String, &String)| {
        if alias.is_empty() || alias.len() > MAX_CLUSTER_ALIAS_BYTES {
            let hint = format!("names of 1 to {MAX_CLUSTER_ALIAS_BYTES} bytes");
            return cursor.reject_value(&format!("has a name of {} bytes", alias.len()), &hint);
        }
        Some((Arc::from(alias.as_str()), cursor.checked(ClusterName::new(cluster))?))
    };
    aliases.iter().map(alias).collect()
}

fn limits(plugin: &proto::Plugin, cursor: &FieldCursor<'_>) -> Option<PluginLimits> {
    let proto::Plugin { memory_bytes, call_time, start_time, cpu_per_second, table_elements, .. } = *plugin;
    let proto::Plugin { log_bytes_per_second, head_bytes, body_bytes, callouts, shared_data_bytes, metrics, .. } =
        *plugin;
    let defaults = PluginLimits::default();
    let time = |time: protobuf::Duration, name: &str, most: Duration| {
        let cursor = cursor.field(name);
        let time = duration(time, &cursor)?;
        if time.is_zero() || time > most {
            return cursor
                .reject_value("is out of bounds", &format!("more than 0, and at most {} ms", most.as_millis()));
        }
        Some(time)
    };
    let number = |number: Option<u64>, name: &str, (least, default, most): (u64, u64, u64)| {
        let number = number.unwrap_or(default);
        if !(least..=most).contains(&number) {
            cursor.field(name).reject("is out of bounds", &format!("from {least} to {most}"));
        }
        number
    };
    let size = |value, name, bounds| ByteSize(number(value, name, bounds));
    let count = |value: Option<u32>, name, default: u32, most: u32| {
        let number = number(value.map(u64::from), name, (0, u64::from(default), u64::from(most)));
        u32::try_from(number).unwrap_or(default)
    };
    let (memory, bodies) = (defaults.memory.0, defaults.body.0);
    let (head, log, shared) = (defaults.head.0, defaults.log_per_second.0, defaults.shared_data.0);
    let call_time = time(cursor.field("call_time").required(call_time)?, "call_time", MAX_PLUGIN_CALL_TIME);
    let start_time = time(cursor.field("start_time").required(start_time)?, "start_time", MAX_PLUGIN_START_TIME);
    let cpu =
        cpu_per_second.map_or(Some(defaults.cpu_per_second), |limit| time(limit, "cpu_per_second", MAX_PLUGIN_CPU));
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

fn plugin(name: PluginName, extras: Extras, config: wasm::PluginConfig, cursor: &FieldCursor<'_>) -> Option<Plugin> {
    let wasm::PluginConfig {
        name: _, // The name of the resource counts.
        root_id,
        configuration,
        fail_open,
        failure_policy,
        reload_config: _, // A failed VM is always restarted, with the proxy's own back-off.
        capability_restriction_config,
        allow_on_headers_stop_iteration,
        vm,
    } = config;
    let failure = match wasm::FailurePolicy::try_from(failure_policy) {
        Ok(wasm::FailurePolicy::FailOpen) => Some(FailurePolicy::Open),
        Ok(wasm::FailurePolicy::Unspecified) if fail_open => Some(FailurePolicy::Open),
        // A failed VM is always restarted, so `FailClosed` and `FailReload` are the same.
        Ok(wasm::FailurePolicy::Unspecified | wasm::FailurePolicy::FailClosed | wasm::FailurePolicy::FailReload) => {
            Some(FailurePolicy::Closed)
        }
        Err(_) => cursor.field("failure_policy").reject_value("is not known", ""),
    };
    let configuration =
        configuration.map_or_else(|| Some(Vec::new()), |any| text(&any, &cursor.field("configuration")));
    let holds_headers = allow_on_headers_stop_iteration.is_some_and(|allow| allow.value);
    let vm = vm_parts(cursor.field("vm_config").required(vm)?, &name, &cursor.field("vm_config"));
    let VmParts { module, vm, capabilities } = vm?;
    let capabilities = capability_restriction_config.and_then(capability_names).or(capabilities);
    let Extras { limits, isolation, role, services, recycling, cluster_aliases } = extras;
    Some(Plugin {
        name,
        module,
        configuration: Arc::from(configuration?),
        root_id: Arc::from(root_id),
        vm,
        failure: failure?,
        header_pause: if holds_headers { HeaderPause::HeadersOnly } else { HeaderPause::All },
        role,
        isolation,
        recycling,
        limits,
        capabilities: PluginCapabilities { functions: capabilities, callout_clusters: services },
        cluster_aliases,
    })
}

/// Decodes a list of capabilities; `None` for an empty list, which restricts nothing.
fn capability_names(config: wasm::CapabilityRestrictionConfig) -> Option<Arc<[Arc<str>]>> {
    let wasm::CapabilityRestrictionConfig { allowed_capabilities } = config;
    let mut names: Vec<Arc<str>> = allowed_capabilities.into_keys().map(Arc::from).collect();
    names.sort();
    (!names.is_empty()).then(|| names.into_iter().filter(|name| &**name != proto::NO_CAPABILITY).collect())
}

/// The parts of Envoy's `VmConfig`.
struct VmParts {
    module: ModuleSource,
    vm: VmConfig,
    /// `None` when unrestricted.
    capabilities: Option<Arc<[Arc<str>]>>,
}

/// Returns the bytes that the guest reads as its configuration. Envoy unpacks the same message types.
fn text(configuration: &protobuf::Any, cursor: &FieldCursor<'_>) -> Option<Vec<u8>> {
    let value = &*configuration.value;
    let bytes = match configuration.type_url.strip_prefix("type.googleapis.com/google.protobuf.") {
        Some("StringValue") => cursor.checked(protobuf::StringValue::decode(value))?.value.into_bytes(),
        Some("BytesValue") => cursor.checked(protobuf::BytesValue::decode(value))?.value,
        _ => {
            let reason = format!("is a {}", configuration.type_url);
            return cursor.reject_value(&reason, "write the configuration as text in a google.protobuf.StringValue");
        }
    };
    if bytes.len() > MAX_PLUGIN_CONFIGURATION_BYTES {
        let reason = format!("has {} bytes", bytes.len());
        return cursor.reject_value(&reason, &format!("at most {MAX_PLUGIN_CONFIGURATION_BYTES}"));
    }
    Some(bytes)
}

fn vm_parts(vm: wasm::plugin_config::Vm, plugin: &PluginName, cursor: &FieldCursor<'_>) -> Option<VmParts> {
    let wasm::plugin_config::Vm::VmConfig(vm) = vm;
    let wasm::VmConfig {
        vm_id,
        runtime: _, // There is only one runtime.
        code,
        configuration,
        allow_precompiled: _,       // The proxy compiles modules itself.
        nack_on_code_cache_miss: _, // A failed fetch is reported in the status.
        environment_variables,
        capability_restriction_config,
    } = vm;
    let configuration =
        configuration.map_or_else(|| Some(Vec::new()), |any| text(&any, &cursor.field("configuration")));
    let environment = environment_variables.map_or_else(Vec::new, |variables| {
        let wasm::EnvironmentVariables { host_env_keys, key_values } = variables;
        let cursor = cursor.field("environment_variables");
        unsupported!(cursor; host_env_keys);
        let mut pairs: Vec<_> =
            key_values.into_iter().map(|(name, value)| (Arc::from(name), Arc::from(value))).collect();
        pairs.sort();
        pairs
    });
    if environment.len() > MAX_PLUGIN_ENVIRONMENT {
        let hint = format!("at most {MAX_PLUGIN_ENVIRONMENT}");
        cursor.field("environment_variables").reject(&format!("has {}", environment.len()), &hint);
    }
    let module = module(code, &cursor.field("code"))?;
    let vm = VmConfig {
        id: Arc::from(local_vm_id(&vm_id, plugin)),
        configuration: Arc::from(configuration?),
        environment: environment.into(),
    };
    Some(VmParts { module, vm, capabilities: capability_restriction_config.and_then(capability_names) })
}

/// Returns the VM id without the plugin's namespace; empty for the default id, which is the plugin's name. The
/// namespace is added again, so a plugin cannot reach the shared data of another namespace.
fn local_vm_id<'v>(vm_id: &'v str, plugin: &PluginName) -> &'v str {
    let inside = vm_id.strip_prefix(plugin.namespace()).and_then(|rest| rest.strip_prefix("/vm:"));
    if vm_id == plugin.as_str() { "" } else { inside.unwrap_or(vm_id) }
}

fn module(code: Option<core::AsyncDataSource>, cursor: &FieldCursor<'_>) -> Option<ModuleSource> {
    let core::AsyncDataSource { specifier } = cursor.required(code)?;
    match cursor.required(specifier)? {
        core::async_data_source::Specifier::Local(source) => local(source, &cursor.field("local")),
        core::async_data_source::Specifier::Remote(source) => remote(source, &cursor.field("remote")),
    }
}

fn local(source: core::DataSource, cursor: &FieldCursor<'_>) -> Option<ModuleSource> {
    let core::DataSource { watched_directory, specifier } = source;
    unsupported!(cursor; watched_directory);
    match specifier {
        Some(core::data_source::Specifier::Filename(path)) if !path.is_empty() => {
            Some(ModuleSource::File(PathBuf::from(path)))
        }
        _ => cursor.reject_value("is no file", "give `filename`, or `remote` with the module's hash"),
    }
}

fn remote(source: core::RemoteDataSource, cursor: &FieldCursor<'_>) -> Option<ModuleSource> {
    let core::RemoteDataSource { http_uri, sha256, retry_policy: _ } = source; // A failed fetch is always retried.
    let sha256 = sha256.parse::<ModuleHash>().map_err(|error| error.reason);
    let sha256 = cursor.field("sha256").checked(sha256);
    let cursor = cursor.field("http_uri");
    // The proxy fetches by URI.
    let core::HttpUri { uri, timeout: _, http_upstream_type: _ } = cursor.required(http_uri)?;
    if !uri.starts_with("http://") {
        return cursor
            .field("uri")
            .reject_value(&format!("`{uri}` is not fetched"), "give a URI that begins with http://");
    }
    Some(ModuleSource::Remote(RemoteModule { url: uri.into(), sha256: sha256? }))
}
