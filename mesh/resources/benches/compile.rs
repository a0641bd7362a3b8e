//! Benchmark of the compiler, in CPU time: a cold compilation, one without change, and one with one changed route;
//! routes in one file and in one file each. `cargo bench -p weir-resources` prints a table.
#![expect(clippy::print_stdout, reason = "prints the results")]

use std::path::PathBuf;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use weir_resources::{Compiler, SourceFile};

const BASE: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: web}
spec:
  gatewayClassName: weir
  listeners: [{name: http, port: 8080, protocol: HTTP}]
---
apiVersion: weir.dev/v1alpha1
kind: Filter
metadata: {name: auth}
spec: {module: {builtin: auth}, phase: Authn, config: {keys: [a, b, c]}}
";

fn route(index: usize, timeout: &str) -> String {
    format!(
        "---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: route-{index}
  labels: {{team: shop}}
spec:
  parentRefs:
    - name: web
  hostnames:
    - host-{host}.example.com
  rules:
    - matches:
        - path: {{type: PathPrefix, value: /api/{index}}}
          headers: [{{name: x-team, value: shop}}]
        - path: {second}
      filters:
        - type: RequestHeaderModifier
          requestHeaderModifier: {{set: [{{name: x-route, value: r{index}}}]}}
      backendRefs:
        - {{name: service-{index}, port: 80}}
      timeouts: {{request: {timeout}}}
---
apiVersion: weir.dev/v1alpha1
kind: ServiceEntry
metadata: {{name: service-{index}}}
spec:
  ports: [{{port: 80}}]
  endpoints: [{{address: \"127.0.0.1:9001\"}}, {{address: \"127.0.0.1:9002\"}}]
",
        host = index % 50,
        // One route of ten has a regular expression: its compilation costs as much as the rest of a route.
        second = match index % 10 {
            0 => format!("{{type: RegularExpression, value: \"/v[0-9]+/{index}/.*\"}}"),
            _ => format!("{{type: Exact, value: /status/{index}}}"),
        },
    )
}

fn file(name: String, text: String) -> SourceFile {
    SourceFile { path: PathBuf::from(name), text: text.into() }
}

/// Returns the files, and the same files with one route changed.
fn files(routes: usize, in_one_file: bool) -> (Vec<SourceFile>, Vec<SourceFile>) {
    let timeout = |index: usize, changed: bool| if changed && index == routes / 2 { "20s" } else { "10s" };
    let build = |changed: bool| {
        if in_one_file {
            let all: String = (0..routes).map(|index| route(index, timeout(index, changed))).collect();
            return vec![file("all.yaml".to_owned(), format!("{BASE}{all}"))];
        }
        let mut files = vec![file("base.yaml".to_owned(), BASE.to_owned())];
        files.extend((0..routes).map(|index| file(format!("r{index}.yaml"), route(index, timeout(index, changed)))));
        files
    };
    (build(false), build(true))
}

/// Returns the CPU time of the action on this thread, which is independent of other load.
fn timed<T>(action: impl FnOnce() -> T) -> Duration {
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
    };
    let start = now();
    let result = action();
    let elapsed = now().saturating_sub(start);
    drop(result);
    elapsed
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn main() {
    let all = [(100, true, 31), (100, false, 31), (1_000, true, 11), (5_000, true, 7), (5_000, false, 7)];
    // A number as argument: rounds with 5,000 routes in one file, for a profiler.
    let requested_rounds = std::env::args().find_map(|argument| argument.parse::<usize>().ok());
    let chosen = requested_rounds.map_or(all.to_vec(), |rounds| vec![(5_000, true, rounds)]);
    println!("{:>6} {:>9} {:>12} {:>12} {:>12}", "routes", "files", "cold", "no change", "one changed");
    for (routes, in_one_file, rounds) in chosen {
        let (before, after) = files(routes, in_one_file);
        let mut compiler = Compiler::new();
        let cold = median(
            (0..if requested_rounds.is_some() { 1 } else { rounds })
                .map(|_| {
                    compiler = Compiler::new();
                    timed(|| compiler.compile(&before))
                })
                .collect(),
        );
        let same = median((0..rounds).map(|_| timed(|| compiler.compile(&before))).collect());
        let turns = (0..rounds).map(|round| if round % 2 == 0 { &after } else { &before });
        let edited = median(turns.map(|files| timed(|| compiler.compile(files))).collect());
        let ms = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1e3);
        println!("{routes:>6} {:>9} {:>12} {:>12} {:>12}", before.len(), ms(cold), ms(same), ms(edited));
    }
}
