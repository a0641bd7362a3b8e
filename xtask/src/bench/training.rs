//! What a proxy does while its profile is taken: requests as they come in life, over both protocols, with and without
//! bodies, through no filter, a small one and all four. What is not done here counts as rare.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::chain::Chain;
use super::contestant::{Contestant, Peer};
use super::load::{self, Load};
use super::process::Running;
use super::setting::Setting;
use crate::progress::say;

/// Bytes of a body that is sent up.
const BODY_BYTES: usize = 16 * 1024;

/// Serves under load with each of the chains, then ends, which is when the counters are written.
pub(super) fn run(setting: &Setting) -> Result<()> {
    let body = setting.folder().join("body");
    std::fs::write(&body, vec![b'x'; BODY_BYTES]).with_context(|| body.display().to_string())?;
    for chain in [Chain::Empty, Chain::ThreeHeaders, Chain::Four] {
        let contestant = Contestant::of(Peer::Weir, chain);
        say(&format!("{contestant} is watched"));
        let running = contestant.start(setting, 1).with_context(|| contestant.to_string())?;
        load::run(setting, &running, &Load::seconds(6))?;
        load::run(setting, &running, &Load { connections: 300, ..Load::seconds(3) })?;
        requests(&running, 20_000, &["-m", "8"])?;
        requests(&running, 3_000, &["--h1", "-d", &body.display().to_string()])?;
        requests(&running, 3_000, &["-m", "8", "-d", &body.display().to_string()])?;
    }
    Ok(())
}

/// So many requests from four connections of `h2load`.
fn requests(running: &Running, count: u32, arguments: &[&str]) -> Result<()> {
    let mut h2load = Command::new("h2load");
    h2load.args(["-n", &count.to_string(), "-c", "4", "-H", "x-api-key: bench-key"]).args(arguments);
    h2load.arg(format!("http://{}/", running.address())).stdin(Stdio::null());
    let output = h2load.output().context("h2load did not start")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success() && text.contains(&format!("{count} succeeded")), "h2load: {text}");
    Ok(())
}
