//! All limits and defaults of the model: the number, its unit, and the reason for it.

use std::time::Duration;

/// The shortest interval of outlier detection, and the shortest ejection.
pub const MIN_EJECTION: Duration = Duration::from_millis(100);

/// The longest interval of outlier detection, and the longest ejection.
pub const MAX_EJECTION: Duration = Duration::from_secs(24 * 3_600);

/// The largest number of failures in a row, of endpoints and of requests in outlier detection.
pub const MAX_OUTLIER_COUNT: u32 = 1_000_000;

/// Retries of one request at most, in a route's policy.
pub const MAX_RETRIES: u32 = 10;

/// Retries of one request, in a route's policy that names no number.
pub const DEFAULT_RETRIES: u32 = 2;

/// The most that is waited before the first retry, in a route's policy that names no back-off. As in Envoy.
pub const DEFAULT_RETRY_BACKOFF: Duration = Duration::from_millis(25);

/// The longest back-off is so many times the first one. As in Envoy.
pub const MAX_RETRY_BACKOFF_FACTOR: u32 = 10;

/// The longest back-off that a route's policy may name.
pub const MAX_RETRY_BACKOFF: Duration = Duration::from_secs(60);

/// The longest time that a response's `retry-after` may ask for.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(5);

/// The longest interval of a retry budget.
pub const MAX_RETRY_BUDGET_INTERVAL: Duration = Duration::from_secs(3_600);

/// Retries that a retry budget allows within its interval without requests, at most.
pub const MAX_RETRY_BUDGET_COUNT: u32 = 1_000_000;

/// Longest name of a resource, in bytes: three Kubernetes names of 253 with separators fit.
pub const MAX_NAME_BYTES: usize = 1_024;

/// Longest regular expression, in bytes. Longer patterns cost more than the request that they match.
pub const MAX_REGEX_BYTES: usize = 1_024;

/// Memory that one compiled regular expression may take, in bytes: `.{1000}` fits, `(.{1000}){1000}` does not.
pub const MAX_REGEX_COMPILED_BYTES: usize = 256 * 1024;

/// Longest path or prefix of a match, in bytes (the Gateway API's bound).
pub const MAX_PATH_MATCH_BYTES: usize = 1_024;

/// Most matches on headers or query parameters in one route match (the Gateway API's bound).
pub const MAX_MATCHES: usize = 16;

/// Most plugins in one filter chain: more would cost more than the request itself.
pub const MAX_CHAIN_PLUGINS: usize = 32;

/// Labels and annotations of an object together, in bytes: every proxy stores them, for filters.
pub const MAX_METADATA_BYTES: usize = 16 << 10;

/// Largest configuration of one plugin, in bytes (etcd's bound for one value).
pub const MAX_PLUGIN_CONFIGURATION_BYTES: usize = 1024 * 1024;

/// Smallest memory limit of a plugin, in bytes: one Wasm page is 64 KiB, and every SDK needs at least two pages.
pub const MIN_PLUGIN_MEMORY_BYTES: u64 = 128 * 1024;

/// Largest memory limit of a plugin, in bytes: the address space of a 32-bit module.
pub const MAX_PLUGIN_MEMORY_BYTES: u64 = 4 * 1024 * 1024 * 1024;

/// Default memory limit of a plugin, in bytes.
pub const DEFAULT_PLUGIN_MEMORY_BYTES: u64 = 16 * 1024 * 1024;

/// Default CPU time of one call into a plugin: a thousand times as much as a typical filter needs.
pub const DEFAULT_PLUGIN_CALL_TIME: Duration = Duration::from_millis(10);

/// Longest configurable CPU time of one call: the worker serves no other stream meanwhile.
pub const MAX_PLUGIN_CALL_TIME: Duration = Duration::from_secs(1);

/// Default CPU time for a plugin to start and configure itself.
pub const DEFAULT_PLUGIN_START_TIME: Duration = Duration::from_secs(1);

/// Longest configurable CPU time for a start.
pub const MAX_PLUGIN_START_TIME: Duration = Duration::from_secs(60);

/// Default CPU time of all calls into a plugin in one second on one worker: the whole second. A filter that needs much
/// CPU is not faulty by itself; a limit is set where it must not starve others.
pub const DEFAULT_PLUGIN_CPU: Duration = Duration::from_secs(1);

/// Largest configurable CPU time per second: a worker is one thread.
pub const MAX_PLUGIN_CPU: Duration = Duration::from_secs(1);

/// Default number of elements in all tables of a plugin's VM. One element is one function pointer, of 8 bytes; large Go
/// modules have 20,000.
pub const DEFAULT_PLUGIN_TABLE_ELEMENTS: u32 = 100_000;

/// Largest configurable number of table elements.
pub const MAX_PLUGIN_TABLE_ELEMENTS: u32 = 10_000_000;

/// Cluster aliases of one plugin. A module names a handful of clusters.
pub const MAX_CLUSTER_ALIASES: usize = 64;

/// Bytes of a cluster alias: as long as the name of a DNS host with Istio's direction, port and subset before it.
pub const MAX_CLUSTER_ALIAS_BYTES: usize = 512;

/// Default size of the log messages of one VM in a second, in bytes: about 500 lines.
pub const DEFAULT_PLUGIN_LOG_BYTES: u64 = 64 * 1024;

/// Largest configurable size of log messages in a second, in bytes.
pub const MAX_PLUGIN_LOG_BYTES: u64 = 64 * 1024 * 1024;

/// Default size of names and values of a header map that a plugin changed, in bytes: more than ordinary servers accept.
pub const DEFAULT_PLUGIN_HEAD_BYTES: u64 = 128 * 1024;

/// Largest configurable size of a changed header map, in bytes (Proxy-Wasm hosts accept at most 1 MiB).
pub const MAX_PLUGIN_HEAD_BYTES: u64 = 1024 * 1024;

/// Default size of a body that a plugin buffers or replaces, in bytes (Envoy's default buffer limit).
pub const DEFAULT_PLUGIN_BODY_BYTES: u64 = 1024 * 1024;

/// Largest configurable size of a buffered body, in bytes.
pub const MAX_PLUGIN_BODY_BYTES: u64 = 64 * 1024 * 1024;

/// Default number of concurrent callouts of a plugin on one worker.
pub const DEFAULT_PLUGIN_CALLOUTS: u32 = 256;

/// Largest configurable number of concurrent callouts.
pub const MAX_PLUGIN_CALLOUTS: u32 = 10_000;

/// Default size of the shared data of one VM id, in bytes.
pub const DEFAULT_PLUGIN_SHARED_BYTES: u64 = 64 * 1024 * 1024;

/// Largest configurable size of shared data, in bytes.
pub const MAX_PLUGIN_SHARED_BYTES: u64 = 1024 * 1024 * 1024;

/// Default number of metrics of one VM id; each combination of labels is a metric.
pub const DEFAULT_PLUGIN_METRICS: u32 = 10_000;

/// Largest configurable number of metrics.
pub const MAX_PLUGIN_METRICS: u32 = 1_000_000;

/// Most environment variables of one plugin.
pub const MAX_PLUGIN_ENVIRONMENT: usize = 64;

/// Most names in a plugin's list of permitted hostcalls, callbacks or clusters.
pub const MAX_PLUGIN_CAPABILITIES: usize = 256;

/// Largest idle time and interval of a TCP keepalive, in seconds (limit of Linux).
pub const MAX_KEEPALIVE_SECONDS: u32 = 32_767;

/// Largest number of probes of a TCP keepalive (limit of Linux).
pub const MAX_KEEPALIVE_PROBES: u32 = 127;

/// Default time limit for opening an upstream connection (Envoy's default).
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Default time limit for a whole request and response: Envoy's default for a route. Routes with longer streams need
/// `timeouts: {request: 0s}`.
pub const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// Default bytes of a message's head. Envoy's default is 60 KiB, rounded up here to a power of two.
pub const DEFAULT_HEAD_BYTES: u32 = 64 * 1024;

/// Largest configurable bytes of a head: one connection may occupy this much memory before it has sent a request.
pub const MAX_HEAD_BYTES: u32 = 1024 * 1024;

/// Default headers of one message (Envoy's default, `max_headers_count`).
pub const DEFAULT_HEADERS: u32 = 100;

/// Largest configurable number of headers of one message: every filter reads them all.
pub const MAX_HEADERS: u32 = 1_000;

/// Default bytes of an HTTP/1 request's target: half of a head.
pub const DEFAULT_TARGET_BYTES: u32 = 32 * 1024;

/// Largest configurable bytes of a target, below the 65,534 that a URI can have in memory.
pub const MAX_TARGET_BYTES: u32 = 63 * 1024;

/// Default time from the first byte of a request's head to its last. Bounds slow-loris attacks.
pub const DEFAULT_HEAD_TIMEOUT: Duration = Duration::from_secs(15);

/// Default inactivity after which a stream is aborted (Envoy's default, `stream_idle_timeout`).
pub const DEFAULT_STREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// Default idle time after which a downstream connection is closed. Envoy uses an hour, nginx 75 s.
pub const DEFAULT_DOWNSTREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// Default idle time after which an upstream connection is closed.
///
/// Below the shortest common keep-alive, the 5 s of Node.js and Apache. The side that closes first is not surprised by
/// a request.
pub const DEFAULT_UPSTREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// Longest configurable duration (the Gateway API's bound: five digits and a unit).
pub const MAX_DURATION: Duration = Duration::from_secs(99_999 * 3_600);

/// Most endpoints of one cluster.
pub const MAX_ENDPOINTS: usize = 10_000;

/// Longest path of a Unix socket, in bytes: `sun_path` of Linux without its NUL.
pub const MAX_UNIX_PATH_BYTES: usize = 107;

/// Largest weight of one endpoint or target (the Gateway API's bound).
pub const MAX_WEIGHT: u32 = 1_000_000;

/// Most targets of one route (the Gateway API's bound on `backendRefs`).
pub const MAX_TARGETS: usize = 16;

/// Most mirrors of one route: each adds a copy of the traffic.
pub const MAX_MIRRORS: usize = 4;

/// Protocols that the requests of a listener may switch to.
pub const MAX_UPGRADES: usize = 16;

/// Bytes of the name of such a protocol.
pub const MAX_UPGRADE_BYTES: usize = 64;
