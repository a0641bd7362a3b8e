//! `weir-control`, the control plane's program: reads the command line, does what it asks, and says in one line why not.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use weir_control::app;
use weir_control::args::{Action, CommandLine};
use weir_loader::compile_here;

fn main() -> ExitCode {
    let outcome = match CommandLine::parse().action() {
        Ok(Action::Run(bootstrap)) => app::run(*bootstrap),
        Ok(Action::Compile(request)) if compile_here(&request) => Ok(()),
        Ok(Action::Compile(_)) => return ExitCode::FAILURE, // It has said why.
        Err(reason) => Err(anyhow::Error::msg(reason)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Without standard error there is nobody to tell; the exit code says the rest.
            drop(writeln!(io::stderr(), "weir-control: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
