//! Invariant I9: a request never reaches an upstream by a route whose filters did not run on it.
//!
//! Filters edit paths, hosts, headers and the routing target at random, before and after `auth`. A naive oracle
//! computes the expected outcome.

use std::collections::HashMap;

use harness::{Body, Client, Codec, Filter, Module, Origin, Proxy, Resources, empty};
use http::{Request, Response};
use serde_json::json;
use tokio::task::JoinSet;

/// The number of requests. Each has its own edits.
const REQUESTS: usize = 10_000;

/// The number of concurrent connections.
const CONNECTIONS: usize = 4;

/// A route rule: its HTTPRoute (`chain`), its ServiceEntry, and its matches.
struct Row {
    chain: &'static str,
    service: &'static str,
    /// A second backend of weight 0, which only `x-weir-target` picks.
    hidden: Option<&'static str>,
    host: &'static str,
    prefix: &'static str,
    tier: Option<&'static str>,
}

/// The rules in the precedence of the Gateway API: longer prefixes first, then rules with headers.
const ROWS: [Row; 8] = [
    Row { chain: "a-admin", service: "s1", hidden: None, host: "a.test", prefix: "/admin/root", tier: None },
    Row { chain: "a-gold", service: "s2", hidden: None, host: "a.test", prefix: "/admin", tier: Some("gold") },
    Row { chain: "a-admin", service: "s3", hidden: Some("s4"), host: "a.test", prefix: "/admin", tier: None },
    Row { chain: "a-open", service: "s5", hidden: None, host: "a.test", prefix: "/open", tier: None },
    Row { chain: "a-open", service: "s6", hidden: Some("s7"), host: "a.test", prefix: "", tier: None },
    Row { chain: "b-all", service: "s8", hidden: None, host: "b.test", prefix: "/admin", tier: None },
    Row { chain: "b-all", service: "s9", hidden: None, host: "b.test", prefix: "", tier: Some("gold") },
    Row { chain: "b-rest", service: "s10", hidden: None, host: "b.test", prefix: "", tier: None },
];

const CHAINS: [&str; 5] = ["a-admin", "a-gold", "a-open", "b-all", "b-rest"];
const HOSTS: [&str; 3] = ["a.test", "b.test", "c.test"];
const PATHS: [&str; 9] =
    ["/", "/admin", "/admin/", "/admin/root", "/administrator", "/admin/x?tier=gold", "/open/x", "/openx", "/%61dmin"];
const TIERS: [&str; 3] = ["gold", "silver", "Gold"];
const MARKS: [&str; 7] =
    ["default/s1:80", "default/s3:80", "default/s4:80", "default/s7:80", "default/s8:80", "@v1", "nonsense"];

/// A request, and the edits of its filters.
#[derive(Debug, Clone, Default)]
struct RandomEdit {
    host: &'static str,
    path: &'static str,
    tier: Option<&'static str>,
    key: &'static str,
    early: Vec<(&'static str, &'static str)>,
    late: Vec<(&'static str, &'static str)>,
}

/// The expected outcome.
#[derive(Debug, PartialEq, Eq)]
enum Expected {
    Rejected(u16),
    Reaches(&'static str),
}

fn find_row(host: &str, path: &str, tier: Option<&str>) -> Option<&'static Row> {
    let path = path.split('?').next().unwrap_or_default();
    let below = |prefix: &str| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    ROWS.iter().find(|row| row.host == host && below(row.prefix) && row.tier.is_none_or(|wanted| tier == Some(wanted)))
}

/// Computes the outcome naively: routes, checks the key of the route's auth, edits, routes again, compares the chains.
fn oracle(edit: &RandomEdit) -> Expected {
    // Paths of the downstream are normalized before routing; paths of filters are not.
    let path = if edit.path == "/%61dmin" { "/admin" } else { edit.path };
    let Some(first) = find_row(edit.host, path, edit.tier) else { return Expected::Rejected(404) };
    if edit.key != first.chain {
        return Expected::Rejected(401);
    }
    let (mut host, mut path, mut tier, mut mark) = (edit.host, path, edit.tier, None);
    for (what, value) in edit.early.iter().chain(&edit.late) {
        match *what {
            "path" => path = value,
            "authority" => host = value,
            "tier" => tier = Some(value),
            _ => mark = Some(*value),
        }
    }
    let Some(second) = find_row(host, path, tier) else { return Expected::Rejected(404) };
    if second.chain != first.chain {
        return Expected::Rejected(500);
    }
    let Some(mark) = mark else { return Expected::Reaches(second.service) };
    let named = |service: &&'static str| format!("default/{service}:80") == mark;
    match Some(second.service).filter(named).or_else(|| second.hidden.filter(named)) {
        Some(service) => Expected::Reaches(service),
        None => Expected::Rejected(500),
    }
}

/// A pseudo-random generator whose numbers are equal in each run (splitmix64).
struct RandomSource(u64);

impl RandomSource {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap()
    }

    fn of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())]
    }

    fn edits(&mut self) -> Vec<(&'static str, &'static str)> {
        let mut edits = Vec::new();
        for (what, values) in [("path", &PATHS[..]), ("authority", &HOSTS), ("tier", &TIERS), ("x-weir-target", &MARKS)]
        {
            if self.below(4) == 0 {
                edits.push((what, self.of(values)));
            }
        }
        edits
    }

    fn edit(&mut self) -> RandomEdit {
        let (host, path) = (self.of(&HOSTS), self.of(&PATHS));
        let tier = (self.below(3) == 0).then(|| self.of(&TIERS));
        let normalized = if path == "/%61dmin" { "/admin" } else { path };
        // Mostly the right key, since a 401 skips the later steps.
        let right = find_row(host, normalized, tier).filter(|_| self.below(8) != 0).map(|row| row.chain);
        let key = right.unwrap_or_else(|| self.of(&CHAINS));
        RandomEdit { host, path, tier, key, early: self.edits(), late: self.edits() }
    }
}

fn resources(origin: std::net::SocketAddr) -> Resources {
    let mut resources = Resources::new();
    for number in 1..=10 {
        resources = resources.service(&format!("s{number}"), &[origin]);
    }
    for chain in CHAINS {
        let rows: Vec<&Row> = ROWS.iter().filter(|row| row.chain == chain).collect();
        let rule = |row: &&Row| {
            let headers = row.tier.map_or(String::new(), |tier| format!(", headers: [{{name: tier, value: {tier}}}]"));
            let hidden = row.hidden.map_or(String::new(), |name| format!(", {{name: {name}, port: 80, weight: 0}}"));
            let prefix = if row.prefix.is_empty() { "/" } else { row.prefix };
            format!(
                "  - matches: [{{path: {{value: {prefix}}}{headers}}}]\n    filters: [{{type: RequestHeaderModifier, \
                 requestHeaderModifier: {{set: [{{name: x-service, value: {}}}]}}}}]\n    backendRefs: [{{name: {}, \
                 port: 80}}{hidden}]\n",
                row.service, row.service
            )
        };
        let rules: String = rows.iter().map(rule).collect();
        resources = resources.route(chain, &format!("hostnames: [{}]\nrules:\n{rules}", rows[0].host));
        let early =
            Filter::test("early", json!({"request_headers": [{"do": "apply_prefixed_headers", "prefix": "x-early-"}]}));
        let late =
            Filter::test("late", json!({"request_headers": [{"do": "apply_prefixed_headers", "prefix": "x-late-"}]}));
        let auth = Filter {
            config: json!({"apiKeys": {"header": "x-key", "keys": [{"id": chain, "key": chain}]}}),
            ..Filter::new("auth", Module::Builtin("auth"))
        };
        for (filter, phase) in [(early, "phase: Stats"), (auth, "phase: Authn"), (late, "phase: Route")] {
            let name: &'static str = Box::leak(format!("{chain}-{}", filter.name).into_boxed_str());
            resources = resources.filter(Filter { name, ..filter }.with_fields(phase).targeting(chain));
        }
    }
    resources
}

fn request(edit: &RandomEdit) -> Request<Body> {
    let mut request = Request::get(edit.path).header("host", edit.host).header("x-key", edit.key);
    // `x-weir-target` of a downstream is removed before any filter runs.
    request = request.header("x-weir-target", "default/s1:80");
    if let Some(tier) = edit.tier {
        request = request.header("tier", tier);
    }
    for (prefix, edits) in [("x-early-", &edit.early), ("x-late-", &edit.late)] {
        for (what, value) in edits {
            request = request.header(format!("{prefix}{what}"), *value);
        }
    }
    request.body(empty()).unwrap()
}

/// Sends a connection's requests, compares each outcome with the oracle, and returns the number of each outcome.
async fn compare(address: std::net::SocketAddr, seed: u64) -> HashMap<String, usize> {
    let mut client = Client::http1(address).await;
    let mut random = RandomSource(seed);
    let mut outcomes = HashMap::new();
    for _ in 0..REQUESTS / CONNECTIONS {
        let edit = random.edit();
        let expected = oracle(&edit);
        let response = client.send(request(&edit)).await;
        let outcome = match response.status {
            200 => {
                // The origin responds with the consumer, the route's service and the routing target that it received.
                let seen: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
                let service = seen["service"].as_str().unwrap().to_owned();
                let owner = ROWS.iter().find(|row| row.service == service).unwrap();
                assert_eq!(seen["consumer"], owner.chain, "{edit:?}");
                assert_eq!(seen["mark"], serde_json::Value::Null, "{edit:?}");
                service
            }
            status => status.to_string(),
        };
        let wanted = match &expected {
            Expected::Rejected(status) => status.to_string(),
            // A hidden backend belongs to the same rule.
            Expected::Reaches(service) => {
                let by_rule = ROWS.iter().find(|row| row.hidden == Some(service)).map_or(*service, |row| row.service);
                by_rule.to_owned()
            }
        };
        assert_eq!(outcome, wanted, "{edit:?} {}", response.text());
        *outcomes.entry(outcome).or_default() += 1;
    }
    outcomes
}

#[tokio::test]
async fn edited_requests_reach_no_upstream_without_auth_of_its_route() {
    let origin = Origin::start(Codec::Http1, |request| async move {
        let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
        let seen = json!({
            "service": header("x-service"), "consumer": header("x-auth-consumer"), "mark": header("x-weir-target"),
        });
        Ok(Response::new(harness::full(seen.to_string())))
    })
    .await;
    let proxy = Proxy::start(&resources(origin.address())).await;
    let address = proxy.address().await;
    let mut tasks = JoinSet::new();
    for seed in 1..=u64::try_from(CONNECTIONS).unwrap() {
        tasks.spawn(compare(address, seed << 32));
    }
    let mut all: HashMap<String, usize> = HashMap::new();
    for (outcome, count) in tasks.join_all().await.into_iter().flatten() {
        *all.entry(outcome).or_default() += count;
    }
    // The requests had every outcome: all services and all rejections.
    for outcome in ["401", "404", "500", "s1", "s2", "s3", "s5", "s6", "s8", "s9", "s10"] {
        assert!(all.get(outcome).is_some_and(|count| *count >= 20), "{outcome} in {all:?}");
    }
}
