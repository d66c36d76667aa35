//! The `streammanager` command: parse, run, exit code.

use std::process::ExitCode;

use clap::Parser;
use streammanager_emulator::cli::Cli;

fn main() -> ExitCode {
    streammanager_emulator::run(Cli::parse()).into()
}
