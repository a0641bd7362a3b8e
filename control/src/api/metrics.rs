//! The metrics of the control plane, in the Prometheus text format.

use std::fmt::Write;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use crate::api::state::ApiState;

pub(crate) async fn get(State(api): State<Arc<ApiState>>) -> Response {
    let mut text = String::new();
    let is_ready = u64::from(api.health.faults().is_empty());
    gauge(&mut text, "weir_control_ready", "1 if the store is in order, see /ready.", is_ready);
    gauge(&mut text, "weir_control_revision", "The last revision of the store.", api.publisher.revision());
    let generation = api.snapshot_cache.current().generation;
    gauge(&mut text, "weir_control_generation", "Snapshots since the process started.", generation);
    let proxies = api.proxies.all();
    gauge(&mut text, "weir_control_proxies", "Connected proxies.", proxies.len());
    let rejecting = proxies.iter().filter(|proxy| proxy.is_rejecting()).count();
    gauge(&mut text, "weir_control_rejecting_proxies", "Connected proxies that reject a resource.", rejecting);
    let name = "weir_control_root_expiry_timestamp_seconds";
    head(&mut text, name, "The end of each root certificate, in Unix time.");
    for root in api.ca.status().roots {
        if let Some(end) = root.certificate_ends {
            line(&mut text, &format!("{name}{{sha256=\"{}\"}} {}", root.sha256, end.as_second()));
        }
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

fn gauge(text: &mut String, name: &str, help: &str, value: impl std::fmt::Display) {
    head(text, name, help);
    line(text, &format!("{name} {value}"));
}

fn head(text: &mut String, name: &str, help: &str) {
    line(text, &format!("# HELP {name} {help}"));
    line(text, &format!("# TYPE {name} gauge"));
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("writing to a String does not fail");
}
