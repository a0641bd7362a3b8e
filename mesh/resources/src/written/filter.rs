//! `Filter`: a Wasm module with its configuration, and the requests that go through it.

use schemars::JsonSchema;
use serde::Deserialize;

/// A Wasm module with its configuration, and the requests that go through it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct FilterSpec {
    /// What it is put before, in its own namespace; the whole mesh when left out.
    pub(crate) target_refs: Option<Vec<TargetRef>>,
    /// Where the Wasm module comes from; exactly one of the fields.
    pub(crate) module: ModuleSpec,
    /// Where it stands among the filters of a request; what its bundle says, or `Transform`, when left out.
    pub(crate) phase: Option<Phase>,
    /// Among filters of the same phase lower numbers come first, then names in alphabetical order; 0 when left out.
    pub(crate) priority: Option<i32>,
    /// Handed to the module as JSON; what may stand here is the module's own affair. A bundle may say it in a schema.
    pub(crate) config: Option<serde_json::Map<String, serde_json::Value>>,
    /// A text that is handed to the module as it is, in place of `config`: for modules that do not read JSON.
    pub(crate) config_text: Option<String>,
    /// Which of the filters in its module this is, where a module has several; empty when left out.
    pub(crate) root_id: Option<String>,
    /// What its VMs are started with.
    pub(crate) vm: Option<VmSpec>,
    /// What happens to a request when the filter fails; `Closed` when left out.
    pub(crate) failure: Option<FailureName>,
    /// What one VM of it may use; what is left out is as its bundle says, or a default.
    pub(crate) limits: Option<LimitsSpec>,
    /// How many requests share a VM; `Worker` when left out.
    pub(crate) isolation: Option<Isolation>,
    /// When a VM has served long enough and is replaced, without a lost request; never when left out.
    pub(crate) recycle: Option<RecycleSpec>,
    /// What is held back when the filter pauses in a headers callback; `HoldAll` when left out.
    pub(crate) header_pause: Option<HeaderPauseName>,
    /// What it may do; everything when left out.
    pub(crate) allow: Option<AllowSpec>,
}

/// What the VMs of a filter are started with.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct VmSpec {
    /// Filters of one namespace with the same id share their data, queues and metrics; each has its own when left out.
    pub(crate) id: Option<String>,
    /// A text that the module reads when its VM starts.
    pub(crate) config: Option<String>,
    /// Environment variables, by name.
    pub(crate) environment: Option<std::collections::BTreeMap<String, String>>,
}

/// When a VM has served long enough; whatever comes first.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RecycleSpec {
    /// After so many requests.
    pub(crate) requests: Option<u32>,
    /// After this time, `1s` or more.
    pub(crate) age: Option<String>,
    /// Once its memory has grown to this.
    pub(crate) memory: Option<String>,
}

/// What a filter may do.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct AllowSpec {
    /// The calls that it may make and that are made to it, by name: `proxy_log`, `fd_write`, `proxy_on_request_headers`.
    pub(crate) capabilities: Option<Vec<String>>,
    /// The Service ports that its callouts may go to: `name:port`, or `namespace/name:port`.
    pub(crate) services: Option<Vec<String>>,
}

/// An object that a Filter is put before.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TargetRef {
    /// The group of the kind; the kind's own when left out.
    pub(crate) group: Option<String>,
    /// `Gateway` (all its requests), `HTTPRoute` (the requests that it matches) or `TCPRoute` (its connections).
    pub(crate) kind: String,
    /// The object's name.
    pub(crate) name: String,
}

/// Where a module comes from.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ModuleSpec {
    /// A `.wasm` file; a relative path begins at the folder of the file it is written in.
    pub(crate) file: Option<String>,
    /// A module shipped with the proxy, by name: `auth`.
    pub(crate) builtin: Option<String>,
    /// A bundle that was pushed to the control plane, by name; needs `version`.
    pub(crate) bundle: Option<String>,
    /// Which version of the bundle: `1.2.0`.
    pub(crate) version: Option<String>,
}

/// Where a filter stands among the filters of a request, on the way in; responses pass them in reverse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
pub(crate) enum Phase {
    /// Counts and logs: first, so that it sees refusals too.
    Stats,
    /// Finds out who asks.
    Authn,
    /// Decides whether they may.
    Authz,
    /// Decides whether they may now.
    Limit,
    /// Changes the request or the response.
    Transform,
    /// Chooses where the request goes.
    Route,
    /// Sees no request: when one has ended, it is told, and may log it.
    Log,
}

/// What happens to a request when a filter fails.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
pub(crate) enum FailureName {
    /// The request fails, with 503 where that can still be said.
    Closed,
    /// The request goes on without the filter.
    Open,
}

/// What one VM of a filter may use.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LimitsSpec {
    /// Linear memory, 128Ki to 4Gi; `16Mi` when left out.
    pub(crate) memory: Option<String>,
    /// CPU time of one call, up to `1s`; `10ms` when left out.
    pub(crate) call_time: Option<String>,
    /// Time to start and configure it, up to `1m`; `1s` when left out.
    pub(crate) start_time: Option<String>,
    /// CPU time of all its calls in one second on one worker, up to `1s`, which is no limit; `1s` when left out.
    pub(crate) cpu_per_second: Option<String>,
    /// Elements of its tables, up to 10,000,000; 20,000 when left out.
    pub(crate) table_elements: Option<u32>,
    /// What it may write to the log in one second, up to 64Mi; `64Ki` when left out.
    pub(crate) log_per_second: Option<String>,
    /// A head that it has changed, names and values, up to 1Mi; `128Ki` when left out.
    pub(crate) head: Option<String>,
    /// A body that it holds back or makes, up to 64Mi; `1Mi` when left out.
    pub(crate) body: Option<String>,
    /// Callouts under way at once on one worker, up to 10,000; 256 when left out.
    pub(crate) callouts: Option<u32>,
    /// Shared data of its VM id, up to 1Gi; `64Mi` when left out.
    pub(crate) shared_data: Option<String>,
    /// Metrics of its VM id, up to 1,000,000; 10,000 when left out.
    pub(crate) metrics: Option<u32>,
}

/// How many requests share a VM of a filter.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
pub(crate) enum Isolation {
    /// All requests of one worker thread.
    Worker,
    /// Each request has a VM of its own, which is started for it: nothing survives the request.
    Stream,
    /// One VM in the process, and no request goes through it: for timers, queues and callouts of its own.
    Process,
}

/// What is held back when a filter pauses in a headers callback.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
pub(crate) enum HeaderPauseName {
    /// Headers, body and trailers.
    HoldAll,
    /// Headers only: the filter goes on to see the body.
    HoldHeaders,
}
