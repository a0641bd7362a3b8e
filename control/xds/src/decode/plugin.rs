//! Plugins: Envoy's Wasm filter as it is, or in our own message with limits around it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use weir_model::limits::{
    MAX_PLUGIN_CALL_TIME, MAX_PLUGIN_CONFIGURATION_BYTES, MAX_PLUGIN_MEMORY_BYTES, MAX_PLUGIN_START_TIME,
    MIN_PLUGIN_MEMORY_BYTES,
};
use weir_model::{
    ByteSize, FailurePolicy, HeaderPause, ModuleHash, ModuleSource, Plugin, PluginLimits, PluginName, Rejection,
    RemoteModule, ResourceId, ResourceKind,
};

use super::fault::{Spot, unsupported};
use super::value::duration;
use super::whole;
use crate::proto::{self, Wasm, core, protobuf, wasm};

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

/// A plugin of this name.
pub(super) fn inline_plugin(name: PluginName, config: &protobuf::Any, spot: &Spot<'_>) -> Option<Plugin> {
    let (filter, limits) = if config.type_url == proto::type_url::<proto::Plugin>() {
        let proto::Plugin { wasm, memory_bytes, call_time, start_time } =
            spot.checked(proto::Plugin::decode(&*config.value))?;
        (spot.field("wasm").required(wasm)?, limits(memory_bytes, (call_time, start_time), spot)?)
    } else if config.type_url == proto::type_url::<Wasm>() {
        (spot.checked(Wasm::decode(&*config.value))?, PluginLimits::default())
    } else {
        return spot.none(&format!("is a {}", config.type_url), "every filter is a Wasm module: use the Wasm filter");
    };
    let Wasm { config } = filter;
    let spot = spot.field("config");
    plugin(name, limits, spot.required(config)?, &spot)
}

fn limits(
    memory_bytes: u64,
    (call_time, start_time): (Option<protobuf::Duration>, Option<protobuf::Duration>),
    spot: &Spot<'_>,
) -> Option<PluginLimits> {
    let time = |time: Option<protobuf::Duration>, name: &str, most: Duration| {
        let spot = spot.field(name);
        let time = duration(spot.required(time)?, &spot)?;
        if time.is_zero() || time > most {
            return spot.none("is out of bounds", &format!("more than 0, and at most {} ms", most.as_millis()));
        }
        Some(time)
    };
    if !(MIN_PLUGIN_MEMORY_BYTES..=MAX_PLUGIN_MEMORY_BYTES).contains(&memory_bytes) {
        let bounds = format!("from {MIN_PLUGIN_MEMORY_BYTES} to {MAX_PLUGIN_MEMORY_BYTES} bytes");
        spot.field("memory_bytes").refuse("is out of bounds", &bounds);
    }
    let call_time = time(call_time, "call_time", MAX_PLUGIN_CALL_TIME);
    let start_time = time(start_time, "start_time", MAX_PLUGIN_START_TIME);
    Some(PluginLimits { memory: ByteSize(memory_bytes), call_time: call_time?, start_time: start_time? })
}

fn plugin(name: PluginName, limits: PluginLimits, config: wasm::PluginConfig, spot: &Spot<'_>) -> Option<Plugin> {
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
    unsupported!(spot; root_id, capability_restriction_config);
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
    let module = module(spot.field("vm_config").required(vm)?, &name, &spot.field("vm_config"));
    Some(Plugin {
        name,
        module: module?,
        configuration: Arc::from(configuration?),
        failure: failure?,
        header_pause: if holds_headers { HeaderPause::HoldHeaders } else { HeaderPause::HoldAll },
        limits,
    })
}

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

fn module(vm: wasm::plugin_config::Vm, plugin: &PluginName, spot: &Spot<'_>) -> Option<ModuleSource> {
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
    unsupported!(spot; configuration, environment_variables, capability_restriction_config);
    if !vm_id.is_empty() && vm_id != plugin.as_str() {
        spot.field("vm_id").refuse("is not the filter's name", "each filter has VMs of its own; leave it out");
    }
    let spot = spot.field("code");
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
