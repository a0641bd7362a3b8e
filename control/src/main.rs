//! `weir-control`, the program of the control plane: parses the command line, runs the command, and prints an error in
//! one line.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use weir_control::app;
use weir_control::args::{Command, CommandLine};
use weir_loader::compile_here;

fn main() -> ExitCode {
    let result = match CommandLine::parse().action() {
        Ok(Command::Run(bootstrap)) => app::run(*bootstrap),
        Ok(Command::Maintain(task)) => task.run(),
        Ok(Command::Compile(request)) if compile_here(&request) => Ok(()),
        Ok(Command::Compile(_)) => return ExitCode::FAILURE, // The error is printed already.
        Err(reason) => Err(anyhow::Error::msg(reason)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Without standard error only the exit code reports the failure.
            drop(writeln!(io::stderr(), "weir-control: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
