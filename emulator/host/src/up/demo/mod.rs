//! `up --demo`: polled sources, which a local upstream answers for (`upstream.rs`); sensors over MQTT; alerts over HTTP beside a bulk
//! import, and one that is derived of an evacuation zone. Everything enters through the same doors as real data.

mod upstream;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use streammanager::app::App;
use streammanager::control::connector::{ApiKey, Registration};
use streammanager::control::connectors::{self, ControlError};
use streammanager::dead;
use streammanager::decode::Context;
use streammanager::ingest::dedup::Seen;
use streammanager::ingest::{Ledger, ingest};
use streammanager::record::{ConnectorId, SourceId, Stream, StreamId, TenantId, Topic, WhenFull};
use streammanager::schedule::file::{Interval, StreamsFile};
use streammanager::schedule::streams::{self, Registered};
use streammanager::sources::{Polled, firms};
use streammanager::time::{Clock, rfc3339};
use tokio::task::{JoinHandle, block_in_place};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::lookout::say;
use super::{Destination, Options};
use crate::exit::Failure;
use crate::folder;
use crate::host::http_client;
use crate::publisher::Publisher;

pub(crate) use upstream::{MAP_KEY, serve as serve_upstream};

/// Keeps made-up records and real ones apart: a demo sends alerts that ring sirens, and leaves a sender that may.
///
/// # Errors
/// For a demo with a broker or an endpoint of others, or in a folder with real data, and for real data in a demo's folder.
pub(crate) fn keep_apart(args: &Options) -> Result<(), Failure> {
    if !args.demo {
        return folder::refuse_demo(&args.data);
    }
    let is_embedded = matches!(args.destination, Destination::Embedded(_)) && args.aws == "embedded" && !args.docker;
    if !is_embedded {
        return Err(Failure::new(
            "--demo sends made-up evacuation alerts: it runs with the embedded Kafka endpoint and embedded state alone; leave --kafka HOST:PORT, --kinesis, --aws and --docker out",
        ));
    }
    let empty = match std::fs::read_dir(&args.data) {
        Ok(mut entries) => entries.next().is_none(),
        Err(_) => true,
    };
    if empty || folder::is_demo(&args.data) {
        Ok(())
    } else {
        Err(Failure::new(format!(
            "{} holds real data, and --demo would mix made-up records into it; name another folder with --data",
            args.data.display()
        )))
    }
}

/// Rows of the bulk import beside which alerts are sent.
const IMPORT_ROWS: usize = 100_000;
const ALERTS: usize = 5;
const SENSOR_EVERY: Duration = Duration::from_secs(1);
/// A newcomer sees what a second poll brings within seconds, not minutes.
const POLLED_EVERY_S: u32 = 10;
/// Beside those of the streams file that the upstream answers for.
const ZONES: &str = "version: 1
streams:
  - id: evacuation-zones
    source_id: evacuation_zones
    connector: zones
    tenant: cal-fire
    interval: 60s
    config: {alerts: {connector: demo-zones, source_id: life_safety_zone_demo}}
";

/// What of a streams file the demo polls, and how often.
///
/// # Errors
/// When the demo's own stream is none.
pub(crate) fn streams_of(mut file: StreamsFile) -> Result<StreamsFile, Failure> {
    file.streams.retain(|spec| matches!(spec.polled, Polled::Firms(_) | Polled::Calfire(_)));
    file.streams.extend(StreamsFile::parse(ZONES).map_err(Failure::new)?.streams);
    file.streams.iter_mut().for_each(|spec| spec.interval = Interval::seconds(POLLED_EVERY_S));
    Ok(file)
}

/// Where the demo sends.
pub(crate) struct Targets {
    pub(crate) app: App,
    pub(crate) http: SocketAddr,
    pub(crate) mqtt: SocketAddr,
}

/// The running demo.
pub(crate) struct Story {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Story {
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        let _ = tokio::time::timeout(Duration::from_secs(3), self.tasks.wait()).await;
    }
}

/// Starts sensors, the import, the alerts and the teller.
pub(crate) fn start(targets: &Targets, quiet: bool) -> Story {
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let teller = Teller { began: Instant::now(), quiet };
    let (app, http, mqtt) = (targets.app.clone(), targets.http, targets.mqtt);
    tasks.spawn(guarded(stop.clone(), {
        let app = app.clone();
        async move { registered(&app, "demo-zones", "life_safety_zone_demo", "cal-fire").await.map(drop) }
    }));
    tasks.spawn(guarded(stop.clone(), sensors(mqtt, app.clock.clone())));
    tasks.spawn(guarded(stop.clone(), {
        // Not cut off in the middle of a batch: what is accepted is counted.
        let importing = tasks.spawn(import(app.clone(), stop.clone()));
        let app = app.clone();
        async move { import_and_alerts(&app, importing, http, teller).await }
    }));
    tasks.spawn(guarded(stop.clone(), async move { watch(&app, teller).await }));
    Story { stop, tasks }
}

async fn guarded(stop: CancellationToken, part: impl Future<Output = Result<(), String>>) {
    tokio::select! { biased;
        () = stop.cancelled() => {}
        ended = part => if let Err(problem) = ended {
            tracing::warn!(problem, "a part of the demo ended");
        }
    }
}

#[derive(Clone, Copy)]
struct Teller {
    began: Instant,
    quiet: bool,
}

impl Teller {
    fn say(self, text: impl std::fmt::Display) {
        if !self.quiet {
            say(&format!("[{:>5.1} s] {text}", self.began.elapsed().as_secs_f64()));
        }
    }
}

// ---- The senders ----

/// A sensor that reports over MQTT, one reading in flight.
async fn sensors(mqtt: SocketAddr, clock: Clock) -> Result<(), String> {
    let text = |e: std::io::Error| format!("MQTT: {e}");
    let mut publisher = block_in_place(|| Publisher::connect(mqtt, "demo-sensor")).map_err(text)?;
    for number in 1u32.. {
        let sensor = 9_000 + number % 12;
        let reading = json!({
            "sensor_index": sensor, "name": "demo", "latitude": 38.4 + f64::from(sensor % 12) * 0.05, "longitude": -121.2,
            "last_seen": clock.now().as_second(), "humidity": 30, "temperature": 80, "pressure": 1005.1, "pm2.5_atm": 35.5,
        });
        let (topic, payload) = (format!("sensors/purpleair/{sensor}/state"), reading.to_string());
        block_in_place(|| publisher.publish(&topic, payload.as_bytes())).map_err(text)?;
        tokio::time::sleep(SENSOR_EVERY).await;
    }
    Ok(())
}

async fn import_and_alerts(
    app: &App,
    importing: JoinHandle<Result<Ledger, String>>,
    http: SocketAddr,
    teller: Teller,
) -> Result<(), String> {
    let key = registered(app, "demo", "evacuation_alert_demo", "demo").await?;
    let client = http_client();
    for number in 1..=ALERTS {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut waiting = 0;
        while waiting == 0 && !importing.is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
            waiting = app.queue.depth(&app.settings.queues.low).await.map_or(0, |depth| depth.total());
        }
        let now = app.clock.now();
        let alert = json!({
            "id": format!("DEMO-{}-{number}", now.as_second()), "sender": "demo@example.org", "sent": rfc3339(now),
            "status": "Actual", "msgType": "Alert", "event": "Evacuation Immediate (demo)",
            "area": { "description": "Demo Canyon", "polygon": [[38.30, -120.95], [38.30, -120.80], [38.42, -120.80], [38.42, -120.95], [38.30, -120.95]] },
            "population": 1200,
        });
        let began = Instant::now();
        let request = client.post(format!("http://{http}/alerts")).bearer_auth(key.reveal()).json(&alert);
        let answer: Value =
            async { request.send().await?.json().await }.await.map_err(|e| format!("POST /alerts: {e}"))?;
        let took = began.elapsed().as_secs_f64() * 1000.0;
        match answer.pointer("/accepted/0") {
            Some(accepted) => teller.say(format_args!(
                "CRITICAL  evacuation order for Demo Canyon, 1,200 people: {}, {took:.1} ms after it was sent, ahead of {waiting} waiting batches of a bulk import",
                if accepted["acknowledged_by"] == "broker" { "in Kafka for every agency" } else { "durable in the queue" },
            )),
            None => teller.say(format_args!("CRITICAL  evacuation order refused: {answer}")),
        }
    }
    let ledger = importing.await.map_err(|e| e.to_string())??;
    teller.say(format_args!(
        "LOW       bulk import of last season's archive: {} rows accepted, {} duplicates",
        ledger.accepted, ledger.duplicates
    ));
    teller.say("see the alerts:  streammanager topics tail wildfire-critical-alerts --from-beginning --max 5");
    Ok(())
}

/// Registers one of the demo's senders of alerts, or gives it a new key where it is known from an earlier run.
async fn registered(app: &App, id: &str, source: &str, tenant: &str) -> Result<ApiKey, String> {
    let id = ConnectorId::new(id).map_err(|e| e.to_string())?;
    let source = SourceId::new(source).map_err(|e| e.to_string())?;
    let tenant = TenantId::new(tenant).map_err(|e| e.to_string())?;
    let registration = Registration { id: id.clone(), tenant, sources: vec![source], critical: true, principal: None };
    match connectors::register(app, registration, "up --demo").await {
        Ok(key) => Ok(key),
        Err(ControlError::Refused(_)) => connectors::rotate(app, &id, "up --demo").await.map_err(|e| e.to_string()),
        Err(e) => Err(e.to_string()),
    }
}

/// Ends with its rows, or at the next row once it is told to stop.
async fn import(app: App, stop: CancellationToken) -> Result<Ledger, String> {
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let id = |name| StreamId::new(name).map_err(|e| text(&e));
    let source = SourceId::new("historical_firms").map_err(|e| text(&e))?;
    let stream = Stream {
        id: id("demo-import")?,
        source: source.clone(),
        tenant: TenantId::new("demo").map_err(|e| text(&e))?,
        granted: false,
        when_full: WhenFull::Wait,
    };
    let body = bytes::Bytes::from(archive());
    let context = Context { source: &source, received_at: app.clock.now(), topic: None, message: None };
    let rows = firms::FORMAT.rows(&body, context).map_err(|e| text(&e))?;
    let rows = rows.take_while(|_| !stop.is_cancelled());
    let (mut seen, mut ledger) = (Seen::of_tenant(&stream.tenant), Ledger::default());
    ingest(&app, &stream, &mut seen, &mut ledger, rows).await.map_err(|e| text(&e))?;
    Ok(ledger)
}

/// A made-up archive of last season.
fn archive() -> String {
    let mut text =
        "latitude,longitude,bright_ti4,scan,track,acq_date,acq_time,satellite,instrument,confidence,version,bright_ti5,frp,daynight\n".to_owned();
    for row in 0..IMPORT_ROWS {
        let (latitude, longitude) = (33.0 + (row % 800) as f64 * 0.01, -123.0 + (row / 800) as f64 * 0.2);
        let (day, time) = (1 + row % 28, row % 24 * 100 + row % 60);
        let frp = 1.0 + (row % 97) as f64;
        let _ = writeln!(
            text,
            "{latitude:.5},{longitude:.5},320.5,0.4,0.4,2025-08-{day:02},{time},N,DEMO,n,2.0DEMO,290.1,{frp:.1},D"
        );
    }
    text
}

// ---- The teller ----

/// What a stream's records are to people.
fn rows_of(registered: &Registered) -> &'static str {
    match registered.spec.polled {
        Polled::Zones(_) => "evacuation zones",
        Polled::Calfire(_) => "incident",
        _ => "fire detections",
    }
}

/// Tells of each kind of event once, when it first happens.
async fn watch(app: &App, teller: Teller) -> Result<(), String> {
    let (mut told, mut revised, mut derived, mut rejected) = (BTreeMap::<String, String>::new(), false, false, false);
    loop {
        tokio::time::sleep(Duration::from_millis(250)).await;
        for registered in streams::list(&*app.store).await.map_err(|e| e.to_string())? {
            let status = streams::status(&*app.store, &app.clock, &registered).await.map_err(|e| e.to_string())?;
            let line = match (&status.poll.last_error, status.poll.records_processed) {
                (Some(problem), _) => format!("this source is in trouble, the others go on: {problem}"),
                (None, 0) => continue,
                (None, _) if told.get(status.stream_id.as_str()).is_some_and(|line| line.starts_with("polled")) => {
                    continue;
                }
                (None, n) => format!("polled: {n} {} accepted", rows_of(&registered)),
            };
            if told.get(status.stream_id.as_str()) != Some(&line) {
                teller.say(format_args!("{:<9} stream {}: {line}", status.current_priority, status.stream_id));
                told.insert(status.stream_id.to_string(), line);
            }
        }
        let totals = app.tally.totals();
        if totals.revisions > 0 && !revised {
            revised = true;
            teller.say("          a detection that was read again had changed: published again as revision 1");
        }
        let alerts = totals.delivered.get(Topic::CRITICAL_ALERTS.name()).copied().unwrap_or_default();
        if alerts > ALERTS as u64 && !derived {
            derived = true;
            teller.say(
                "CRITICAL  the list of evacuation zones has an order for Demo Canyon East: an alert was derived of it, for every agency",
            );
        }
        if !rejected
            && let Some(letter) = dead::list(&*app.store, None, 1).await.map_err(|e| e.to_string())?.letters.first()
        {
            rejected = true;
            teller.say(format_args!(
                "          one bad row was set aside ({}: {}), the rest went on; see it: streammanager dead-letters list",
                letter.reason, letter.detail
            ));
        }
    }
}
