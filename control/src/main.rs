//! `weir-control`, the control plane's program: reads the command line, does what it asks, and says in one line why not.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use weir_control::app;
use weir_control::args::CommandLine;

fn main() -> ExitCode {
    let outcome = CommandLine::parse().bootstrap().map_err(anyhow::Error::msg).and_then(app::run);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Without standard error there is nobody to tell; the exit code says the rest.
            drop(writeln!(io::stderr(), "weir-control: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
