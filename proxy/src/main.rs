//! `weir-proxy`, the data plane's program: reads the command line, does what it asks, and says in one line why not.

mod allocator;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use weir_proxy::app;
use weir_proxy::args::{Action, CommandLine};

#[global_allocator]
static ALLOCATOR: allocator::Allocator = allocator::Allocator;

fn main() -> ExitCode {
    let outcome = match CommandLine::parse().action() {
        Ok(Action::Run(bootstrap)) => app::run(*bootstrap).map(|()| ExitCode::SUCCESS),
        Ok(Action::Agent(options)) => app::run_agent(options).map(|()| ExitCode::SUCCESS),
        Ok(Action::Validate(options)) => app::validate(options),
        Ok(Action::Compile(options)) => return app::compile(options),
        Err(reason) => Err(anyhow::anyhow!(reason)),
    };
    outcome.unwrap_or_else(|error| {
        // Without standard error there is nobody to tell; the exit code says the rest.
        drop(writeln!(io::stderr(), "weir-proxy: {error:#}"));
        ExitCode::FAILURE
    })
}
