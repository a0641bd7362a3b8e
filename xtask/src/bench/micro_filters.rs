//! The modules of the micro benchmarks, and the filters that run them.

use std::fmt::Write as _;
use std::sync::OnceLock;

use super::filter::Filter;

/// Hostcalls per request.
pub(super) const CALLS: u32 = 500;

/// Copies of a small filter in a chain, so that the cost of one stands out.
pub(super) const COPIES: u32 = 16;

/// Small filters: module name, and name in the table. The callbacks are create, both heads, log, done, delete.
pub(super) const SMALL: [(&str, &str); 2] = [
    (ALL_CALLBACKS, "a filter with six callbacks that do nothing (one of sixteen)"),
    ("three_headers", "a filter with three header operations (one of sixteen)"),
];

/// A hostcall to measure: its name in the table, its import, and the call.
pub(super) struct MicroBenchmark {
    pub(super) name: &'static str,
    import: &'static str,
    call: &'static str,
}

/// The module without calls, which others are compared with.
const NOTHING: &str = "price-nothing";

/// The module with every callback.
const ALL_CALLBACKS: &str = "price-callbacks";

/// Every hostcall that is measured.
pub(super) const MICRO_BENCHMARKS: [MicroBenchmark; 11] = [
    MicroBenchmark {
        name: "price-log-level",
        import: "(import \"env\" \"proxy_get_log_level\" (func $call (param i32) (result i32)))",
        call: "(call $call (i32.const 16))",
    },
    MicroBenchmark {
        name: "price-current-time",
        import: "(import \"env\" \"proxy_get_current_time_nanoseconds\" (func $call (param i32) (result i32)))",
        call: "(call $call (i32.const 16))",
    },
    MicroBenchmark {
        name: "price-get-header",
        import: "(import \"env\" \"proxy_get_header_map_value\" (func $call (param i32 i32 i32 i32 i32) (result i32)))",
        call: "(call $call (i32.const 0) (i32.const 1024) (i32.const 10) (i32.const 16) (i32.const 20))",
    },
    MicroBenchmark {
        name: "price-get-all-headers",
        import: "(import \"env\" \"proxy_get_header_map_pairs\" (func $call (param i32 i32 i32) (result i32)))",
        call: "(call $call (i32.const 0) (i32.const 16) (i32.const 20))",
    },
    MicroBenchmark {
        name: "price-set-header",
        import: "(import \"env\" \"proxy_replace_header_map_value\" (func $call (param i32 i32 i32 i32 i32) (result i32)))",
        call: "(call $call (i32.const 0) (i32.const 1040) (i32.const 7) (i32.const 1056) (i32.const 2))",
    },
    MicroBenchmark {
        name: "price-remove-header",
        import: "(import \"env\" \"proxy_remove_header_map_value\" (func $call (param i32 i32 i32) (result i32)))",
        call: "(call $call (i32.const 0) (i32.const 1040) (i32.const 7))",
    },
    MicroBenchmark {
        name: "price-get-property",
        import: "(import \"env\" \"proxy_get_property\" (func $call (param i32 i32 i32 i32) (result i32)))",
        call: "(call $call (i32.const 1072) (i32.const 14) (i32.const 16) (i32.const 20))",
    },
    MicroBenchmark {
        name: "price-set-property",
        import: "(import \"env\" \"proxy_set_property\" (func $call (param i32 i32 i32 i32) (result i32)))",
        call: "(call $call (i32.const 1040) (i32.const 7) (i32.const 1056) (i32.const 2))",
    },
    MicroBenchmark {
        name: "price-get-shared-data",
        import: "(import \"env\" \"proxy_get_shared_data\" (func $call (param i32 i32 i32 i32 i32) (result i32)))",
        call: "(call $call (i32.const 1040) (i32.const 7) (i32.const 16) (i32.const 20) (i32.const 24))",
    },
    MicroBenchmark {
        name: "price-set-shared-data",
        import: "(import \"env\" \"proxy_set_shared_data\" (func $call (param i32 i32 i32 i32 i32) (result i32)))",
        call: "(call $call (i32.const 1040) (i32.const 7) (i32.const 1056) (i32.const 2) (i32.const 0))",
    },
    MicroBenchmark {
        name: "price-increment-metric",
        import: "(import \"env\" \"proxy_define_metric\" (func $define (param i32 i32 i32 i32) (result i32)))
            (import \"env\" \"proxy_increment_metric\" (func $call (param i32 i64) (result i32)))",
        call: "(call $call (i32.load (i32.const 28)) (i64.const 1))",
    },
];

/// Returns the text of a measured module; `None` for every other name.
pub(super) fn module(name: &str) -> Option<String> {
    let name = if name.starts_with(ALL_CALLBACKS) { ALL_CALLBACKS } else { name };
    let (import, call) = match MICRO_BENCHMARKS.iter().find(|benchmark| benchmark.name == name) {
        Some(benchmark) => (benchmark.import, format!("(drop {})", benchmark.call)),
        None if name == NOTHING || name == ALL_CALLBACKS => ("", String::new()),
        None => return None,
    };
    let define = match import.contains("$define") {
        true => "(drop (call $define (i32.const 0) (i32.const 1040) (i32.const 7) (i32.const 28)))",
        false => "",
    };
    let body = match name == ALL_CALLBACKS {
        true => String::new(),
        false => format!(
            "(local.set $left (i32.const {CALLS}))
             (loop $again {call} (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))"
        ),
    };
    let more = match name == ALL_CALLBACKS {
        true => {
            "(func (export \"proxy_on_response_headers\") (param i32 i32 i32) (result i32) (i32.const 0))
             (func (export \"proxy_on_context_create\") (param i32 i32))
             (func (export \"proxy_on_done\") (param i32) (result i32) (i32.const 1))
             (func (export \"proxy_on_log\") (param i32)) (func (export \"proxy_on_delete\") (param i32))"
        }
        false => "",
    };
    Some(format!(
        "(module {import} (memory (export \"memory\") 2)
            (data (i32.const 1024) \"user-agent\") (data (i32.const 1040) \"x-bench\") (data (i32.const 1056) \"on\")
            (data (i32.const 1072) \"request\\00method\")
            (func (export \"proxy_abi_version_0_2_1\"))
            (func (export \"proxy_on_memory_allocate\") (param i32) (result i32) (i32.const 65536))
            (func (export \"proxy_on_configure\") (param i32 i32) (result i32) {define} (i32.const 1)) {more}
            (func (export \"proxy_on_request_headers\") (param i32 i32 i32) (result i32) (local $left i32)
                {body}
                (i32.const 0)))"
    ))
}

/// Returns the filters to measure, by their index in the table; the last one has no calls.
pub(super) fn filter(index: usize) -> &'static [Filter] {
    static FILTERS: OnceLock<Vec<[Filter; 1]>> = OnceLock::new();
    let filters = FILTERS.get_or_init(|| {
        let names = MICRO_BENCHMARKS.iter().map(|benchmark| benchmark.name).chain([NOTHING]);
        names.map(|name| [Filter { name, phase: "Transform", config: "{}", isolation: "Worker" }]).collect()
    });
    &filters[index]
}

/// Returns a small filter, sixteen times, each in its own VM; `index` counts the small filters.
pub(super) fn sixteen(index: usize) -> &'static [Filter] {
    static CHAINS: OnceLock<Vec<Vec<Filter>>> = OnceLock::new();
    let chains = CHAINS.get_or_init(|| {
        let named = |name: &str, number: u32| -> &'static str { format!("{name}-{number:02}").leak() };
        let filter = |name| Filter { name, phase: "Transform", config: "{}", isolation: "Worker" };
        SMALL.iter().map(|(name, _)| (0..COPIES).map(|number| filter(named(name, number))).collect()).collect()
    });
    &chains[index]
}

/// Returns the filter whose VMs are measured: the shipped `auth`, with many rules so that its configuration is long.
pub(super) fn isolated(rules: usize, isolation: &'static str) -> &'static [Filter] {
    let mut text = String::from(r#"{"apiKeys":{"keys":[{"id":"bench","key":"bench-key"}]},"rules":["#);
    for rule in 0..rules {
        let _ = write!(
            text,
            r#"{{"name":"deny-{rule}","action":"deny","paths":[{{"prefix":"/admin/{rule}"}}],"methods":["PUT"]}},"#
        );
    }
    text.push_str(r#"{"name":"all","action":"allow"}]}"#);
    // A bench leaks a few of these and exits.
    Box::leak(Box::new([Filter { name: "auth", phase: "Authn", config: text.leak(), isolation }]))
}
