//! The `streammanager` command: run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    streammanager_emulator::run().into()
}
