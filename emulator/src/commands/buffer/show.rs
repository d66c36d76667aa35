//! What `buffer` says, for people.

use std::path::Path;

use serde_json::Value;
use streammanager::embedded::database_file;

use crate::commands::operate::{items, one_line, table, text};

/// Ranges and rows that are shown one by one; `--json` has a thousand.
const SHOWN: usize = 20;

/// Queues, state and the disk.
pub(super) fn contents(read: &Value) -> Vec<String> {
    let mut lines = vec![format!("{}   read by {}", text(&read["data"]), reader(read)), String::new()];
    let heads = ["queue", "messages", "records", "bytes", "oldest", "newest", "in flight", "delayed"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for (queue, held) in fields(&read["contents"]["queues"]) {
        let count = |name: &str| held[name].as_u64().map_or("-".to_owned(), |n| n.to_string());
        let time = |name: &str| held[name].as_str().map_or("-".to_owned(), one_line);
        rows.push(vec![
            one_line(queue),
            count("messages"),
            count("records"),
            bytes(&held["bytes"]),
            time("oldest"),
            time("newest"),
            count("in_flight"),
            count("delayed"),
        ]);
    }
    lines.extend(table(&rows));
    lines.push(String::new());
    let mut rows = vec![["state", "items", "bytes"].map(str::to_owned).to_vec()];
    for (group, held) in fields(&read["contents"]["items"]) {
        rows.push(vec![one_line(group), held["items"].to_string(), bytes(&held["bytes"])]);
    }
    lines.extend(table(&rows));
    lines.push(String::new());
    let (contents, disk) = (&read["contents"], &read["disk"]);
    let blobs = &contents["blobs"];
    lines.push(format!(
        "blobs    {} files, {}; {} dead letters need one",
        blobs["files"],
        bytes(&blobs["bytes"]),
        blobs["named"]
    ));
    lines.push(format!("aside    {} damaged rows, which become dead letters at the next start", contents["set_aside"]));
    lines.push(format!(
        "disk     state {}, blobs {}, kafka {}, reserve {} of {}; {} are free",
        bytes(&disk["state"]),
        bytes(&disk["blobs"]),
        bytes(&disk["kafka"]),
        bytes(&disk["reserve"]),
        bytes(&disk["reserve_wanted"]),
        bytes(&disk["free"])
    ));
    if read["sound"] != true || read["fsync_failed"] == true {
        lines.push(String::new());
        lines.extend(verdict(read));
    }
    lines
}

/// Whether everything is what was written, and each range and row that is not.
pub(super) fn verdict(read: &Value) -> Vec<String> {
    let (database, contents) = (&read["database"], &read["contents"]);
    let mut lines = Vec::new();
    for (name, found) in fields(&database["tables"]) {
        let number = |field: &str| found[field].as_u64().unwrap_or_default();
        let expected = found["expected"].as_u64();
        let missing = expected.map(|expected| expected.saturating_sub(number("rows")));
        if missing == Some(0) && number("bad") + number("from_before") + number("from_scan") == 0 {
            continue;
        }
        let of = expected.map_or("nothing says of how many".to_owned(), |expected| format!("of {expected}"));
        let mut line = format!("table {name}: {} rows can be read, {of}", number("rows"));
        for (field, words) in [
            ("bad", "are there and not what was written"),
            ("from_before", "are only in the commit before the last: they may have been delivered already"),
            ("from_scan", "stand on pages to which nothing leads: they may have been delivered already"),
        ] {
            if number(field) > 0 {
                line.push_str(&format!("; {} {words}", number(field)));
            }
        }
        lines.push(line);
    }
    if database["last_commit_lost"] == true {
        lines.push("the head of the last commit is damaged: the commit before it was read".to_owned());
    }
    let unread = |lost: &Value| {
        let from = lost["after"].as_str().map_or("from the begin".to_owned(), |after| format!("behind {after}"));
        let to = lost["until"].as_str().map_or("to the end".to_owned(), |until| format!("up to {until}"));
        format!(
            "lost: table {}, bytes {} to {} of state.redb: {from}, {to}",
            text(&lost["table"]),
            lost["from_byte"],
            lost["to_byte"]
        )
    };
    named(&mut lines, items(&database["lost"]).iter().map(unread).collect(), &database["lost_unnamed"]);
    let each = |value: &Value| items(value).iter().map(|what| format!("bad: {}", text(what))).collect::<Vec<_>>();
    named(&mut lines, each(&contents["unusable"]), &contents["unusable_unnamed"]);
    if read["fsync_failed"] == true {
        lines.push(
            "an fsync failed in this folder: nothing is written to it before the next start has proved its disk"
                .to_owned(),
        );
    }
    let sound = read["sound"] == true;
    let verdict = if sound { "everything is what was written" } else { "NOT everything is what was written" };
    lines.push(format!("{}: {verdict}, read by {}", text(&read["data"]), reader(read)));
    lines
}

/// The first of them, and how many more there are.
fn named(lines: &mut Vec<String>, all: Vec<String>, unnamed: &Value) {
    let more = all.len().saturating_sub(SHOWN) as u64 + unnamed.as_u64().unwrap_or_default();
    lines.extend(all.iter().take(SHOWN).map(|line| one_line(line)));
    if more > 0 {
        lines.push(format!("… and {more} more; --json names them"));
    }
}

/// What a repair would do.
pub(super) fn plan(data: &Path) -> String {
    format!(
        "repair writes all that can be read into a new {}, reads it again from the disk, and keeps the old file, whole, beside it; \
         rows that are not what was written become dead letters at the next start. Blobs that are gone stay gone.",
        database_file(data).display()
    )
}

fn reader(read: &Value) -> &str {
    match text(&read["read_by"]) {
        "running_system" => "the system that runs on it",
        "command_without_lock" => {
            "this command, while another process may write: what it writes meanwhile can look damaged"
        }
        _ => "this command; no system runs on it",
    }
}

fn fields(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn bytes(value: &Value) -> String {
    match value.as_u64() {
        None => "-".to_owned(),
        Some(n) if n < 10_000 => format!("{n} B"),
        Some(n) if n < 10_000_000 => format!("{} KiB", n / 1024),
        Some(n) => format!("{} MiB", n / (1024 * 1024)),
    }
}
