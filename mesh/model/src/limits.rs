//! Every bound and default of the model, in one place: the number, its unit, and why it is that number.

use std::time::Duration;

/// Longest name of a resource, in bytes: three Kubernetes names of 253 with separators fit.
pub const MAX_NAME_BYTES: usize = 1_024;

/// Longest regular expression, in bytes; longer ones are programs, not matches.
pub const MAX_REGEX_BYTES: usize = 1_024;

/// Memory that one compiled regular expression may take, in bytes: `.{1000}` fits, `(.{1000}){1000}` does not.
pub const MAX_REGEX_COMPILED_BYTES: usize = 256 * 1024;

/// Longest path or prefix of a match, in bytes (the Gateway API's bound).
pub const MAX_PATH_MATCH_BYTES: usize = 1_024;

/// Matches on headers or query parameters in one route match (the Gateway API's bound).
pub const MAX_MATCHES: usize = 16;

/// Plugins in one filter chain: more would cost more than the request itself.
pub const MAX_CHAIN_PLUGINS: usize = 32;

/// Labels and annotations of an object together: every proxy keeps them, for filters.
pub const MAX_METADATA_BYTES: usize = 16 << 10;

/// Largest configuration of one plugin, in bytes (etcd's bound for one value).
pub const MAX_PLUGIN_CONFIGURATION_BYTES: usize = 1024 * 1024;

/// Smallest memory of a plugin, in bytes: one Wasm page is 64 KiB, and no SDK starts in less than two.
pub const MIN_PLUGIN_MEMORY_BYTES: u64 = 128 * 1024;

/// Largest memory of a plugin, in bytes: what a 32-bit module can address at all.
pub const MAX_PLUGIN_MEMORY_BYTES: u64 = 4 * 1024 * 1024 * 1024;

/// Memory of a plugin when its `Filter` says nothing, in bytes.
pub const DEFAULT_PLUGIN_MEMORY_BYTES: u64 = 16 * 1024 * 1024;

/// CPU time of one call into a plugin when its `Filter` says nothing: a thousand times what a filter needs.
pub const DEFAULT_PLUGIN_CALL_TIME: Duration = Duration::from_millis(10);

/// Longest CPU time of one call that can be asked for: a worker does nothing else meanwhile.
pub const MAX_PLUGIN_CALL_TIME: Duration = Duration::from_secs(1);

/// Time for a plugin to start and configure itself when its `Filter` says nothing.
pub const DEFAULT_PLUGIN_START_TIME: Duration = Duration::from_secs(1);

/// Longest start that can be asked for.
pub const MAX_PLUGIN_START_TIME: Duration = Duration::from_secs(60);

/// CPU time of all calls into a plugin in one second on one worker, when its `Filter` says nothing: all of it. A filter that
/// needs much is no fault; one that must not starve others is told so.
pub const DEFAULT_PLUGIN_CPU: Duration = Duration::from_secs(1);

/// Most of it that can be asked for: a second has one second.
pub const MAX_PLUGIN_CPU: Duration = Duration::from_secs(1);

/// Elements of all tables of a plugin's VM when its `Filter` says nothing; one is one function pointer, and large Go
/// modules have 10,000.
pub const DEFAULT_PLUGIN_TABLE_ELEMENTS: u32 = 20_000;

/// Most table elements that can be asked for.
pub const MAX_PLUGIN_TABLE_ELEMENTS: u32 = 10_000_000;

/// Log messages of one VM in a second when its `Filter` says nothing, in bytes: some 500 lines.
pub const DEFAULT_PLUGIN_LOG_BYTES: u64 = 64 * 1024;

/// Most log messages in a second that can be asked for, in bytes.
pub const MAX_PLUGIN_LOG_BYTES: u64 = 64 * 1024 * 1024;

/// Bytes of names and values of a head that a plugin has changed, when its `Filter` says nothing: more than an ordinary
/// server takes.
pub const DEFAULT_PLUGIN_HEAD_BYTES: u64 = 128 * 1024;

/// Largest changed head that can be asked for, in bytes (Proxy-Wasm hosts take header lists of 1 MiB at most).
pub const MAX_PLUGIN_HEAD_BYTES: u64 = 1024 * 1024;

/// Bytes of a body that a plugin holds back or makes, when its `Filter` says nothing (Envoy's buffer limit).
pub const DEFAULT_PLUGIN_BODY_BYTES: u64 = 1024 * 1024;

/// Largest held body that can be asked for, in bytes.
pub const MAX_PLUGIN_BODY_BYTES: u64 = 64 * 1024 * 1024;

/// Callouts of a plugin under way at once on one worker, when its `Filter` says nothing.
pub const DEFAULT_PLUGIN_CALLOUTS: u32 = 256;

/// Most callouts at once that can be asked for.
pub const MAX_PLUGIN_CALLOUTS: u32 = 10_000;

/// Bytes of shared data of one VM id when its `Filter` says nothing.
pub const DEFAULT_PLUGIN_SHARED_BYTES: u64 = 64 * 1024 * 1024;

/// Most shared data that can be asked for, in bytes.
pub const MAX_PLUGIN_SHARED_BYTES: u64 = 1024 * 1024 * 1024;

/// Metrics of one VM id when its `Filter` says nothing; each label makes more of them.
pub const DEFAULT_PLUGIN_METRICS: u32 = 10_000;

/// Most metrics that can be asked for.
pub const MAX_PLUGIN_METRICS: u32 = 1_000_000;

/// Environment variables of one plugin.
pub const MAX_PLUGIN_ENVIRONMENT: usize = 64;

/// Names in a plugin's list of what it may do.
pub const MAX_PLUGIN_ALLOWED: usize = 256;

/// Time to open an upstream connection when no `BackendPolicy` says otherwise (Envoy's default).
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Time from the whole request received to the whole response when nothing says otherwise. Envoy's default is 15 s for
/// a route; streams that live longer say so with `timeouts: {request: 0s}`.
pub const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// Longest duration that can be written anywhere, in hours (the Gateway API's bound: five digits and a unit).
pub const MAX_DURATION: Duration = Duration::from_secs(99_999 * 3_600);

/// Endpoints of one cluster.
pub const MAX_ENDPOINTS: usize = 10_000;

/// Largest weight of one endpoint or target (the Gateway API's bound).
pub const MAX_WEIGHT: u32 = 1_000_000;

/// Targets of one route (the Gateway API's bound on `backendRefs`).
pub const MAX_TARGETS: usize = 16;

/// Mirrors of one route: each doubles the traffic.
pub const MAX_MIRRORS: usize = 4;
