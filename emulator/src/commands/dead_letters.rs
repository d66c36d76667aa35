//! `dead-letters`: what could never succeed, looked at, redriven and purged over a running system's HTTP API, page by page.

mod queues;

use std::io::{IsTerminal, Write, stdin, stdout};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::Method;
use serde_json::{Map, Value, json};
use streammanager::error::Reason;
use streammanager::record::{EventId, StreamId};
use streammanager::schedule::file::Interval;
use streammanager_host::exit::{Exit, Failure};

use crate::cli::{ChosenArgs, DeadLettersCommand, EndpointArgs};
use crate::commands::api::call;
use crate::commands::operate::{cell, items, one_line, show, text};
use crate::commands::{print, say, says_yes};

/// Letters in one answer.
const PAGE: usize = 200;
/// Until a redrive is asked for again for which there was no room.
const AGAIN: Duration = Duration::from_secs(2);
/// After so many waits in a row the rest is left for another time: ten minutes.
const WAITS: usize = 300;

pub(crate) async fn run(command: DeadLettersCommand) -> Result<Exit, Failure> {
    match command {
        DeadLettersCommand::List { stream, reason, max, endpoint } => list(&endpoint, stream, reason, max).await,
        DeadLettersCommand::Show { id, raw, endpoint } => letter(&endpoint, id, raw).await,
        DeadLettersCommand::Explain { endpoint } => explain(&endpoint).await,
        DeadLettersCommand::Redrive { chosen, endpoint } => redrive(&endpoint, &chosen).await,
        DeadLettersCommand::Queues(command) => queues::run(command).await,
        DeadLettersCommand::Purge { chosen, older_than, yes, endpoint } => {
            purge(&endpoint, &chosen, older_than, yes).await
        }
    }
}

/// What is said when there is nothing to show or do.
fn none(stream: Option<&StreamId>, reason: Option<Reason>) -> String {
    let stream = stream.map(|stream| format!(" of stream {stream}")).unwrap_or_default();
    let reason = reason.map(|reason| format!(" with reason {reason}")).unwrap_or_default();
    format!("there are no dead letters{stream}{reason}")
}

async fn list(
    endpoint: &EndpointArgs,
    stream: Option<StreamId>,
    reason: Option<Reason>,
    max: Option<usize>,
) -> Result<Exit, Failure> {
    let (mut after, mut left, mut listed, mut unreadable) = (None::<String>, max.unwrap_or(usize::MAX), 0, 0);
    while left > 0 {
        let mut path = format!("/dead-letters?max={}", left.min(PAGE));
        stream.iter().for_each(|stream| path.push_str(&format!("&stream={stream}")));
        reason.iter().for_each(|reason| path.push_str(&format!("&reason={reason}")));
        after.iter().for_each(|after| path.push_str(&format!("&after={after}")));
        let page = call(endpoint, Method::GET, &path, None).await?;
        let letters = items(&page["dead_letters"]);
        print(letters.iter().map(|letter| if endpoint.json { letter.to_string() } else { line(letter) }))?;
        listed += letters.len();
        left -= letters.len();
        unreadable += page["unreadable"].as_u64().unwrap_or_default();
        match page["next"].as_str() {
            Some(next) => after = Some(next.to_owned()),
            None => break,
        }
    }
    // In lines for scripts nothing stands but letters.
    let told = match (listed, unreadable) {
        (0, 0) => none(stream.as_ref(), reason),
        (_, 0) => return Ok(Exit::Done),
        (_, unreadable) => format!("{unreadable} more cannot be read any more"),
    };
    if endpoint.json {
        say(told)
    } else {
        print([told])?
    }
    Ok(Exit::Done)
}

fn line(letter: &Value) -> String {
    format!(
        "{} {:<16} {:<20} seen {}×, last {}: {}",
        text(&letter["id"]),
        text(&letter["reason"]),
        text(&letter["stream"]),
        letter["attempts"],
        text(&letter["last_seen"]),
        one_line(text(&letter["detail"])),
    )
}

async fn letter(endpoint: &EndpointArgs, id: EventId, raw: bool) -> Result<Exit, Failure> {
    let found = call(endpoint, Method::GET, &format!("/dead-letters/{id}"), None).await?;
    let bytes = found["base64"].as_str().and_then(|text| BASE64.decode(text).ok());
    if !raw {
        return show(endpoint, &found, |found| {
            let fields = found["dead_letter"].as_object().into_iter().flatten().filter(|(name, _)| *name != "raw");
            // Who pushed it stands beside what it is.
            let flat = fields.flat_map(|(name, value)| match value {
                Value::Object(parts) => parts.iter().collect(),
                _ => vec![(name, value)],
            });
            let mut lines: Vec<String> = flat.map(|(name, value)| format!("{name:<12} {}", shown(value))).collect();
            lines.push(as_text(bytes.as_deref()));
            lines
        });
    }
    let bytes = bytes.ok_or_else(|| Failure::new(format!("the bytes of {id} are gone")))?;
    match stdout().write_all(&bytes) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::new(format!("standard output: {e}"))),
        _ => Ok(Exit::Done),
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Array(several) => several.iter().map(cell).collect::<Vec<_>>().join(" "),
        other => cell(other),
    }
}

fn as_text(bytes: Option<&[u8]>) -> String {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => "\nits bytes are gone".to_owned(),
        Some((_, Ok(text))) if !text.contains('\0') => format!("\n{text}"),
        Some((bytes, _)) => {
            format!(
                "\n{} bytes that are not text, as base64 (as they came: --raw):\n{}",
                bytes.len(),
                BASE64.encode(bytes)
            )
        }
    }
}

async fn explain(endpoint: &EndpointArgs) -> Result<Exit, Failure> {
    let report = call(endpoint, Method::GET, "/dead-letters/patterns", None).await?;
    show(endpoint, &report, |report| {
        let mut lines: Vec<String> = items(&report["patterns"]).iter().map(pattern).collect();
        let count = |field: &str| report[field].as_u64().unwrap_or_default();
        if count("letters") == 0 {
            lines.push(none(None, None));
        }
        for (field, words) in [
            ("unlisted", "dead letters of further patterns are not listed here"),
            ("unreadable", "dead letters cannot be read any more"),
            ("beyond", "times a record was rejected when no more could be kept of its stream: counted, not stored"),
        ] {
            if count(field) > 0 {
                lines.push(format!("{} {words}", count(field)));
            }
        }
        lines
    })
}

fn pattern(pattern: &Value) -> String {
    let [stream, source, reason, rule, first, last, example, detail, advice] =
        ["stream", "source", "reason", "rule", "first_seen", "last_seen", "example", "example_detail", "advice"]
            .map(|field| one_line(text(&pattern[field])));
    let field = pattern["field"].as_str().map(|field| format!(", field {}", one_line(field))).unwrap_or_default();
    let (letters, attempts) = (&pattern["letters"], &pattern["attempts"]);
    format!(
        "{letters} × {reason}{field}, stream {stream}, source {source}: {rule}\n  seen {attempts} times from {first} to {last}\n  \
         example {example}: {detail}\n  what to do: {advice}\n"
    )
}

/// What the request names; several ids are asked for one by one.
fn bodies(chosen: &ChosenArgs) -> Vec<Map<String, Value>> {
    let object = |value: Value| value.as_object().cloned().unwrap_or_default();
    if chosen.ids.is_empty() {
        let ChosenArgs { stream, reason, all, .. } = chosen;
        return vec![object(json!({ "stream": stream, "reason": reason, "all": all }))];
    }
    chosen.ids.iter().map(|id| object(json!({ "id": id }))).collect()
}

/// Counts of a redrive's outcomes, in the order of the words.
const OUTCOMES: [(&str, &str); 4] = [
    ("accepted", "accepted"),
    ("known", "known already and not published twice"),
    ("failed", "failed again and stay dead letters"),
    ("held", "held back"),
];

async fn redrive(endpoint: &EndpointArgs, chosen: &ChosenArgs) -> Result<Exit, Failure> {
    let (mut counts, mut waits) = ([0_u64; OUTCOMES.len()], 0);
    'chosen: for mut body in bodies(chosen) {
        loop {
            let page = call(endpoint, Method::POST, "/dead-letters/redrive", Some(&body.clone().into())).await?;
            let letters = items(&page["letters"]);
            for letter in letters {
                let outcome = OUTCOMES.iter().position(|(name, _)| letter["outcome"] == *name);
                outcome.iter().for_each(|&at| counts[at] += 1);
            }
            print(letters.iter().map(|letter| if endpoint.json { letter.to_string() } else { tried(letter) }))?;
            waits = match page["waits"].as_str() {
                Some(why) if letters.is_empty() && waits >= WAITS => {
                    say(format_args!("{why}; the rest stays dead letters: run this again later"));
                    break 'chosen;
                }
                Some(why) => {
                    if waits == 0 {
                        say(format_args!("waiting: {why}"));
                    }
                    tokio::time::sleep(AGAIN).await;
                    if letters.is_empty() { waits + 1 } else { 1 }
                }
                None => 0,
            };
            if page["next"].is_null() {
                break;
            }
            body.insert("after".into(), page["next"].clone());
            body.insert("began".into(), page["began"].clone());
        }
    }
    let said = OUTCOMES.iter().zip(counts).filter(|(_, n)| *n > 0).map(|((_, words), n)| format!("{n} {words}"));
    let said = said.collect::<Vec<_>>().join(", ");
    let told = if said.is_empty() { none(chosen.stream.as_ref(), chosen.reason) } else { format!("redriven: {said}") };
    if endpoint.json {
        say(told)
    } else {
        print([told])?
    }
    let [_, _, failed, held] = counts;
    Ok(if failed + held + waits as u64 == 0 { Exit::Done } else { Exit::Partly })
}

fn tried(letter: &Value) -> String {
    let words = one_line(text(&letter["words"]));
    let (id, outcome, stream) = (text(&letter["id"]), text(&letter["outcome"]), text(&letter["stream"]));
    let line = format!("{id} {outcome:<8} {stream:<20} {words}");
    line.trim_end().to_owned()
}

async fn purge(
    endpoint: &EndpointArgs,
    chosen: &ChosenArgs,
    older_than: Option<Interval>,
    yes: bool,
) -> Result<Exit, Failure> {
    if !yes && !confirmed(endpoint, chosen).await? {
        say("nothing was deleted");
        return Ok(Exit::Partly);
    }
    let (mut purged, mut kept) = (0, 0);
    for mut body in bodies(chosen) {
        if let Some(age) = older_than {
            body.insert("older_than".into(), serde_json::to_value(age).map_err(Failure::new)?);
        }
        loop {
            let page = call(endpoint, Method::POST, "/dead-letters/purge", Some(&body.clone().into())).await?;
            purged += page["purged"].as_u64().unwrap_or_default();
            kept += page["kept"].as_u64().unwrap_or_default();
            if page["next"].is_null() {
                break;
            }
            body.insert("after".into(), page["next"].clone());
        }
    }
    show(endpoint, &json!({ "purged": purged, "kept": kept }), |_| {
        let kept = (kept > 0).then(|| format!("met again at this moment, and kept: {kept}"));
        let done = if purged + kept.iter().len() as u64 == 0 {
            let older = older_than.map(|_| " that are so old").unwrap_or_default();
            format!("{}{older}", none(chosen.stream.as_ref(), chosen.reason))
        } else {
            format!("deleted for good: {purged}")
        };
        std::iter::once(done).chain(kept).collect()
    })
}

/// Asks the person at the terminal.
async fn confirmed(endpoint: &EndpointArgs, chosen: &ChosenArgs) -> Result<bool, Failure> {
    if !stdin().is_terminal() {
        return Err(Failure::usage("purge deletes for good and asks first; without a terminal, add --yes"));
    }
    let most = if chosen.ids.is_empty() {
        let report = call(endpoint, Method::GET, "/dead-letters/patterns", None).await?;
        let meant = |pattern: &&Value| {
            chosen.stream.as_ref().is_none_or(|stream| pattern["stream"] == stream.as_str())
                && chosen.reason.is_none_or(|reason| pattern["reason"] == reason.code())
        };
        items(&report["patterns"]).iter().filter(meant).filter_map(|pattern| pattern["letters"].as_u64()).sum()
    } else {
        chosen.ids.len() as u64
    };
    says_yes(&format!("Delete up to {most} dead letters and their bytes for good?"))
}
