//! `weir`, the tool for people: applies resources, shows what is there and what became of it, goes back. Everything goes
//! through the control API; nothing is decided here.

mod args;
mod client;
mod commands;
mod files;
mod oci;
mod plugin;
mod table;
mod tls;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use crate::args::CommandLine;

fn main() -> ExitCode {
    match commands::run(CommandLine::parse()) {
        Ok(text) => match io::stdout().write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE, // Whoever read the output has gone.
        },
        Err(error) => {
            // Without standard error there is nobody to tell; the exit code says the rest.
            drop(writeln!(io::stderr(), "weir: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
