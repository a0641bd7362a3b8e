//! `weir-proxy validate`: the configuration walk up to the swap: reads and compiles files, builds routes, compiles
//! modules, starts plugins. Addresses are not bound, because a running proxy may have bound them already.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use tokio::sync::mpsc;
use weir_file_source::{FileSource, default_compiler};
use weir_loader::CompilerProcess;
use weir_resources::{Compiled, Diagnostic};

use crate::active::{ActiveConfig, ModuleLoader, ModuleLoaderOptions, OpenFailure, Warmer, WarmerOptions, prepare};
use crate::app::bootstrap::ValidateOptions;
use crate::config::{diagnostics, format_diagnostics};
use crate::filter::SharedPluginState;
use crate::telemetry::Metrics;
use crate::upstream::Resolver;

/// Prints a summary of a valid configuration, or all diagnostics of an invalid one.
pub(super) async fn validate(options: ValidateOptions) -> anyhow::Result<ExitCode> {
    let mut source =
        FileSource::start(&options.config, &options.plugins, default_compiler()).context("files cannot be watched")?;
    let outcome = match source.read().await.outcome {
        Ok(compiled) => warm(&options, &compiled).await.map(|()| compiled),
        Err(diagnostics) => Err(diagnostics),
    };
    match outcome {
        Ok(compiled) => {
            for warning in &compiled.warnings {
                writeln!(io::stderr(), "warning: {warning}").context("standard error is closed")?;
            }
            writeln!(io::stdout(), "{}", summary(&options, &compiled)).context("standard output is closed")?;
            Ok(ExitCode::SUCCESS)
        }
        Err(diagnostics) => {
            write!(io::stderr(), "{}", format_diagnostics(&diagnostics)).context("standard error is closed")?;
            Ok(ExitCode::FAILURE)
        }
    }
}

async fn warm(options: &ValidateOptions, compiled: &Compiled) -> Result<(), Arc<Vec<Diagnostic>>> {
    let modules = ModuleLoaderOptions {
        cache: options.cache.clone(),
        builtins: options.plugins.clone(),
        compiler: CompilerProcess::this_program(options.compile_timeout),
        control_plane: None,
    };
    let modules = ModuleLoader::new(modules, Arc::new(Metrics::new(1)));
    let (restarts, _unused) = mpsc::channel(1);
    let (state, open_failure) = (SharedPluginState::new(""), OpenFailure::Reject);
    let resolver = Resolver::new(Vec::new());
    let warmer = Warmer::new(WarmerOptions { modules, state, restarts, workers: 1, resolver, open_failure });
    let previous = Arc::new(ActiveConfig::empty());
    let prepared = prepare(Arc::clone(&compiled.snapshot), &previous);
    match warmer.warm(prepared, previous).await {
        Ok(_) => Ok(()),
        Err(rejections) => Err(Arc::new(diagnostics(compiled, &rejections))),
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

fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}
