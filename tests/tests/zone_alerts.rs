//! Alerts that are derived of evacuation zones, from a double of the layer to the critical topic [S14, P3]: who may derive them, what
//! each word of the list makes of a thread, and that no crash loses one or tells it twice.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};
use streammanager::app::{App, Seams};
use streammanager::breaker::BreakerState;
use streammanager::control::audit::{self, Action};
use streammanager::control::connector::Registration;
use streammanager::control::connectors;
use streammanager::dead;
use streammanager::decode::Context;
use streammanager::embedded::{Commits, Embedded, FileBlobs, MemoryDisk, Options, QueueOptions};
use streammanager::error::BackendError;
use streammanager::faults::arcgis::{LayerDouble, LayerFault};
use streammanager::faults::sink::{Fault, FaultySink};
use streammanager::ingest::dedup::Seen;
use streammanager::ingest::{Ledger, ingest};
use streammanager::queue::{Body, Message, QueueRef, Settle};
use streammanager::record::{ConnectorId, Envelope, Outgoing, SourceId, Stream, StreamId, TenantId, Tier, WhenFull};
use streammanager::schedule::file::StreamsFile;
use streammanager::schedule::streams::{self, PollState};
use streammanager::schedule::ticks::Tick;
use streammanager::settings::Settings;
use streammanager::sink::{Apart, Lane};
use streammanager::sources;
use streammanager::store::{Expect, Item, Key, PutError, Store, Version};
use streammanager::time::{Clock, Rng, Timestamp, WallClock};
use streammanager_functions::realtime;
use streammanager_tests::published;
use tempfile::TempDir;

const SOURCE: &str = "life_safety_zone_testland";
const FULL: &str = "local:full";

fn file(config: &str) -> String {
    format!(
        "version: 1\nstreams:\n  - {{id: zones, source_id: evacuation_zones, connector: zones, tenant: test, interval: 60s, config: {config}}}\n"
    )
}

const DERIVING: &str = "{alerts: {connector: zone-alerts, source_id: life_safety_zone_testland}}";

/// A store that dies with its process: behind a number of writes no call does anything any more.
struct Dying {
    inner: Arc<Embedded>,
    /// Writes that are still done; below zero none is, and nothing is read.
    left: AtomicI64,
}

impl Dying {
    fn check(&self, is_write: bool) -> Result<(), BackendError> {
        let left = if is_write { self.left.fetch_sub(1, Ordering::SeqCst) } else { self.left.load(Ordering::SeqCst) };
        if left > 0 || (left == 0 && !is_write) { Ok(()) } else { Err(BackendError::Retry("the process died".into())) }
    }
}

#[async_trait]
impl Store for Dying {
    async fn get(&self, key: &Key) -> Result<Option<Item>, BackendError> {
        self.check(false)?;
        self.inner.get(key).await
    }

    async fn list(
        &self,
        partition: &str,
        prefix: &str,
        after: Option<&str>,
        max: usize,
    ) -> Result<Vec<Item>, BackendError> {
        self.check(false)?;
        self.inner.list(partition, prefix, after, max).await
    }

    async fn put_if(
        &self,
        key: &Key,
        value: Bytes,
        expect: Expect,
        expires: Option<Timestamp>,
    ) -> Result<Version, PutError> {
        self.check(true)?;
        self.inner.put_if(key, value, expect, expires).await
    }

    async fn delete_if(&self, key: &Key, expect: Expect) -> Result<(), PutError> {
        self.check(true)?;
        self.inner.delete_if(key, expect).await
    }
}

struct World {
    app: App,
    double: Arc<LayerDouble>,
    sink: Arc<FaultySink>,
    store: Arc<Dying>,
    wall: WallClock,
    folder: TempDir,
}

impl World {
    async fn new(config: &str) -> World {
        let text = |name| (name, "esriFieldTypeString", Vec::new());
        let fields = ["ZONE_ID", "COUNTY", "STATUS", "PUBLIC_INFO"].map(text);
        let double =
            LayerDouble::new(fields.into_iter().chain([("EditDate", "esriFieldTypeDate", Vec::new())]).collect());
        let (clock, wall) = Clock::settable("2026-09-01T19:00:00Z".parse().unwrap());
        let full = QueueOptions { capacity: 0, ..QueueOptions::default() };
        let queues = [(QueueRef::new(FULL), full)].into();
        let options = Options { commits: Commits::Inline, queues, ..Options::new(clock.clone()) };
        let inner = Arc::new(Embedded::on_disk(&MemoryDisk::new(), options).unwrap());
        let store = Arc::new(Dying { inner, left: AtomicI64::new(i64::MAX) });
        let (double, sink, folder) = (Arc::new(double), Arc::new(FaultySink::memory()), tempfile::tempdir().unwrap());
        let app = process(&double, &sink, &store, &folder, clock);
        streams::apply(&app, &StreamsFile::parse(&file(config)).unwrap(), false).await.unwrap();
        World { app, double, sink, store, wall, folder }
    }

    /// A process that remembers nothing takes the place of one that died.
    fn restart(&mut self) {
        self.store.left.store(i64::MAX, Ordering::SeqCst);
        self.app = process(&self.double, &self.sink, &self.store, &self.folder, self.app.clock.clone());
    }

    async fn grant(&self, source: &str) {
        let registration = Registration {
            id: ConnectorId::new("zone-alerts").unwrap(),
            tenant: TenantId::new("test").unwrap(),
            sources: vec![SourceId::new(source).unwrap()],
            critical: true,
            principal: None,
        };
        connectors::register(&self.app, registration, "a test").await.unwrap();
    }

    fn zone(&self, n: i64, status: &str) {
        self.row(n, &format!("US-CA-XZZ-E{n:03}"), "Testland", status);
    }

    /// One row of the list; each has a shape of its own.
    fn row(&self, n: i64, zone: &str, county: &str, status: &str) {
        let (east, north) = (-120.0 + n as f64, 38.0);
        let ring = json!([[
            [east, north],
            [east, north + 0.1],
            [east + 0.1, north + 0.1],
            [east + 0.1, north],
            [east, north]
        ]]);
        let attributes = json!({"ZONE_ID": zone, "COUNTY": county, "STATUS": status,
            "PUBLIC_INFO": "Leave by Test Rd", "EditDate": 1_788_200_000_000_i64});
        self.double.put(n, attributes, json!({"rings": ring}));
        self.edited();
    }

    fn leaves(&self, n: i64) {
        self.double.set(|layer| drop(layer.rows.remove(&n)));
        self.edited();
    }

    fn edited(&self) {
        let now = self.app.clock.now().as_millisecond();
        self.double.set(|layer| layer.edited = Some(now));
    }

    /// A due poll, after which a minute passes; `false`: its tick comes back.
    async fn tick(&self) -> bool {
        let is_done = self.tick_now().await;
        tokio::time::advance(Duration::from_secs(60)).await;
        is_done
    }

    async fn tick_now(&self) -> bool {
        let tick = Tick { stream: StreamId::new("zones").unwrap(), due_at: self.app.clock.now() };
        let tick = serde_json::to_string(&tick).unwrap();
        let answer = realtime::handle(&self.app, json!({"Records": [{"messageId": "1", "body": tick}]})).await.unwrap();
        self.app.tries.ended().await;
        answer == json!({"batchItemFailures": []})
    }

    /// A poll that is done; the zones that it published, by their status and revision.
    async fn poll(&self) -> Vec<(Value, u32)> {
        assert!(self.tick().await);
        let zones = self.queued(Tier::High).await;
        zones.iter().map(|record| (value(record)["data"]["status"].clone(), record.revision)).collect()
    }

    async fn queued(&self, tier: Tier) -> Vec<Outgoing> {
        let queue = self.app.settings.queues.tier(tier);
        let mut records = Vec::new();
        loop {
            let received = self.app.queue.receive(queue, 10, Duration::ZERO).await.unwrap();
            if received.is_empty() {
                return records;
            }
            for delivery in received {
                let Body::Binary(bytes) = &delivery.body else { panic!("an envelope is binary") };
                records.extend(Envelope::decode(bytes).unwrap().unpack().unwrap());
                self.app.queue.settle(queue, &[(delivery.receipt, Settle::Forget)]).await.unwrap();
            }
        }
    }

    /// Alerts that the broker has.
    fn alerts(&self) -> Vec<Outgoing> {
        self.sink.stored()
    }

    /// The settings with a full queue in the place of some.
    fn full(&self, tiers: &[Tier]) -> Arc<Settings> {
        let mut settings = (*self.app.settings).clone();
        for tier in tiers {
            match tier {
                Tier::Critical => settings.queues.critical = QueueRef::new(FULL),
                _ => settings.queues.high = QueueRef::new(FULL),
            }
        }
        Arc::new(settings)
    }

    async fn state(&self) -> PollState {
        streams::poll_state(&*self.app.store, &StreamId::new("zones").unwrap()).await.unwrap()
    }

    async fn refusals(&self) -> Vec<String> {
        let listed = audit::page(&*self.app.store, self.app.clock.now(), None, 100).await.unwrap();
        listed
            .into_iter()
            .map(|one| one.entry)
            .filter(|one| one.action == Action::Refused)
            .map(|one| one.detail)
            .collect()
    }
}

fn process(
    double: &Arc<LayerDouble>,
    sink: &Arc<FaultySink>,
    store: &Arc<Dying>,
    folder: &TempDir,
    clock: Clock,
) -> App {
    let blobs = FileBlobs::open(folder.path(), Commits::Inline, store.inner.trust().clone()).unwrap();
    App::new(
        Settings::local(),
        Seams {
            queue: store.inner.clone(),
            store: store.clone(),
            blobs: Arc::new(blobs),
            sink: sink.clone(),
            upstream: double.clone(),
        },
        clock,
        Rng::seeded(1),
    )
}

fn value(record: &Outgoing) -> Value {
    let value: Value = serde_json::from_slice(&record.value).unwrap();
    published::assert_valid(record.topic.name(), &value);
    value
}

/// Type, event and zone.
fn told(record: &Outgoing) -> (String, String, String) {
    let data = &value(record)["data"];
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let info = &data["info"][0];
    (text(&data["msgType"]), text(&info["event"]), text(&info["area"][0]["geocode"]["zone"][0]))
}

fn one(kind: &str, event: &str, zone: i64) -> (String, String, String) {
    (kind.into(), event.into(), format!("US-CA-XZZ-E{zone:03}"))
}

#[tokio::test(start_paused = true)]
async fn p3_an_order_becomes_an_alert_through_the_granted_connector_and_its_thread_ends_by_the_lists_own_word() {
    let world = World::new(DERIVING).await;
    world.grant(SOURCE).await;
    for (n, status) in [
        (1, "Evacuation Warning"),
        (2, "Evacuation Order"),
        (3, "Shelter in Place"),
        (4, "Training - Evacuation Order"),
    ] {
        world.zone(n, status);
    }
    assert!(world.tick().await);
    let zones = world.queued(Tier::High).await;
    let alerts = world.alerts();
    let rung: Vec<_> = alerts.iter().map(told).collect();
    assert_eq!(rung, [one("Alert", "Evacuation Order", 2), one("Alert", "Shelter in Place", 3)]);
    let order = value(&alerts[0]);
    assert_eq!(
        (alerts[0].topic.name(), alerts[0].tier, &order["source_id"]),
        ("wildfire-critical-alerts", Tier::Critical, &json!(SOURCE))
    );
    assert_eq!((zones.len(), &order["derived_from"]), (4, &json!(zones[1].event.to_string())), "it names its parent");
    assert_eq!(
        (&order["geometry"]["type"], &order["quality"], &order["tenant"]),
        (&json!("Polygon"), &json!([]), &json!("test"))
    );
    let info = &order["data"]["info"][0];
    assert_eq!((&info["responseType"], &info["description"]), (&json!(["Evacuate"]), &json!("Leave by Test Rd")));
    assert_eq!((&order["data"]["sender"], &order["data"]["status"]), (&json!("zone-alerts"), &json!("Actual")));

    assert!(world.poll().await.is_empty());
    world.edited();
    assert!(world.poll().await.is_empty());
    for (n, status) in [(2, "Evacuation Warning"), (3, "Perhaps over"), (4, "Evacuation Order")] {
        world.zone(n, status);
    }
    assert_eq!(world.poll().await.len(), 3);
    world.zone(2, "Evacuation Order Lifted");
    world.leaves(3);
    for _ in 0..3 {
        world.poll().await;
    }
    world.zone(3, "Shelter in Place");
    world.poll().await;
    world.zone(3, "Normal");
    world.poll().await;
    let alerts = &world.alerts()[2..];
    assert_eq!(
        alerts.iter().map(told).collect::<Vec<_>>(),
        [
            one("Alert", "Evacuation Order", 4),
            one("Update", "Evacuation Warning", 2),
            one("Cancel", "Evacuation Lifted", 2),
            one("Update", "Shelter in Place", 3),
            one("Update", "Shelter in Place", 3),
            one("Cancel", "Evacuation Lifted", 3),
        ]
    );
    let left = value(&alerts[3]);
    assert_eq!(left["data"]["note"], json!("no longer listed, not confirmed lifted"));
    assert_eq!(left["geometry"], value(&world.alerts()[1])["geometry"], "it is warned where it was");
    assert_eq!(value(&alerts[4])["data"]["note"], Value::Null);
    let all = world.alerts();
    for zone in ["US-CA-XZZ-E002", "US-CA-XZZ-E003"] {
        let keys: BTreeSet<_> =
            all.iter().filter(|alert| told(alert).2 == zone).map(|alert| alert.key.clone()).collect();
        assert_eq!(keys.len(), 1, "one thread: {keys:?}");
    }
    assert!(all.iter().all(|alert| value(alert)["quality"] == json!([])));
    // Ordered again, a thread of its own begins.
    world.zone(2, "Evacuation Order");
    world.poll().await;
    let again = world.alerts().pop().unwrap();
    assert_eq!(told(&again), one("Alert", "Evacuation Order", 2));
    assert_ne!(again.key, all[0].key);
}

#[tokio::test(start_paused = true)]
async fn a2_without_the_grant_zones_are_published_and_the_audit_says_once_that_no_alert_was_derived() {
    let world = World::new(DERIVING).await;
    world.zone(1, "Evacuation Order");
    assert_eq!(world.poll().await, [(json!("order"), 0)]);
    for _ in 0..3 {
        world.edited();
        assert!(world.poll().await.is_empty());
    }
    let refused = || {
        "no alert was derived of zone US-CA-XZZ-E001 in Testland: connector zone-alerts holds no critical grant for life_safety_zone_testland".to_owned()
    };
    assert_eq!(world.refusals().await, [refused()]);
    assert_eq!(world.state().await.last_error, None);
    // Granted for something else, and then revoked: neither is a grant.
    world.grant("life_safety_zone_elsewhere").await;
    world.edited();
    world.poll().await;
    assert!(world.alerts().is_empty() && world.refusals().await.len() == 1);
    let other = World::new(DERIVING).await;
    other.grant(SOURCE).await;
    connectors::revoke(&other.app, &ConnectorId::new("zone-alerts").unwrap(), "a test").await.unwrap();
    other.zone(1, "Evacuation Order");
    other.poll().await;
    assert!(other.alerts().is_empty());
    assert_eq!(other.refusals().await, [refused()]);

    // What is in force when the grant comes is told then.
    let late = World::new(DERIVING).await;
    late.zone(1, "Evacuation Order");
    late.zone(2, "Evacuation Order");
    late.poll().await;
    late.zone(2, "Evacuation Warning");
    late.poll().await;
    late.grant(SOURCE).await;
    late.poll().await;
    assert_eq!(late.alerts().iter().map(told).collect::<Vec<_>>(), [one("Alert", "Evacuation Order", 1)]);
    // Without the setting nothing is derived, and nothing is to be said.
    let plain = World::new("{}").await;
    plain.grant(SOURCE).await;
    plain.zone(1, "Evacuation Order");
    assert_eq!(plain.poll().await.len(), 1);
    assert!(plain.alerts().is_empty() && plain.refusals().await.is_empty());
}

/// While neither broker nor queue takes it the alert waits in the store, whatever the layer says meanwhile, and its thread with it.
#[tokio::test(start_paused = true)]
async fn q1_an_alert_that_nothing_takes_is_not_lost_and_holds_up_no_zone() {
    let mut world = World::new(DERIVING).await;
    world.grant(SOURCE).await;
    world.sink.outage(true);
    let settings = world.app.settings.clone();
    world.app.settings = world.full(&[Tier::Critical]);
    world.zone(1, "Evacuation Order");
    assert_eq!(world.poll().await, [(json!("order"), 0)], "the zone itself is accepted");
    assert!(world.state().await.missing.is_some_and(|said| said.contains("wait for the next poll")));
    world.zone(1, "Evacuation Warning");
    assert_eq!(world.poll().await, [(json!("warning"), 1)]);
    world.sink.outage(false);
    world.app.settings = settings;
    world.double.fails(Some(LayerFault::BadGateway));
    tokio::time::advance(Duration::from_secs(60)).await;
    world.tick().await;
    let mut alerts = world.alerts();
    alerts.extend(world.queued(Tier::Critical).await);
    let expected = [one("Alert", "Evacuation Order", 1), one("Update", "Evacuation Warning", 1)];
    assert_eq!(alerts.iter().map(told).collect::<Vec<_>>(), expected, "the layer itself is not even there");
    assert_eq!(alerts[0].key, alerts[1].key);
}

/// Whatever holds the zones' own records back, their orders ring.
#[tokio::test(start_paused = true)]
async fn p3_an_order_rings_while_no_record_of_its_tier_is_taken() {
    let mut world = World::new(DERIVING).await;
    world.grant(SOURCE).await;
    let settings = world.app.settings.clone();
    world.app.settings = world.full(&[Tier::High]);
    world.zone(1, "Evacuation Order");
    assert!(world.tick_now().await);
    tokio::time::advance(Duration::from_secs(35)).await;
    world.zone(2, "Shelter in Place");
    assert!(world.tick().await);
    let rung = || world.alerts().iter().map(told).collect::<Vec<_>>();
    let expected = [one("Alert", "Evacuation Order", 1), one("Alert", "Shelter in Place", 2)];
    assert_eq!(rung(), expected, "asked as often as ever");
    assert!(world.state().await.last_error.is_some_and(|said| said.contains("HIGH queue is full")));
    assert!(!world.state().await.is_throttled(world.app.clock.now()));
    world.app.settings = settings;
    assert_eq!(world.poll().await, [(json!("order"), 0), (json!("shelter_in_place"), 0)], "they only had to wait");
    assert_eq!(world.alerts().iter().map(told).collect::<Vec<_>>(), expected);

    let queue = world.app.settings.queues.tier(Tier::High);
    let filler: Vec<Message> = (0..10).map(|_| Message::now(Body::Text("waits".into()))).collect();
    for _ in 0..610 {
        world.app.queue.send(queue, &filler).await.unwrap();
    }
    world.zone(3, "Evacuation Order");
    assert!(world.tick().await);
    assert_eq!(world.alerts().last().map(told), Some(one("Alert", "Evacuation Order", 3)));
}

/// What express can never take is not taken for told.
#[tokio::test(start_paused = true)]
async fn p3_an_alert_that_is_refused_is_told_anew() {
    let mut world = World::new(DERIVING).await;
    world.grant(SOURCE).await;
    world.sink.script([Fault::Refuse]);
    world.zone(1, "Evacuation Order");
    world.poll().await;
    assert!(world.alerts().is_empty());
    assert!(world.state().await.missing.is_some_and(|said| said.contains("dead letter")));
    world.poll().await;
    assert_eq!(world.alerts().iter().map(told).collect::<Vec<_>>(), [one("Alert", "Evacuation Order", 1)]);

    // A message that waits lies in the future when the clock is set back.
    let settings = world.app.settings.clone();
    world.app.settings = world.full(&[Tier::Critical]);
    world.sink.outage(true);
    world.zone(2, "Evacuation Order");
    world.poll().await;
    world.wall.step(-3_600);
    world.app.settings = settings;
    world.sink.outage(false);
    tokio::time::advance(Duration::from_secs(60)).await;
    world.poll().await;
    let alerts = world.alerts();
    assert_eq!(alerts[1..].iter().map(told).collect::<Vec<_>>(), [one("Alert", "Evacuation Order", 2)]);
    let sent: Timestamp = value(&alerts[1])["data"]["sent"].as_str().unwrap().parse().unwrap();
    assert!(sent <= world.app.clock.now());
    for _ in 0..3 {
        world.edited();
        world.poll().await;
    }
    assert_eq!(world.alerts().len(), 2);
}

/// R4: an alert that can never be taken is tried at each poll under a new identifier, and is one dead letter all the same. What is
/// said otherwise is another one.
#[tokio::test(start_paused = true)]
async fn r4_an_alert_that_is_refused_at_each_poll_is_one_dead_letter() {
    let world = World::new(DERIVING).await;
    world.grant(SOURCE).await;
    world.sink.script(std::iter::repeat_n(Fault::Refuse, 5));
    world.zone(1, "Evacuation Order");
    let letters = async || dead::list(&*world.app.store, None, 10).await.unwrap().letters;
    for polls in 1..=3 {
        world.poll().await;
        let letters = letters().await;
        assert_eq!((letters.len(), letters[0].attempts), (1, polls), "{letters:?}");
    }
    world.zone(1, "Shelter in Place");
    world.poll().await;
    let mut attempts: Vec<u64> = letters().await.iter().map(|letter| letter.attempts).collect();
    attempts.sort_unstable();
    assert_eq!(attempts, [1, 4], "the poll tries what is held, and then what the zone says now");
    world.poll().await;
    assert_eq!(world.alerts().iter().map(told).collect::<Vec<_>>(), [one("Alert", "Shelter in Place", 1)]);
    assert_eq!(letters().await.len(), 2, "what was refused stays for whoever looks into it");
}

/// Rows of one zone that order the same are one alert for all their shapes.
#[tokio::test(start_paused = true)]
async fn s14_equally_severe_rows_of_a_zone_are_warned_with_all_their_shapes() {
    let world = World::new(DERIVING).await;
    world.grant(SOURCE).await;
    for (n, status) in [(1, "Evacuation Order"), (2, "Evacuation Warning"), (3, "EVACUATION ORDER")] {
        world.row(n, "Z", "Testland", status);
    }
    assert_eq!(world.poll().await, [(json!("order"), 0)]);
    let alert = value(&world.alerts()[0]);
    assert_eq!(alert["geometry"]["type"], json!("MultiPolygon"));
    let easts: Vec<f64> = alert["geometry"]["coordinates"]
        .as_array()
        .unwrap()
        .iter()
        .map(|polygon| polygon[0][0][0].as_f64().unwrap())
        .collect();
    assert_eq!(BTreeSet::from_iter(easts.iter().map(|east| *east as i64)), [-119, -117].into());
    // The same rows in another order say nothing new.
    world.double.set(|layer| layer.rows.clear());
    for (n, status) in [(3, "Evacuation Order"), (2, "Evacuation Warning"), (1, "EVACUATION ORDER")] {
        world.row(n, "Z", "Testland", status);
    }
    world.poll().await;
    assert_eq!(world.alerts().len(), 1);
}

/// A zone is its county's: another county's of the same id is another one, and another spelling of the county is not.
#[tokio::test(start_paused = true)]
async fn s14_counties_with_the_same_ids_have_zones_of_their_own() {
    let world = World::new(DERIVING).await;
    world.grant(SOURCE).await;
    world.row(1, "001", "Butte", "Evacuation Order");
    world.row(2, "009", "Lake", "Evacuation Warning");
    assert_eq!(world.poll().await.len(), 2);
    let first = world.alerts()[0].clone();
    world.leaves(1);
    world.row(3, "001", "Lake", "Evacuation Order");
    assert_eq!(world.poll().await, [(json!("order"), 0)]);
    world.edited();
    assert_eq!(world.poll().await, [(json!("lifted_unconfirmed"), 1)], "Butte's has gone");
    // The county of Butte, spelled anew: the same zone comes back, and is lifted.
    world.row(1, "001", " BUTTE  County", "Evacuation Order");
    assert_eq!(world.poll().await, [(json!("order"), 2)]);
    world.row(1, "001", "County of Butte", "Normal");
    assert_eq!(world.poll().await, [(json!("normal"), 3)]);
    let all = world.alerts();
    let last = all.last().unwrap();
    assert_eq!((told(last).0.as_str(), &last.key), ("Cancel", &first.key), "its order is over");
}

/// Orders are the last that is forgotten of a list that is too long, and that anything is, is said.
#[tokio::test(start_paused = true)]
async fn q2_of_a_list_too_long_to_be_remembered_orders_are_not_forgotten() {
    let world = World::new("{}").await;
    world.zone(1, "Evacuation Order");
    world.double.set(|layer| {
        let (mut attributes, shape) = layer.rows[&1].clone();
        attributes.insert("STATUS".into(), "Normal".into());
        attributes.insert("EditDate".into(), 1_788_200_900_000_i64.into());
        for n in 2..1_900 {
            attributes.insert("ZONE_ID".into(), format!("{n:0120}").into());
            layer.rows.insert(n, (attributes.clone(), shape.clone()));
        }
    });
    assert_eq!(world.poll().await.len(), 1_899);
    let said = world.state().await.missing.unwrap_or_default();
    assert!(said.contains("zones are not kept"), "{said}");
    world.leaves(1);
    world.poll().await;
    assert_eq!(world.poll().await, [(json!("lifted_unconfirmed"), 1)]);
}

/// Of many orders the first is sent while the last is not even stored, and what waits goes by its urgency.
#[tokio::test(start_paused = true)]
async fn p7_no_order_waits_for_all_others_to_be_stored_and_the_urgent_go_first() {
    const ORDERS: i64 = 24;
    let partition = format!("express/derived/{SOURCE}");
    let mut writes = 0;
    let stored = loop {
        let world = World::new(DERIVING).await;
        world.grant(SOURCE).await;
        (1..=ORDERS).for_each(|n| world.zone(n, "Evacuation Order"));
        world.store.left.store(writes, Ordering::SeqCst);
        world.tick().await;
        if !world.alerts().is_empty() {
            break world.store.inner.list(&partition, "", None, 100).await.unwrap().len();
        }
        writes += 1;
    };
    assert!(stored <= 8, "{stored} of {ORDERS} were stored before the first was sent");

    let mut world = World::new(DERIVING).await;
    world.grant(SOURCE).await;
    (1..=8).for_each(|n| world.zone(n, "Evacuation Order"));
    world.poll().await;
    let settings = world.app.settings.clone();
    world.app.settings = world.full(&[Tier::Critical]);
    world.sink.outage(true);
    for n in 1..=12 {
        world.zone(n, if n <= 8 { "Evacuation Warning" } else { "Evacuation Order" });
    }
    world.poll().await;
    world.app.settings = settings;
    world.sink.outage(false);
    tokio::time::advance(Duration::from_secs(60)).await;
    world.poll().await;
    let events: Vec<String> = world.alerts()[8..].iter().map(|alert| told(alert).1).collect();
    assert_eq!(events.len(), 12);
    assert!(events[..4].iter().all(|event| event == "Evacuation Order"), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn p3_two_messages_of_a_second_have_two_identifiers() {
    let world = World::new(DERIVING).await;
    world.grant(SOURCE).await;
    world.zone(1, "Evacuation Order");
    assert!(world.tick_now().await);
    tokio::time::advance(Duration::from_millis(300)).await;
    world.zone(1, "Evacuation Warning");
    assert!(world.tick().await);
    let identifiers: BTreeSet<String> =
        world.alerts().iter().map(|alert| value(alert)["data"]["identifier"].to_string()).collect();
    assert_eq!((world.alerts().len(), identifiers.len()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn s12_an_alert_made_of_a_zone_names_the_zones_fire() {
    let world = World::new(DERIVING).await;
    world.grant(SOURCE).await;
    let source = SourceId::new("wfigs_perimeters").unwrap();
    let now = world.app.clock.now();
    let fire = json!({"type": "FeatureCollection", "features": [{"geometry": {"type": "Polygon", "coordinates":
        [[[-119.0, 38.0], [-118.95, 38.0], [-118.95, 38.05], [-119.0, 38.05], [-119.0, 38.0]]]}, "properties": {
        "poly_SourceGlobalID": "{10000000-0000-4000-8000-0000000000AA}", "poly_IRWINID": "00000000-0000-4000-8000-0000000000aa",
        "poly_DateCurrent": now.as_millisecond(), "attr_FireDiscoveryDateTime": now.as_millisecond() - 86_400_000}}]});
    let body = Bytes::from(fire.to_string());
    let stream = Stream {
        id: StreamId::new("fires").unwrap(),
        source: source.clone(),
        tenant: TenantId::new("test").unwrap(),
        granted: false,
        when_full: WhenFull::Wait,
    };
    let context = Context { source: &source, received_at: now, topic: None, message: None };
    let rows = sources::format_of(&source).unwrap().rows(&body, context).unwrap();
    let mut seen = Seen::of_tenant(&stream.tenant);
    ingest(&world.app, &stream, &mut seen, &mut Ledger::default(), rows).await.unwrap();
    world.queued(Tier::High).await;
    world.zone(1, "Evacuation Order");
    world.zone(8, "Evacuation Order");
    assert!(world.tick().await);
    let zones: Vec<Value> = world.queued(Tier::High).await.iter().map(value).collect();
    let alerts: Vec<Value> = world.alerts().iter().map(value).collect();
    assert!(zones[0]["incident"].is_string());
    assert_eq!(alerts[0]["incident"], zones[0]["incident"]);
    assert_eq!((&zones[1]["incident"], &alerts[1]["incident"]), (&Value::Null, &Value::Null));
}

/// The process dies behind every write of a life of zones in turn: each message comes all the same, and none under two names.
#[tokio::test(start_paused = true)]
async fn p3_no_crash_between_two_writes_loses_an_alert_or_doubles_it() {
    let expected: BTreeSet<_> = [
        one("Alert", "Evacuation Order", 1),
        one("Alert", "Evacuation Order", 2),
        one("Update", "Evacuation Warning", 1),
        one("Cancel", "Evacuation Lifted", 2),
    ]
    .into();
    let (mut writes, mut finished) = (0, false);
    while !finished {
        let mut world = World::new(DERIVING).await;
        world.grant(SOURCE).await;
        world.store.left.store(writes, Ordering::SeqCst);
        let mut died = false;
        for step in 0..2 {
            let (first, second) =
                if step == 0 { ("Evacuation Order", "Evacuation Order") } else { ("Evacuation Warning", "Lifted") };
            world.zone(1, first);
            world.zone(2, second);
            let mut tries = 0;
            while !world.tick().await || tries == 0 {
                tries += 1;
                if world.store.left.load(Ordering::SeqCst) <= 0 {
                    died = true;
                    world.restart();
                }
                // The lease of the one that died is over.
                tokio::time::advance(Duration::from_secs(200)).await;
                assert!(tries < 10, "behind {writes} writes");
            }
        }
        if world.store.left.load(Ordering::SeqCst) <= 0 {
            died = true;
            world.restart();
            tokio::time::advance(Duration::from_secs(200)).await;
        }
        for _ in 0..2 {
            world.edited();
            world.tick().await;
        }
        let mut alerts = world.alerts();
        alerts.extend(world.queued(Tier::Critical).await);
        let told_now: BTreeSet<_> = alerts.iter().map(told).collect();
        assert_eq!(told_now, expected, "behind {writes} writes");
        let mut events: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for alert in &alerts {
            events.entry(told(alert)).or_default().insert((alert.event.to_string(), alert.revision));
        }
        assert!(events.values().all(|ids| ids.len() == 1), "behind {writes} writes: {events:?}");
        let zones = world.queued(Tier::High).await;
        let statuses: BTreeSet<_> = zones.iter().map(|zone| value(zone)["data"]["status"].to_string()).collect();
        assert_eq!(statuses.len(), 3, "behind {writes} writes");
        finished = !died;
        writes += 1;
    }
    assert!(writes > 20, "{writes}");
}

#[test]
fn a_zone_streams_alerts_are_checked_with_their_field_and_rule() {
    for (config, says) in [
        (
            "{alerts: {connector: a, source_id: evacuation_alert_x}}",
            "streams[0].config.alerts.source_id: evacuation_alert_x does not begin",
        ),
        (
            "{alerts: {connector: a, source_id: life_safety_zone_}}",
            "streams[0].config.alerts.source_id: life_safety_zone_ does not",
        ),
        ("{alerts: {connector: a}}", "streams[0].config.alerts: missing field `source_id`"),
        (
            "{alerts: {connector: 'A b', source_id: life_safety_zone_x}}",
            "streams[0].config.alerts.connector: connector id",
        ),
        ("{alarms: {}}", "streams[0].config.alarms: unknown field"),
        ("{simplify: 2}", "streams[0].config.simplify"),
    ] {
        let error = StreamsFile::parse(&file(config)).unwrap_err().to_string();
        assert!(error.starts_with(says) && error.contains("at line"), "{error}");
    }
    StreamsFile::parse(&file(
        "{where: \"COUNTY = 'Butte'\", simplify: 0.001, format: json, area: [-122, 38, -121, 40]}",
    ))
    .unwrap();
}

/// R2: pollers on AWS leave the brokers to others. Their alerts go into the queue, and they tell nobody that the brokers are away.
#[tokio::test(start_paused = true)]
async fn r2_a_poller_without_brokers_queues_its_alerts_and_opens_no_breaker() {
    let mut world = World::new(DERIVING).await;
    world.app.sink = Arc::new(Apart);
    world.grant(SOURCE).await;
    for n in 1..=3 {
        world.zone(n, "Evacuation Order");
    }
    assert!(world.tick().await);
    assert_eq!(world.queued(Tier::Critical).await.len(), 3);
    assert_eq!(world.app.breakers.lane(Lane::Critical).state(), BreakerState::Closed);
    assert_eq!(world.app.store.get(&Key::new("breaker", "sink")).await.unwrap(), None);
}
