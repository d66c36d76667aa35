//! `buffer`: a data folder's queues and state, looked at, proved, mended and replayed. A folder in use is asked of the system
//! that uses it.

mod replay;
mod show;

use std::io::{IsTerminal, stdin};
use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};
use streammanager::embedded::{FolderLock, database_file, prove, salvage};
use streammanager::time::Clock;
use streammanager_host::buffer::{Inspection, ReadBy, inspect};
use streammanager_host::exit::{Exit, Failure};

use super::api::call;
use super::operate::harmless;
use super::{print, say, says_yes};
use crate::cli::{BufferCommand, EndpointArgs, FolderArgs};

/// Reads of a folder that another process writes to, until one is taken for what it is.
const READS_WITHOUT_LOCK: usize = 3;

pub(crate) async fn run(command: BufferCommand) -> Result<Exit, Failure> {
    match command {
        BufferCommand::Inspect { endpoint } => {
            let read = read(&endpoint, false).await?;
            tell(endpoint.json, &read, show::contents)?;
            Ok(Exit::Done)
        }
        BufferCommand::Verify { endpoint } => {
            let read = read(&endpoint, true).await?;
            tell(endpoint.json, &read, show::verdict)?;
            Ok(if read["sound"] == true { Exit::Done } else { Exit::Partly })
        }
        BufferCommand::Repair { folder, yes } => repair(&folder, yes),
        BufferCommand::Replay(args) => replay::run(&args).await,
    }
}

fn tell(as_json: bool, value: &Value, lines: impl FnOnce(&Value) -> Vec<String>) -> Result<(), Failure> {
    if as_json { print([value]) } else { print(lines(value).iter().map(|line| harmless(line))) }
}

/// The folder's own files where nobody uses it; else what the system says that uses it, and where that does not answer, the
/// files all the same, read only.
async fn read(endpoint: &EndpointArgs, thorough: bool) -> Result<Value, Failure> {
    let data = endpoint.data();
    there(&data)?;
    let now = Clock::system().now();
    let Ok(_lock) = FolderLock::take(&data) else {
        let path = if thorough { "/buffer?verify=true" } else { "/buffer" };
        return match call(endpoint, Method::GET, path, None).await {
            Ok(answer) => Ok(answer),
            Err(problem) => {
                say(format_args!(
                    "{} is in use, and its system does not say what it holds ({problem}): the files are read without its lock",
                    data.display()
                ));
                let mut read = inspect(&data, ReadBy::CommandWithoutLock, now, thorough)?;
                for _ in 1..READS_WITHOUT_LOCK {
                    if read.sound {
                        break;
                    }
                    read = inspect(&data, ReadBy::CommandWithoutLock, now, thorough)?;
                }
                value(&read)
            }
        };
    };
    value(&inspect(&data, ReadBy::Command, now, thorough)?)
}

fn value(inspection: &Inspection) -> Result<Value, Failure> {
    serde_json::to_value(inspection).map_err(Failure::new)
}

/// # Errors
/// For a folder that has no database: a command that reads makes none.
fn there(data: &Path) -> Result<(), Failure> {
    if database_file(data).exists() {
        Ok(())
    } else {
        let data = data.display();
        Err(Failure::new(format!("{data} holds no buffer: there is no state.redb in it; name the folder with --data")))
    }
}

fn repair(folder: &FolderArgs, yes: bool) -> Result<Exit, Failure> {
    let data = &folder.data;
    there(data)?;
    let lock = FolderLock::take(data)?;
    let now = Clock::system().now();
    let before = value(&inspect(data, ReadBy::Command, now, true)?)?;
    let is_whole = before["sound"] == true;
    let mut outcome = json!({ "found": before, "repaired": false, "kept_as": null });
    if is_whole {
        // Without a mark that costs nothing.
        prove(data, &lock, now)?;
        tell(folder.json, &outcome, |_| {
            vec![format!("{}: everything is what was written: nothing to repair", data.display())]
        })?;
        return Ok(Exit::Done);
    }
    if !folder.json {
        tell(false, &outcome["found"], show::verdict)?;
        print([show::plan(data)])?;
    }
    // Without a person to ask, the answer is no.
    let repairs = yes || (stdin().is_terminal() && says_yes("Repair?")?);
    if !repairs {
        if folder.json {
            print([&outcome])?;
        }
        say("nothing was changed: to repair, run it again with --yes");
        return Ok(Exit::Partly);
    }
    let repaired = salvage::repair(data, &lock, now)?;
    prove(data, &lock, now)?;
    outcome["repaired"] = true.into();
    outcome["kept_as"] = repaired.kept_as.display().to_string().into();
    tell(folder.json, &outcome, |_| {
        vec![
            format!("{} is a new database with everything that could be read", database_file(data).display()),
            format!("the old one is kept whole as {}", repaired.kept_as.display()),
        ]
    })?;
    Ok(Exit::Partly)
}
