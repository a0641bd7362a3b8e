//! `Filter`: a Wasm module with its configuration, and the requests that it processes.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::spec::secret_ref::SecretText;

/// A Wasm module with its configuration, and the requests that it processes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct FilterSpec {
    /// The filter's targets, in its own namespace. Default: the whole mesh.
    pub(crate) target_refs: Option<Vec<TargetRef>>,
    /// The source of the Wasm module; exactly one of the fields.
    pub(crate) module: ModuleSpec,
    /// The filter's phase, which decides its order among the filters of a request. Default: the bundle's phase, else
    /// `Transform`.
    pub(crate) phase: Option<Phase>,
    /// The order within a phase: lower numbers first, then names in alphabetical order. Default: 0.
    pub(crate) priority: Option<i32>,
    /// The module's configuration, passed to it as JSON. The module defines its content; a bundle may have a schema for
    /// it. `{secretRef: {name: NAME, key: KEY}}` at any depth stands for a value of a Secret in the filter's namespace.
    pub(crate) config: Option<serde_json::Map<String, serde_json::Value>>,
    /// A configuration that is not JSON, passed to the module unchanged. Excludes `config`.
    pub(crate) config_string: Option<String>,
    /// The name of the filter within a module that contains several (Proxy-Wasm `root_id`). Default: empty.
    pub(crate) root_id: Option<String>,
    /// Start parameters of the filter's VMs.
    pub(crate) vm: Option<VmSpec>,
    /// The effect of a filter failure on the request. Default: `FailClosed`.
    pub(crate) failure_policy: Option<FailurePolicySpec>,
    /// The limits of one VM. Default for a field left out: the bundle's limit, else the default of the proxy.
    pub(crate) limits: Option<LimitsSpec>,
    /// The requests that share a VM. Default: `Worker`.
    pub(crate) isolation: Option<Isolation>,
    /// The conditions for the replacement of a VM, which loses no request. Default: never.
    pub(crate) recycle: Option<RecycleSpec>,
    /// The parts of a message that are buffered when the filter pauses in a headers callback. Default: `HoldAll`.
    pub(crate) header_pause: Option<HeaderPauseSpec>,
    /// The capabilities of the filter. Default: all.
    pub(crate) allow: Option<AllowSpec>,
    /// Other names of Service ports for callouts, for a module that names clusters of its own: `web_service: {name: web,
    /// port: 80}`. Without an entry a callout names `service:port`, or `namespace/service:port`.
    pub(crate) clusters: Option<std::collections::BTreeMap<String, ClusterRefSpec>>,
}

/// A Service port that callouts reach.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ClusterRefSpec {
    /// The name of the Service or ServiceEntry.
    pub(crate) name: String,
    /// Its namespace. Default: the filter's own.
    pub(crate) namespace: Option<String>,
    /// Its port.
    pub(crate) port: u16,
}

/// Start parameters of a filter's VMs.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct VmSpec {
    /// The VM id. Filters of one namespace with the same id share data, queues and metrics. Default: an id of the
    /// filter's own.
    pub(crate) id: Option<String>,
    /// The VM configuration, which the module reads when its VM starts; may be a `secretRef`.
    pub(crate) config: Option<SecretText>,
    /// Environment variables, by name; a value may be a `secretRef`.
    pub(crate) environment: Option<std::collections::BTreeMap<String, SecretText>>,
}

/// Conditions for the replacement of a VM; the first that is met applies.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RecycleSpec {
    /// The number of requests.
    pub(crate) requests: Option<u32>,
    /// The age of the VM, `1s` or more.
    pub(crate) age: Option<String>,
    /// The size of the VM's memory.
    pub(crate) memory: Option<String>,
}

/// Capabilities of a filter.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct AllowSpec {
    /// Hostcalls that the module may use and callbacks that it receives, by name: `proxy_log`, `fd_write`,
    /// `proxy_on_request_headers`.
    pub(crate) capabilities: Option<Vec<String>>,
    /// The Service ports that callouts may reach: `name:port`, or `namespace/name:port`.
    pub(crate) services: Option<Vec<String>>,
}

/// A target of a Filter.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TargetRef {
    /// The group of the kind. Default: the kind's own.
    pub(crate) group: Option<String>,
    /// `Gateway` (all its requests), `HTTPRoute` or `GRPCRoute` (the requests that it matches) or `TCPRoute` (its connections).
    pub(crate) kind: String,
    /// The object's name.
    pub(crate) name: String,
}

/// The source of a module.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ModuleSpec {
    /// The path of a `.wasm` file. A relative path starts at the folder of the resource file.
    pub(crate) file: Option<String>,
    /// The name of a module shipped with the proxy: `auth`.
    pub(crate) builtin: Option<String>,
    /// The name of a bundle pushed to the control plane; requires `version`.
    pub(crate) bundle: Option<String>,
    /// The version of the bundle: `1.2.0`.
    pub(crate) version: Option<String>,
}

/// The position of a filter in the request path. Responses pass the filters in reverse order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
pub(crate) enum Phase {
    /// Metrics and logs: first, so that it observes rejected requests as well.
    Stats,
    /// Authentication.
    Authn,
    /// Authorization.
    Authz,
    /// Rate and concurrency limits.
    Limit,
    /// Changes to requests and responses.
    Transform,
    /// Route selection.
    Route,
    /// Access logs: the filter runs only after a request has ended.
    Log,
}

/// The effect of a filter failure on the request.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
pub(crate) enum FailurePolicySpec {
    /// The request fails, with 503 if the response has not started.
    FailClosed,
    /// The request continues without the filter.
    FailOpen,
}

/// Limits of one VM of a filter.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LimitsSpec {
    /// The linear memory, 128Ki to 4Gi. Default: `16Mi`.
    pub(crate) memory: Option<String>,
    /// The CPU time of one callback, up to `1s`. Default: `10ms`.
    pub(crate) call_timeout: Option<String>,
    /// The time to start and configure the VM, up to `1m`. Default: `1s`.
    pub(crate) start_timeout: Option<String>,
    /// The CPU time of all callbacks in one second on one worker, up to `1s`, which is no limit. Default: `1s`.
    pub(crate) cpu_per_second: Option<String>,
    /// The elements of the module's Wasm tables, up to 10,000,000. Default: 100,000.
    pub(crate) table_elements: Option<u32>,
    /// The log output in one second, up to 64Mi. Default: `64Ki`.
    pub(crate) log_bytes_per_second: Option<String>,
    /// The headers of one message after the filter's changes, names and values, up to 1Mi. Default: `128Ki`.
    pub(crate) head: Option<String>,
    /// A body that the filter buffers or creates, up to 64Mi. Default: `1Mi`.
    pub(crate) body: Option<String>,
    /// Concurrent callouts on one worker, up to 10,000. Default: 256.
    pub(crate) callouts: Option<u32>,
    /// The shared data of the VM id, up to 1Gi. Default: `64Mi`.
    pub(crate) shared_data_bytes: Option<String>,
    /// The metrics of the VM id, up to 1,000,000. Default: 10,000.
    pub(crate) metrics: Option<u32>,
}

/// The requests that share a VM of a filter.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
pub(crate) enum Isolation {
    /// All requests of one worker thread.
    Worker,
    /// One request: each request starts its own VM, and no state survives the request.
    Stream,
    /// No request: one VM per process (Envoy: singleton service), for timers, queues and callouts.
    Process,
}

/// The parts of a message that are buffered when a filter pauses in a headers callback.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
pub(crate) enum HeaderPauseSpec {
    /// Headers, body and trailers.
    HoldAll,
    /// Headers only. The filter still receives the body.
    HoldHeaders,
}
