//! The `weir-proxy` program: parses the command line, runs its command, and prints an error in one line.

mod allocator;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use weir_proxy::app;
use weir_proxy::args::{Command, CommandLine};

#[global_allocator]
static ALLOCATOR: allocator::Allocator = allocator::Allocator;

fn main() -> ExitCode {
    let outcome = match CommandLine::parse().into_command() {
        Ok(Command::Run(bootstrap)) => app::run(*bootstrap).map(|()| ExitCode::SUCCESS),
        Ok(Command::Agent(options)) => app::run_agent(options).map(|()| ExitCode::SUCCESS),
        Ok(Command::Validate(options)) => app::validate(options),
        Ok(Command::Compile(options)) => return app::compile(options),
        Err(reason) => Err(anyhow::anyhow!(reason)),
    };
    outcome.unwrap_or_else(|error| {
        // If standard error is closed, the exit code is all that remains.
        drop(writeln!(io::stderr(), "weir-proxy: {error:#}"));
        ExitCode::FAILURE
    })
}
