//! Every limit of the data plane, in one file: the number, its unit, and why it is that number.

use std::time::Duration;

use weir_model::{DownstreamProtocolOptions, UpstreamProtocolOptions};

/// Bounds of one HTTP/1 message that no resource sets: extensions of chunks and trailers are rare, and a quarter of a
/// head is far more than any known peer sends.
const HTTP1_LIMITS: weir_http1::Limits = weir_http1::Limits {
    head_bytes: weir_model::limits::DEFAULT_HEAD_BYTES as usize,
    fields: weir_model::limits::DEFAULT_HEADERS as usize,
    target_bytes: weir_model::limits::DEFAULT_TARGET_BYTES as usize,
    chunk_extension_bytes: 16 * 1024,
    trailer_bytes: 16 * 1024,
};

/// Returns the bounds of the HTTP/1 requests of a listener (ClientTrafficPolicy).
pub(crate) const fn http1_request_limits(options: &DownstreamProtocolOptions) -> weir_http1::Limits {
    weir_http1::Limits {
        head_bytes: options.head.bytes as usize,
        fields: options.head.headers as usize,
        target_bytes: options.target_bytes as usize,
        ..HTTP1_LIMITS
    }
}

/// Returns the bounds of the HTTP/1 responses of a cluster (BackendTrafficPolicy).
pub(crate) const fn http1_response_limits(options: &UpstreamProtocolOptions) -> weir_http1::Limits {
    weir_http1::Limits {
        head_bytes: options.head.bytes as usize,
        fields: options.head.headers as usize,
        ..HTTP1_LIMITS
    }
}

/// TLS sessions that one worker can resume with the endpoints of a cluster. A server issues a few tickets at once, and a
/// ticket of TLS 1.3 is used once.
pub(crate) const MAX_TLS_SESSIONS: usize = 32;

/// Headers that filters may make of one message: twice the largest bound of a received one.
pub(crate) const MAX_FILTERED_HEADERS: usize = 2 * weir_model::limits::MAX_HEADERS as usize;

/// Downstream connections of one worker. An idle connection costs about 4 KiB.
pub(crate) const MAX_CONNECTIONS_PER_WORKER: usize = 20_000;

/// Informational responses of an endpoint before its response (RFC 9110 §15.2). No known server sends more than a few.
pub(crate) const MAX_INFORMATIONAL_RESPONSES: usize = 16;

/// Time for which the body of a request with `expect: 100-continue` waits for the endpoint's 100 (RFC 9110 §10.1.1:
/// not indefinitely). Servers that know the expectation respond at once.
pub(crate) const CONTINUE_TIMEOUT: Duration = Duration::from_secs(1);

/// Bytes of an HTTP/1 request's body that are read and dropped after its response, so that the connection can be used
/// again, or the response is not lost to a reset.
pub(crate) const MAX_UNREAD_BODY_BYTES: u64 = 256 * 1024;

/// Time for reading the rest of an HTTP/1 request after its response.
pub(crate) const UNREAD_BODY_TIMEOUT: Duration = Duration::from_secs(1);

/// Time during which connections of a draining listener may still send a request.
///
/// Longer than a request is on its way, shorter than the time that an operator waits for a process to exit.
pub(crate) const DRAIN_GRACE: Duration = Duration::from_secs(1);

/// Time for which a worker retains the configuration of a removed listener, for requests on its open connections.
pub(crate) const REMOVED_LISTENER_RETENTION: Duration = Duration::from_secs(30);

/// Inactivity after which a TCP connection is closed (Envoy's `idle_timeout` of its TCP proxy).
pub(crate) const TCP_IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

/// Time for which a TCP connection that the proxy closes stays open, so that its downstream can read what it was sent
/// (Envoy's `delayed_close_timeout`).
pub(crate) const TCP_LINGER_TIMEOUT: Duration = Duration::from_secs(1);

/// Bytes of a TCP connection that are read at once, in each direction. Envoy reads 16 KiB slices.
pub(crate) const TCP_READ_BYTES: usize = 16 * 1024;

/// Concurrent streams of one downstream HTTP/2 connection. Envoy's recommendation for an edge proxy.
pub(crate) const MAX_CONCURRENT_STREAMS: u32 = 100;

/// HTTP/2 flow-control window of a stream, in bytes. Envoy's recommendation for an edge proxy.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 64 * 1024;

/// HTTP/2 flow-control window of a connection, in bytes. Envoy's recommendation for an edge proxy.
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// Frames of a body that pass the filters before its head is sent. A body of one frame is the usual one; a filter that
/// discards what it gets must not occupy the worker.
pub(crate) const MAX_READ_AHEAD_FRAMES: usize = 16;

/// Bytes in a direction's output buffer above which its source is not read. One chunk of hyper's.
pub(crate) const OUTPUT_HIGH_WATERMARK_BYTES: usize = 64 * 1024;

// Telemetry.

/// Bytes of access-log lines that one worker buffers. A full buffer goes to the writer at once.
pub(crate) const ACCESS_LOG_BUFFER_BYTES: usize = 16 * 1024;

/// Longest time for which access-log lines are buffered. Long enough to batch them, short enough to follow the log
/// live.
pub(crate) const ACCESS_LOG_FLUSH_INTERVAL: Duration = Duration::from_millis(100);

/// Buffers queued for the access log's writer, about 4 MiB. A full queue means a stuck disk, and lines are dropped.
pub(crate) const ACCESS_LOG_QUEUE: usize = 256;

/// Time for writing the access log's last lines when the process exits.
pub(crate) const ACCESS_LOG_CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Bytes of the process log queued for its writer. A full queue means that its reader is stuck, and lines are dropped.
pub(crate) const LOG_QUEUE_BYTES: usize = 4 * 1024 * 1024;

/// Least bytes that one line counts against [`LOG_QUEUE_BYTES`].
pub(crate) const LOG_LINE_BYTES: usize = 512;

/// Time for writing the process log's last lines when the process exits.
pub(crate) const LOG_CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

// Filters.

/// Failures of a plugin on one worker within [`BREAKER_WINDOW`] that open its breaker (invariant I8).
pub(crate) const BREAKER_FAILURES: usize = 3;

/// Time window in which failures are counted together.
pub(crate) const BREAKER_WINDOW: Duration = Duration::from_secs(10);

/// Time for which a breaker stays open the first time. Doubles each time that follows, with a fifth of jitter.
pub(crate) const BREAKER_INITIAL_PAUSE: Duration = Duration::from_secs(1);

/// Longest time for which a breaker stays open.
pub(crate) const BREAKER_MAX_PAUSE: Duration = Duration::from_secs(30);

/// Time window of a plugin's CPU budget on a worker (`limits.cpuPerSecond`).
pub(crate) const CPU_WINDOW: Duration = Duration::from_secs(1);

/// Started VMs of a plugin for each worker: one that runs, and one spare for when the first fails.
pub(crate) const VMS_PER_WORKER: usize = 2;

/// Per-stream VMs of the whole process (`isolation: Stream`).
///
/// Each takes a few of the 65,530 memory mappings that Linux allows a process.
pub(crate) const MAX_STREAM_VMS: usize = 1_024;

/// Request bodies of one plugin's callouts in flight on one worker, in bytes. The next callout is rejected.
pub(crate) const MAX_CALLOUT_REQUEST_BYTES: usize = 16 * 1024 * 1024;

/// Bytes of a callout's response body. A longer response counts as a failed call.
pub(crate) const MAX_CALLOUT_RESPONSE_BYTES: usize = 1024 * 1024;

/// Timeout of a callout when the guest sets none, and the longest that it may set.
pub(crate) const MAX_CALLOUT_TIMEOUT: Duration = Duration::from_secs(60);

/// Shortest timer period of a plugin. A shorter one would leave no time for requests.
pub(crate) const MIN_TIMER_PERIOD: Duration = Duration::from_millis(10);

/// Pending notifications about shared-queue entries for one plugin. Entries beyond are found with the others.
pub(crate) const MAX_QUEUE_NOTIFICATIONS: usize = 10_000;

/// Lines per second that the proxy logs about one plugin's errors on one worker.
pub(crate) const MAX_PLUGIN_LOG_LINES_PER_SECOND: u32 = 20;

/// Properties that filters may set on one stream (`proxy_set_property`).
pub(crate) const MAX_STREAM_PROPERTIES: usize = 64;

/// Bytes of one such property, its name included.
pub(crate) const MAX_STREAM_PROPERTY_BYTES: usize = 64 * 1024;

/// Filter-defined fields in one line of the access log. Below [`MAX_STREAM_PROPERTIES`].
pub(crate) const MAX_LOG_FIELDS: usize = 16;

/// Bytes of one filter-defined field's name.
pub(crate) const MAX_LOG_FIELD_NAME_BYTES: usize = 64;

/// Bytes of one filter-defined field's value. The rest of a longer value is cut off.
pub(crate) const MAX_LOG_FIELD_BYTES: usize = 1_024;

/// Time for a plugin context to finish after `proxy_on_done` returned false. Then it is deleted.
pub(crate) const PLUGIN_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

// Upstream.

/// Attempts of one request without a retry policy: the first and two more, enough to survive one dead endpoint and one
/// stale connection.
pub(crate) const MAX_ATTEMPTS: u32 = 3;

/// Bytes of a response that are read so that its connection can be used again, before a retry takes its place.
pub(crate) const MAX_DISCARDED_BYTES: usize = 64 * 1024;

/// The share of a cluster's endpoints, for each hundred, below which none is left out. As in Envoy.
pub(crate) const PANIC_PERCENT: usize = 50;

/// The longest time between two looks at the ends of ejections.
pub(crate) const EJECTION_TICK: Duration = Duration::from_millis(500);

/// Picks of a balancer to find an untried endpoint. Enough to avoid two tried endpoints among three.
pub(crate) const MAX_PICKS: usize = 16;

/// Picks that a weighted round robin skips at most when it starts, so that workers start at different endpoints.
pub(crate) const MAX_BALANCER_OFFSET: usize = 1_024;

/// Connections of one worker to one endpoint. Four workers exhaust the 28,000 ephemeral ports towards one address.
pub(crate) const MAX_CONNECTIONS_PER_ENDPOINT: usize = 7_000;

/// Idle HTTP/1.1 connections of one worker to one endpoint. A burst above it opens new connections.
pub(crate) const MAX_IDLE_PER_ENDPOINT: usize = 1_024;

/// Time between two sweeps of idle upstream connections.
pub(crate) const POOL_SWEEP_INTERVAL: Duration = Duration::from_millis(500);

/// Concurrent streams of one upstream HTTP/2 connection. RFC 9113 §6.5.2 recommends that every endpoint allows at least
/// this many.
pub(crate) const MAX_STREAMS_PER_UPSTREAM_CONNECTION: u32 = 100;

/// Send buffer of one upstream HTTP/2 stream, in bytes: as large as its flow-control window.
pub(crate) const UPSTREAM_SEND_BUFFER_BYTES: usize = 64 * 1024;

/// Bytes of a response that an HTTP/2 stream buffers while its downstream does not read.
pub(crate) const DOWNSTREAM_SEND_BUFFER_BYTES: usize = 400 * 1024;

/// Bytes of a request's body that are retained until the response's head, for an HTTP/2 endpoint that refuses the
/// request, and for the retries of a route.
pub(crate) const MAX_REPLAY_BYTES: usize = 64 * 1024;

/// Shortest time between two lookups of a cluster's DNS name, also for records with a TTL of 0.
pub(crate) const MIN_RESOLVE_INTERVAL: Duration = Duration::from_secs(1);

/// Longest time between two lookups of a cluster's DNS name, whatever its TTL: a change is noticed in 5 minutes.
pub(crate) const MAX_RESOLVE_INTERVAL: Duration = Duration::from_secs(300);

/// Time between two lookups of a name without a TTL, from `/etc/hosts` (Envoy's default for any name).
pub(crate) const HOSTS_INTERVAL: Duration = Duration::from_secs(5);

/// First pause after a failed lookup of a cluster's DNS name; doubled after each further failure.
pub(crate) const MIN_RESOLVE_BACKOFF: Duration = Duration::from_secs(1);

/// Longest pause after a failed lookup: a new name is found soon after it was created.
pub(crate) const MAX_RESOLVE_BACKOFF: Duration = Duration::from_secs(10);

/// Concurrent DNS lookups. Each has at most two sockets open.
pub(crate) const MAX_LOOKUPS: usize = 16;

/// Time for a DNS lookup: all name servers and search domains. One name server has that of `/etc/resolv.conf`.
pub(crate) const LOOKUP_TIMEOUT: Duration = Duration::from_secs(30);

/// Name servers that are used; further ones are ignored, as in glibc.
pub(crate) const MAX_NAME_SERVERS: usize = 3;

/// Queries of one name server for one name, at most (`attempts` of `/etc/resolv.conf`, as in glibc).
pub(crate) const MAX_DNS_ATTEMPTS: usize = 5;

/// Search domains that are used, as in Kubernetes.
pub(crate) const MAX_SEARCH_DOMAINS: usize = 32;

/// Time between two attempts to connect to a Unix socket whose listener has a full queue, within the connect timeout.
pub(crate) const UNIX_CONNECT_INTERVAL: Duration = Duration::from_millis(10);

/// Time after which a connection that is not open races with one to the next address of the DNS name (RFC 8305 §8).
pub(crate) const CONNECTION_ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Connections that race for one request. With the delay above, the last one starts after 1.25 s.
pub(crate) const MAX_RACING_CONNECTIONS: usize = 6;

/// Mirrored requests in flight on one worker. Further requests are not mirrored.
pub(crate) const MAX_MIRRORS_IN_FLIGHT: usize = 256;

/// Bytes of a body that are buffered for a mirror. A mirror that lags further behind loses its copy.
pub(crate) const MIRROR_BUFFER_BYTES: usize = 256 * 1024;

/// Bytes of a mirror's response that are read so that its connection can be reused. A longer response closes it.
pub(crate) const MAX_MIRROR_RESPONSE_BYTES: usize = 1024 * 1024;

/// Time for a mirrored request and its response.
pub(crate) const MIRROR_TIMEOUT: Duration = Duration::from_secs(15);

// Route and sanitize.

/// Longest `:authority` that is looked up by name, in bytes. A DNS name has at most 253, a port adds six.
pub(crate) const MAX_HOST_BYTES: usize = 264;

/// Longest `x-request-id` that is accepted from the downstream, in bytes. A UUID has 36.
pub(crate) const MAX_REQUEST_ID_BYTES: usize = 128;

/// `cookie` headers of an HTTP/2 request, which browsers send in pieces. They count as one header.
pub(crate) const MAX_COOKIE_HEADERS: usize = 512;

// Configuration.

/// Time between two checks of a worker's timeouts. Timeouts are exact to this.
pub(crate) const TIMEOUT_SWEEP_INTERVAL: Duration = Duration::from_millis(50);

/// Streams whose access a worker checks again before it serves others. Each check calls a filter: some microseconds.
pub(crate) const ACCESS_RECHECK_BATCH: usize = 32;

/// Time between two checks of streams whose access is undecided.
pub(crate) const ACCESS_RECHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Time after which a stream ends whose access cannot be decided. With two intervals, streams without access end within
/// the 5 s that the documentation states.
pub(crate) const MAX_ACCESS_UNDECIDED: Duration = Duration::from_secs(4);

// Modules.

/// Bytes of one module: the Wasm host's own limit.
pub(crate) const MAX_MODULE_BYTES: usize = weir_host_abi::limits::MAX_MODULE_BYTES;

/// Concurrent compilations of modules. Each runs in a child process that occupies a core.
pub(crate) const MAX_CONCURRENT_COMPILATIONS: usize = 2;

/// Age below which a changed file may change again without a new time stamp. Such a file is read each time.
pub(crate) const FILE_MTIME_GRANULARITY: Duration = Duration::from_secs(1);

/// Plugins that start at the same time, each on its own thread for up to its start time.
pub(crate) const MAX_CONCURRENT_STARTS: usize = 4;

/// Queued requests of workers for started VMs. A worker whose request does not fit requests again later.
pub(crate) const VM_START_QUEUE: usize = 256;

/// Time for the first DNS response of a new cluster. Afterwards the cluster serves as soon as there is a response.
pub(crate) const FIRST_RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);

// The control plane.

/// Longest node ID, in bytes. A pod's name and namespace fit.
pub(crate) const MAX_NODE_BYTES: usize = 512;

/// Timeout for opening a connection to the control plane.
pub(crate) const CONTROL_PLANE_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Silence after which an xDS stream is probed with a ping. The stream is closed after the same time without a
/// response.
///
/// A control plane whose machine has failed is noticed within a minute.
pub(crate) const CONTROL_PLANE_KEEPALIVE: Duration = Duration::from_secs(30);

/// Lifetime after which a lost xDS stream is opened again at once, without backoff.
pub(crate) const CONTROL_PLANE_STEADY_TIME: Duration = Duration::from_secs(10);

/// Timeout for having a certificate signed: a connection and one call.
pub(crate) const CERTIFICATE_SIGN_TIMEOUT: Duration = Duration::from_secs(10);

/// First pause before a failed certificate request is retried.
pub(crate) const MIN_RENEWAL_BACKOFF: Duration = Duration::from_millis(200);

/// Longest pause between two certificate requests. Half of a certificate's lifetime remains to reach the control plane.
pub(crate) const MAX_RENEWAL_BACKOFF: Duration = Duration::from_secs(30);

/// First pause before a lost xDS stream is opened again. A control plane that restarts is back within a second.
pub(crate) const MIN_RECONNECT_BACKOFF: Duration = Duration::from_millis(50);

/// Longest pause before a lost xDS stream is opened again. Thousands of proxies must not overload a starting control
/// plane.
pub(crate) const MAX_RECONNECT_BACKOFF: Duration = Duration::from_secs(15);

/// Queued requests to the control plane: one for each resource type and its ACK, several times over.
pub(crate) const XDS_REQUEST_QUEUE: usize = 64;

/// Time after which a resource that was requested by name and not received does not exist (the xDS protocol's own
/// number).
pub(crate) const MISSING_RESOURCE_TIMEOUT: Duration = Duration::from_secs(15);

/// Time after which a rejected update is retried.
///
/// A module that cannot be fetched, or an address in use, may have become available. Each retry costs the start of a
/// filter.
pub(crate) const REJECTED_RETRY_INTERVAL: Duration = Duration::from_secs(60);

/// Queued outcomes of configuration updates. An update takes longer than reading its outcome.
pub(crate) const OUTCOME_QUEUE: usize = 16;

/// Timeout for one download of a module.
pub(crate) const MODULE_FETCH_TIMEOUT: Duration = Duration::from_secs(30);

/// Pause between two attempts to fetch a module.
pub(crate) const MODULE_FETCH_PAUSE: Duration = Duration::from_millis(500);

/// Time for fetching a module, retries included. Then the update that needs it is rejected.
pub(crate) const MODULE_FETCH_DEADLINE: Duration = Duration::from_secs(30);

/// Time for which an unused fetched module is retained, so that a rollback does not fetch it again.
pub(crate) const UNUSED_MODULE_RETENTION: Duration = Duration::from_secs(7 * 24 * 3_600);

// Local replies.

/// Bytes of a local reply's text that become a `grpc-message`. gRPC clients accept 8 KiB of headers by default.
pub(crate) const MAX_GRPC_MESSAGE_BYTES: usize = 2 * 1024;

// Listeners.

/// Connections that wait to be accepted, for each socket. Linux's own limit (`somaxconn`).
pub(crate) const LISTEN_BACKLOG: i32 = 4_096;

/// Pause after a failed accept. Descriptors become free when connections close, and retrying in a loop occupies the
/// core.
pub(crate) const ACCEPT_RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Rejections of one update that are logged, in lines. `/config_dump` shows all of them. Warnings have the same limit.
pub(crate) const MAX_LOGGED_REJECTIONS: usize = 100;

// Admin.

/// Connections to the admin server: operators, a probe and a scraper.
pub(crate) const MAX_ADMIN_CONNECTIONS: usize = 64;

/// Time from a request head's first byte to its last on the admin server, so that a silent client does not occupy a
/// connection.
pub(crate) const ADMIN_HEAD_TIMEOUT: Duration = Duration::from_secs(10);

// Process.

/// Threads of the main runtime's blocking pool: reading files, DNS, starting plugins.
pub(crate) const MAX_BLOCKING_THREADS: usize = 24;

/// Idle time after which a thread of the blocking pool exits. Idle threads cost memory.
pub(crate) const BLOCKING_THREAD_IDLE: Duration = Duration::from_secs(5);

/// Workers of a process. More threads than the largest machines have cores bring no gain.
pub(crate) const MAX_WORKERS: usize = 256;

/// Time for connections to close when the process exits. Below the 30 s after which Kubernetes kills it.
pub(crate) const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(25);

/// Time beyond the drain deadline for workers to exit by themselves.
pub(crate) const WORKER_EXIT_TIMEOUT: Duration = Duration::from_secs(2);
