//! The `streammanager` command. `ingest` and `decode` work on files; with the feature `up` the same handlers that run on
//! AWS run here from the very template that is deployed, beside the operator's commands.

#[cfg(feature = "up")]
mod bench;
mod cli;
mod commands;
#[cfg(feature = "up")]
mod cost;
mod files;
mod map;

use std::io::IsTerminal;

use clap::Parser;
use cli::{Cli, Command};
use streammanager_host::exit::{Exit, Failure};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Runs the command that the process's arguments name, on a runtime of its own; a failure is printed as one line.
pub fn run() -> Exit {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return failed(&Failure::new(format!("cannot start the runtime: {e}"))),
    };
    log(&cli.command);
    runtime.block_on(command(cli)).unwrap_or_else(|failure| failed(&failure))
}

async fn command(cli: Cli) -> Result<Exit, Failure> {
    match cli.command {
        Command::Ingest(args) => commands::ingest::run(args).await,
        #[cfg(feature = "up")]
        Command::Up(args) => streammanager_host::up::run(args.into()).await,
        #[cfg(feature = "up")]
        Command::Status(endpoint) => commands::status::status(endpoint).await,
        #[cfg(feature = "up")]
        Command::Streams(command) => commands::operate::streams(command).await,
        #[cfg(feature = "up")]
        Command::Connectors(command) => commands::operate::connectors(command).await,
        #[cfg(feature = "up")]
        Command::Alerts(command) => commands::operate::alerts(command).await,
        #[cfg(feature = "up")]
        Command::Top(args) => commands::top::top(args).await,
        #[cfg(feature = "up")]
        Command::Tap(args) => commands::tap::run(args).await,
        #[cfg(feature = "up")]
        Command::Trace(args) => commands::trace::trace(args).await,
        #[cfg(feature = "up")]
        Command::Audit(command) => commands::operate::audit(command).await,
        #[cfg(feature = "up")]
        Command::DeadLetters(command) => commands::dead_letters::run(command).await,
        #[cfg(feature = "up")]
        Command::Buffer(command) => commands::buffer::run(command).await,
        #[cfg(feature = "up")]
        Command::Bench(command) => commands::bench::run(command).await,
        #[cfg(feature = "up")]
        Command::Topics(command) => commands::topics::run(command).await,
        #[cfg(feature = "up")]
        Command::Simulate(args) => commands::simulate::run(args).await,
        #[cfg(feature = "up")]
        Command::Cost(args) => commands::cost::run(args).await,
        Command::Decode(args) => commands::decode::run(args),
    }
}

/// What is logged unless `RUST_LOG` says otherwise: warnings, and what the Kafka endpoint removes.
const LOGGED: &str = "warn,streammanager_kafka_endpoint=info";

/// Logs go to standard error, with colours only where somebody looks at a terminal.
fn log(command: &Command) {
    // A simulated week has thousands of faults, and each is warned of.
    let usual = match command {
        #[cfg(feature = "up")]
        Command::Simulate(_) | Command::Cost(_) => "off",
        _ => LOGGED,
    };
    let usual = || usual.parse::<Targets>().unwrap_or_default();
    let asked = std::env::var("RUST_LOG").ok().filter(|asked| !asked.is_empty());
    let filter = asked.map_or_else(usual, |asked| {
        asked.parse().unwrap_or_else(|problem| {
            eprintln!("streammanager: RUST_LOG: {problem}; logging as without it");
            usual()
        })
    });
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    let lines = tracing_subscriber::fmt::layer().with_ansi(colours).with_writer(std::io::stderr);
    tracing_subscriber::registry().with(lines).with(filter).init();
}

fn failed(failure: &Failure) -> Exit {
    eprintln!("streammanager: {failure}");
    failure.exit()
}
