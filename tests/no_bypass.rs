//! Invariant I8b: a request never reaches an upstream by a route whose filters did not run on it. Filters edit paths,
//! hosts, headers and routing marks at random, before and after `auth`, and a naive oracle says what must come out.

use std::collections::HashMap;

use harness::{Body, Client, Codec, Filter, Module, Origin, Proxy, Resources, empty};
use http::{Request, Response};
use serde_json::json;
use tokio::task::JoinSet;

/// Requests; each has edits of its own.
const REQUESTS: usize = 10_000;

/// Connections at once.
const CONNECTIONS: usize = 4;

/// A route, its chain (its HTTPRoute), the Service it goes to, and what it matches.
struct Row {
    chain: &'static str,
    service: &'static str,
    /// A second backend of weight 0, which only a mark may choose.
    hidden: Option<&'static str>,
    host: &'static str,
    prefix: &'static str,
    tier: Option<&'static str>,
}

/// In the order in which the Gateway API lets them match: longer prefixes first, then those with headers.
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

/// What a request is, and what filters make of it.
#[derive(Debug, Clone, Default)]
struct Attempt {
    host: &'static str,
    path: &'static str,
    tier: Option<&'static str>,
    key: &'static str,
    early: Vec<(&'static str, &'static str)>,
    late: Vec<(&'static str, &'static str)>,
}

/// What must come out.
#[derive(Debug, PartialEq, Eq)]
enum Expected {
    Refused(u16),
    Reaches(&'static str),
}

fn find(host: &str, path: &str, tier: Option<&str>) -> Option<&'static Row> {
    let path = path.split('?').next().unwrap_or_default();
    let below = |prefix: &str| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    ROWS.iter().find(|row| row.host == host && below(row.prefix) && row.tier.is_none_or(|wanted| tier == Some(wanted)))
}

/// The same, in the plainest words: route, ask that route's auth, edit, route again, compare.
fn oracle(attempt: &Attempt) -> Expected {
    // What comes from the downstream is normalised before it is routed; what filters write is taken as it is.
    let path = if attempt.path == "/%61dmin" { "/admin" } else { attempt.path };
    let Some(first) = find(attempt.host, path, attempt.tier) else { return Expected::Refused(404) };
    if attempt.key != first.chain {
        return Expected::Refused(401);
    }
    let (mut host, mut path, mut tier, mut mark) = (attempt.host, path, attempt.tier, None);
    for (what, value) in attempt.early.iter().chain(&attempt.late) {
        match *what {
            "path" => path = value,
            "authority" => host = value,
            "tier" => tier = Some(value),
            _ => mark = Some(*value),
        }
    }
    let Some(second) = find(host, path, tier) else { return Expected::Refused(404) };
    if second.chain != first.chain {
        return Expected::Refused(500);
    }
    let Some(mark) = mark else { return Expected::Reaches(second.service) };
    let named = |service: &&'static str| format!("default/{service}:80") == mark;
    match Some(second.service).filter(named).or_else(|| second.hidden.filter(named)) {
        Some(service) => Expected::Reaches(service),
        None => Expected::Refused(500),
    }
}

/// Numbers that look random and are the same in each run (splitmix64).
struct Draw(u64);

impl Draw {
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

    fn attempt(&mut self) -> Attempt {
        let (host, path) = (self.of(&HOSTS), self.of(&PATHS));
        let tier = (self.below(3) == 0).then(|| self.of(&TIERS));
        let normalised = if path == "/%61dmin" { "/admin" } else { path };
        // Mostly the right key: a 401 says little about what comes after it.
        let right = find(host, normalised, tier).filter(|_| self.below(8) != 0).map(|row| row.chain);
        let key = right.unwrap_or_else(|| self.of(&CHAINS));
        Attempt { host, path, tier, key, early: self.edits(), late: self.edits() }
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
        let early = Filter::test("early", json!({"request_headers": [{"do": "obey", "prefix": "x-early-"}]}));
        let late = Filter::test("late", json!({"request_headers": [{"do": "obey", "prefix": "x-late-"}]}));
        let auth = Filter {
            config: json!({"apiKeys": {"header": "x-key", "keys": [{"id": chain, "key": chain}]}}),
            ..Filter::of("auth", Module::Builtin("auth"))
        };
        for (filter, phase) in [(early, "phase: Stats"), (auth, "phase: Authn"), (late, "phase: Route")] {
            let name: &'static str = Box::leak(format!("{chain}-{}", filter.name).into_boxed_str());
            resources = resources.filter(Filter { name, ..filter }.with(phase).before(chain));
        }
    }
    resources
}

fn request(attempt: &Attempt) -> Request<Body> {
    let mut request = Request::get(attempt.path).header("host", attempt.host).header("x-key", attempt.key);
    // From outside it is nobody's business: it is dropped before anything sees it.
    request = request.header("x-weir-target", "default/s1:80");
    if let Some(tier) = attempt.tier {
        request = request.header("tier", tier);
    }
    for (prefix, edits) in [("x-early-", &attempt.early), ("x-late-", &attempt.late)] {
        for (what, value) in edits {
            request = request.header(format!("{prefix}{what}"), *value);
        }
    }
    request.body(empty()).unwrap()
}

/// Sends some of the attempts and compares; how often each outcome came.
async fn compare(address: std::net::SocketAddr, seed: u64) -> HashMap<String, usize> {
    let mut client = Client::http1(address).await;
    let mut draw = Draw(seed);
    let mut outcomes = HashMap::new();
    for _ in 0..REQUESTS / CONNECTIONS {
        let attempt = draw.attempt();
        let expected = oracle(&attempt);
        let answer = client.send(request(&attempt)).await;
        let outcome = match answer.status {
            200 => {
                // The origin says what reached it: whose auth had let it in, by which route, and no mark.
                let seen: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
                let service = seen["service"].as_str().unwrap().to_owned();
                let owner = ROWS.iter().find(|row| row.service == service).unwrap();
                assert_eq!(seen["consumer"], owner.chain, "{attempt:?}");
                assert_eq!(seen["mark"], serde_json::Value::Null, "{attempt:?}");
                service
            }
            status => status.to_string(),
        };
        let wanted = match &expected {
            Expected::Refused(status) => status.to_string(),
            // A hidden backend is reached by the same rule.
            Expected::Reaches(service) => {
                let by_rule = ROWS.iter().find(|row| row.hidden == Some(service)).map_or(*service, |row| row.service);
                by_rule.to_owned()
            }
        };
        assert_eq!(outcome, wanted, "{attempt:?} {}", answer.text());
        *outcomes.entry(outcome).or_default() += 1;
    }
    outcomes
}

#[tokio::test]
async fn no_edit_of_any_filter_reaches_an_upstream_without_its_routes_auth() {
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
    // Every way to end was met, so that the comparison says something: all services, all refusals.
    for outcome in ["401", "404", "500", "s1", "s2", "s3", "s5", "s6", "s8", "s9", "s10"] {
        assert!(all.get(outcome).is_some_and(|count| *count >= 20), "{outcome} in {all:?}");
    }
}
