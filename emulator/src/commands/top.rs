//! `top`: `status` and the streams, again and again [O8].

use std::collections::BTreeMap;
use std::io::{IsTerminal, stdout};

use reqwest::Method;
use serde_json::{Value, json};
use streammanager::time::Timestamp;
use streammanager_host::exit::{Exit, Failure};
use tokio::time::sleep;

use super::api::call;
use super::operate::{harmless, streams_table};
use super::{print, status};
use crate::cli::TopArgs;

/// Clears the terminal and goes to its first line.
const CLEAR: &str = "\x1b[2J\x1b[H";

pub(crate) async fn top(args: TopArgs) -> Result<Exit, Failure> {
    let mut left = args.screens.unwrap_or(usize::MAX);
    let mut before: Option<Value> = None;
    while left > 0 {
        let status = call(&args.endpoint, Method::GET, "/status", None).await?;
        let streams = call(&args.endpoint, Method::GET, "/streams", None).await?;
        if args.endpoint.json {
            print([json!({ "status": status, "streams": streams["streams"] })])?;
        } else {
            let clear = if stdout().is_terminal() { CLEAR } else { "" };
            let screen = screen(before.as_ref(), &status, &streams);
            print([clear.to_owned()].into_iter().chain(screen.iter().map(|line| harmless(line))))?;
        }
        before = Some(status);
        left -= 1;
        if left > 0 {
            sleep(args.interval).await;
        }
    }
    Ok(Exit::Done)
}

fn screen(before: Option<&Value>, status: &Value, streams: &Value) -> Vec<String> {
    let mut lines = vec![format!("as of {}", status["at"].as_str().unwrap_or("-")), String::new()];
    lines.extend(status::lines(status));
    lines.push(String::new());
    lines.extend(streams_table(streams));
    let rates = rates(before, status);
    if !rates.is_empty() {
        lines.push(String::new());
        lines.extend(rates.iter().map(|(topic, rate)| format!("{rate:>10.1}/s  {topic}")));
    }
    lines
}

/// Records a second that were delivered since the screen before, by topic; nothing after a restart.
fn rates(before: Option<&Value>, now: &Value) -> BTreeMap<String, f64> {
    let at = |status: &Value| status["at"].as_str().and_then(|at| at.parse::<Timestamp>().ok());
    let Some((before, from, to)) = before.and_then(|before| Some((before, at(before)?, at(now)?))) else {
        return BTreeMap::new();
    };
    let seconds = to.duration_since(from).as_secs_f64();
    let delivered = |status: &Value, topic: &str| status["delivered_by_this_process"]["delivered"][topic].as_u64();
    let topics = now["delivered_by_this_process"]["delivered"].as_object().into_iter().flat_map(|topics| topics.keys());
    topics
        .filter_map(|topic| {
            let new = delivered(now, topic)?.checked_sub(delivered(before, topic).unwrap_or_default())?;
            (new > 0 && seconds > 0.0).then(|| (topic.clone(), new as f64 / seconds))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o8_a_screen_shows_queues_streams_and_what_was_delivered_since_the_one_before() {
        let status = |second: u64, delivered: u64| {
            json!({
                "at": format!("2026-09-01T19:00:{second:02}.000Z"), "streams": { "registered": 1, "active": 1 },
                "delivered_by_this_process": { "delivered": { "wildfire-weather": delivered, "wildfire-climate": 3 } },
            })
        };
        let streams = json!({ "streams": [{ "stream_id": "modis", "next_poll": "2026-09-01T19:01:00.000Z" }] });
        let shown = screen(Some(&status(1, 10)), &status(3, 25), &streams).join("\n");
        assert!(shown.starts_with("as of 2026-09-01T19:00:03.000Z\n"), "{shown}");
        for line in ["tier  ", "do       ", "modis  ", "       7.5/s  wildfire-weather"] {
            assert!(shown.lines().any(|shown| shown.starts_with(line)), "{line}: {shown}");
        }
        assert!(!shown.contains("climate"), "{shown}");
        for before in [None, Some(&status(1, 30))] {
            let shown = screen(before, &status(3, 25), &streams).join("\n");
            assert!(!shown.contains("/s"), "the first one, or one after a restart: {shown}");
        }
    }
}
