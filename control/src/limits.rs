//! Every bound of the control plane, in one place: the number, its unit, and why it is that number.

use std::time::Duration;

use weir_model::ByteSize;

// Proxies.

/// Bytes of one module: as large as a proxy takes one.
pub const MAX_MODULE_BYTES: usize = weir_host_abi::limits::MAX_MODULE_BYTES;

/// Responses on their way to one proxy: one is in flight for each kind, so more than a few never wait.
pub const RESPONSE_QUEUE: usize = 8;

/// A stream on which nothing comes is tried with a ping after this time, and ended after as long again.
pub const PROXY_KEEPALIVE: Duration = Duration::from_secs(30);

/// Characters of a proxy's refusal that are logged and shown.
pub const MAX_SHOWN_REFUSAL: usize = 1_000;

/// Refusals of one proxy that are shown: the newest of each resource.
pub const MAX_SHOWN_REFUSALS: usize = 100;

/// Envoys that are named where an object says what they cannot do.
pub const MAX_NOTES: usize = 10;

/// Generations that a proxy has answered and not reported on: what it serves is known as far back as that.
pub const MAX_UNREPORTED: usize = 64;

/// Streams of proxies at the same time: what the budget of memory for each is measured with, twenty times over.
pub const MAX_STREAMS: usize = 20_000;

/// Scopes whose offers are kept; more Gateways than that are computed again at each change.
pub const MAX_SCOPES: usize = 1_000;

/// Handshakes under way at the same time; more wait in the system's queue.
pub const MAX_HANDSHAKES: usize = 256;

/// A handshake that is not done after this time is given up.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections by TLS whose peers have shown no certificate: each asks for one, and goes.
pub const MAX_STRANGERS: usize = 256;

/// How long such a connection lasts.
pub const STRANGER_TIMEOUT: Duration = Duration::from_secs(20);

/// Pause after a connection that could not be accepted: no file descriptor is free any sooner.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

// Identities.

/// How long a certificate lives when nothing is said: half of it is how long the control plane may be away.
pub const DEFAULT_CERTIFICATE_LIFETIME: Duration = Duration::from_secs(24 * 3_600);

/// The shortest life of a certificate: below that nobody can renew in time.
pub const MIN_CERTIFICATE_LIFETIME: Duration = Duration::from_secs(4);

/// The longest life of a certificate: it cannot be taken back.
pub const MAX_CERTIFICATE_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3_600);

/// How far the clocks of a mesh may be apart.
pub const CLOCK_SKEW: Duration = Duration::from_secs(30);

/// How long a root lives when nobody rotates it.
pub const ROOT_LIFETIME: Duration = Duration::from_secs(3_650 * 24 * 3_600);

// Bundles.

/// Bundles that are kept: ten versions of a hundred filters.
pub const MAX_BUNDLES: usize = 1_000;

/// Bytes of all of them.
pub const MAX_BUNDLES_BYTES: usize = 4 * 1024 * 1024 * 1024;

/// Memory of a filter that is tried; one that may have more is tried by proxies alone.
pub const MAX_TRIAL_MEMORY: ByteSize = ByteSize(256 * 1024 * 1024);

/// CPU time of a filter's start that is tried; as for its memory.
pub const MAX_TRIAL_TIME: Duration = Duration::from_secs(5);

/// Bytes that a filter that is tried may put into queues; what is more is dropped.
pub const MAX_TRIAL_QUEUE_BYTES: usize = 16 * 1024 * 1024;

/// All filters of one change are tried within this time: others wait for the writer.
pub const MAX_TRIALS_TIME: Duration = Duration::from_secs(30);

/// Filters of one change that do not start and are told; more say nothing new.
pub const MAX_FAILED_TRIALS: usize = 16;

// Workloads that register themselves.

/// Workloads at the same time.
pub const MAX_WORKLOADS: usize = 10_000;

/// Workloads of one namespace: none takes the places of all others.
pub const MAX_NAMESPACE_WORKLOADS: usize = 2_000;

/// Versions of one Service that workloads say: each is a cluster for each port.
pub const MAX_SERVICE_VERSIONS: usize = 16;

/// Requests of workloads that are handled at the same time; more are told to come again.
pub const MAX_REGISTRATIONS: usize = 64;

/// Pause between two times that workloads are told: what changes meanwhile is told together.
pub const WORKLOADS_PAUSE: Duration = Duration::from_millis(50);

/// The shortest lease: below that a short pause of a machine loses its workloads.
pub const MIN_LEASE: Duration = Duration::from_secs(2);

/// The longest lease: who is gone is told for that long.
pub const MAX_LEASE: Duration = Duration::from_secs(3_600);

/// How often those whose lease is over are looked for.
pub const EXPIRY_INTERVAL: Duration = Duration::from_millis(250);

// The API.

/// Bytes of one request: as large as one resource file may be.
pub const MAX_REQUEST_BYTES: usize = 16 * 1024 * 1024;

/// A request's body that is not there after this time is given up: a module of 64 MiB at 1 MiB/s.
pub const REQUEST_BODY_TIMEOUT: Duration = Duration::from_secs(64);

/// Requests that wait for the one writer; more are told to come again.
pub const MAX_WAITING_WRITERS: usize = 64;

/// Bundles that are pushed at the same time: each may be as large as a module, and is compiled.
pub const MAX_PUSHES: usize = 4;

/// Characters of the message of a revision.
pub const MAX_MESSAGE_CHARACTERS: usize = 1_000;

/// Objects of one deletion.
pub const MAX_DELETIONS: usize = 10_000;

/// Revisions on one page.
pub const MAX_PAGE: usize = 200;

/// Lines of a diff that are shown for one resource.
pub const MAX_DIFF_LINES: usize = 400;

/// Followers of the change feed at the same time.
pub const MAX_WATCHERS: usize = 1_000;

/// How often the change feed says that it is still there.
pub const WATCH_KEEPALIVE: Duration = Duration::from_secs(15);

/// Connections to the API by TLS at the same time.
pub const MAX_API_CONNECTIONS: usize = 1_024;

/// A connection to the API by TLS on which nothing comes or goes for this time is ended: longer than any answer takes.
pub const API_IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// Tokens: people and pipelines, not requests.
pub const MAX_TOKENS: usize = 10_000;

/// Characters of a token's name.
pub const MAX_TOKEN_NAME: usize = 100;

/// Characters of a request's method and path in the audit log.
pub const MAX_AUDITED_PATH: usize = 300;

/// Pause between two events of one follower of the change feed: what happens meanwhile is one event.
pub const WATCH_PAUSE: Duration = Duration::from_millis(100);

/// Bytes of what a proxy calls itself, and of its Gateway's name.
pub const MAX_NODE_BYTES: usize = 512;

/// Bytes of the audit log before it is put aside as `audit.log.1`.
pub const MAX_AUDIT_BYTES: u64 = 64 * 1024 * 1024;

// The store.

/// Bytes of one value: etcd refuses requests above 1.5 MiB.
pub const RECORD_PART_BYTES: usize = 512 * 1024;

/// Revisions after which the whole state is written once more, so that a start replays no more than that.
pub const CHECKPOINT_INTERVAL: u64 = 64;

/// Revisions that are kept: one can go back that far.
pub const MAX_REVISIONS: u64 = 1_000;

/// Changes of other control planes that one change gives way to.
pub const MAX_CONFLICTS: usize = 20;

/// What every key in an etcd begins with when nothing is said.
pub const DEFAULT_ETCD_PREFIX: &str = "weir";

/// A member of an etcd that does not answer within this time is left for another: five elections.
pub const ETCD_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection to an etcd on which nothing comes is tried with a ping after this time, and ended after as long again: half
/// as often as an etcd allows.
pub const ETCD_KEEPALIVE: Duration = Duration::from_secs(10);

/// Pause before another member of an etcd is asked to say what changes; it doubles, up to the longest.
pub const MIN_ETCD_WATCH_PAUSE: Duration = Duration::from_millis(200);

/// The longest such pause. A watch that has lasted longer was a good one.
pub const MAX_ETCD_WATCH_PAUSE: Duration = Duration::from_secs(5);

/// Pause between two looks at a shared store: what is written meanwhile is one look.
pub const FOLLOW_PAUSE: Duration = Duration::from_millis(20);

/// How often a shared store is read when nothing is said of it: a watch may be silent and broken.
pub const FOLLOW_INTERVAL: Duration = Duration::from_secs(5);

/// Entries that are asked of an etcd at a time.
pub const ETCD_PAGE: usize = 200;

/// Bytes of an answer of an etcd: a page of entries.
pub const MAX_ETCD_ANSWER: usize = 128 * 1024 * 1024;

/// Operations of one transaction: an etcd takes 128.
pub const MAX_ETCD_OPERATIONS: usize = 100;
