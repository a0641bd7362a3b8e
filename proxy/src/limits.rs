//! Every bound of the data plane, in one place: the number, its unit, and why it is that number.

use std::time::Duration;

/// Headers of one message: Envoy's default.
pub(crate) const MAX_HEADERS: usize = 100;

/// Bytes of one message's head: Envoy's default of 60 KiB, rounded up to hyper's power of two.
pub(crate) const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Connections of one worker: each costs about 10 KiB when idle.
pub(crate) const MAX_CONNECTIONS_PER_WORKER: usize = 20_000;

/// A downstream connection without a request is closed after this time (Envoy: an hour; nginx: 75 s).
pub(crate) const DOWNSTREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// A request head must be whole in this time from its first byte: the slow-loris bound.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a draining listener's connections may still send a request: longer than a request is on its way, shorter
/// than anybody waits for a process to end.
pub(crate) const DRAIN_GRACE: Duration = Duration::from_secs(1);

/// How long a worker remembers the configuration of a listener that was removed, for requests on its old connections.
pub(crate) const REMOVED_LISTENER_TIME: Duration = Duration::from_secs(30);

/// Nothing may move on a stream for this long (Envoy's `stream_idle_timeout`).
pub(crate) const STREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// Nothing may move on a TCP connection for this long (Envoy's `idle_timeout` of its TCP proxy).
pub(crate) const TCP_IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

/// How long a TCP connection that the proxy ends stays open for its downstream to read what it was sent (Envoy's
/// `delayed_close_timeout`).
pub(crate) const TCP_LINGER_TIME: Duration = Duration::from_secs(1);

/// Bytes of a TCP connection that are read at once, in each direction (Envoy reads 16 KiB slices).
pub(crate) const TCP_READ_BYTES: usize = 16 * 1024;

/// Concurrent streams of one downstream HTTP/2 connection (Envoy's recommendation at the edge).
pub(crate) const MAX_CONCURRENT_STREAMS: u32 = 100;

/// HTTP/2 flow-control window of a stream, in bytes (Envoy's recommendation at the edge).
pub(crate) const STREAM_WINDOW_BYTES: u32 = 64 * 1024;

/// HTTP/2 flow-control window of a connection, in bytes (Envoy's recommendation at the edge).
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// Bytes that wait where a direction leaves its filters before its source is read again: one chunk of hyper's.
pub(crate) const MAX_OUTLET_BYTES: usize = 64 * 1024;

// Telemetry.

/// Access-log lines of one worker that are kept back, in bytes: past it they go to the writer at once.
pub(crate) const ACCESS_LOG_BUFFER_BYTES: usize = 16 * 1024;

/// Access-log lines are kept back for no longer than this: short for whoever watches, long enough to batch.
pub(crate) const ACCESS_LOG_FLUSH_INTERVAL: Duration = Duration::from_millis(100);

/// Buffers on their way to the access log's writer, about 4 MiB: past it the disk is stuck and lines are dropped.
pub(crate) const ACCESS_LOG_QUEUE: usize = 256;

/// Time for the access log's last lines to be written when the process ends.
pub(crate) const ACCESS_LOG_CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Bytes of the process log on their way to its writer: past it whoever reads them is stuck and lines are dropped.
pub(crate) const LOG_QUEUE_BYTES: usize = 4 * 1024 * 1024;

/// As how many bytes of [`LOG_QUEUE_BYTES`] a line counts at least.
pub(crate) const LOG_LINE_BYTES: usize = 512;

/// Time for the process log's last lines to be written when the process ends.
pub(crate) const LOG_CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

// Filters.

/// Failures of a plugin on one worker within [`BREAKER_WINDOW`] that open its breaker (invariant I8).
pub(crate) const BREAKER_FAILURES: usize = 3;

/// The time in which failures count together.
pub(crate) const BREAKER_WINDOW: Duration = Duration::from_secs(10);

/// How long the breaker stays open the first time; doubled each time that follows, with a fifth of jitter.
pub(crate) const BREAKER_PAUSE: Duration = Duration::from_secs(1);

/// How long it stays open at most.
pub(crate) const BREAKER_MAX_PAUSE: Duration = Duration::from_secs(30);

/// The time in which a plugin has its share of a worker (`limits.cpuPerSecond`).
pub(crate) const CPU_WINDOW: Duration = Duration::from_secs(1);

/// Started VMs that each worker has of a plugin: one that runs and one that waits for the first to fail.
pub(crate) const VMS_PER_WORKER: usize = 2;

/// VMs of the whole process that live for one stream each (`isolation: Stream`); each takes a few of the 65,530 mappings
/// that Linux gives a process.
pub(crate) const MAX_STREAM_VMS: usize = 1_024;

/// Bodies of the requests of callouts in flight of one plugin on one worker, in bytes; the next callout is refused.
pub(crate) const MAX_CALLOUT_REQUEST_BYTES: usize = 16 * 1024 * 1024;

/// Body of a callout's response, in bytes; a longer one counts as a failed call.
pub(crate) const MAX_CALLOUT_BODY_BYTES: usize = 1024 * 1024;

/// How long a callout may take when the guest says nothing, and at most.
pub(crate) const MAX_CALLOUT_TIME: Duration = Duration::from_secs(60);

/// Shortest tick of a plugin: a shorter period would leave no time for requests.
pub(crate) const MIN_TICK: Duration = Duration::from_millis(10);

/// Entries of shared queues that a plugin is told of and that wait for it; those beyond are found with the others.
pub(crate) const MAX_QUEUE_NOTES: usize = 10_000;

/// How often the task that tells a plugin of entries looks whether the plugin is still there.
pub(crate) const QUEUE_LOOK: Duration = Duration::from_secs(10);

/// Lines in a second that the proxy logs about what a plugin does wrong on one worker: a person reads no more.
pub(crate) const MAX_COMPLAINTS: u32 = 20;

/// Values that filters may set on one stream (`proxy_set_property`).
pub(crate) const MAX_STREAM_VALUES: usize = 64;

/// Bytes of one such value with its name.
pub(crate) const MAX_STREAM_VALUE_BYTES: usize = 64 * 1024;

/// Fields of filters in one line of the access log: what a person still reads, and below what one stream may be given.
pub(crate) const MAX_LOG_FIELDS: usize = 16;

/// Bytes of one such field's name.
pub(crate) const MAX_LOG_FIELD_NAME_BYTES: usize = 64;

/// Bytes of one such field's value; the rest of it is cut off.
pub(crate) const MAX_LOG_FIELD_BYTES: usize = 1_024;

/// How long a retired plugin context may take to be done (`proxy_on_done` answered false) before it is dropped.
pub(crate) const RETIRE_TIME: Duration = Duration::from_secs(5);

// Upstream.

/// Attempts of one request: the first and two more, so that one dead endpoint and one stale connection do no harm.
pub(crate) const MAX_ATTEMPTS: u32 = 3;

/// Picks of a balancer to find an endpoint that has not been tried: enough for two tried ones among three.
pub(crate) const MAX_PICKS: usize = 16;

/// Picks that a weighted round robin skips at most when it starts, so that workers differ.
pub(crate) const MAX_BALANCER_OFFSET: usize = 1_024;

/// Connections of one worker to one endpoint: four workers exhaust the 28,000 ephemeral ports towards one address.
pub(crate) const MAX_CONNECTIONS_PER_ENDPOINT: usize = 7_000;

/// Idle HTTP/1.1 connections that one worker keeps to one endpoint: a burst above it opens connections anew.
pub(crate) const MAX_IDLE_PER_ENDPOINT: usize = 1_024;

/// Time between two looks for idle upstream connections.
pub(crate) const POOL_SWEEP_INTERVAL: Duration = Duration::from_millis(500);

/// An upstream connection is closed when it has been idle for as many sweeps: 4 s. That is below the shortest common
/// keep-alive, the 5 s of Node.js and Apache: whoever closes first is not surprised by a request.
pub(crate) const UPSTREAM_IDLE_SWEEPS: u32 = 8;

/// Bytes unacknowledged, or a silent idle connection, for this long end an upstream connection (the kernel's own limit
/// is a quarter of an hour).
pub(crate) const UPSTREAM_UNACKED_TIMEOUT: Duration = Duration::from_secs(30);

/// Concurrent streams of one upstream HTTP/2 connection: what RFC 9113 §6.5.2 asks every endpoint to allow.
pub(crate) const MAX_STREAMS_PER_UPSTREAM_CONNECTION: u32 = 100;

/// Bytes that one upstream HTTP/2 stream keeps back for its endpoint: its window, once more.
pub(crate) const UPSTREAM_SEND_BUFFER_BYTES: usize = 64 * 1024;

/// Time between two resolutions of a cluster's DNS name (Envoy's default).
pub(crate) const RESOLVE_INTERVAL: Duration = Duration::from_secs(5);

/// DNS look-ups under way at one time: each holds a thread.
pub(crate) const MAX_LOOKUPS: usize = 16;

/// Copies of requests that one worker has under way; further requests are not copied.
pub(crate) const MAX_MIRRORS_IN_FLIGHT: usize = 256;

/// Bytes of a body that wait for a mirror; a mirror that lags more loses its copy.
pub(crate) const MIRROR_BUFFER_BYTES: usize = 256 * 1024;

/// Bytes of a mirror's answer that are read so that its connection can serve again; a longer answer closes it.
pub(crate) const MIRROR_ANSWER_BYTES: usize = 1024 * 1024;

/// Time for a copy of a request and its answer.
pub(crate) const MIRROR_TIMEOUT: Duration = Duration::from_secs(15);

// Route and sanitize.

/// Longest `:authority` that is looked up by name, in bytes: DNS names have 253, a port six.
pub(crate) const MAX_HOST_BYTES: usize = 264;

/// Longest `x-request-id` that is taken over from the downstream, in bytes: a UUID has 36.
pub(crate) const MAX_REQUEST_ID_BYTES: usize = 128;

/// How often a retiring plugin is looked at: nobody waits for it.
pub(crate) const RETIRE_POLL: Duration = Duration::from_millis(100);

// Configuration.

/// How often a worker looks for what is overdue: timeouts are exact to this.
pub(crate) const DEADLINE_SWEEP: Duration = Duration::from_millis(50);

// Modules.

/// One module, in bytes: the host's own bound.
pub(crate) const MAX_MODULE_BYTES: usize = weir_host_abi::limits::MAX_MODULE_BYTES;

/// Modules compiled at the same time, each by a child process that fills a core.
pub(crate) const MAX_CONCURRENT_COMPILATIONS: usize = 2;

/// A file that changed less than this ago may change again without another time stamp, so it is read each time.
pub(crate) const FRESH_FILE: Duration = Duration::from_secs(1);

/// Plugins that start at the same time, each on a thread of its own for up to its start time.
pub(crate) const MAX_CONCURRENT_STARTS: usize = 4;

/// VMs that workers wait for, in requests: past it a worker asks again later.
pub(crate) const VM_REQUEST_QUEUE: usize = 256;

/// Time for the first DNS answer of a new cluster; after it the cluster serves as soon as there is one.
pub(crate) const FIRST_RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);

// The control plane.

/// Longest name of a proxy towards its control plane, in bytes: a pod's name and namespace fit.
pub(crate) const MAX_NODE_BYTES: usize = 512;

/// Time to open a connection to the control plane.
pub(crate) const CONTROL_PLANE_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A stream on which nothing comes is tried with a ping after this time, and given up after as long again: a control
/// plane whose machine is gone is noticed within a minute.
pub(crate) const CONTROL_PLANE_KEEPALIVE: Duration = Duration::from_secs(30);

/// A stream that lived this long was a good one: the next one is tried at once.
pub(crate) const CONTROL_PLANE_STEADY_TIME: Duration = Duration::from_secs(10);

/// Time to have a certificate signed: a connection and one call.
pub(crate) const CERTIFICATE_SIGN_TIMEOUT: Duration = Duration::from_secs(10);

/// First pause before a certificate that was not signed is asked for again.
pub(crate) const MIN_RENEWAL_PAUSE: Duration = Duration::from_millis(200);

/// Longest pause: half of a certificate's life is there to find the control plane again.
pub(crate) const MAX_RENEWAL_PAUSE: Duration = Duration::from_secs(30);

/// First pause before a lost stream is opened again: a control plane that restarts is back within a second.
pub(crate) const MIN_RECONNECT_PAUSE: Duration = Duration::from_millis(50);

/// Longest pause: thousands of proxies must not keep a control plane from coming up.
pub(crate) const MAX_RECONNECT_PAUSE: Duration = Duration::from_secs(15);

/// Requests on their way to the control plane: one for each kind and its answer, several times over.
pub(crate) const XDS_REQUEST_QUEUE: usize = 64;

/// A resource that was asked for by name and does not come in this time is not there (the xDS protocol's own number).
pub(crate) const MISSING_RESOURCE_TIMEOUT: Duration = Duration::from_secs(15);

/// What a control plane sent and did not work (a module that cannot be had, an address in use) is tried again after this
/// time: it may have become possible, and each try costs a start of a filter.
pub(crate) const REFUSED_RETRY_INTERVAL: Duration = Duration::from_secs(60);

/// Messages about what became of changes: each change takes longer than reading its message.
pub(crate) const OUTCOME_QUEUE: usize = 16;

/// Time for the download of a module.
pub(crate) const MODULE_FETCH_TIMEOUT: Duration = Duration::from_secs(30);

/// Pause between two tries to fetch a module.
pub(crate) const MODULE_FETCH_PAUSE: Duration = Duration::from_millis(500);

/// How long a module is tried to be fetched before the change that needs it is refused.
pub(crate) const MODULE_FETCH_PATIENCE: Duration = Duration::from_secs(30);

/// A fetched module that nothing uses is kept for this long: a rollback needs it no second time.
pub(crate) const UNUSED_MODULE_AGE: Duration = Duration::from_secs(7 * 24 * 3_600);

// Listeners.

/// Connections that wait to be accepted, per socket: Linux's own bound (`somaxconn`).
pub(crate) const LISTEN_BACKLOG: i32 = 4_096;

/// Pause after a failed accept: descriptors come back when connections end, and trying in a loop takes the core.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Refusals of one change that are logged, in lines; all of them are on `/config_dump`.
pub(crate) const MAX_LOGGED_REFUSALS: usize = 100;

// Admin.

/// Connections to the admin pages: people, a probe and a scraper.
pub(crate) const MAX_ADMIN_CONNECTIONS: usize = 64;

/// A request's head must be whole in this time on the admin pages, so that nobody holds a place for nothing.
pub(crate) const ADMIN_HEAD_TIMEOUT: Duration = Duration::from_secs(10);

// Process.

/// Threads for what blocks on the main runtime: reading files, DNS, starting plugins.
pub(crate) const MAX_BLOCKING_THREADS: usize = 24;

/// A thread for what blocks ends when it had nothing to do for this long: idle ones cost memory.
pub(crate) const BLOCKING_THREAD_IDLE: Duration = Duration::from_secs(5);

/// Workers: more threads than the largest machines have cores help nobody.
pub(crate) const MAX_WORKERS: usize = 256;

/// Connections may take this long to end when the process does: below the 30 s after which Kubernetes kills.
pub(crate) const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(25);

/// Workers get this long beyond the drain's deadline to end themselves.
pub(crate) const WORKER_END_TIMEOUT: Duration = Duration::from_secs(2);
