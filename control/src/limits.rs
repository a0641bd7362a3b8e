//! Every limit of the control plane: the number, its unit, and the reason for it.

use std::time::Duration;

use weir_model::ByteSize;

// Proxies.

/// The size of a module in bytes. The same as the proxy's limit.
pub const MAX_MODULE_BYTES: usize = weir_host_abi::limits::MAX_MODULE_BYTES;

/// Responses queued for one proxy. At most one per resource type is in flight, so more than a few never wait.
pub const RESPONSE_QUEUE: usize = 8;

/// The idle time of a stream before an HTTP/2 ping, and the time that the ping may take before the stream is closed.
pub const PROXY_KEEPALIVE: Duration = Duration::from_secs(30);

/// Characters of a rejection that are logged and shown.
pub const MAX_SHOWN_REJECTION_CHARACTERS: usize = 1_000;

/// Rejected resources of one proxy that are stored, each with its last reason.
pub const MAX_SHOWN_REJECTIONS: usize = 100;

/// Warnings about Envoys in the status of one object, and as many about matches that another route overrides.
pub const MAX_WARNINGS: usize = 10;

/// Generations that a proxy has acknowledged and not reported on. Older ones are dropped without a serving status.
pub const MAX_PENDING_REPORTS: usize = 64;

/// Concurrent ADS streams. Twenty times the number that the memory budget per stream is measured with.
pub const MAX_STREAMS: usize = 20_000;

/// Scopes whose encoded resources are cached. With more Gateways, some are encoded again at each change.
pub const MAX_SCOPES: usize = 1_000;

/// Concurrent TLS handshakes of the xDS listener. More wait in the kernel's accept queue.
pub const MAX_HANDSHAKES: usize = 256;

/// The duration of a TLS handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Concurrent TLS connections without a client certificate. Each requests a certificate and closes.
pub const MAX_UNAUTHENTICATED: usize = 256;

/// The duration of such a connection.
pub const UNAUTHENTICATED_TIMEOUT: Duration = Duration::from_secs(20);

/// The pause after `accept` failed, usually because no file descriptor is free.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The time for the first bytes of an xDS connection: its HTTP/2 preface. Pings follow it.
pub const XDS_PREFACE_TIMEOUT: Duration = Duration::from_secs(10);

/// The interval of log lines about connections that a listener has closed. One line has their number.
pub const CLOSURE_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// File descriptors that a start warns below: fewer leave a listener less than 32 connections.
pub const MIN_FILE_DESCRIPTORS: usize = 256;

/// Concurrent connections to the plaintext listener of modules. A proxy opens one for a new module.
pub const MAX_MODULE_CONNECTIONS: usize = 1_024;

// The CA.

/// The default validity of a certificate. Half of it is the longest outage of the control plane that the mesh
/// survives.
pub const DEFAULT_CERTIFICATE_LIFETIME: Duration = Duration::from_secs(24 * 3_600);

/// The shortest validity of a certificate. With less, workloads cannot renew in time.
pub const MIN_CERTIFICATE_LIFETIME: Duration = Duration::from_secs(4);

/// The longest validity of a certificate, because certificates cannot be revoked.
pub const MAX_CERTIFICATE_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3_600);

/// The default of the largest difference between the clocks of a mesh: certificates are valid that much earlier than
/// they are signed. At most half of the certificate lifetime.
pub const DEFAULT_CLOCK_SKEW: Duration = Duration::from_secs(30);

/// The largest configurable difference between the clocks of a mesh. Larger ones are a fault of a machine. Roots are
/// valid that much earlier.
pub const MAX_CLOCK_SKEW: Duration = Duration::from_secs(600);

/// The time before the end of a certificate of an external CA at which warnings about it begin.
pub const EXTERNAL_CA_WARNING: Duration = Duration::from_secs(30 * 24 * 3_600);

/// The shortest lifetime of a root, in certificate lifetimes: a rotation takes two, and begins three before the end.
pub const MIN_ROOT_LIFETIME_FACTOR: u32 = 6;

/// The interval of checks whether a root must be renewed.
pub const ROOT_CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// The default validity of a root. It is renewed before its end.
pub const ROOT_LIFETIME: Duration = Duration::from_secs(3_650 * 24 * 3_600);

// Bundles.

/// Stored bundles: ten versions of a hundred filters.
pub const MAX_BUNDLES: usize = 1_000;

/// Bytes of all stored bundles.
pub const MAX_BUNDLES_BYTES: usize = 4 * 1024 * 1024 * 1024;

/// The memory limit of filters that are validated here. A filter with a higher limit is validated by proxies only.
pub const MAX_VALIDATION_MEMORY: ByteSize = ByteSize(256 * 1024 * 1024);

/// The start time limit of filters that are validated here. A filter with a higher limit is validated by proxies only.
pub const MAX_VALIDATION_TIME: Duration = Duration::from_secs(5);

/// Bytes of queued messages of a filter during validation. More are dropped.
pub const MAX_VALIDATION_QUEUE_BYTES: usize = 16 * 1024 * 1024;

/// The time for validating all filters of one change, because other changes wait for it.
pub const VALIDATION_BUDGET: Duration = Duration::from_secs(30);

/// Rejected filters of one change that are reported. Validation stops after these.
pub const MAX_VALIDATION_FAILURES: usize = 16;

// Registered workloads.

/// Registered workloads of all namespaces.
pub const MAX_WORKLOADS: usize = 10_000;

/// Registered workloads of one namespace, so that one namespace cannot use up `MAX_WORKLOADS`.
pub const MAX_NAMESPACE_WORKLOADS: usize = 2_000;

/// Versions of one Service among its workloads. Each is a cluster for each port.
pub const MAX_SERVICE_VERSIONS: usize = 16;

/// Concurrent registration requests. More are rejected as busy.
pub const MAX_REGISTRATIONS: usize = 64;

/// The pause between two publications of registered endpoints. Changes in between are published together.
pub const ENDPOINT_DEBOUNCE: Duration = Duration::from_millis(50);

/// The shortest lease. With less, a short pause of a machine removes its workloads.
pub const MIN_LEASE: Duration = Duration::from_secs(2);

/// The longest lease. A workload that has stopped stays an endpoint for that long.
pub const MAX_LEASE: Duration = Duration::from_secs(3_600);

/// The interval between two searches for expired leases.
pub const EXPIRY_INTERVAL: Duration = Duration::from_millis(250);

/// The time from a renewal at one replica until another one has read it from the store, beyond the half of a lease that
/// a renewal is not written for.
pub const RENEWAL_WRITE_TIME: Duration = Duration::from_secs(1);

/// The time since the last read of a shared store, after which leases of workloads begin again with the next read: three
/// of its intervals.
pub const MAX_STORE_SILENCE: Duration = Duration::from_secs(15);

/// The shortest jump of the wall clock that is logged. NTP corrects less by a change of speed.
pub const MIN_CLOCK_JUMP: Duration = Duration::from_secs(3);

// The API.

/// Bytes of one request. The same as for a resource file.
pub const MAX_REQUEST_BYTES: usize = 16 * 1024 * 1024;

/// The time for receiving the body of a request: a module of 64 MiB at 1 MiB/s.
pub const REQUEST_BODY_TIMEOUT: Duration = Duration::from_secs(64);

/// Changes that wait for the writer. More are rejected as busy.
pub const MAX_WAITING_WRITERS: usize = 64;

/// Concurrent pushes of bundles. Each may be as large as a module, and is compiled.
pub const MAX_PUSHES: usize = 4;

/// Concurrent backups over the API. Each reads all of the store.
pub const MAX_BACKUPS: usize = 1;

/// Bytes of one chunk of a backup.
pub const BACKUP_CHUNK_BYTES: usize = 64 * 1024;

/// Chunks of a backup that wait for the client.
pub const BACKUP_QUEUE: usize = 4;

/// Characters of the message of a revision.
pub const MAX_MESSAGE_CHARACTERS: usize = 1_000;

/// Objects in one delete request.
pub const MAX_DELETIONS: usize = 10_000;

/// Revisions on one page.
pub const MAX_PAGE: usize = 200;

/// Lines of a diff of one object.
pub const MAX_DIFF_LINES: usize = 400;

/// Concurrent followers of the change feed.
pub const MAX_WATCHERS: usize = 1_000;

/// The interval of keepalive comments in the change feed.
pub const WATCH_KEEPALIVE: Duration = Duration::from_secs(15);

/// Bytes of the text of an error response that becomes the detail of a problem.
pub const MAX_ERROR_TEXT_BYTES: usize = 16 * 1024;

/// Concurrent connections to the API. Fewer if they were more than a quarter of the file descriptors.
pub const MAX_API_CONNECTIONS: usize = 1_024;

/// Concurrent connections of one remote address to the API: a machine with many pipelines.
pub const MAX_API_CONNECTIONS_PER_CLIENT: usize = 128;

/// The time for the head of a request, and the idle time of an HTTP/1 connection. A head is sent at once.
pub const API_HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// The time without a byte in either direction, after which a connection is closed. Longer than any response takes.
pub const API_IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// Tokens, of operators and pipelines.
pub const MAX_TOKENS: usize = 10_000;

/// Characters of a token's name.
pub const MAX_TOKEN_NAME: usize = 100;

/// Characters of a request's method and path in the audit log.
pub const MAX_AUDITED_PATH: usize = 300;

/// The pause between two events of one follower of the change feed. Changes in between are one event.
pub const EVENT_DEBOUNCE: Duration = Duration::from_millis(100);

/// Bytes of each text in an xDS `Node`: id, cluster and user agent.
pub const MAX_NODE_BYTES: usize = 512;

/// Bytes of the audit log before it is renamed to `audit.log.1`.
pub const MAX_AUDIT_BYTES: u64 = 64 * 1024 * 1024;

// The store.

/// Bytes of one value. etcd rejects requests above 1.5 MiB by default.
pub const RECORD_PART_BYTES: usize = 512 * 1024;

/// Revisions between two checkpoints of the whole state. A start replays at most that many.
pub const CHECKPOINT_INTERVAL: u64 = 64;

/// Stored revisions. A rollback can go back that far.
pub const MAX_REVISIONS: u64 = 1_000;

/// Retries of a change that lost against other replicas.
pub const MAX_CONFLICTS: usize = 20;

/// The default prefix of every key in etcd.
pub const DEFAULT_ETCD_PREFIX: &str = "weir";

/// The time for a response of an etcd member, before the next member is called: five election timeouts.
pub const ETCD_TIMEOUT: Duration = Duration::from_secs(5);

/// The idle time of a connection to etcd before an HTTP/2 ping, and the time that the ping may take. Twice the
/// interval that etcd allows.
pub const ETCD_KEEPALIVE: Duration = Duration::from_secs(10);

/// The first pause before a watch is opened on another etcd member. It doubles up to [`MAX_ETCD_WATCH_PAUSE`].
pub const MIN_ETCD_WATCH_PAUSE: Duration = Duration::from_millis(200);

/// The longest such pause. It starts over after a watch that lasted longer.
pub const MAX_ETCD_WATCH_PAUSE: Duration = Duration::from_secs(5);

/// Listeners or clusters that one change may take away in any case. Above, a change that takes away more than half needs
/// to say that it means it.
pub const MIN_SHRINK: usize = 10;

/// The time after which files that take away most of the mesh are read again and published: a mount takes less.
pub const SHRINK_DELAY: Duration = Duration::from_secs(30);

/// The pause between two reads of a shared store. Changes in between are read together.
pub const STORE_WATCH_DEBOUNCE: Duration = Duration::from_millis(20);

/// The interval of reads of a shared store without a watch event, because a broken watch may be silent.
pub const STORE_POLL_INTERVAL: Duration = Duration::from_secs(5);

/// Entries in one range request to etcd.
pub const ETCD_PAGE: usize = 200;

/// Bytes of a response of etcd: a page of entries.
pub const MAX_ETCD_ANSWER: usize = 128 * 1024 * 1024;

/// Operations in one transaction. etcd allows 128 by default.
pub const MAX_ETCD_OPERATIONS: usize = 100;
