//! The tables, in Markdown: medians, interquartile ranges, and the ratios that have budgets.

use std::fmt::Write;
use std::fs;
use std::process::Command;

use super::added_cost::AddedCost;
use super::chain::Chain;
use super::footprint::Footprint;
use super::idle::{self, IdleRow, IdleSample};
use super::instructions::InstructionCount;
use super::load::Sample;
use super::plan::BenchPlan;
use super::rows::{Rows, Shape, ShapeRow};
use super::scale;
use super::target::{BenchTarget, ProxyKind};
use crate::tools;

/// A median and an interval around it.
struct Quartiles {
    low: f64,
    median: f64,
    high: f64,
}

impl Quartiles {
    /// Returns the median and the quartiles.
    fn of(values: impl Iterator<Item = f64>) -> Self {
        Self::at(values, |count| (count / 4, count * 3 / 4))
    }

    /// Returns the median and its 95% confidence interval, for any distribution of the values.
    fn of_median(values: impl Iterator<Item = f64>) -> Self {
        // Order statistics of the sign test: half of the count, plus and minus 0.98 times its square root.
        Self::at(values, |count| {
            let (middle, reach) = (count / 2, count.isqrt() + 1);
            (middle.saturating_sub(reach), middle + reach)
        })
    }

    fn at(values: impl Iterator<Item = f64>, around: impl Fn(usize) -> (usize, usize)) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        let (low, high) = around(values.len());
        Self { low: at(low), median: at(values.len() / 2), high: at(high) }
    }
}

/// All measurements.
pub(super) struct Results {
    pub(super) targets: Vec<BenchTarget>,
    /// Samples of each target, one per round.
    pub(super) samples: Vec<Vec<Sample>>,
    pub(super) added: Vec<AddedCost>,
    pub(super) scale: Vec<scale::Row>,
    pub(super) rows: Rows,
    pub(super) protocols: Vec<ShapeRow>,
    pub(super) counts: Vec<InstructionCount>,
    pub(super) footprints: Vec<Footprint>,
}

impl Results {
    fn of(&self, peer: ProxyKind, chain: Chain) -> &[Sample] {
        let found = self.targets.iter().position(|target| *target == BenchTarget::of(peer, chain));
        found.and_then(|index| self.samples.get(index)).map_or(&[], Vec::as_slice)
    }

    fn instructions(&self, chain: Chain) -> f64 {
        self.counts.iter().find(|count| count.chain == chain).map_or(f64::NAN, |count| count.instructions)
    }
}

/// Returns all tables.
pub(super) fn write(measured: &Results, plan: BenchPlan) -> String {
    let mut text = machine(&format!("{} rounds of a second each", plan.rounds));
    requests(&mut text, &measured.targets, &measured.samples);
    ratios(&mut text, measured);
    added(&mut text, measured);
    scaled(&mut text, &measured.scale);
    shapes(&mut text, &measured.rows.shapes);
    shapes(&mut text, &measured.protocols);
    idle_connections(&mut text, &measured.rows.idle);
    memory(&mut text, &measured.footprints);
    text
}

/// Returns the tables of the rows alone.
pub(super) fn write_rows(rows: &Rows, plan: BenchPlan) -> String {
    let mut text = machine(&format!("{} rounds of one to two seconds each", plan.row_rounds));
    shapes(&mut text, &rows.shapes);
    idle_connections(&mut text, &rows.idle);
    text
}

/// Returns the table of the protocols alone.
pub(super) fn write_protocols(rows: &[ShapeRow], plan: BenchPlan) -> String {
    let mut text = machine(&format!("{} rounds of one to two seconds each", plan.row_rounds));
    shapes(&mut text, rows);
    text
}

fn machine(rounds: &str) -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("an unknown processor");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("?").to_owned();
    let versions = [("haproxy", "-v"), ("nginx", "-v")].map(|(program, flag)| version(program, flag));
    format!(
        "{}, {cores} cores of {}, load {load} at the end; {}, Envoy {}; {rounds}\n\n",
        output("date", &["-u", "+%Y-%m-%d"]),
        model.trim_start_matches([':', '\t', ' ']),
        versions.join(", "),
        tools::ENVOY_VERSION,
    )
}

fn version(program: &str, flag: &str) -> String {
    let path = tools::path_of(program).unwrap_or_default();
    let output = output(&path.display().to_string(), &[flag]);
    let number = output.split([' ', '/', '-']).find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    format!("{program} {}", number.unwrap_or("?"))
}

/// Returns the first line that a program prints.
fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let printed = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
    String::from_utf8_lossy(&printed).lines().next().unwrap_or_default().to_owned()
}

fn requests(text: &mut String, targets: &[BenchTarget], samples: &[Vec<Sample>]) {
    text.push_str(
        "| one worker, 32 connections | CPU us/request (middle half) | in the kernel | requests/s | p50 ms | p99 ms | \
         resident MiB |\n|---|--:|--:|--:|--:|--:|--:|\n",
    );
    for (target, samples) in targets.iter().zip(samples) {
        let of = |figure: fn(&Sample) -> f64| Quartiles::of(samples.iter().map(figure));
        let cpu = of(|sample| sample.cpu);
        let row = writeln!(
            text,
            "| {target} | {:.1} ({:.1} to {:.1}) | {:.1} | {:.0} | {:.2} | {:.2} | {:.1} |",
            cpu.median,
            cpu.low,
            cpu.high,
            of(|sample| sample.kernel).median,
            of(|sample| sample.throughput).median,
            of(|sample| sample.p50).median,
            of(|sample| sample.p99).median,
            of(|sample| sample.memory.resident as f64 / 1024.0).median,
        );
        row.ok(); // Writing to a text cannot fail.
    }
}

/// Ratios of CPU time, round by round, so that a slow phase of the machine affects both sides.
fn ratios(text: &mut String, measured: &Results) {
    let of = |peer, chain| measured.of(peer, chain);
    let pairs = [
        ("Weir / HAProxy", of(ProxyKind::Weir, Chain::Empty), of(ProxyKind::HaProxy, Chain::Empty), "1.15"),
        ("Weir / nginx", of(ProxyKind::Weir, Chain::Empty), of(ProxyKind::Nginx, Chain::Empty), ""),
        ("Weir / Envoy", of(ProxyKind::Weir, Chain::Empty), of(ProxyKind::Envoy, Chain::Empty), "0.40"),
        (
            "three header operations: Weir / Envoy",
            of(ProxyKind::Weir, Chain::ThreeHeaders),
            of(ProxyKind::Envoy, Chain::ThreeHeaders),
            "",
        ),
        ("four filters: Weir / Envoy", of(ProxyKind::Weir, Chain::Four), of(ProxyKind::Envoy, Chain::Four), "0.30"),
        (
            "Weir with four / Envoy without filters",
            of(ProxyKind::Weir, Chain::Four),
            of(ProxyKind::Envoy, Chain::Empty),
            "0.60",
        ),
    ];
    text.push_str(
        "\n| ratio of CPU per request | median (middle half) | of what is not the kernel's | budget |\n|---|--:|--:|--:|\n",
    );
    for (name, ours, theirs, budget) in pairs {
        let of = |figure: fn(&Sample) -> f64| {
            Quartiles::of(ours.iter().zip(theirs).map(|(ours, theirs)| figure(ours) / figure(theirs)))
        };
        let Quartiles { low, median, high } = of(|sample| sample.cpu);
        let own = of(|sample| sample.cpu - sample.kernel).median;
        writeln!(text, "| {name} | {median:.2} ({low:.2} to {high:.2}) | {own:.2} | {budget} |").ok();
    }
}

/// The cost that filters add: instructions, which hardly vary, and time, a difference of two noisy figures.
fn added(text: &mut String, measured: &Results) {
    text.push_str(
        "\n| added to a request | instructions in Weir | CPU ns in Weir (95% interval of the median) | pairs of slices | \
         CPU ns in Envoy | budget, ns |\n|---|--:|--:|--:|--:|--:|\n",
    );
    let without = measured.instructions(Chain::Empty);
    for AddedCost { chain, pairs } in &measured.added {
        let Quartiles { low, median, high } =
            Quartiles::of_median(pairs.iter().map(|[without, with]| (with - without) * 1e3));
        let rounds = measured.of(ProxyKind::Envoy, *chain).iter().zip(measured.of(ProxyKind::Envoy, Chain::Empty));
        let envoy = Quartiles::of(rounds.map(|(with, without)| (with.cpu - without.cpu) * 1e3)).median;
        let known = |figure: f64| if figure.is_nan() { "—".to_owned() } else { format!("{figure:.0}") };
        let (instructions, envoy) = (known(measured.instructions(*chain) - without), known(envoy));
        let budget = if *chain == Chain::ThreeHeaders { "1500" } else { "" };
        let (name, count) = (chain.name(), pairs.len());
        writeln!(
            text,
            "| {name} | {instructions} | {median:.0} ({low:.0} to {high:.0}) | {count} | {envoy} | {budget} |"
        )
        .ok();
    }
    writeln!(text, "\nWithout filters a request takes {without:.0} instructions in user space.").ok();
}

fn scaled(text: &mut String, rows: &[scale::Row]) {
    text.push_str(
        "\n| one worker, no filters | routes | connections | CPU us/request (middle half) | in the kernel |\n\
         |---|--:|--:|--:|--:|\n",
    );
    for scale::Row { target, connections, samples } in rows {
        let Quartiles { low, median, high } = Quartiles::of(samples.iter().map(|sample| sample.cpu));
        let kernel = Quartiles::of(samples.iter().map(|sample| sample.kernel)).median;
        let routes = target.routes;
        writeln!(text, "| {target} | {routes} | {connections} | {median:.1} ({low:.1} to {high:.1}) | {kernel:.1} |")
            .ok();
    }
}

/// Loads that differ from small GETs. The ratios are Weir's cost by that of the row's proxy, round by round.
fn shapes(text: &mut String, rows: &[ShapeRow]) {
    text.push_str(
        "\n| one worker, no filters | | CPU us/request (middle half) | user | kernel | Weir / this (middle half) | of user | \
         requests/s | p99 ms | resident MiB |\n|---|---|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for ShapeRow { shape, target, samples } in rows {
        let of = |figure: fn(&Sample) -> f64| Quartiles::of(samples.iter().map(figure));
        let Quartiles { low, median, high } = of(|sample| sample.cpu);
        let p99 = of(|sample| sample.p99).median;
        let row = writeln!(
            text,
            "| {} | {target} | {median:.1} ({low:.1} to {high:.1}) | {:.1} | {:.1} | {} | {:.0} | {} | {:.1} |",
            shape.name(),
            of(|sample| sample.cpu - sample.kernel).median,
            of(|sample| sample.kernel).median,
            ratio_cells(weir_samples(rows, *shape), samples),
            of(|sample| sample.throughput).median,
            if p99.is_nan() { "—".to_owned() } else { format!("{p99:.2}") },
            of(|sample| sample.memory.resident as f64 / 1024.0).median,
        );
        row.ok(); // Writing to a text cannot fail.
    }
}

fn weir_samples(rows: &[ShapeRow], shape: Shape) -> &[Sample] {
    let found = rows.iter().find(|row| row.shape == shape && row.target.peer == ProxyKind::Weir);
    found.map_or(&[], |row| &row.samples)
}

/// Returns two cells: the ratio of all CPU time, and that of user time.
fn ratio_cells(ours: &[Sample], theirs: &[Sample]) -> String {
    let of = |figure: fn(&Sample) -> f64| {
        Quartiles::of(ours.iter().zip(theirs).map(|(ours, theirs)| figure(ours) / figure(theirs)))
    };
    let Quartiles { low, median, high } = of(|sample| sample.cpu);
    format!("{median:.2} ({low:.2} to {high:.2}) | {:.2}", of(|sample| sample.cpu - sample.kernel).median)
}

fn idle_connections(text: &mut String, rows: &[IdleRow]) {
    let count = idle::CONNECTIONS;
    writeln!(
        text,
        "\n| {count} idle connections | KiB for each (middle half) | Weir / this | resident MiB before | with them |\n\
         |---|--:|--:|--:|--:|"
    )
    .ok();
    let each = |row: &IdleRow| Quartiles::of(row.samples.iter().map(IdleSample::per_connection));
    let ours = rows.iter().find(|row| row.target.peer == ProxyKind::Weir).map_or(f64::NAN, |row| each(row).median);
    for row in rows {
        let Quartiles { low, median, high } = each(row);
        let mib =
            |of: fn(&IdleSample) -> u64| Quartiles::of(row.samples.iter().map(|one| of(one) as f64 / 1024.0)).median;
        writeln!(
            text,
            "| {} | {median:.2} ({low:.2} to {high:.2}) | {:.2} | {:.1} | {:.1} |",
            row.target,
            ours / median,
            mib(|sample| sample.before),
            mib(|sample| sample.with),
        )
        .ok();
    }
}

fn memory(text: &mut String, footprints: &[Footprint]) {
    text.push_str(
        "\n| two workers, warm cache | resident MiB when ready | after load | proportional, after load | budget | start to first answer, ms |\n\
         |---|--:|--:|--:|--:|--:|\n",
    );
    for footprint in footprints {
        let mib = |kib: u64| kib as f64 / 1024.0;
        let idle = Quartiles::of(footprint.idle.iter().map(|memory| mib(memory.resident)));
        let loaded = Quartiles::of(footprint.loaded.iter().map(|memory| mib(memory.resident)));
        let proportional = Quartiles::of(footprint.loaded.iter().map(|memory| mib(memory.proportional)));
        let start = Quartiles::of(footprint.start.iter().map(|start| start.as_secs_f64() * 1e3));
        let budget = footprint.target.chain.memory_budget();
        let row = writeln!(
            text,
            "| {} | {:.1} | {:.1} | {:.1} | {budget} | {:.0} ({:.0} to {:.0}) |",
            footprint.target, idle.median, loaded.median, proportional.median, start.median, start.low, start.high
        );
        row.ok(); // Writing to a text cannot fail.
    }
}
