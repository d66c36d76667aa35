//! `trace`: one record's whole way on a page [O7], each step with the time since the one before [O4].

use reqwest::Method;
use serde_json::Value;
use streammanager::time::Timestamp;
use streammanager_host::exit::{Exit, Failure};

use super::api::call;
use super::operate::{cell, items, one_line, show, table, text};
use super::status::seconds;
use crate::cli::TraceArgs;

pub(crate) async fn trace(args: TraceArgs) -> Result<Exit, Failure> {
    let found = call(&args.endpoint, Method::GET, &args.what.path(), None).await?;
    show(&args.endpoint, &found, |found| {
        let ways: Vec<Vec<String>> = items(&found["ways"]).iter().map(way).collect();
        ways.join(&String::new())
    })
}

fn way(way: &Value) -> Vec<String> {
    let mut lines = vec![format!("event {}", text(&way["event_id"]))];
    let steps = items(&way["steps"]);
    let mut revisions: Vec<u64> = steps.iter().filter_map(|step| step["revision"].as_u64()).collect();
    revisions.sort_unstable();
    revisions.dedup();
    for revision in revisions {
        let of_revision: Vec<&Value> = steps.iter().filter(|step| step["revision"] == revision).collect();
        lines.extend(revision_lines(revision, &of_revision));
    }
    for told in items(&way["accepted"]) {
        let place = match (told["partition"].as_i64(), told["offset"].as_i64()) {
            (Some(partition), Some(offset)) => format!(", partition {partition}, offset {offset}"),
            _ => String::new(),
        };
        lines.push(format!(
            "its sender was told: revision {}, acknowledged by the {}, {}{place}",
            told["revision"],
            text(&told["acknowledged_by"]),
            text(&told["topic"]),
        ));
    }
    if way["dead_letter"].is_object() {
        let letter = &way["dead_letter"];
        let said = one_line(text(&letter["detail"]));
        lines.push(format!("it is a dead letter: {}: {said}", text(&letter["reason"])));
        lines.push(format!("see it: streammanager dead-letters show {}", text(&letter["id"])));
    }
    lines
}

/// The first line says what all steps of the revision share.
fn revision_lines(revision: u64, steps: &[&Value]) -> Vec<String> {
    let Some(first) = steps.first() else { return Vec::new() };
    let mut lines = vec![format!(
        "revision {revision}: {}, stream {}, tenant {}, trace {}",
        text(&first["tier"]),
        text(&first["stream"]),
        text(&first["tenant"]),
        text(&first["traceparent"]),
    )];
    let mut times: Vec<(String, String)> = Vec::new();
    if let Some(sent) = steps.iter().map(|step| &step["sent"]).find(|sent| sent.is_object()) {
        times.push((cell(&sent["observed_at"]), "observed, by the source".to_owned()));
        if sent["published_at"].is_string() {
            times.push((cell(&sent["published_at"]), "published by the source".to_owned()));
        }
    }
    times.push((cell(&first["accepted_at"]), "in our hands".to_owned()));
    for step in steps {
        times.extend(step_lines(step));
    }
    // One form, UTC with milliseconds: the texts compare as the times do. A batch is noted as queued when all of it is, and its
    // first records may be delivered by then.
    times.sort_by(|one, other| one.0.cmp(&other.0));
    let mut before: Option<Timestamp> = None;
    let rows: Vec<Vec<String>> = times
        .into_iter()
        .map(|(at, what)| {
            let now: Option<Timestamp> = at.parse().ok();
            let since = now.zip(before).map(|(now, before)| now.duration_since(before).as_secs_f64());
            before = now;
            vec![at, since.map(|since| format!("+ {}", seconds(&since.into()))).unwrap_or_default(), what]
        })
        .collect();
    lines.extend(table(&rows).into_iter().map(|line| format!("  {line}")));
    if steps.iter().all(|step| step["sent"].is_null()) {
        lines.push(format!(
            "it waits in the {} queue: streammanager status says how long it can take",
            text(&first["tier"])
        ));
    }
    lines
}

fn step_lines(step: &Value) -> Vec<(String, String)> {
    let (at, sent) = (cell(&step["at"]), &step["sent"]);
    if sent.is_null() {
        return vec![(at, format!("queued, in envelope {}", text(&step["envelope"])))];
    }
    let taken = match sent["receives"].as_u64() {
        Some(0) => "sent at once, past the queue".to_owned(),
        Some(1) | None => "taken from the queue".to_owned(),
        Some(times) => format!("taken from the queue, for the {times}th time"),
    };
    let topic = text(&sent["topic"]);
    let outcome = &sent["outcome"];
    let ended = if let Some(written) = outcome.get("acknowledged") {
        match (written["partition"].as_i64(), written["offset"].as_i64()) {
            (Some(partition), Some(offset)) => format!("acknowledged: {topic}, partition {partition}, offset {offset}"),
            _ => format!("acknowledged: {topic}"),
        }
    } else if let Some(why) = outcome["refused"].as_str() {
        format!("refused by the sink: {}", one_line(why))
    } else {
        format!("not taken by the sink, goes on by itself: {}", one_line(text(&outcome["not_taken"])))
    };
    vec![(cell(&sent["taken_at"]), taken), (at, ended)]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn step(at: &str, sent: Value) -> Value {
        json!({
            "at": at, "revision": 0, "envelope": "01J", "stream": "modis", "tenant": "calfire", "tier": "HIGH",
            "traceparent": "00-1", "accepted_at": "2026-11-29T10:00:00.000Z", "sent": sent,
        })
    }

    #[test]
    fn o7_a_way_is_read_from_top_to_bottom() {
        let sent = json!({
            "observed_at": "2026-11-29T08:00:00.000Z", "published_at": null, "taken_at": "2026-11-29T10:00:00.020Z",
            "receives": 1, "topic": "wildfire-nasa-firms", "outcome": { "acknowledged": { "partition": 4, "offset": 17 } },
        });
        let steps = [step("2026-11-29T10:00:00.012Z", Value::Null), step("2026-11-29T10:00:00.031Z", sent)];
        let lines = way(&json!({ "event_id": "ab", "steps": steps, "accepted": null, "dead_letter": null }));
        let want = [
            "event ab",
            "revision 0: HIGH, stream modis, tenant calfire, trace 00-1",
            "  2026-11-29T08:00:00.000Z             observed, by the source",
            "  2026-11-29T10:00:00.000Z  + 120 min  in our hands",
            "  2026-11-29T10:00:00.012Z  + 12 ms    queued, in envelope 01J",
            "  2026-11-29T10:00:00.020Z  + 8 ms     taken from the queue",
            "  2026-11-29T10:00:00.031Z  + 11 ms    acknowledged: wildfire-nasa-firms, partition 4, offset 17",
        ];
        assert_eq!(lines, want);
        let waiting = way(&json!({ "event_id": "ab", "steps": [step("2026-11-29T10:00:00.012Z", Value::Null)] }));
        assert!(waiting.last().is_some_and(|last| last.contains("waits in the HIGH queue")), "{waiting:?}");
    }
}
