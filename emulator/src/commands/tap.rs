//! `tap`: what comes over MQTT, as it is read beside what was sent. A subscriber like any other: it changes nothing.

use std::io::{ErrorKind, Write, stdout};
use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;
use serde_json::{Map, Value, json};
use streammanager::decode::sensor::{self, Mapping, Mappings, SensorMapping};
use streammanager::decode::{Context, Format, Row};
use streammanager::error::{Reason, Reject};
use streammanager::ingest::validate;
use streammanager::record::{Draft, SourceId};
use streammanager::schedule::file::StreamsFile;
use streammanager::time::{Clock, Timestamp, rfc3339};
use streammanager_host::exit::{Exit, Failure};
use streammanager_host::foreign::{self, Login, Message};
use streammanager_host::running;

use super::api::call;
use super::decode::mappings_file;
use super::operate::one_line;
use super::say;
use crate::cli::TapArgs;
use crate::files;

const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// The built-in endpoint, where nothing else is known.
const ENDPOINT: &str = "127.0.0.1:1883";

pub(crate) async fn run(args: TapArgs) -> Result<Exit, Failure> {
    let file = args.mapping.as_deref().map(mappings_file).transpose()?;
    let specs = match &file {
        Some(file) => file.sensors.clone(),
        None => registered(&args).await,
    };
    let mappings = Mappings::new(&specs).map_err(Failure::new)?;
    let noted = || running::last().and_then(|noted| noted.mqtt).unwrap_or_else(|| ENDPOINT.to_owned());
    let broker = args.broker.clone().unwrap_or_else(noted);
    let address = address(&broker)?;
    let password = args.key_file.as_deref().map(|file| files::key(file, "--key-file")).transpose()?;
    let clock = Clock::system();
    let login = Login {
        client_id: format!("streammanager-tap-{}-{}", std::process::id(), clock.now().as_millisecond()),
        user: args.user.clone().map(|user| (user, password.map(String::into_bytes))),
        clean: true,
        keep_alive: KEEP_ALIVE,
    };
    let away = |problem: String| Failure::new(format!("{broker}: {problem}; name the broker with --broker HOST:PORT"));
    let mut client = foreign::dial(address, args.ca_file.as_deref(), &login).await.map_err(away)?;
    client.subscribe(std::slice::from_ref(&args.topic)).await.map_err(|e| away(e.to_string()))?;
    say(format_args!("{broker}: {} is shown, with {} mappings", args.topic, specs.len()));

    let mut ping = tokio::time::interval(KEEP_ALIVE / 2);
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        let message = tokio::select! {
            message = client.next() => message.map_err(|e| away(e.to_string()))?,
            _ = ping.tick() => {
                client.ping().await.map_err(|e| away(e.to_string()))?;
                continue;
            }
        };
        let seen = Seen::of(&message, file.as_ref(), &mappings, clock.now());
        let text = if args.endpoint.json { seen.json().to_string() } else { seen.lines().join("\n") };
        match writeln!(stdout(), "{text}") {
            Err(e) if e.kind() == ErrorKind::BrokenPipe => break,
            written => written.map_err(|e| Failure::new(format!("standard output: {e}")))?,
        }
        if let Some(packet_id) = message.packet_id {
            client.acknowledge(packet_id).await.map_err(|e| away(e.to_string()))?;
        }
        left -= 1;
    }
    client.close().await;
    Ok(Exit::Done)
}

/// The mappings of the running system; none where it cannot be asked.
async fn registered(args: &TapArgs) -> Vec<SensorMapping> {
    if args.broker.is_some() {
        return Vec::new();
    }
    match call(&args.endpoint, Method::GET, "/streams", None).await {
        Ok(mut answer) => serde_json::from_value(answer["sensors"].take()).unwrap_or_default(),
        Err(problem) => {
            say(format_args!("the system's sensor mappings are not known, messages are read without them: {problem}"));
            Vec::new()
        }
    }
}

fn address(broker: &str) -> Result<(bool, &str, u16), Failure> {
    let (encrypted, rest) = match broker.split_once("://") {
        Some(("mqtts", rest)) => (true, rest),
        Some(("mqtt", rest)) => (false, rest),
        Some(_) => return Err(bad_address(broker)),
        None => (false, broker),
    };
    let (host, port) = rest.rsplit_once(':').ok_or_else(|| bad_address(broker))?;
    let port = port.parse().map_err(|_| bad_address(broker))?;
    if host.is_empty() { Err(bad_address(broker)) } else { Ok((encrypted, host, port)) }
}

fn bad_address(broker: &str) -> Failure {
    Failure::usage(format!("--broker {broker}: write it as HOST:PORT, mqtt://HOST:PORT or mqtts://HOST:PORT"))
}

/// One message and what was read of it.
struct Seen<'a> {
    topic: &'a str,
    payload: &'a Bytes,
    at: Timestamp,
    rows: Vec<Row>,
}

impl Seen<'_> {
    /// `file`: its brokers say under which topic a message of theirs is taken.
    fn of<'a>(message: &'a Message, file: Option<&StreamsFile>, mappings: &Mappings, at: Timestamp) -> Seen<'a> {
        let Message { topic, payload, sent_bytes, .. } = message;
        let mut subscriptions = file.iter().flat_map(|file| &file.mqtt).flat_map(|broker| &broker.topics);
        let taken_as = subscriptions.find_map(|subscription| subscription.taken_as(topic));
        let rows = if payload.len() < *sent_bytes {
            vec![Err(Reject::new(
                Reason::TooLarge,
                format!("{sent_bytes} bytes, the first {} are shown", payload.len()),
            ))]
        } else {
            read(taken_as.as_deref().unwrap_or(topic), payload, mappings, at)
        };
        Seen { topic, payload, at, rows }
    }

    fn json(&self) -> Value {
        let (mut records, mut rejects) = (Vec::new(), Vec::new());
        for row in &self.rows {
            match row {
                Ok(draft) => {
                    let (mut data, unread) = (measures(draft), sensor::not_understood(draft).collect::<Vec<_>>());
                    data.remove("reported");
                    records.push(
                        json!({ "source_id": draft.source, "observed_at": rfc3339(draft.observed_at), "data": data,
                        "quality": draft.quality, "not_understood": unread }),
                    );
                }
                Err(reject) => rejects.push(json!({ "reason": reject.reason, "detail": reject.detail })),
            }
        }
        let raw = serde_json::from_slice(self.payload);
        let raw: Value = raw.unwrap_or_else(|_| String::from_utf8_lossy(self.payload).into());
        json!({ "topic": self.topic, "received_at": rfc3339(self.at), "records": records, "rejects": rejects, "raw": raw })
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("{} {}", rfc3339(self.at), one_line(self.topic))];
        for row in &self.rows {
            match row {
                Ok(draft) => lines.extend(told(draft)),
                Err(reject) => lines.extend(refused(reject, self.payload)),
            }
        }
        lines
    }
}

fn read(topic: &str, payload: &Bytes, mappings: &Mappings, at: Timestamp) -> Vec<Row> {
    let mapping = mappings.of(topic);
    let alerts = topic.strip_prefix("alerts/").and_then(|id| SourceId::new(id).ok());
    let (format, source) = match alerts {
        Some(source) => (Format::ALERT, Some(source)),
        None => (Format::SENSOR, mapping.and_then(Mapping::source).cloned().or_else(|| sensor::source_of(topic))),
    };
    let Some(source) = source.or_else(|| SourceId::new("iot_unknown").ok()) else { return Vec::new() };
    let context = Context { source: &source, received_at: at, topic: Some(topic), message: None };
    let rows = match mapping {
        Some(mapping) => mapping.rows(payload, context),
        None => format.rows(payload, context),
    };
    let checked = |row: Row| row.and_then(|draft| validate::check(draft, at));
    rows.map_or_else(|reject| vec![Err(reject)], |rows| rows.map(checked).collect())
}

fn measures(draft: &Draft) -> Map<String, Value> {
    serde_json::from_str(draft.data.json()).unwrap_or_default()
}

/// What is published on the left, the source's own fields on the right.
fn told(draft: &Draft) -> Vec<String> {
    let mut data = measures(draft);
    let reported = data.remove("reported").unwrap_or_default();
    let unread: Vec<&str> = sensor::not_understood(draft).collect();
    let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), one_line);
    let mut ours = vec![("source_id".to_owned(), draft.source.to_string())];
    ours.extend(draft.position.map(|at| ("position".to_owned(), format!("{} {}", at.latitude(), at.longitude()))));
    ours.extend(data.iter().map(|(field, value)| (field.clone(), shown(value))));
    let mut theirs = Vec::new();
    flatten("", &reported, &mut theirs);
    let theirs = theirs.into_iter().map(|(path, value)| {
        let is_unread = unread.iter().any(|name| path == *name || is_within(&path, name));
        let mark = if is_unread { "  ? not understood" } else { "" };
        format!("{} = {}{mark}", one_line(&path), shown(&value))
    });
    let theirs: Vec<String> = theirs.collect();
    let rows = ours.len().max(theirs.len());
    let mut lines: Vec<String> = (0..rows)
        .map(|row| {
            let (field, value) = ours.get(row).map_or(("", ""), |(field, value)| (field.as_str(), value.as_str()));
            let right = theirs.get(row).map_or("", String::as_str);
            format!("  {field:<28} {value:<26} | {right}").trim_end().to_owned()
        })
        .collect();
    let problems = draft.quality.iter().filter(|quality| quality.field != "reported");
    lines.extend(problems.map(|quality| one_line(&format!("  ! {}: {}", quality.field, quality.problem))));
    lines
}

/// A name is told from the reading on, which may stand in an envelope, and may be that of a whole object.
fn is_within(path: &str, name: &str) -> bool {
    let mut starts = std::iter::once(0).chain(path.match_indices('.').map(|(dot, _)| dot + 1));
    starts.any(|start| {
        let rest = path[start..].strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

fn flatten(path: &str, value: &Value, into: &mut Vec<(String, Value)>) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| flatten(&below(name), value, into)),
        Value::Array(items) if items.iter().any(Value::is_object) => {
            items.iter().enumerate().for_each(|(at, item)| flatten(&below(&at.to_string()), item, into));
        }
        value => into.push((path.to_owned(), value.clone())),
    }
}

/// As much of a message as a terminal should hold.
const SHOWN_BYTES: usize = 400;

fn refused(reject: &Reject, payload: &[u8]) -> Vec<String> {
    let start = String::from_utf8_lossy(&payload[..payload.len().min(SHOWN_BYTES)]).into_owned();
    vec![one_line(&format!("  REJECTED {reject}")), one_line(&format!("  {start}"))]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn seen(topic: &str, payload: &str) -> (Vec<String>, Value) {
        let message = Message {
            topic: topic.into(),
            payload: Bytes::from(payload.to_owned()),
            sent_bytes: payload.len(),
            packet_id: None,
            retained: false,
            dup: false,
        };
        let specs: Vec<SensorMapping> = serde_json::from_value(json!([
            {"topic": "sensors/ridge/+/state", "fields": {"a.t1": {"field": "temperature_c", "unit": "F"}}}]))
        .unwrap();
        let at = "2026-11-27T17:20:05Z".parse().unwrap();
        let seen = Seen::of(&message, None, &Mappings::new(&specs).unwrap(), at);
        (seen.lines(), seen.json())
    }

    #[test]
    fn s18_what_is_read_stands_beside_what_was_sent_and_the_rest_is_marked() {
        let (lines, json) = seen(
            "sensors/ridge/w7/state",
            r#"{"a": {"t1": 60.8, "odd": [1]}, "time": 1795800000, "x\u001b": "\u001b[2J"}"#,
        );
        assert_eq!(lines[0], "2026-11-27T17:20:05.000Z sensors/ridge/w7/state");
        let text = lines.join("\n");
        assert!(text.contains("temperature_c                16.0 "), "{text}");
        assert!(text.contains("| a.odd = [1]  ? not understood") && text.contains("| a.t1 = 60.8\n"), "{text}");
        assert!(!text.contains('\u{1b}'), "a terminal would obey it: {text:?}");
        assert_eq!(json["records"][0]["data"]["temperature_c"], 16.0);
        assert_eq!(json["records"][0]["not_understood"][0], "a.odd");
        assert_eq!(json["raw"]["a"]["t1"], 60.8);
    }

    #[test]
    fn s9_a_reject_is_shown_with_its_reason_and_bytes() {
        let (lines, json) = seen("sensors/ridge/w7/state", "offline");
        assert!(lines[1].starts_with("  REJECTED bad_json: ") && lines[2] == "  offline", "{lines:?}");
        assert_eq!((&json["rejects"][0]["reason"], &json["raw"]), (&json!("bad_json"), &json!("offline")));
        let (lines, _) = seen("sensors/ridge/w7/state", r#"{"time": "2027-11-27T17:20:05Z", "a": {"t1": 1}}"#);
        assert!(lines[1].contains("REJECTED future"), "{lines:?}");
    }
}
