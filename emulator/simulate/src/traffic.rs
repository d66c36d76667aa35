//! What the world brings: detections that a satellite service serves, readings that devices push, alert threads of a county,
//! and now and then an archive. Each is offered until it is accepted, and counted.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Value, json};
use streammanager::record::EventId;
use streammanager::time::{Timestamp, rfc3339};
use streammanager::upstream::{Request, Response, Unreachable, Upstream};
use tokio::time::sleep;

use crate::dice::Dice;
use crate::judge::Judge;

const HEADER: &str = "latitude,longitude,bright_ti4,scan,track,acq_date,acq_time,satellite,instrument,confidence,version,bright_ti5,frp,daynight";

/// Rows stay in the service's answer for so long.
const WINDOW: Duration = Duration::from_secs(24 * 3600);

/// A FIRMS service: its answer is the rows of the last day, and has an ETag.
pub(crate) struct Firms {
    judge: Judge,
    dice: Dice,
    rows: Mutex<Served>,
}

#[derive(Default)]
struct Served {
    away: bool,
    /// When it was added, and the row.
    rows: VecDeque<(Timestamp, Row)>,
    version: u64,
    made: u64,
    /// It has answered with all that it has since it was last asked to say so.
    answered: bool,
}

struct Row {
    number: u64,
    seen: Timestamp,
    confidence: char,
}

impl Firms {
    pub(crate) fn new(judge: Judge, dice: Dice) -> Firms {
        Firms { judge, dice, rows: Mutex::default() }
    }

    pub(crate) fn set_away(&self, away: bool) {
        self.rows.lock().away = away;
    }

    /// A part of a pass is in the answer now, and some of the rows before are judged anew.
    pub(crate) fn pass(&self, rows: u64, now: Timestamp) {
        let mut served = self.rows.lock();
        for _ in 0..rows {
            let number = served.made;
            served.made += 1;
            served.rows.push_back((now, Row { number, seen: now - Duration::from_secs(600), confidence: 'n' }));
        }
        while served.rows.front().is_some_and(|(at, _)| now.duration_since(*at).as_secs() > WINDOW.as_secs() as i64) {
            served.rows.pop_front();
        }
        let known = served.rows.len() as u64;
        for _ in 0..rows / 10 {
            let at = self.dice.below(known) as usize;
            if let Some((_, row)) = served.rows.get_mut(at) {
                row.confidence = if row.confidence == 'n' { 'h' } else { 'n' };
            }
        }
        served.version += 1;
    }

    /// Detections so far.
    pub(crate) fn made(&self) -> u64 {
        self.rows.lock().made
    }

    /// From now on it is to answer once with all that it has.
    pub(crate) fn is_to_answer(&self) {
        self.rows.lock().answered = false;
    }

    pub(crate) fn has_answered(&self) -> bool {
        self.rows.lock().answered
    }

    fn answer(&self, request: &Request) -> Response {
        let mut served = self.rows.lock();
        served.answered = true;
        let etag = format!("\"{}\"", served.version);
        let known = request.headers.iter().any(|(name, value)| name == "if-none-match" && *value == etag);
        let (status, body) = if known { (304, String::new()) } else { (200, body(&served.rows)) };
        let headers = vec![("etag".to_owned(), etag)];
        Response { status, headers, body: body.into(), elapsed: Duration::ZERO }
    }
}

fn body(rows: &VecDeque<(Timestamp, Row)>) -> String {
    let mut text = String::from(HEADER);
    for (_, row) in rows {
        let (latitude, longitude) =
            (33.0 + (row.number % 800) as f64 / 100.0, -123.0 + (row.number / 800) as f64 / 100.0);
        let seen = rfc3339(row.seen);
        let (date, time) = (&seen[..10], format!("{}{}", &seen[11..13], &seen[14..16]));
        text += &format!(
            "\n{latitude:.5},{longitude:.5},331.2,0.4,0.4,{date},{time},N,VIIRS,{},2.0NRT,290.1,4.2,D",
            row.confidence
        );
    }
    text.push('\n');
    text
}

struct Polling<'a>(&'a Judge, &'a str);

impl Drop for Polling<'_> {
    fn drop(&mut self) {
        self.0.polled(self.1);
    }
}

#[async_trait]
impl Upstream for Firms {
    async fn call(&self, request: &Request, within: Duration) -> Result<Response, Unreachable> {
        self.judge.step().await;
        self.judge.polls(request.url.reveal());
        let _polling = Polling(&self.judge, request.url.reveal());
        sleep(Duration::from_millis(50 + self.dice.below(2_000))).await;
        let away = self.rows.lock().away;
        match self.dice.below(100) {
            _ if away => Err(Unreachable::Failed("connection refused".into())),
            0 => {
                sleep(within).await;
                Err(Unreachable::TimedOut(within))
            }
            1 => Ok(Response {
                status: 500,
                headers: Vec::new(),
                body: Bytes::from_static(b"<html>busy</html>"),
                elapsed: Duration::ZERO,
            }),
            _ => Ok(self.answer(request)),
        }
    }
}

/// A shard of the readings' stream: what is put is durable, and stays until its reader has checked it off.
#[derive(Default)]
pub(crate) struct Shard {
    pub waiting: VecDeque<(u64, Value)>,
    next: u64,
    /// What was checked off last, to be given again.
    pub last: Vec<(u64, Value)>,
}

impl Shard {
    pub(crate) fn put(&mut self, shard: usize, device: u64, now: Timestamp) {
        let number = self.next;
        self.next += 1;
        let payload = json!({ "timestamp": rfc3339(now), "temperature_c": 20.0 + device as f64 / 10.0 }).to_string();
        let topic = format!("sensors/weather/w{device}/state");
        let output = json!({
            "payload": BASE64.encode(payload), "topic": topic, "principal": "fleet", "client": format!("w{device}"),
            "received_at": now.as_millisecond(),
        });
        let record = json!({
            "eventID": format!("shardId-{shard:012}:{number}"),
            "kinesis": {
                "partitionKey": format!("w{device}"), "sequenceNumber": number.to_string(),
                "data": BASE64.encode(output.to_string()),
            },
        });
        self.waiting.push_back((number, record));
    }

    pub(crate) fn put_so_far(&self) -> u64 {
        self.next
    }

    /// Everything before `number` is done.
    pub(crate) fn check_off(&mut self, before: u64) {
        self.last.clear();
        while self.waiting.front().is_some_and(|(number, _)| *number < before) {
            self.last.extend(self.waiting.pop_front());
        }
    }
}

/// An alert thread of a county.
pub(crate) struct Thread {
    pub ids: Vec<String>,
    pub sent: Timestamp,
    pub drill: bool,
}

impl Thread {
    pub(crate) fn message(&self, at: usize) -> String {
        let kind = match at {
            0 => "Alert",
            _ if at + 1 == self.ids.len() => "Cancel",
            _ => "Update",
        };
        let sent = |at: usize| rfc3339(self.sent + Duration::from_secs(at as u64));
        let references: Vec<String> =
            (0..at).map(|before| format!("eoc@butte.example,{},{}", self.ids[before], sent(before))).collect();
        json!({
            "id": self.ids[at], "sender": "eoc@butte.example", "sent": sent(at),
            "status": if self.drill { "Exercise" } else { "Actual" }, "msgType": kind,
            "event": "Evacuation Immediate", "references": references,
            "area": { "description": "Test Canyon", "polygon": [[38.3, -120.9], [38.3, -120.8], [38.4, -120.8], [38.3, -120.9]] },
        })
        .to_string()
    }
}

/// `POST /alerts` with a key.
pub(crate) fn post(key: &str, body: &str) -> Value {
    json!({
        "routeKey": "POST /alerts", "rawPath": "/alerts", "headers": { "authorization": format!("Bearer {key}") },
        "body": body, "requestContext": { "http": { "method": "POST", "path": "/alerts" } },
    })
}

/// What an HTTP answer lists as accepted: event, revision, whether it is a drill.
pub(crate) fn accepted(answer: &Value) -> Vec<(EventId, u32, bool)> {
    let body: Value = answer["body"].as_str().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let one = |one: &Value| {
        let event = serde_json::from_value(one["event_id"].clone()).ok()?;
        Some((event, one["revision"].as_u64()? as u32, one["drill"].as_bool()?))
    };
    body["accepted"].as_array().into_iter().flatten().filter_map(one).collect()
}

/// An archive's file of `rows` rows, none of which another file has.
pub(crate) fn archive(file: u64, rows: u64) -> Bytes {
    let mut text = String::from(
        "latitude,longitude,brightness,scan,track,acq_date,acq_time,satellite,instrument,confidence,version,bright_t31,frp,daynight,type",
    );
    for row in 0..rows {
        let (latitude, longitude) = (33.0 + (row % 800) as f64 / 100.0, -123.0 + (row / 800) as f64 / 100.0);
        let (month, day) = (1 + file / 28 % 12, 1 + file % 28);
        text += &format!(
            "\n{latitude:.5},{longitude:.5},331.2,0.4,0.4,2024-{month:02}-{day:02},0930,N,VIIRS,n,2,290.1,4.2,D,0"
        );
    }
    text.push('\n');
    text.into()
}

/// What was offered so far, by what it is.
pub(crate) type Offered = BTreeMap<&'static str, u64>;
