//! `weir`, the command line tool: applies resources, shows their status and that of the proxies, and rolls back. Every
//! command calls the control API; the tool decides nothing.

mod args;
mod bundle;
mod client;
mod commands;
mod input;
mod oci;
mod output;
mod table;
mod tls;
mod url;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use weir_model::printable_lines;

use crate::args::CommandLine;

fn main() -> ExitCode {
    match commands::run(CommandLine::parse()) {
        Ok(text) => match io::stdout().write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE, // The reader has closed the pipe.
        },
        Err(error) => {
            // If standard error is closed, the exit code is all that remains.
            drop(writeln!(io::stderr(), "weir: {}", printable_lines(&format!("{error:#}"))));
            ExitCode::FAILURE
        }
    }
}
