//! The operator's commands: clients of a running system's HTTP API.

use std::io::Write;
use std::path::{Path, PathBuf};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use streammanager::record::StreamId;
use streammanager::schedule::file::StreamsFile;
use streammanager_host::exit::{Exit, Failure};
use streammanager_host::folder;
use streammanager_host::host::http_client;

use crate::cli::{self, AlertsCommand, AuditCommand, ConnectorsCommand, EndpointArgs, StreamsCommand};
use crate::commands::api::{call, refused, send};
use crate::commands::{check, print};
use crate::files;

/// Entries of the audit log in one answer; `control` gives no more.
const AUDIT_PAGE: usize = 1_000;

pub(crate) async fn streams(command: StreamsCommand) -> Result<Exit, Failure> {
    match command {
        StreamsCommand::Apply { file, prune, endpoint } => {
            let parsed = match streams_file(&file, endpoint.json)? {
                Ok(parsed) => parsed,
                Err(told) => return Ok(told),
            };
            let path = if prune { "/streams?prune=true" } else { "/streams" };
            let diff =
                call(&endpoint, Method::PUT, path, Some(&serde_json::to_value(&parsed).map_err(Failure::new)?)).await?;
            show(&endpoint, &diff, |diff| {
                let marks = [
                    ("added", "+", "new, polled from now on"),
                    ("changed", "~", "changed, the next poll goes by it"),
                    ("removed", "-", "removed, polled no more"),
                    ("unchanged", "=", "unchanged"),
                ];
                let streams = marks.iter().flat_map(|(change, mark, words)| {
                    texts(&diff[*change]).map(move |id| format!("{mark} {id:<20} {words}"))
                });
                let sections = [("sensors", "mappings"), ("mqtt", "brokers")];
                let sections = sections.iter().filter_map(|(section, what)| {
                    let entries = diff[*section].as_u64()?;
                    Some(format!("~ {section:<20} {entries} {what}, in force within seconds"))
                });
                streams.chain(sections).collect()
            })
        }
        StreamsCommand::Check { file, probe, stream, json } => match streams_file(&file, json)? {
            Ok(parsed) => check::run(&parsed, probe.then_some(stream), json).await,
            Err(told) => Ok(told),
        },
        StreamsCommand::List { endpoint } => {
            let listed = call(&endpoint, Method::GET, "/streams", None).await?;
            show(&endpoint, &listed, streams_table)
        }
        StreamsCommand::Status { id, endpoint } => {
            let status = call(&endpoint, Method::GET, &format!("/streams/{id}"), None).await?;
            show(&endpoint, &status, |status| {
                let fields = status.as_object().into_iter().flatten();
                fields
                    .map(|(name, value)| {
                        let shown = if value.is_object() { fields_of(value) } else { cell(value) };
                        format!("{name:<18} {shown}")
                    })
                    .collect()
            })
        }
        StreamsCommand::Start { id, endpoint } => start_or_stop(&endpoint, &id, "start").await,
        StreamsCommand::Stop { id, endpoint } => start_or_stop(&endpoint, &id, "stop").await,
    }
}

/// A streams file; with `json` its mistakes are told as one object, and the command has ended.
fn streams_file(path: &Path, json: bool) -> Result<Result<StreamsFile, Exit>, Failure> {
    let text = String::from_utf8_lossy(&files::read(path).map_err(files::unreadable(path))?).into_owned();
    match StreamsFile::parse(&text) {
        Ok(file) => Ok(Ok(file)),
        Err(mistakes) if json => {
            print([json!({ "file": path, "mistakes": mistakes.mistakes, "more": mistakes.more })])?;
            Ok(Err(Exit::Failed))
        }
        Err(mistakes) => Err(Failure::new(format!("{}: {mistakes}", path.display()))),
    }
}

/// Each registered stream with its last and its next poll.
pub(super) fn streams_table(listed: &Value) -> Vec<String> {
    let heads = [
        "stream",
        "every",
        "active",
        "last good poll",
        "next poll",
        "records",
        "failed",
        "read",
        "polls",
        "last error",
    ];
    let fields =
        ["stream_id", "interval", "is_active", "last_success", "next_poll", "records_processed", "records_failed"];
    let rows = items(&listed["streams"]).iter().map(|stream| {
        let mut cells: Vec<String> = fields.iter().map(|field| cell(&stream[*field])).collect();
        let problem = if stream["last_error"].is_null() { &stream["missing"] } else { &stream["last_error"] };
        cells.extend([read_of(stream), fields_of(&stream["config"]), cell(problem)]);
        cells
    });
    let heads = heads.map(str::to_owned).to_vec();
    table(&std::iter::once(heads).chain(rows).collect::<Vec<_>>())
}

/// How far a stream that has an end is.
fn read_of(stream: &Value) -> String {
    let progress = &stream["progress"];
    match (progress["done"].as_u64(), progress["whole"].as_u64()) {
        _ if !stream["completed_at"].is_null() => format!("completed, {} {}", progress["done"], text(&progress["of"])),
        (Some(done), Some(whole)) => format!("{done} of {whole} {}", text(&progress["of"])),
        (Some(done), None) => format!("{done} {}", text(&progress["of"])),
        (None, _) => String::new(),
    }
}

async fn start_or_stop(endpoint: &EndpointArgs, id: &StreamId, action: &str) -> Result<Exit, Failure> {
    let answer = call(endpoint, Method::POST, &format!("/streams/{id}/{action}"), None).await?;
    let now = if action == "stop" { "stopped" } else { "started" };
    show(endpoint, &answer, |_| vec![format!("{id}: {now}")])
}

pub(crate) async fn connectors(command: ConnectorsCommand) -> Result<Exit, Failure> {
    match command {
        ConnectorsCommand::Register { id, tenant, sources, critical, principal, key_file, endpoint } => {
            let registration = json!({
                "id": id, "tenant": tenant, "sources": sources, "critical": critical, "principal": principal,
            });
            new_key(&endpoint, key_file, "/connectors", Some(&registration)).await
        }
        ConnectorsCommand::Rotate { id, key_file, endpoint } => {
            new_key(&endpoint, key_file, &format!("/connectors/{id}/rotate"), None).await
        }
        ConnectorsCommand::Revoke { id, endpoint } => {
            let answer = call(&endpoint, Method::DELETE, &format!("/connectors/{id}"), None).await?;
            show(&endpoint, &answer, |_| vec![format!("{id}: revoked")])
        }
        ConnectorsCommand::List { endpoint } => {
            let listed = call(&endpoint, Method::GET, "/connectors", None).await?;
            show(&endpoint, &listed, |listed| {
                let shown = items(&listed["connectors"]).iter().map(|connector| {
                    let grant = if connector["critical"] == true { "critical grant" } else { "no critical grant" };
                    let state = if connector["revoked"] == true { "revoked" } else { "active" };
                    let sources: Vec<&str> = texts(&connector["sources"]).collect();
                    format!("{:<20} {state:<8} {grant:<18} {}", text(&connector["id"]), sources.join(" "))
                });
                shown.collect()
            })
        }
    }
}

/// Asks for a new key. Its file is made before, so that no key is given out that cannot be kept.
async fn new_key(
    endpoint: &EndpointArgs,
    key_file: Option<PathBuf>,
    path: &str,
    body: Option<&Value>,
) -> Result<Exit, Failure> {
    let Some(file) = key_file else {
        let answer = call(endpoint, Method::POST, path, body).await?;
        return show(endpoint, &answer, |answer| vec![text(&answer["key"]).to_owned()]);
    };
    let failed = |e| Failure::new(format!("--key-file {}: {e}; name a new file", file.display()));
    let mut opened = folder::new_private(&file).map_err(failed)?;
    let mut answer = match call(endpoint, Method::POST, path, body).await {
        Ok(answer) => answer,
        Err(refused) => {
            let _ = std::fs::remove_file(&file);
            return Err(refused);
        }
    };
    let key = answer["key"].take();
    if let Err(e) = writeln!(opened, "{}", text(&key)).and_then(|()| opened.sync_all()) {
        println!("{}", text(&key));
        return Err(Failure::new(format!("{}: {e}; keep the key that is on standard output", file.display())));
    }
    answer["key_file"] = file.display().to_string().into();
    show(endpoint, &answer, |answer| vec![format!("{}: the key is in {}", text(&answer["id"]), file.display())])
}

pub(crate) async fn alerts(command: AlertsCommand) -> Result<Exit, Failure> {
    let AlertsCommand::Send { key_file, source, endpoint, json, file } = command;
    let key = files::key(&key_file, "--key-file")?;
    let body = files::read(&file).map_err(files::unreadable(&file))?;
    let endpoint = cli::endpoint(endpoint.as_deref());
    let mut url = format!("{endpoint}/alerts");
    if let Some(source) = source {
        url.push_str(&format!("?source={source}"));
    }
    let (status, answer) = send(http_client().post(&url).bearer_auth(key).body(body), &endpoint).await?;
    if json {
        print([&answer])?;
    }
    let (accepted, mut rejected) = (items(&answer["accepted"]), items(&answer["rejected"]));
    // What the alert holds was refused: here whole, there one alert of several.
    let by_content = [StatusCode::BAD_REQUEST, StatusCode::PAYLOAD_TOO_LARGE, StatusCode::UNPROCESSABLE_ENTITY];
    let by_content = by_content.contains(&status);
    if by_content && answer.get("rejected").is_none() {
        rejected = std::slice::from_ref(&answer);
    }
    for accepted in accepted.iter().filter(|_| !json) {
        print([told(accepted)])?;
        for warning in texts(&accepted["warnings"]) {
            eprintln!("{}: warning: {warning}", file.display());
        }
    }
    for rejected in rejected {
        eprintln!("{}: rejected: {}: {}", file.display(), text(&rejected["error"]), text(&rejected["detail"]));
    }
    if !status.is_success() && !by_content {
        return Err(refused(status, &answer));
    }
    if accepted.is_empty() && rejected.is_empty() {
        eprintln!("{}: nothing was accepted: no alert was found in it", file.display());
    }
    // A drill has no other way [E4].
    let queued = |accepted: &Value| {
        let [duplicate, drill] = ["duplicate", "drill"].map(|field| accepted[field] == true);
        accepted["acknowledged_by"] == "queue" && !duplicate && !drill
    };
    let queued = accepted.iter().any(queued);
    Ok(if rejected.is_empty() && !accepted.is_empty() && !queued { Exit::Done } else { Exit::Partly })
}

/// One accepted alert in a line: where it is, and what its sender must know of it.
fn told(accepted: &Value) -> String {
    let at = match (text(&accepted["acknowledged_by"]), accepted["partition"].as_i64(), accepted["offset"].as_i64()) {
        ("broker", Some(partition), Some(offset)) => {
            format!("the broker has it, partition {partition}, offset {offset}")
        }
        ("broker", ..) => "the broker has it".to_owned(),
        _ if accepted["duplicate"] == true => "accepted before, by the queue".to_owned(),
        _ if accepted["drill"] == true => "a drill: it is kept, and goes the way of NORMAL".to_owned(),
        _ => "queued: it is kept, and not at the broker yet".to_owned(),
    };
    let mut line = format!(
        "{} revision {} for {}: {at}",
        text(&accepted["event_id"]),
        accepted["revision"],
        text(&accepted["topic"])
    );
    for (is_so, said) in [
        (accepted["duplicate"] == true, "; a duplicate, not published again"),
        (accepted["expired"] == true, "; it has expired"),
        (accepted["geometry"] == "none", "; it has no shape"),
        (accepted["geometry"] == "broken", "; A SHAPE CANNOT BE READ"),
    ] {
        line.push_str(if is_so { said } else { "" });
    }
    line
}

pub(crate) async fn audit(command: AuditCommand) -> Result<Exit, Failure> {
    let AuditCommand::List { day, max, endpoint } = command;
    let (mut after, mut left) = (None::<String>, max.unwrap_or(usize::MAX));
    while left > 0 {
        let mut path = format!("/audit?max={}", left.min(AUDIT_PAGE));
        day.iter().for_each(|day| path.push_str(&format!("&day={day}")));
        after.iter().for_each(|after| path.push_str(&format!("&after={after}")));
        let page = call(&endpoint, Method::GET, &path, None).await?;
        let entries = items(&page["audit"]);
        let shown = entries.iter().map(|entry| {
            if endpoint.json {
                return entry.to_string();
            }
            let [at, action, actor, subject, detail] =
                ["at", "action", "actor", "subject", "detail"].map(|field| text(&entry[field]));
            one_line(&format!("{at} {action:<20} {actor:<24} {subject:<24} {detail}"))
        });
        print(shown.collect::<Vec<String>>())?;
        left -= entries.len();
        match page["next"].as_str() {
            Some(next) => after = Some(next.to_owned()),
            None => break,
        }
    }
    Ok(Exit::Done)
}

pub(super) fn show(
    endpoint: &EndpointArgs,
    answer: &Value,
    table: impl FnOnce(&Value) -> Vec<String>,
) -> Result<Exit, Failure> {
    if endpoint.json {
        print([answer])?;
    } else {
        print(table(answer).iter().map(|line| harmless(line)))?;
    }
    Ok(Exit::Done)
}

/// What strangers wrote, with its control characters and those that turn the direction of writing as escapes: a terminal
/// would obey them. Line ends and tabs stay.
pub(super) fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\n' | '\t' => shown.push(char),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => shown.extend(char.escape_unicode()),
            char if char.is_control() => shown.extend(char.escape_default()),
            char => shown.push(char),
        }
    }
    shown
}

/// The same on one line, so that it cannot look like the next one.
pub(super) fn one_line(text: &str) -> String {
    harmless(text).replace('\n', "\\n")
}

/// Lines whose cells stand below one another, two blanks between the columns.
pub(super) fn table(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// An object's fields on one line, as `name=value`.
fn fields_of(object: &Value) -> String {
    let fields = object.as_object().into_iter().flatten();
    fields.map(|(name, value)| format!("{name}={}", cell(value))).collect::<Vec<_>>().join(" ")
}

pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => one_line(text),
        other => other.to_string(),
    }
}

pub(super) fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn texts(value: &Value) -> impl Iterator<Item = &str> {
    items(value).iter().filter_map(Value::as_str)
}
