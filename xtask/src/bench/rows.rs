//! `cargo xtask bench --rows`: the cost of requests that differ from a small GET, in each proxy without filters.
//!
//! The proxies run at once and take turns, as for small requests. They start anew for each shape of load, so that
//! memory is that of one shape. Requests are counted by the origin, which answers an upload after it has read all of it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use super::chain::Chain;
use super::env::BenchEnv;
use super::idle::{self, IdleRow};
use super::load::{self, Http2Load, Load, Sample};
use super::process::BenchProcess;
use super::slow;
use super::target::{BenchTarget, ProxyKind};
use super::transport::Transport;
use super::websocket;
use crate::progress::print;
use crate::workspace::root;

/// All rows.
pub(super) struct Rows {
    pub(super) shapes: Vec<ShapeRow>,
    pub(super) idle: Vec<IdleRow>,
}

/// The samples of one proxy with one shape of load, one per round.
pub(super) struct ShapeRow {
    pub(super) shape: Shape,
    pub(super) target: BenchTarget,
    pub(super) samples: Vec<Sample>,
}

/// The shape of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    LargeResponses,
    Uploads,
    Pipelined,
    /// Slow clients without other load: the cost is that of their requests.
    SlowClients,
    /// Slow clients and `wrk`: the cost is the mean of all requests, latency and throughput are those of `wrk`.
    SlowClientsBesideOthers,
    UpstreamTls,
    UpstreamMutualTls,
    Http2,
    Grpc,
    WebSocket,
}

impl Shape {
    pub(super) const ALL: [Self; 5] =
        [Self::LargeResponses, Self::Uploads, Self::Pipelined, Self::SlowClients, Self::SlowClientsBesideOthers];

    /// Protocols other than plain HTTP/1.1.
    pub(super) const PROTOCOLS: [Self; 5] =
        [Self::UpstreamTls, Self::UpstreamMutualTls, Self::Http2, Self::Grpc, Self::WebSocket];

    const fn transport(self) -> Transport {
        match self {
            Self::UpstreamTls => Transport::UpstreamTls,
            Self::UpstreamMutualTls => Transport::UpstreamMutualTls,
            Self::Http2 => Transport::Http2,
            Self::Grpc => Transport::Grpc,
            Self::WebSocket => Transport::WebSocket,
            _ => Transport::Plain,
        }
    }

    /// Returns the name that the tables print.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::UpstreamTls => "TLS to the origin, 32 connections",
            Self::UpstreamMutualTls => "mutual TLS to the origin, 32 connections",
            Self::Http2 => "HTTP/2 on both sides, 8 connections with 8 streams",
            Self::Grpc => "gRPC on both sides, 8 connections with 8 streams",
            Self::WebSocket => "WebSocket echo of 64 bytes, 8 connections",
            Self::LargeResponses => "responses of 64 KiB, 32 connections",
            Self::Uploads => "uploads of 1 MiB, 8 connections",
            Self::Pipelined => "eight requests in one write, 8 connections",
            Self::SlowClients => "1,000 slow clients",
            Self::SlowClientsBesideOthers => "1,000 slow clients, and 16 connections of `wrk`",
        }
    }

    fn sample(self, env: &BenchEnv, running: &BenchProcess) -> Result<Sample> {
        let load = match self {
            Self::UpstreamTls | Self::UpstreamMutualTls => Load::seconds(1),
            Self::Http2 => return load::run_http2(env, running, &Http2Load { seconds: 2, path: "/", message: None }),
            Self::Grpc => {
                let message = env.folder().join("message");
                std::fs::write(&message, b"\0\0\0\0\x05hello").with_context(|| message.display().to_string())?;
                let load = Http2Load { seconds: 2, path: "/echo.Echo/Say", message: Some(message) };
                return load::run_http2(env, running, &load);
            }
            Self::WebSocket => return websocket::run(running, Duration::from_secs(2)),
            Self::LargeResponses => Load { path: "/64k".to_owned(), ..Load::seconds(1) },
            Self::Uploads => {
                let path = "/upload".to_owned();
                Load { connections: 8, path, script: Some(script("upload.lua")?), ..Load::seconds(2) }
            }
            Self::Pipelined => {
                let load = Load { connections: 8, script: Some(script("pipeline.lua")?), ..Load::seconds(1) };
                // `wrk` corrects latencies by the interval between requests, which is wrong for eight at once.
                return Ok(Sample { p50: f64::NAN, p99: f64::NAN, ..load::run(env, running, &load)? });
            }
            Self::SlowClients => return slow::beside(running, || load::count(env, running, slow::PERIOD * 2)),
            Self::SlowClientsBesideOthers => {
                let others = Load { connections: 16, ..Load::seconds(2) };
                return slow::beside(running, || load::run(env, running, &others));
            }
        };
        load::run(env, running, &load)
    }
}

fn script(name: &str) -> Result<PathBuf> {
    Ok(root()?.join("xtask/bench").join(name))
}

/// Measures each shape in `rounds` turns, and the memory of idle connections in `starts` starts of each proxy.
pub(super) fn measure(env: &BenchEnv, rounds: usize, starts: usize) -> Result<Rows> {
    let shapes = measure_shapes(env, &Shape::ALL, rounds)?;
    Ok(Rows { shapes, idle: idle::measure(env, starts)? })
}

/// Measures shapes in `rounds` turns.
pub(super) fn measure_shapes(env: &BenchEnv, shapes: &[Shape], rounds: usize) -> Result<Vec<ShapeRow>> {
    let rows = shapes.iter().map(|shape| measure_shape(env, *shape, rounds)).collect::<Result<Vec<_>>>()?;
    Ok(rows.into_iter().flatten().collect())
}

fn measure_shape(env: &BenchEnv, shape: Shape, rounds: usize) -> Result<Vec<ShapeRow>> {
    let mut measured = Vec::new();
    let transport = shape.transport();
    for peer in ProxyKind::ALL.into_iter().filter(|peer| peer.supports(transport)) {
        let target = BenchTarget { transport, ..BenchTarget::of(peer, Chain::Empty) };
        let running = target.start(env, 1).with_context(|| target.to_string())?;
        measured.push((running, ShapeRow { shape, target, samples: Vec::new() }));
    }
    for round in 0..=rounds {
        for (running, ShapeRow { target, samples, .. }) in &mut measured {
            let sample = shape.sample(env, running).with_context(|| format!("{target}, {}", shape.name()))?;
            if round == 0 {
                continue; // It was cold.
            }
            print(&format!("{round}/{rounds} {target}, {}: {sample}", shape.name()));
            samples.push(sample);
        }
    }
    Ok(measured.into_iter().map(|(_, row)| row).collect())
}
