//! Every bound of this crate, and [`Limits`]: the bounds a plugin may be given other values for.

use std::time::Duration;

/// Bytes of a `.wasm` file; real filters with a runtime inside reach 20 MiB, and compiling costs time for each byte.
pub const MAX_MODULE_BYTES: usize = 64 << 20;

/// Bytes of a compiled artefact; Cranelift's output is three to five times the module.
pub const MAX_ARTEFACT_BYTES: u64 = 512 << 20;

/// Artefacts kept in a cache folder; a proxy uses some tens, and old versions are dropped from the oldest on.
pub const MAX_CACHED_ARTEFACTS: usize = 256;

/// Age after which a temporary file in a cache folder is left over from a process that died: writing one takes seconds.
pub const STALE_TEMPORARY: Duration = Duration::from_secs(600);

/// What a log message counts for at least, in bytes: its line has a time and names beside it, and messages worth reading
/// are longer.
pub const LOG_LINE_BYTES: usize = 32;

/// Log text of a guest that does not start, in bytes, kept for the refusal.
pub const MAX_START_LOG_BYTES: usize = 2_048;

/// Imports a module may declare; the contract has about 90, and duplicates are legal.
pub const MAX_IMPORTS: usize = 1024;

/// Bytes of one header list from a guest, as in Envoy.
pub const MAX_PAIRS_BYTES: usize = 1 << 20;

/// Entries of one header list from a guest, as in Envoy.
pub const MAX_PAIRS: u32 = 1024;

/// Bytes of a VM's linear memory, unless its plugin says otherwise; filters with a garbage collector need some 10 MiB.
pub const DEFAULT_MEMORY: usize = 16 << 20;

/// Elements of all tables of a VM together; one element is one function pointer, and large Go modules have 10,000.
pub const DEFAULT_TABLE_ELEMENTS: usize = 20_000;

/// Tables of one VM; compilers emit one, the rest is slack.
pub const MAX_TABLES: usize = 8;

/// CPU time of one callback, unless its plugin says otherwise; an ordinary one takes a microsecond.
pub const DEFAULT_CALL_TIME: Duration = Duration::from_millis(10);

/// CPU time of starting and configuring a VM, unless its plugin says otherwise; parsing a large rule set takes 100 ms.
pub const DEFAULT_START_TIME: Duration = Duration::from_secs(1);

/// How many times its CPU time a call may take by the wall clock; covers a busy machine, bounds a slow host.
pub const WALL_TIME_FACTOR: u32 = 5;

/// Bytes of log messages a VM may write in a second, unless its plugin says otherwise; 64 KiB is some 500 lines.
pub const DEFAULT_LOG_BYTES_PER_SECOND: usize = 64 << 10;

/// Stack of the guest in bytes, taken from the thread that runs it (2 MiB by default).
pub const GUEST_STACK: usize = 512 << 10;

/// Period of the epoch ticker while guests run: the grain of all time limits. Each tick wakes a thread, which costs a
/// busy virtual machine some 20 us: at 1 ms that was more than all calls into a small filter together.
pub const TICK: Duration = Duration::from_millis(5);

/// Period of the epoch ticker while no guest runs; bounds how late a guest is interrupted after a host call that long.
pub const IDLE_TICK: Duration = Duration::from_millis(20);

/// Ticks without a guest call after which the ticker slows down.
pub const TICKS_UNTIL_IDLE: u32 = 10;

/// Ticks a guest may run between two looks at the clock; below [`TICKS_UNTIL_IDLE`], so that the ticker stays awake for
/// it.
pub const MAX_TICKS_BETWEEN_CHECKS: u64 = 5;

/// Address space reserved for a linear memory: the whole 32-bit range, so that compiled code needs no bounds checks.
/// Only touched pages cost memory.
pub const MEMORY_RESERVATION: u64 = 4 << 30;

/// Address space after a linear memory that must trap, in bytes; lets constant offsets go unchecked too.
pub const MEMORY_GUARD: u64 = 32 << 20;

/// VMs that may live at once when every stream has its own; Linux's limit of 65,530 mappings stops at 16,000.
pub const DEFAULT_STREAM_VMS: u32 = 1024;

/// Bytes of one VM's own structures in the pooling allocator: globals and function references of large modules.
pub const POOLED_VM_BYTES: usize = 1 << 20;

/// Guest frames kept in a backtrace; deeper ones rarely say more.
pub const MAX_BACKTRACE_FRAMES: usize = 32;

/// Bytes of one function name in a backtrace; the name comes from the module and goes to a log.
pub const MAX_FUNCTION_NAME: usize = 256;

/// Bytes kept of a failure's text that came from a guest.
pub const MAX_GUEST_MESSAGE: usize = 1024;

/// Capacity in bytes that a VM's scratch buffers keep between calls; larger ones are given back.
pub const SCRATCH_KEEP: usize = 64 << 10;

/// Buffers of one WASI write; toolchains use one or two.
pub const MAX_IO_VECTORS: u32 = 64;

/// Bytes of one `random_get`, as in Envoy.
pub const MAX_RANDOM_BYTES: u32 = 64 << 10;

/// Bytes of one key of shared data or name of a queue, metric or foreign function.
pub const MAX_NAME: usize = 4 << 10;

/// Bytes that a function of the host takes to compress, and gives after it has uncompressed.
pub const MAX_FOREIGN_BYTES: usize = 1 << 20;

/// Expressions that one VM keeps; each is some 10 KiB.
pub const MAX_EXPRESSIONS: usize = 256;

/// The text of an expression. Reading one of this length takes some milliseconds.
pub const MAX_EXPRESSION_BYTES: usize = 2 << 10;

/// How deep the parts of an expression nest: reading and evaluating it take some stack for each.
pub const MAX_EXPRESSION_DEPTH: u16 = 48;

/// Parts of an expression: evaluating it cannot be interrupted.
pub const MAX_EXPRESSION_NODES: usize = 512;

/// Sums in an expression: each may copy all that was added before.
pub const MAX_EXPRESSION_SUMS: usize = 16;

/// Patterns in an expression.
pub const MAX_EXPRESSION_PATTERNS: usize = 4;

/// Bytes of values that an expression with a pattern is evaluated about, each as often as it is named: matching takes the
/// pattern's size times the value's.
pub const MAX_MATCHED_BYTES: usize = 8 << 10;

/// Names in the path of a property that an expression asks for.
pub const MAX_PATH_SEGMENTS: usize = 8;

/// The text of a pattern in an expression.
pub const MAX_PATTERN_BYTES: usize = 256;

/// A compiled pattern in bytes: it is compiled at each evaluation.
pub const MAX_PATTERN_SIZE: usize = 10 << 10;

/// Properties that one VM declares.
pub const MAX_DECLARED: usize = 256;

/// Bytes of one shared value or queue entry.
pub const MAX_SHARED_VALUE: usize = 1 << 20;

/// Locks that shared data of one VM id is spread over; a few times the workers of a large machine.
pub const SHARED_SHARDS: usize = 16;

/// Bytes of keys and values in one shard of shared data; beyond it the values written longest ago are dropped.
pub const SHARED_SHARD_BYTES: usize = 4 << 20;

/// Bytes that one entry of shared data or a queue costs beside its text: maps, counters, allocation headers.
pub const SHARED_ENTRY_OVERHEAD: usize = 128;

/// Queues of one VM id; they live as long as it does.
pub const MAX_QUEUES: usize = 1024;

/// Bytes waiting in one queue; beyond it the oldest entries are dropped.
pub const MAX_QUEUE_BYTES: usize = 8 << 20;

/// Bytes waiting in all queues of one VM id together; beyond it the oldest entries of the one that is written to are
/// dropped.
pub const MAX_QUEUES_BYTES: usize = 64 << 20;

/// Metrics of one VM id; beyond it further ones are counted together under one name.
pub const MAX_METRICS: usize = 10_000;

/// Buckets of a histogram: one for each power of two of a 64-bit value, and one for zero.
pub const HISTOGRAM_BUCKETS: usize = 65;

/// What a VM may use. Made by the plugin's owner, read by the VM at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory in bytes. Growth beyond it is refused.
    pub memory: usize,
    /// Elements of all tables together. Growth beyond it is refused.
    pub table_elements: usize,
    /// CPU time of one callback, without the time the thread waits for a core. Beyond it, or beyond
    /// [`WALL_TIME_FACTOR`] times it by the wall clock, the VM is stopped. The grain is [`TICK`].
    pub call_time: Duration,
    /// CPU time from instantiation to the end of `proxy_on_configure`, bounded like `call_time`.
    pub start_time: Duration,
    /// Bytes of log messages in a second; what is beyond it is dropped and counted.
    pub log_bytes_per_second: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: DEFAULT_MEMORY,
            table_elements: DEFAULT_TABLE_ELEMENTS,
            call_time: DEFAULT_CALL_TIME,
            start_time: DEFAULT_START_TIME,
            log_bytes_per_second: DEFAULT_LOG_BYTES_PER_SECOND,
        }
    }
}
