//! `weir-proxy validate`: the same way that a running proxy goes, up to the swap: files read and compiled, routes built,
//! modules compiled, plugins started. Addresses are not bound: the proxy that serves these very files may hold them.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use tokio::sync::mpsc;
use weir_file_source::{FileSource, compile_alone};
use weir_loader::CompilerProcess;
use weir_resources::{Compiled, Refusal};

use crate::active::{ActiveConfig, Modules, ModulesOptions, Warmer, WarmerOptions, prepare};
use crate::app::ValidateOptions;
use crate::config::{refusals, text};
use crate::filter::PluginState;
use crate::telemetry::Metrics;

/// Prints what a running proxy would say.
pub(super) async fn validate(options: ValidateOptions) -> anyhow::Result<ExitCode> {
    let mut source =
        FileSource::start(&options.config, &options.plugins, compile_alone()).context("files cannot be watched")?;
    let outcome = match source.read().await.outcome {
        Ok(compiled) => warm(&options, &compiled).await.map(|()| compiled),
        Err(refusals) => Err(refusals),
    };
    match outcome {
        Ok(compiled) => {
            writeln!(io::stdout(), "{}", summary(&options, &compiled)).context("standard output is closed")?;
            Ok(ExitCode::SUCCESS)
        }
        Err(refusals) => {
            write!(io::stderr(), "{}", text(&refusals)).context("standard error is closed")?;
            Ok(ExitCode::FAILURE)
        }
    }
}

async fn warm(options: &ValidateOptions, compiled: &Compiled) -> Result<(), Arc<Vec<Refusal>>> {
    let modules = ModulesOptions {
        cache: options.cache.clone(),
        builtins: options.plugins.clone(),
        compiler: CompilerProcess::this_program(),
        control_plane: None,
    };
    let modules = Modules::new(modules, Arc::new(Metrics::new(1)));
    let (restarts, _requests) = mpsc::channel(1);
    let warmer = Warmer::new(WarmerOptions { modules, state: PluginState::new(""), restarts, workers: 1 });
    let previous = Arc::new(ActiveConfig::empty());
    let prepared = prepare(Arc::new(compiled.snapshot.clone()), &previous);
    match warmer.warm(prepared, previous).await {
        Ok(_) => Ok(()),
        Err(rejections) => Err(Arc::new(refusals(compiled, &rejections))),
    }
}

fn summary(options: &ValidateOptions, compiled: &Compiled) -> String {
    let snapshot = &compiled.snapshot;
    let tables = snapshot.route_tables.values();
    let routes: usize = tables.flat_map(|table| &table.virtual_hosts).map(|host| host.routes.len()).sum();
    format!(
        "{} is valid: {}, {}, {}, {}; version {}",
        options.config.display(),
        count(snapshot.listeners.len(), "listener"),
        count(routes, "route"),
        count(snapshot.clusters.len(), "cluster"),
        count(snapshot.plugins.len(), "plugin"),
        snapshot.version,
    )
}

fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}
