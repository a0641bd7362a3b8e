//! Tests of complete tables: lookups equal a naive scan, and rewrites and redirects equal the Gateway API's tables.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use proptest::prelude::*;
use weir_model::matcher::Regex;
use weir_model::{
    ClusterName, DirectResponse, Endpoint, Forward, HeaderMatch, HostMatch, PathMatch, PathRewrite, QueryMatch,
    Redirect, RouteAction, RouteMatch, StringMatch, Weight,
};

use super::testing::{forward, matching, request, route, table};
use super::*;

fn cluster(name: &str) -> (ClusterName, Arc<Cluster>) {
    let name = ClusterName::new(name).unwrap();
    let endpoint =
        Endpoint { address: SocketAddr::from(([127, 0, 0, 1], 1)).into(), weight: Weight::ONE, version: None };
    let model = weir_model::Cluster::of_endpoints(name.clone(), vec![endpoint]).unwrap();
    (name, Cluster::new(Arc::new(model)))
}

fn respond() -> RouteAction {
    RouteAction::Respond(DirectResponse { status: 200, detail: Arc::from("test") })
}

/// Checks every route in order.
fn naive<'a>(routes: &'a [Arc<weir_model::Route>], head: &RequestHead) -> Option<&'a Arc<weir_model::Route>> {
    let path = head.path.path();
    routes.iter().find(|route| {
        let matches = &route.matches;
        (match &matches.path {
            PathMatch::Exact(exact) => **exact == *path,
            PathMatch::Prefix(prefix) => {
                path.strip_prefix(&**prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            PathMatch::Regex(regex) => regex.matches(path.as_bytes()),
        }) && matches.method.as_ref().is_none_or(|method| **method == *head.method.as_str())
            && matches.headers.iter().all(|header| {
                head.headers.get(&*header.name).is_some_and(|value| header.value.matches(value.as_bytes()))
            })
            && matches.query.iter().all(|query| head.path.query() == Some(&format!("{}=1", query.name)))
    })
}

fn any_match() -> impl Strategy<Value = RouteMatch> {
    let text = |text: &str| StringMatch::Exact(Arc::from(text));
    let path = prop_oneof![
        "(/[ab]{0,2}){1,3}".prop_map(|path| PathMatch::Exact(Arc::from(path))),
        "(/[ab]{1,2}){0,3}".prop_map(|path| PathMatch::Prefix(Arc::from(path))),
        "/[ab]{0,2}(\\.\\*)?".prop_map(|pattern| PathMatch::Regex(Regex::new(&pattern).unwrap())),
    ];
    let method = prop::option::weighted(0.3, prop_oneof![Just("GET"), Just("POST")]);
    (path, method, prop::bool::weighted(0.2), prop::bool::weighted(0.2)).prop_map(
        move |(path, method, header, query)| {
            let headers = header.then(|| HeaderMatch { name: Arc::from("x-a"), value: text("1") });
            let query = query.then(|| QueryMatch { name: Arc::from("q"), value: text("1") });
            RouteMatch {
                method: method.map(Arc::from),
                headers: headers.into_iter().collect(),
                query: query.into_iter().collect(),
                ..matching(path)
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn find_equals_naive_scan(
        matches in prop::collection::vec(any_match(), 0..30),
        path in "(/[ab]{0,2}){1,4}(\\?q=1)?",
        post: bool,
        header: bool,
    ) {
        let routes: Vec<_> = matches
            .into_iter()
            .enumerate()
            .map(|(index, matches)| route(&format!("route/{index}"), matches, respond()))
            .collect();
        let head = request(
            if post { "POST" } else { "GET" },
            "a.com",
            &path,
            if header { &[("x-a", "1")] } else { &[] },
        );
        let expected = naive(&routes, &head).map(|route| route.name.to_string());
        let table = RouteTable::build(&table(vec![(HostMatch::Any, routes.clone())]), &HashMap::new(), None);
        let found = table.find(&head);
        prop_assert_eq!(found.map(|route| route.model.name.to_string()), expected);
        prop_assert!(found.is_none_or(|route| Arc::ptr_eq(&routes[route.index], &route.model)));
    }
}

#[test]
fn find_does_not_fall_back_to_less_specific_host() {
    let prefix = |path: &str| matching(PathMatch::Prefix(Arc::from(path)));
    let hosts = vec![
        (HostMatch::Any, vec![route("any", prefix(""), respond())]),
        (HostMatch::Exact(Arc::from("a.com")), vec![route("a", prefix("/a"), respond())]),
    ];
    let table = RouteTable::build(&table(hosts), &HashMap::new(), None);
    for (host, path, expected) in [
        ("a.com", "/a/b", Some("a")),
        ("a.com", "/b", None),
        ("b.com", "/b", Some("any")),
        ("b.com", "/a", Some("any")),
    ] {
        let found = table.find(&request("GET", host, path, &[]));
        assert_eq!(found.map(|route| route.model.name.as_str()), expected, "{host}{path}");
    }
    assert_eq!(table.routes().iter().map(|route| route.index).collect::<Vec<_>>(), [0, 1]);
    assert!(table.find(&request("OPTIONS", "b.com", "*", &[])).is_none(), "`*` is no path");
}

#[test]
fn build_reuses_unchanged_routes() {
    let clusters: HashMap<_, _> = [cluster("one"), cluster("two")].into();
    let to = |name: &str| RouteAction::Forward(forward(&[(name, 1)]));
    let prefix = |path: &str| matching(PathMatch::Prefix(Arc::from(path)));
    let routes = vec![route("a", prefix("/a"), to("one")), route("b", prefix("/b"), to("two"))];
    let first = RouteTable::build(&table(vec![(HostMatch::Any, routes)]), &clusters, None);
    let routes = vec![route("a", prefix("/a"), to("one")), route("b", prefix("/c"), to("two"))];
    let model = table(vec![(HostMatch::Any, routes)]);
    let second = RouteTable::build(&model, &clusters, Some(&first));
    assert!(Arc::ptr_eq(&first.routes()[0], &second.routes()[0]));
    assert!(!Arc::ptr_eq(&first.routes()[1], &second.routes()[1]));
    let replaced: HashMap<_, _> = [cluster("one"), cluster("two")].into();
    let third = RouteTable::build(&model, &replaced, Some(&second));
    assert!(!Arc::ptr_eq(&second.routes()[0], &third.routes()[0]), "its cluster is another");
}

fn single_route(matches: RouteMatch, action: RouteAction, clusters: &HashMap<ClusterName, Arc<Cluster>>) -> Arc<Route> {
    let model = table(vec![(HostMatch::Any, vec![route("only", matches, action)])]);
    Arc::clone(&RouteTable::build(&model, clusters, None).routes()[0])
}

#[test]
fn path_rewrites_equal_gateway_api_table() {
    let full = |to: &str| PathRewrite::Full(Arc::from(to));
    let prefix = |to: &str| PathRewrite::Prefix(Arc::from(to));
    for (path, matched, rewrite, expected) in [
        ("/foo/bar", "/foo", prefix("/xyz"), "/xyz/bar"),
        ("/foo/bar", "/foo", prefix("/xyz/"), "/xyz/bar"),
        ("/foo", "/foo", prefix("/xyz"), "/xyz"),
        ("/foo/", "/foo", prefix("/xyz"), "/xyz/"),
        ("/foo/bar", "/foo", prefix(""), "/bar"),
        ("/foo/", "/foo", prefix(""), "/"),
        ("/foo", "/foo", prefix(""), "/"),
        ("/foo/", "/foo", prefix("/"), "/"),
        ("/foo", "/foo", prefix("/"), "/"),
        ("/foo/bar?a=/foo&b", "/foo", prefix("/x"), "/x/bar?a=/foo&b"),
        ("/bar", "", prefix("/xyz"), "/xyz/bar"),
        ("/foo/bar?a", "/foo", full("/one"), "/one?a"),
        ("/foo?", "/foo", full("/one"), "/one?"),
    ] {
        let mut action = forward(&[]);
        action.rewrite.path = Some(rewrite.clone());
        let matches = matching(PathMatch::Prefix(Arc::from(matched)));
        let route = single_route(matches, RouteAction::Forward(action), &HashMap::new());
        let rewritten = route.rewritten_path(&path.parse().unwrap()).unwrap();
        assert_eq!(rewritten.as_str(), expected, "{path} {matched} {rewrite:?}");
    }
}

#[test]
fn route_without_rewrite_changes_nothing() {
    let route =
        single_route(matching(PathMatch::Prefix(Arc::from(""))), RouteAction::Forward(forward(&[])), &HashMap::new());
    assert!(route.rewritten_path(&"/a".parse().unwrap()).is_none() && route.rewritten_host().is_none());
    let mut action = forward(&[]);
    action.rewrite.host = Some(Arc::from("b.com"));
    let route = single_route(matching(PathMatch::Prefix(Arc::from(""))), RouteAction::Forward(action), &HashMap::new());
    assert_eq!(route.rewritten_host().unwrap(), "b.com");
}

#[test]
fn redirects_equal_gateway_api_rules() {
    type Change = fn(&mut Redirect);
    let rows: [(&str, &str, u16, Change, &str); 12] = [
        ("a.com", "/x?y", 80, |_| {}, "http://a.com/x?y"),
        ("a.com:8080", "/x", 8080, |_| {}, "http://a.com:8080/x"),
        ("a.com:9", "/x", 80, |_| {}, "http://a.com/x"),
        ("a.com:8080", "/x", 8080, |redirect| redirect.scheme = Some(Arc::from("https")), "https://a.com/x"),
        ("a.com:8443", "/x", 8443, |redirect| redirect.scheme = Some(Arc::from("http")), "http://a.com/x"),
        ("a.com", "/x", 80, |redirect| redirect.host = Some(Arc::from("b.com")), "http://b.com/x"),
        ("a.com", "/x", 8080, |redirect| redirect.port = Some(80), "http://a.com/x"),
        ("a.com", "/x", 80, |redirect| redirect.port = Some(443), "http://a.com:443/x"),
        (
            "a.com",
            "/x",
            80,
            |redirect| (redirect.scheme, redirect.port) = (Some(Arc::from("https")), Some(443)),
            "https://a.com/x",
        ),
        (
            "a.com",
            "/old/x?y",
            80,
            |redirect| redirect.path = Some(PathRewrite::Full(Arc::from("/new"))),
            "http://a.com/new?y",
        ),
        (
            "a.com",
            "/old/x?y",
            80,
            |redirect| redirect.path = Some(PathRewrite::Prefix(Arc::from("/new"))),
            "http://a.com/new/x?y",
        ),
        ("[::1]:81", "/x", 81, |_| {}, "http://[::1]:81/x"),
    ];
    for (authority, path, port, change, expected) in rows {
        let mut redirect = Redirect { scheme: None, host: None, port: None, path: None, status: 302 };
        change(&mut redirect);
        let prefix = if path.starts_with("/old") { "/old" } else { "" };
        let matches = matching(PathMatch::Prefix(Arc::from(prefix)));
        let route = single_route(matches, RouteAction::Redirect(redirect), &HashMap::new());
        let (status, location) = route.redirect(&request("GET", authority, path, &[]), port).unwrap();
        assert_eq!((status.as_u16(), location.to_str().unwrap()), (302, expected));
    }
    let route = single_route(matching(PathMatch::Prefix(Arc::from(""))), respond(), &HashMap::new());
    assert!(route.redirect(&request("GET", "a.com", "/", &[]), 80).is_none());
}

#[test]
fn targets_are_picked_by_weight() {
    let clusters: HashMap<_, _> = [cluster("a"), cluster("b"), cluster("c")].into();
    let chosen = |targets: &[(&str, u32)]| {
        let matches = matching(PathMatch::Prefix(Arc::from("")));
        let route = single_route(matches, RouteAction::Forward(forward(targets)), &clusters);
        let mut counts = HashMap::new();
        for step in 0..1_000u32 {
            let draw = u32::try_from((u64::from(step) << 32).div_ceil(1_000)).unwrap();
            let name =
                route.pick_target(draw).map_or(String::new(), |redirect| redirect.cluster.model().name.to_string());
            *counts.entry(name).or_insert(0) += 1;
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort();
        counts
    };
    let row = |name: &str, count: i32| (name.to_owned(), count);
    assert_eq!(chosen(&[("a", 1), ("b", 0), ("c", 3)]), [row("a", 250), row("c", 750)]);
    assert_eq!(chosen(&[("a", 9), ("b", 1)]), [row("a", 900), row("b", 100)]);
    assert_eq!(chosen(&[("a", 7)]), [row("a", 1_000)]);
    assert_eq!(chosen(&[("a", 0)]), [row("", 1_000)]);
    assert_eq!(chosen(&[]), [row("", 1_000)]);
}

#[test]
fn mark_names_only_targets_and_versions_of_its_route() {
    let clusters: HashMap<_, _> =
        [cluster("s/a:80"), cluster("s/b:80"), cluster("s/a:80@v1"), cluster("s/c:80")].into();
    let version = weir_model::TargetVersion {
        target: ClusterName::new("s/a:80").unwrap(),
        version: Arc::from("v1"),
        cluster: ClusterName::new("s/a:80@v1").unwrap(),
    };
    let action = Forward { versions: vec![version], ..forward(&[("s/a:80", 1), ("s/b:80", 0)]) };
    let route = single_route(matching(PathMatch::Prefix(Arc::from(""))), RouteAction::Forward(action), &clusters);
    let rows: [(&[u8], Option<&str>); 11] = [
        (b"s/a:80", Some("s/a:80")),
        (b"s/b:80", Some("s/b:80")),
        (b"s/a:80@v1", Some("s/a:80@v1")),
        (b"@v1", Some("s/a:80@v1")),
        (b"@v2", None),
        (b"s/b:80@v1", None),
        (b"s/c:80", None),
        (b"s/a:80@", None),
        (b"@", None),
        (b"", None),
        (b"\xff", None),
    ];
    for (mark, expected) in rows {
        let found = route.marked_target(mark, 7).map(|target| target.cluster.model().name.as_str());
        assert_eq!(found, expected, "{}", mark.escape_ascii());
    }
}

#[test]
fn mirrors_are_resolved_to_clusters() {
    let clusters: HashMap<_, _> = [cluster("a"), cluster("b")].into();
    let mirror = weir_model::Mirror { cluster: ClusterName::new("b").unwrap(), fraction: weir_model::Fraction::ALL };
    let action = Forward { mirrors: vec![mirror], ..forward(&[("a", 1)]) };
    let route = single_route(matching(PathMatch::Prefix(Arc::from(""))), RouteAction::Forward(action), &clusters);
    let names: Vec<_> = route.mirrors().iter().map(|(cluster, _)| cluster.model().name.as_str()).collect();
    assert_eq!(names, ["b"]);
}
