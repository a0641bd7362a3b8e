//! The training load of the profile: realistic requests over both protocols, with and without bodies, through no
//! filter, one small filter and all four. Code that does not run here is treated as cold.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::chain::Chain;
use super::env::BenchEnv;
use super::load::{self, Load};
use super::process::BenchProcess;
use super::target::{BenchTarget, ProxyKind};
use crate::progress::print;

/// Bytes of an uploaded body.
const BODY_BYTES: usize = 16 * 1024;

/// Serves load with each of the chains, then shuts down, which writes the counters.
pub(super) fn run(env: &BenchEnv) -> Result<()> {
    let body = env.folder().join("body");
    std::fs::write(&body, vec![b'x'; BODY_BYTES]).with_context(|| body.display().to_string())?;
    for chain in [Chain::Empty, Chain::ThreeHeaders, Chain::Four] {
        let target = BenchTarget::of(ProxyKind::Weir, chain);
        print(&format!("{target} is watched"));
        let running = target.start(env, 1).with_context(|| target.to_string())?;
        load::run(env, &running, &Load::seconds(6))?;
        load::run(env, &running, &Load { connections: 300, ..Load::seconds(3) })?;
        requests(&running, 20_000, &["-m", "8"])?;
        requests(&running, 3_000, &["--h1", "-d", &body.display().to_string()])?;
        requests(&running, 3_000, &["-m", "8", "-d", &body.display().to_string()])?;
    }
    Ok(())
}

/// Sends this many requests over four connections of `h2load`.
fn requests(running: &BenchProcess, count: u32, arguments: &[&str]) -> Result<()> {
    let mut h2load = Command::new("h2load");
    h2load.args(["-n", &count.to_string(), "-c", "4", "-H", "x-api-key: bench-key"]).args(arguments);
    h2load.arg(format!("http://{}/", running.address())).stdin(Stdio::null());
    let output = h2load.output().context("h2load did not start")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success() && text.contains(&format!("{count} succeeded")), "h2load: {text}");
    Ok(())
}
