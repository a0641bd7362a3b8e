//! The access log of Weir beside the client and the origin: one line for each request, with the same method, path,
//! status and bytes.
//!
//! With the test filter, a line has the filter's own view of the request, too (`fields`).

use std::collections::BTreeMap;

use serde_json::Value;

use crate::case::{Case, Kind};
use crate::notation::shorten;
use crate::outcome::Exchange;
use crate::strict::Message;

/// The detail of a request whose client has closed before a response.
const GONE: &str = "downstream_gone";

/// The details whose cause is part of an outcome.
const DETAILS_WITH_CAUSE: [&str; 2] = ["bad_request", "upstream_protocol_error"];

/// The largest number of bytes of a field that a filter has set.
const MAX_FIELD_BYTES: usize = 1_024;

/// The lines of the access log by the IP address of the client.
pub(crate) struct AccessLog(BTreeMap<String, Vec<Value>>);

/// The filters of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filters {
    Absent,
    /// The test filter, which records each request.
    Recording,
}

impl AccessLog {
    /// Sorts the lines of a log.
    pub(crate) fn new(lines: Vec<Value>) -> Self {
        let mut by_client: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for line in lines {
            let client = text(&line, "peer").rsplit_once(':').map_or("", |(ip, _)| ip).to_owned();
            by_client.entry(client).or_default().push(line);
        }
        Self(by_client)
    }

    /// Returns the lines of a case in order.
    pub(crate) fn lines(&self, case: &Case) -> &[Value] {
        self.0.get(&case.client().to_string()).map_or(&[], Vec::as_slice)
    }
}

/// Returns the details of lines, as an outcome contains them.
pub(crate) fn details(lines: &[Value]) -> Vec<String> {
    let detail = |line: &Value| match text(line, "response_code_details") {
        "" => None,
        name if DETAILS_WITH_CAUSE.contains(&name) => Some(format!("{name}: {}", text(line, "cause"))),
        name => Some(name.to_owned()),
    };
    lines.iter().filter_map(detail).collect()
}

/// Returns each disagreement between the lines of a case, the client and the origin.
pub(crate) fn disagreements(case: &Case, exchange: &Exchange, lines: &[Value], filters: Filters) -> Vec<String> {
    let mut found = check_responses(case, exchange, lines);
    if case.kind == Kind::Requests {
        let is_proxied = |line: &&Value| !text(line, "endpoint").is_empty() && text(line, "outcome") == "ok";
        let proxied: Vec<&Value> = lines.iter().filter(is_proxied).collect();
        found.extend(check_messages(exchange, &proxied));
        // The filter sees no end of a request that switches protocols: what follows its head is not read.
        let is_upgrade = |message: &Message| !message.values("upgrade").is_empty();
        if filters == Filters::Recording && !exchange.messages.iter().any(is_upgrade) {
            found.extend(check_filter(lines, &proxied));
        }
    }
    found
}

/// Compares the lines of answered requests with the final responses at the client.
fn check_responses(case: &Case, exchange: &Exchange, lines: &[Value]) -> Vec<String> {
    let mut found = Vec::new();
    let answered: Vec<&Value> = lines.iter().filter(|line| text(line, "response_code_details") != GONE).collect();
    let finals: Vec<(u16, u64)> =
        exchange.replies.iter().filter_map(|reply| Some((reply.status.final_code()?, reply.body))).collect();
    let count = finals.len() + usize::from(exchange.then.ends_with("200 ok"));
    // A client that stops waiting for a response may have closed before the proxy answers: RFC 9112 §9.6 lets it half
    // close, so that its end alone stops nothing.
    let unseen = usize::from(exchange.then.ends_with("open"));
    if !(count..=count + unseen).contains(&answered.len()) {
        let statuses: Vec<u64> = answered.iter().map(|line| number(line, "status")).collect();
        found.push(format!("{count} responses, and lines with the statuses {statuses:?}"));
    }
    for (line, (status, body)) in answered.iter().zip(finals) {
        if number(line, "status") != u64::from(status) {
            found.push(format!("the line has the status {}, the client {status}", line["status"]));
        }
        if number(line, "bytes_out") != body {
            found.push(format!("the line has bytes_out {}, the client {body} of {status}", line["bytes_out"]));
        }
    }
    let listener = format!("default/edge/h{}", exchange.lane);
    let foreign = lines.iter().filter(|line| text(line, "listener") != listener);
    found.extend(foreign.map(|line| format!("the line of {} has the listener {}", case.name, line["listener"])));
    found
}

/// Compares the lines of proxied requests with the messages at the origin.
fn check_messages(exchange: &Exchange, proxied: &[&Value]) -> Vec<String> {
    let mut found = Vec::new();
    let messages: Vec<&Message> = exchange.messages.iter().filter(|message| !message.is_cut).collect();
    if proxied.len() != messages.len() {
        found.push(format!("{} messages at the origin, {} lines with outcome ok", messages.len(), proxied.len()));
    }
    let route = format!("default/r{}/0/0", exchange.lane);
    let origin = exchange.origin.to_string();
    for (line, message) in proxied.iter().zip(messages) {
        let of_origin = |bytes: &[u8]| shorten(&String::from_utf8_lossy(bytes));
        if text(line, "method").as_bytes() != message.method || text(line, "path").as_bytes() != message.target {
            let (method, target) = (of_origin(&message.method), of_origin(&message.target));
            let path = shorten(text(line, "path"));
            found.push(format!("the line has {} {path}, the origin {method} {target}", text(line, "method")));
        }
        if u128::from(number(line, "bytes_in")) != message.body {
            found.push(format!("the line has bytes_in {}, the origin {}", line["bytes_in"], message.body));
        }
        if text(line, "route") != route || text(line, "endpoint") != origin {
            found.push(format!("the line has {} and {}, not {route} and {origin}", line["route"], line["endpoint"]));
        }
    }
    found
}

/// Compares the requests that the filter has seen to their end with the proxied ones, which agree with the origin.
fn check_filter(lines: &[Value], proxied: &[&Value]) -> Vec<String> {
    let mut found = Vec::new();
    let is_complete = |line: &&Value| text(&line["fields"], "seen_end") == "true";
    let complete = lines.iter().filter(is_complete).count();
    if complete != proxied.len() {
        found.push(format!("the filter saw {complete} whole requests, {} were proxied", proxied.len()));
    }
    for line in proxied {
        let fields = &line["fields"];
        let rows = [
            ("seen_method", text(line, "method").chars().take(MAX_FIELD_BYTES).collect()),
            ("seen_path", text(line, "path").chars().take(MAX_FIELD_BYTES).collect()),
            ("seen_bytes", number(line, "bytes_in").to_string()),
            ("seen_end", "true".to_owned()),
        ];
        for (name, expected) in rows {
            if text(fields, name) != expected {
                found.push(format!("{name} is {}, not {}", shorten(text(fields, name)), shorten(&expected)));
            }
        }
    }
    found
}

fn text<'a>(line: &'a Value, name: &str) -> &'a str {
    line[name].as_str().unwrap_or_default()
}

fn number(line: &Value, name: &str) -> u64 {
    line[name].as_u64().unwrap_or_default()
}
