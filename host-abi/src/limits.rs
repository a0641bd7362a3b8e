//! Every bound of this crate, and [`Limits`]: the bounds that are configurable per plugin.

use std::time::Duration;

/// Size of a `.wasm` file in bytes. Real filters with a language runtime reach 20 MiB, and compile time grows with the
/// size.
pub const MAX_MODULE_BYTES: usize = 64 << 20;

/// Size of a compiled artifact in bytes. Cranelift's output is three to five times the size of the module.
pub const MAX_ARTIFACT_BYTES: u64 = 512 << 20;

/// Artifacts in a cache folder. A proxy uses some tens; the oldest are removed first.
pub const MAX_CACHED_ARTIFACTS: usize = 256;

/// Age after which a temporary file in a cache folder counts as left over from a dead process. Writing a file takes
/// seconds.
pub const STALE_TEMPORARY: Duration = Duration::from_secs(600);

/// Minimum cost of a log message in bytes. Its line also has a time and names, and useful messages are longer.
pub const LOG_LINE_BYTES: usize = 32;

/// Log text of a guest that fails to start, in bytes. It is included in the failure's reason.
pub const MAX_START_LOG_BYTES: usize = 2_048;

/// Imports of a module. The ABI has about 90, and duplicates are legal.
pub const MAX_IMPORTS: usize = 1024;

/// Size of one header list from a guest in bytes, as in Envoy.
pub const MAX_PAIRS_BYTES: usize = 1 << 20;

/// Entries of one header list from a guest, as in Envoy.
pub const MAX_PAIRS: u32 = 1024;

/// Default limit of a VM's linear memory in bytes. Filters with a garbage collector need some 10 MiB.
pub const DEFAULT_MEMORY: usize = 16 << 20;

/// Default limit of the table elements of a VM, over all tables. One element is one function pointer, of 8 bytes; large
/// Go modules have 20,000.
pub const DEFAULT_TABLE_ELEMENTS: usize = 100_000;

/// Tables of one VM. Compilers emit one; the rest is slack.
pub const MAX_TABLES: usize = 8;

/// Default CPU time of one callback. A typical callback takes a microsecond.
pub const DEFAULT_CALL_TIME: Duration = Duration::from_millis(10);

/// Default CPU time of the start and configuration of a VM. Parsing a large rule set takes 100 ms.
pub const DEFAULT_START_TIME: Duration = Duration::from_secs(1);

/// Wall-clock limit of a call, as a multiple of its CPU limit. It tolerates a busy machine and bounds a slow host.
pub const WALL_TIME_FACTOR: u32 = 5;

/// Default limit of log bytes per second. 64 KiB is some 500 lines.
pub const DEFAULT_LOG_BYTES_PER_SECOND: usize = 64 << 10;

/// Stack of the guest in bytes. It is part of the stack of the thread that runs the guest (2 MiB by default).
pub const GUEST_STACK: usize = 512 << 10;

/// Period of the epoch ticker while guests run, which is the resolution of all time limits. Each tick wakes a thread,
/// which costs a busy virtual machine some 20 us. At 1 ms the ticks cost more than all calls into a small filter
/// together.
pub const TICK: Duration = Duration::from_millis(5);

/// Period of the epoch ticker while no guest runs. It bounds the delay of the first interrupt after a host call that
/// took as long.
pub const IDLE_TICK: Duration = Duration::from_millis(20);

/// Ticks without a guest call after which the ticker uses [`IDLE_TICK`].
pub const TICKS_UNTIL_IDLE: u32 = 10;

/// Ticks between two checks of a guest's deadline. It is below [`TICKS_UNTIL_IDLE`], so a running guest keeps the
/// ticker active.
pub const MAX_TICKS_BETWEEN_CHECKS: u64 = 5;

/// Address space reserved for a linear memory in bytes. It covers the whole 32-bit range, so compiled code needs no
/// bounds checks. Only touched pages cost memory.
pub const MEMORY_RESERVATION: u64 = 4 << 30;

/// Trapping address space after a linear memory in bytes. It makes bounds checks of constant offsets unnecessary, too.
pub const MEMORY_GUARD: u64 = 32 << 20;

/// Guest frames in a backtrace. Deeper frames rarely help.
pub const MAX_BACKTRACE_FRAMES: usize = 32;

/// Length of one function name in a backtrace in bytes. The name comes from the module and is logged.
pub const MAX_FUNCTION_NAME: usize = 256;

/// Length of the part of a failure message that comes from a guest, in bytes.
pub const MAX_GUEST_MESSAGE: usize = 1024;

/// Capacity in bytes that a VM's scratch buffers retain between calls; the excess is freed.
pub const SCRATCH_KEEP: usize = 64 << 10;

/// Buffers of one WASI write. Toolchains use one or two.
pub const MAX_IO_VECTORS: u32 = 64;

/// Size of one `random_get` in bytes, as in Envoy.
pub const MAX_RANDOM_BYTES: u32 = 64 << 10;

/// Length of a shared-data key, or of a queue, metric or foreign function name, in bytes.
pub const MAX_NAME: usize = 4 << 10;

/// Input of `compress` and output of `uncompress` in bytes.
pub const MAX_FOREIGN_BYTES: usize = 1 << 20;

/// Expressions of one VM. Each takes some 10 KiB.
pub const MAX_EXPRESSIONS: usize = 256;

/// Length of an expression in bytes. Parsing one of this length takes some milliseconds.
pub const MAX_EXPRESSION_BYTES: usize = 2 << 10;

/// Nesting depth of an expression. Parsing and evaluation use some stack for each level.
pub const MAX_EXPRESSION_DEPTH: u16 = 48;

/// Nodes of an expression. Its evaluation cannot be interrupted.
pub const MAX_EXPRESSION_NODES: usize = 512;

/// Additions in an expression. Each may copy the result of the previous ones.
pub const MAX_EXPRESSION_SUMS: usize = 16;

/// Calls of `matches` in an expression.
pub const MAX_EXPRESSION_PATTERNS: usize = 4;

/// Total size of the values of an expression with a pattern in bytes. A value counts once per use: matching takes the
/// pattern's size times the value's.
pub const MAX_MATCHED_BYTES: usize = 8 << 10;

/// Segments of a property path in an expression.
pub const MAX_PATH_SEGMENTS: usize = 8;

/// Length of a pattern in an expression in bytes.
pub const MAX_PATTERN_BYTES: usize = 256;

/// Size of a compiled pattern in bytes. It is compiled at each evaluation.
pub const MAX_PATTERN_SIZE: usize = 10 << 10;

/// Properties declared by one VM (`declare_property`).
pub const MAX_DECLARED: usize = 256;

/// Size of one shared value or queue entry in bytes.
pub const MAX_SHARED_VALUE: usize = 1 << 20;

/// Locks of the shared data of one VM id: a few times the number of workers of a large machine.
pub const SHARED_SHARDS: usize = 16;

/// Size of keys and values in one shard of shared data in bytes. Beyond it, the least recently written values are
/// evicted.
pub const SHARED_SHARD_BYTES: usize = 4 << 20;

/// Overhead of one entry of shared data or a queue in bytes: maps, counters, allocation headers.
pub const SHARED_ENTRY_OVERHEAD: usize = 128;

/// Queues of one VM id. They live as long as its namespace.
pub const MAX_QUEUES: usize = 1024;

/// Queued bytes of one queue. Beyond it, the oldest entries are dropped.
pub const MAX_QUEUE_BYTES: usize = 8 << 20;

/// Queued bytes of all queues of one VM id. Beyond it, the oldest entries of the queue that is written to are dropped.
pub const MAX_QUEUES_BYTES: usize = 64 << 20;

/// Metrics of one VM id. Beyond it, further metrics are counted together under one name.
pub const MAX_METRICS: usize = 10_000;

/// Buckets of a histogram: one per power of two of a 64-bit value, and one for zero.
pub const HISTOGRAM_BUCKETS: usize = 65;

/// Resource limits of a VM. The plugin's owner sets them; the VM reads them at its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory in bytes. Growth beyond it fails.
    pub memory: usize,
    /// Table elements over all tables. Growth beyond it fails.
    pub table_elements: usize,
    /// CPU time of one callback, without the time the thread waits for a core. A guest that exceeds it, or
    /// [`WALL_TIME_FACTOR`] times it by the wall clock, is stopped. The resolution is [`TICK`].
    pub call_time: Duration,
    /// CPU time from instantiation to the end of `proxy_on_configure`, enforced like `call_time`.
    pub start_time: Duration,
    /// Bytes of log messages per second. The excess is dropped and counted.
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
