//! `cargo xtask bench --rows`: the cost of requests that differ from a small GET, in each proxy without filters.
//!
//! The proxies run at once and take turns, as for small requests. They start anew for each shape of load, so that
//! memory is that of one shape. Requests are counted by the origin, which answers an upload after it has read all of it.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::chain::Chain;
use super::env::BenchEnv;
use super::idle::{self, IdleRow};
use super::load::{self, Load, Sample};
use super::process::BenchProcess;
use super::slow;
use super::target::{BenchTarget, ProxyKind};
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
}

impl Shape {
    pub(super) const ALL: [Self; 5] =
        [Self::LargeResponses, Self::Uploads, Self::Pipelined, Self::SlowClients, Self::SlowClientsBesideOthers];

    /// Returns the name that the tables print.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::LargeResponses => "responses of 64 KiB, 32 connections",
            Self::Uploads => "uploads of 1 MiB, 8 connections",
            Self::Pipelined => "eight requests in one write, 8 connections",
            Self::SlowClients => "1,000 slow clients",
            Self::SlowClientsBesideOthers => "1,000 slow clients, and 16 connections of `wrk`",
        }
    }

    fn sample(self, env: &BenchEnv, running: &BenchProcess) -> Result<Sample> {
        let load = match self {
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
    let mut shapes = Vec::new();
    for shape in Shape::ALL {
        shapes.extend(measure_shape(env, shape, rounds)?);
    }
    Ok(Rows { shapes, idle: idle::measure(env, starts)? })
}

fn measure_shape(env: &BenchEnv, shape: Shape, rounds: usize) -> Result<Vec<ShapeRow>> {
    let mut measured = Vec::new();
    for target in ProxyKind::ALL.map(|peer| BenchTarget::of(peer, Chain::Empty)) {
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
