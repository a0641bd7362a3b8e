//! `cargo xtask bench --prices`: what one hostcall and one callback cost, in Weir and in Envoy with the same module, and
//! what a VM for each request costs.
//!
//! A module makes one hostcall [`CALLS`] times for each request; what a request costs more than with a module that makes
//! none, divided by that number, is the price. Callbacks are priced by a module that has them all and does nothing.

use std::fmt::Write as _;
use std::sync::OnceLock;

use anyhow::{Context, Result};

use super::chain::{Chain, Filter};
use super::contestant::{Contestant, Peer};
use super::load::{self, Load};
use super::process::Running;
use super::setting::Setting;
use crate::progress::say;

/// How often a module makes its hostcall for each request.
const CALLS: u32 = 500;

/// How often each has its turn.
const ROUNDS: usize = 5;

/// How often a small filter stands in a chain, to see what one of them costs.
const COPIES: u32 = 16;

/// Small filters, by the names of their modules, and as the table says them. The callbacks are create, two heads, log, done,
/// delete.
const SMALL: [(&str, &str); 2] = [
    (ALL_CALLBACKS, "a filter with six callbacks that do nothing (one of sixteen)"),
    ("three_headers", "a filter with three header operations (one of sixteen)"),
];

/// A hostcall that is priced: its name in the table, its import, and the call.
pub(super) struct Price {
    pub(super) name: &'static str,
    import: &'static str,
    call: &'static str,
}

/// The module that makes no call, what others are compared with.
const NOTHING: &str = "price-nothing";

/// The module with every callback.
const ALL_CALLBACKS: &str = "price-callbacks";

const PRICES: [Price; 11] = [
    Price {
        name: "price-log-level",
        import: "(import \"env\" \"proxy_get_log_level\" (func $call (param i32) (result i32)))",
        call: "(call $call (i32.const 16))",
    },
    Price {
        name: "price-current-time",
        import: "(import \"env\" \"proxy_get_current_time_nanoseconds\" (func $call (param i32) (result i32)))",
        call: "(call $call (i32.const 16))",
    },
    Price {
        name: "price-get-header",
        import: "(import \"env\" \"proxy_get_header_map_value\" (func $call (param i32 i32 i32 i32 i32) (result i32)))",
        call: "(call $call (i32.const 0) (i32.const 1024) (i32.const 10) (i32.const 16) (i32.const 20))",
    },
    Price {
        name: "price-get-all-headers",
        import: "(import \"env\" \"proxy_get_header_map_pairs\" (func $call (param i32 i32 i32) (result i32)))",
        call: "(call $call (i32.const 0) (i32.const 16) (i32.const 20))",
    },
    Price {
        name: "price-set-header",
        import: "(import \"env\" \"proxy_replace_header_map_value\" (func $call (param i32 i32 i32 i32 i32) (result i32)))",
        call: "(call $call (i32.const 0) (i32.const 1040) (i32.const 7) (i32.const 1056) (i32.const 2))",
    },
    Price {
        name: "price-remove-header",
        import: "(import \"env\" \"proxy_remove_header_map_value\" (func $call (param i32 i32 i32) (result i32)))",
        call: "(call $call (i32.const 0) (i32.const 1040) (i32.const 7))",
    },
    Price {
        name: "price-get-property",
        import: "(import \"env\" \"proxy_get_property\" (func $call (param i32 i32 i32 i32) (result i32)))",
        call: "(call $call (i32.const 1072) (i32.const 14) (i32.const 16) (i32.const 20))",
    },
    Price {
        name: "price-set-property",
        import: "(import \"env\" \"proxy_set_property\" (func $call (param i32 i32 i32 i32) (result i32)))",
        call: "(call $call (i32.const 1040) (i32.const 7) (i32.const 1056) (i32.const 2))",
    },
    Price {
        name: "price-get-shared-data",
        import: "(import \"env\" \"proxy_get_shared_data\" (func $call (param i32 i32 i32 i32 i32) (result i32)))",
        call: "(call $call (i32.const 1040) (i32.const 7) (i32.const 16) (i32.const 20) (i32.const 24))",
    },
    Price {
        name: "price-set-shared-data",
        import: "(import \"env\" \"proxy_set_shared_data\" (func $call (param i32 i32 i32 i32 i32) (result i32)))",
        call: "(call $call (i32.const 1040) (i32.const 7) (i32.const 1056) (i32.const 2) (i32.const 0))",
    },
    Price {
        name: "price-increment-metric",
        import: "(import \"env\" \"proxy_define_metric\" (func $define (param i32 i32 i32 i32) (result i32)))
            (import \"env\" \"proxy_increment_metric\" (func $call (param i32 i64) (result i32)))",
        call: "(call $call (i32.load (i32.const 28)) (i64.const 1))",
    },
];

/// The text of a module that is priced; `None` for every other name.
pub(super) fn module(name: &str) -> Option<String> {
    let name = if name.starts_with(ALL_CALLBACKS) { ALL_CALLBACKS } else { name };
    let (import, call) = match PRICES.iter().find(|price| price.name == name) {
        Some(price) => (price.import, format!("(drop {})", price.call)),
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

/// The filters that are priced, by their place in the table; then the one without calls.
pub(super) fn filter(place: usize) -> &'static [Filter] {
    static FILTERS: OnceLock<Vec<[Filter; 1]>> = OnceLock::new();
    let filters = FILTERS.get_or_init(|| {
        let names = PRICES.iter().map(|price| price.name).chain([NOTHING]);
        names.map(|name| [Filter { name, phase: "Transform", config: "{}", isolation: "Worker" }]).collect()
    });
    &filters[place]
}

/// A small filter, sixteen times, each in a VM of its own; by its place among the small ones.
pub(super) fn sixteen(place: usize) -> &'static [Filter] {
    static CHAINS: OnceLock<Vec<Vec<Filter>>> = OnceLock::new();
    let chains = CHAINS.get_or_init(|| {
        let named = |name: &str, number: u32| -> &'static str { format!("{name}-{number:02}").leak() };
        let filter = |name| Filter { name, phase: "Transform", config: "{}", isolation: "Worker" };
        SMALL.iter().map(|(name, _)| (0..COPIES).map(|number| filter(named(name, number))).collect()).collect()
    });
    &chains[place]
}

/// The filter whose VMs are priced: the shipped `auth`, with rules that make its configuration so long.
pub(super) fn isolated(rules: usize, isolation: &'static str) -> &'static [Filter] {
    let mut text = String::from(r#"{"apiKeys":{"keys":[{"id":"bench","key":"bench-key"}]},"rules":["#);
    for rule in 0..rules {
        let _ = write!(
            text,
            r#"{{"name":"deny-{rule}","action":"deny","paths":[{{"prefix":"/admin/{rule}"}}],"methods":["PUT"]}},"#
        );
    }
    text.push_str(r#"{"name":"all","action":"allow"}]}"#);
    // A bench makes a few of these, and ends.
    Box::leak(Box::new([Filter { name: "auth", phase: "Authn", config: text.leak(), isolation }]))
}

/// The median of what a request costs, in microseconds, of several that take turns.
fn medians(setting: &Setting, contestants: &[Contestant], workers: usize) -> Result<Vec<f64>> {
    let start = |contestant: &Contestant| contestant.start(setting, workers).with_context(|| contestant.to_string());
    let running = contestants.iter().map(start).collect::<Result<Vec<Running>>>()?;
    let mut costs = vec![Vec::new(); contestants.len()];
    for round in 0..=ROUNDS {
        for (running, costs) in running.iter().zip(&mut costs) {
            let sample = load::run(setting, running, &Load::seconds(1))?;
            if round > 0 {
                costs.push(sample.cpu); // The first turn is for connections and caches.
            }
        }
    }
    Ok(costs.into_iter().map(median).collect())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The whole list, as a text for people.
pub(super) fn measure(setting: &Setting) -> Result<String> {
    let mut text = String::from("| hostcall | Weir, ns | Envoy, ns | Weir / Envoy |\n|---|---:|---:|---:|\n");
    let nothing = PRICES.len();
    let both = |place: usize| [Peer::Weir, Peer::Envoy].map(|peer| Contestant::of(peer, Chain::Price(place)));
    let mut row = |name: &str, cost: [f64; 2]| {
        let line = format!("| {name} | {:.0} | {:.0} | {:.2} |", cost[0], cost[1], cost[0] / cost[1]);
        say(&line);
        text.push_str(&line);
        text.push('\n');
    };
    for (place, price) in PRICES.iter().enumerate() {
        let [ours, theirs] = both(place);
        let [our_base, their_base] = both(nothing);
        let costs = medians(setting, &[ours, our_base, theirs, their_base], 1)?;
        let each = |with: f64, without: f64| (with - without) * 1e3 / f64::from(CALLS);
        row(price.name.trim_start_matches("price-"), [each(costs[0], costs[1]), each(costs[2], costs[3])]);
    }
    for (place, (_, name)) in SMALL.iter().enumerate() {
        let of = |chain| [Peer::Weir, Peer::Envoy].map(|peer| Contestant::of(peer, chain));
        let ([ours, theirs], [our_base, their_base]) = (of(Chain::Sixteen(place)), of(Chain::Empty));
        let costs = medians(setting, &[ours, our_base, theirs, their_base], 1)?;
        let each = |with: f64, without: f64| (with - without) * 1e3 / f64::from(COPIES);
        row(name, [each(costs[0], costs[1]), each(costs[2], costs[3])]);
    }
    text.push_str(&isolation(setting)?);
    Ok(text)
}

fn isolation(setting: &Setting) -> Result<String> {
    let mut text = String::from(
        "\n| `auth` with a configuration of | workers | a VM for each worker, us a request | for each request, us | more |\n|---|---:|---:|---:|---:|\n",
    );
    for rules in [0, 10, 160] {
        for workers in [1, 2] {
            let chains =
                ["Worker", "Stream"].map(|isolation| Contestant::of(Peer::Weir, Chain::Isolated(rules, isolation)));
            let costs = medians(setting, &chains, workers)?;
            let size = isolated(rules, "Worker")[0].config.len();
            let line = format!(
                "| {size} bytes | {workers} | {:.1} | {:.1} | {:.1} |",
                costs[0],
                costs[1],
                costs[1] - costs[0]
            );
            say(&line);
            text.push_str(&line);
            text.push('\n');
        }
    }
    Ok(text)
}
