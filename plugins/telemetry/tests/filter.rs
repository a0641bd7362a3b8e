//! The compiled filter in the real proxy: metrics at `/stats/prometheus`, `traceparent` at the upstream, fields in the
//! access log.

use serde_json::Value;
use weir_sdk::testing::http::Message;
use weir_sdk::testing::{self, Error, Harness, Origin, Running};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn start(config: &str) -> Result<Running, Error> {
    let module = testing::build_with_profile(env!("CARGO_MANIFEST_DIR"), "plugin")?;
    let origin = Origin::answering(|request| {
        let status = if request.path() == "/broken" { 503 } else { 200 };
        Message::response(status, "hello").with_header("x-served-by", "gr\u{fc}n \"1\"")
    })?;
    Harness::new(module).config(config).origin(origin).start()
}

/// Returns the value of a sample, or `None` if it is absent.
fn sample(running: &Running, name: &str) -> Option<u64> {
    let page = running.proxy().page("/stats/prometheus").ok()?.text();
    page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// Waits for a sample. A request is counted at its end, shortly after the response has arrived.
fn wait_for(running: &Running, name: &str, expected: u64) -> Result<(), Error> {
    running.proxy().wait_until(&format!("{name} is {expected}"), |_| sample(running, name) == Some(expected))
}

/// Returns the access log line of a path.
fn line(running: &Running, path: &str) -> Result<Value, Error> {
    let wanted = format!("\"path\":\"{path}\"");
    running.proxy().wait_until(&format!("{path} is logged"), |proxy| {
        proxy.log().lines().any(|line| line.contains(&wanted) && line.ends_with('}'))
    })?;
    let log = running.log();
    let line = log.lines().find(|line| line.contains(&wanted)).unwrap_or_default();
    Ok(serde_json::from_str(line).unwrap_or_default())
}

#[test]
fn requests_are_counted_by_route_and_response_code_class() -> Result<(), Error> {
    let running = start("{}")?;
    for path in ["/a", "/b", "/broken"] {
        running.get(path).send()?;
    }
    let series = |metric: &str, class: &str, more: &str| {
        let labels = format!(r#"filter="default/under-test",response_code_class="{class}",route="ROUTE"{more}"#);
        format!("weir_filter_custom_{metric}{{{labels}}}")
    };
    running.proxy().wait_until("there is a route", |_| route(&running).is_some())?;
    let route = route(&running).unwrap_or_default();
    assert!(route.starts_with("default/everything"), "{route}");
    let wait_for = |name: String, expected| wait_for(&running, &name.replace("ROUTE", &route), expected);
    wait_for(series("requests_total", "2xx", ""), 2)?;
    wait_for(series("requests_total", "5xx", ""), 1)?;
    wait_for(series("request_duration_seconds_count", "2xx", ""), 2)?;
    wait_for(series("request_duration_seconds_bucket", "5xx", r#",le="+Inf""#), 1)?;
    let page = running.proxy().page("/stats/prometheus")?.text();
    assert_eq!(page.matches("# TYPE weir_filter_custom_requests_total counter\n").count(), 1, "{page}");
    assert_eq!(page.matches("# TYPE weir_filter_custom_request_duration_seconds histogram\n").count(), 1, "{page}");
    assert!(!page.contains("request_bytes_total"), "bytes are counted on demand");
    Ok(())
}

/// Returns the value of the label `route`, or `None` before the first request is counted.
fn route(running: &Running) -> Option<String> {
    let page = running.proxy().page("/stats/prometheus").ok()?.text();
    let line = page.lines().find(|line| line.starts_with("weir_filter_custom_requests_total{"))?;
    Some(line.split_once("route=\"")?.1.split_once('"')?.0.to_owned())
}

#[test]
fn label_and_bytes_are_counted() -> Result<(), Error> {
    let label = r#"{"name": "tier", "header": "X-Tier", "values": ["gold"]}"#;
    let running = start(&format!(r#"{{"metrics": {{"label": {label}, "bytes": true}}}}"#))?;
    running.request("POST", "/").header("x-tier", "gold").body(b"12345678").send()?;
    running.get("/").header("x-tier", "tin").send()?;
    running.proxy().wait_until("there is a route", |_| route(&running).is_some())?;
    let page = |name: &str| {
        let page = running.proxy().page("/stats/prometheus").map(|page| page.text()).unwrap_or_default();
        page.lines().filter(|line| line.starts_with(name)).map(str::to_owned).collect::<Vec<_>>()
    };
    let has = |name: &str, parts: [&str; 3]| page(name).iter().any(|line| parts.iter().all(|part| line.contains(part)));
    for (name, parts) in [
        ("weir_filter_custom_requests_total{", [r#"tier="gold""#, r#"response_code_class="2xx""#, "} 1"]),
        ("weir_filter_custom_requests_total{", [r#"tier="other""#, r#"response_code_class="2xx""#, "} 1"]),
        ("weir_filter_custom_request_bytes_total{", [r#"tier="gold""#, r#"response_code_class="2xx""#, "} 8"]),
        ("weir_filter_custom_response_bytes_total{", [r#"tier="gold""#, r#"response_code_class="2xx""#, "} 5"]),
    ] {
        running.proxy().wait_until(&format!("{name} has {parts:?}"), |_| has(name, parts))?;
    }
    Ok(())
}

#[test]
fn series_beyond_the_limit_are_counted_as_other() -> Result<(), Error> {
    let running = start(r#"{"metrics": {"maxSeries": 1}}"#)?;
    let name =
        r#"weir_filter_custom_requests_total{filter="default/under-test",response_code_class="other",route="other"}"#;
    // Each worker has its own limit, and any worker may accept the connection.
    running.proxy().wait_until("a second series is counted as other", |_| {
        let both = running.get("/").send().is_ok() && running.get("/broken").send().is_ok();
        both && sample(&running, name).is_some()
    })
}

#[test]
fn trace_headers_are_unchanged_without_tracing() -> Result<(), Error> {
    let running = start("{}")?;
    let answer = running.get("/").header("traceparent", "junk").header("tracestate", "a=1").send()?;
    let upstream = answer.upstream().cloned().unwrap_or_default();
    assert_eq!(upstream.header("traceparent").as_deref(), Some("junk"));
    assert_eq!(upstream.header("tracestate").as_deref(), Some("a=1"));
    let answer = running.get("/").send()?;
    assert_eq!(answer.upstream().and_then(|request| request.header("traceparent")), None);
    assert_eq!(line(&running, "/")?.get("fields"), None);
    Ok(())
}

#[test]
fn trace_is_continued() -> Result<(), Error> {
    let running = start(r#"{"tracing": {"sampleRatio": 0}}"#)?;
    let request = running.get("/on").header("traceparent", PARENT);
    let answer = request.header("tracestate", "a=1").header("tracestate", "b=2").send()?;
    let upstream = answer.upstream().cloned().unwrap_or_default();
    assert_eq!(upstream.values("traceparent").count(), 1);
    let sent = upstream.header("traceparent").unwrap_or_default();
    assert!(sent.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && sent.ends_with("-01"), "{sent}");
    assert_ne!(sent, PARENT, "the upstream's parent is this hop");
    let states: Vec<String> = upstream.values("tracestate").collect();
    assert_eq!(states.join(","), "a=1,b=2");
    assert_eq!(line(&running, "/on")?["fields"]["trace_id"], "0af7651916cd43dd8448eb211c80319c");
    Ok(())
}

#[test]
fn trace_begins_without_valid_parent() -> Result<(), Error> {
    let running = start(r#"{"tracing": {"sampleRatio": 1}}"#)?;
    let mut seen = std::collections::BTreeSet::new();
    let upper = PARENT.to_ascii_uppercase();
    // No parent, invalid ones, and two. The number of requests is larger than the number of seeds.
    let parents: [&[&str]; 4] = [&[], &["junk"], &[&upper], &[PARENT, PARENT]];
    for (number, parents) in parents.iter().cycle().take(24).enumerate() {
        let path = format!("/new/{number}");
        let request = running.get(&path).header("tracestate", "a=1");
        let request = parents.iter().fold(request, |request, parent| request.header("traceparent", parent));
        let upstream = request.send()?.upstream().cloned().unwrap_or_default();
        assert_eq!(upstream.values("traceparent").count(), 1);
        let sent = upstream.header("traceparent").unwrap_or_default();
        assert!(sent.len() == 55 && sent.starts_with("00-") && sent.ends_with("-01"), "{sent}");
        assert!(!sent.contains("0af7651916cd43dd8448eb211c80319c"), "{parents:?}: {sent}");
        assert!(seen.insert(sent[3..35].to_owned()) && seen.insert(sent[36..52].to_owned()), "{sent}");
        assert_eq!(upstream.header("tracestate"), None, "{parents:?}");
        assert_eq!(line(&running, &path)?["fields"]["trace_id"], sent[3..35]);
    }
    Ok(())
}

#[test]
fn headers_are_access_log_fields() -> Result<(), Error> {
    let access_log = r#"{"requestHeaders": ["User-Agent", "x-none"], "responseHeaders": ["x-served-by"]}"#;
    let running = start(&format!(r#"{{"accessLog": {access_log}}}"#))?;
    running.get("/fields").header("user-agent", b"a\"\\\xffb").header("user-agent", "c").send()?;
    let fields = line(&running, "/fields")?["fields"].clone();
    let expected = serde_json::json!({
        "request_user_agent": "a\"\\\u{fffd}b,c",
        "response_x_served_by": "gr\u{fc}n \"1\"",
    });
    assert_eq!(fields, expected);
    Ok(())
}

#[test]
fn invalid_configuration_is_rejected() -> Result<(), Error> {
    let running = start("{}")?;
    running.reconfigure(r#"{"tracing": {"sampleRatio": 2}}"#)?;
    let error = "tracing.sampleRatio: must be from 0 to 1";
    running.proxy().wait_until("the rejection is logged", |proxy| proxy.log().contains(error))?;
    assert_eq!(running.get("/").send()?.status(), 200, "the last valid configuration keeps serving");
    Ok(())
}
