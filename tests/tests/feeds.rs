//! Sources that are polled without a key, from a double of their services over HTTP, through the handler, into the queues: records valid
//! against their published schemas, nothing published twice, every fault named and none taken for data, politeness counted.

#![allow(clippy::unwrap_used)]

#[path = "feeds/roads.rs"]
mod roads;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use streammanager::app::{App, Seams};
use streammanager::control::audit::{self, Action};
use streammanager::embedded::{Commits, Embedded, FileBlobs, MemoryDisk, Options};
use streammanager::faults::sink::FaultySink;
use streammanager::queue::{Body, Settle};
use streammanager::record::{Envelope, Outgoing, StreamId, Tier};
use streammanager::schedule::file::StreamsFile;
use streammanager::schedule::streams::{self, PollState};
use streammanager::settings::Settings;
use streammanager::sources;
use streammanager::time::{Clock, Rng, WallClock};
use streammanager::upstream::http::HttpUpstream;
use streammanager_functions::realtime;
use streammanager_tests::feeds::{Asked, Fault, Services};
use streammanager_tests::{binary, published, workspace};
use tempfile::TempDir;

/// The streams of one file, polled from a double.
struct World {
    app: App,
    wall: WallClock,
    services: Services,
    _folder: TempDir,
}

impl World {
    async fn new(streams: &[(&str, &str, &str, &str)]) -> World {
        let services = Services::serve();
        let (clock, wall) = Clock::settable("2026-08-01T12:00:00Z".parse().unwrap());
        let options = Options { commits: Commits::Inline, ..Options::new(clock.clone()) };
        let embedded = Arc::new(Embedded::on_disk(&MemoryDisk::default(), options).unwrap());
        let folder = tempfile::tempdir().unwrap();
        let addresses = sources::services().map(|service| (service.address_setting.to_owned(), services.url.clone()));
        let app = App::new(
            Settings { services: sources::Services::parse(&addresses.collect()).unwrap(), ..Settings::local() },
            Seams {
                queue: embedded.clone(),
                store: embedded.clone(),
                blobs: Arc::new(FileBlobs::open(folder.path(), Commits::Inline, embedded.trust().clone()).unwrap()),
                sink: Arc::new(FaultySink::memory()),
                upstream: Arc::new(HttpUpstream::new().unwrap()),
            },
            clock,
            Rng::seeded(1),
        );
        let mut text = "version: 1\nstreams:\n".to_owned();
        for (id, source, connector, config) in streams {
            text.push_str(&format!(
                "  - {{id: {id}, source_id: {source}, connector: {connector}, tenant: cal-fire, interval: 60s, config: {config}}}\n"
            ));
        }
        streams::apply(&app, &StreamsFile::parse(&text).unwrap(), false).await.unwrap();
        World { app, wall, services, _folder: folder }
    }

    /// One due poll; a minute later the next one is due.
    async fn poll(&self, stream: &str) -> PollState {
        let state = self.tick(stream).await;
        self.wall.step(60);
        state
    }

    /// What is due now through the handler, as its queue delivers it.
    async fn tick(&self, stream: &str) -> PollState {
        let tick = json!({ "stream": stream, "due_at": self.app.clock.now() }).to_string();
        let event = json!({ "Records": [{ "messageId": "m", "body": tick }] });
        let answer = realtime::handle(&self.app, event).await.unwrap();
        assert_eq!(answer, json!({ "batchItemFailures": [] }));
        self.state(stream).await
    }

    async fn state(&self, stream: &str) -> PollState {
        streams::poll_state(&*self.app.store, &StreamId::new(stream).unwrap()).await.unwrap()
    }

    /// What waits in a tier's queue, taken out of it and held against its schema.
    async fn published(&self, tier: Tier) -> Vec<(Outgoing, Value)> {
        let queue = self.app.settings.queues.tier(tier).clone();
        let mut records = Vec::new();
        loop {
            let received = self.app.queue.receive(&queue, 10, Duration::ZERO).await.unwrap();
            if received.is_empty() {
                return records;
            }
            for delivery in received {
                let Body::Binary(bytes) = &delivery.body else { panic!("an envelope is binary") };
                for record in Envelope::decode(bytes).unwrap().unpack().unwrap() {
                    let value: Value = serde_json::from_slice(&record.value).unwrap();
                    published::assert_valid(record.topic.name(), &value);
                    records.push((record, value));
                }
                self.app.queue.settle(&queue, &[(delivery.receipt, Settle::Forget)]).await.unwrap();
            }
        }
    }

    /// The counts of a poll: what was published of it, by revision.
    async fn polled(&self, stream: &str, tier: Tier) -> (usize, usize) {
        let state = self.poll(stream).await;
        assert_eq!(state.last_error, None);
        let records = self.published(tier).await;
        let revisions = records.iter().filter(|(record, _)| record.revision > 0).count();
        (records.len() - revisions, revisions)
    }
}

fn statuses(asked: &[Asked]) -> Vec<u16> {
    asked.iter().map(|asked| asked.status).collect()
}

/// One at a time, each with our name, and the rule's pause between them.
fn assert_polite(asked: &[Asked], apart: Duration) {
    for one in asked {
        assert_eq!(one.beside, 0, "two requests at once: {one:?}");
        assert!(one.headers["user-agent"].starts_with("StreamManager/"), "{one:?}");
        assert!(one.headers.contains_key("accept"), "{one:?}");
    }
    for pair in asked.windows(2) {
        let pause = pair[1].began.duration_since(pair[0].ended);
        assert!(pause + Duration::from_millis(20) >= apart, "{pause:?} after {:?}", pair[0].path);
    }
}

const APART: Duration = Duration::from_millis(200);

#[tokio::test(flavor = "multi_thread")]
async fn s2_alerts_are_polled_once_each_with_their_pages_as_high_and_audited() {
    let world = World::new(&[("alerts", "noaa_alerts", "nws_alerts", "{areas: [CA]}")]).await;
    world.services.pages(3);
    assert_eq!(world.poll("alerts").await.last_error, None);
    let records = world.published(Tier::High).await;
    assert_eq!(records.len(), 6);
    for (record, value) in &records {
        assert_eq!((record.tier, record.topic.name()), (Tier::High, "wildfire-weather"), "no grant, no siren [P2]");
        assert_eq!(value["data"]["info"][0]["event"], "Red Flag Warning");
    }
    assert!(world.published(Tier::Critical).await.is_empty());
    let asked = world.services.asked();
    assert_eq!(asked[0].path, "/alerts/active?status=actual&area=CA");
    assert_eq!((statuses(&asked), asked.len()), (vec![200; 3], 3));
    assert_polite(&asked, APART);
    assert_eq!(audit_entries(&world).await, 3, "each page was served as HIGH");

    assert_eq!(world.polled("alerts", Tier::High).await, (0, 0), "read again, published once");
    assert!(
        world.services.asked().iter().all(|asked| !asked.headers.contains_key("if-none-match")),
        "of pages nothing tells"
    );
    assert_eq!(audit_entries(&world).await, 3, "nobody was served");
    world.services.pages(1);
    assert_eq!(world.polled("alerts", Tier::High).await, (0, 0));
    assert_eq!(world.polled("alerts", Tier::High).await, (0, 0));
    assert_eq!(statuses(&world.services.asked()), [200, 304]);
    world.services.renews();
    assert_eq!(world.polled("alerts", Tier::High).await, (0, 2), "a changed alert is a revision");
}

async fn audit_entries(world: &World) -> usize {
    let day = world.app.clock.now();
    let listed = audit::page(&*world.app.store, day, None, 100).await.unwrap();
    listed.iter().filter(|listed| listed.entry.action == Action::ServedAsHigh).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn s2_the_latest_observation_of_each_station_is_polled_and_one_that_is_gone_costs_itself() {
    let config = "{stations: [KOAK, KGONE, KSFO]}";
    let world = World::new(&[("stations", "noaa_observations", "nws_observations", config)]).await;
    let state = world.poll("stations").await;
    let said = state.missing.unwrap();
    assert!(said.starts_with("KGONE: status 404") && said.contains("Not there"), "{said}");
    assert_eq!((state.breaker.failures(), state.last_error, state.records_processed), (0, None, 2));
    let records = world.published(Tier::Normal).await;
    let stations: Vec<_> = records.iter().map(|(_, value)| value["data"]["station_id"].clone()).collect();
    assert_eq!(stations, ["KOAK", "KSFO"]);
    assert_eq!(records[0].1["data"]["temperature_c"], 31.1);
    assert_polite(&world.services.asked(), APART);
    world.poll("stations").await;
    assert_eq!(statuses(&world.services.asked()), [304, 404, 304]);
    assert!(world.published(Tier::Normal).await.is_empty());
    world.services.renews();
    world.poll("stations").await;
    let newer = world.published(Tier::Normal).await;
    assert_eq!((newer.len(), newer[0].0.revision), (2, 0), "another hour is another event");
}

#[tokio::test(flavor = "multi_thread")]
async fn s2_forecasts_hours_and_grids_are_polled_and_published_when_they_are_made_anew() {
    let world = World::new(&[("cells", "noaa_forecast", "nws_forecast", "{cells: [\"MTR/90,105\"]}")]).await;
    assert_eq!(world.polled("cells", Tier::Normal).await, (6, 0), "two periods, two hours, two layers");
    let paths: Vec<_> = world.services.asked().into_iter().map(|asked| asked.path).collect();
    let cell = "/gridpoints/MTR/90,105";
    assert_eq!(paths, [format!("{cell}/forecast"), format!("{cell}/forecast/hourly"), cell.to_owned()]);
    assert_eq!(world.polled("cells", Tier::Normal).await, (0, 0));
    assert_eq!(statuses(&world.services.asked()), [304; 3]);
    world.services.passes();
    assert_eq!(
        world.polled("cells", Tier::Normal).await,
        (0, 0),
        "an hour later the list is shorter, and says nothing new"
    );
    world.services.fails(Fault::Frozen);
    assert_eq!(world.polled("cells", Tier::Normal).await, (0, 0), "the same forecast without a validator");
    world.services.fails(Fault::None);
    world.services.renews();
    world.services.asked();
    assert_eq!(world.polled("cells", Tier::Normal).await, (4, 0), "one period, one hour, two layers");
    assert_polite(&world.services.asked(), APART);
}

#[tokio::test(flavor = "multi_thread")]
async fn s2_metar_is_polled_for_all_stations_at_once_with_their_places() {
    let world = World::new(&[("metar", "noaa_observations", "metar", "{stations: [KOAK, KSFO]}")]).await;
    world.poll("metar").await;
    let records = world.published(Tier::Normal).await;
    assert_eq!(records.len(), 2);
    let value = &records[0].1;
    assert_eq!(
        (&value["data"]["station_id"], &value["observed_at"]),
        (&json!("KOAK"), &json!("2026-08-01T00:56:00.000Z"))
    );
    assert_eq!((&value["data"]["weather"][0]["weather"], &value["latitude"]), (&json!("haze"), &json!(37.72)));
    assert_eq!(value["quality"], json!([]));
    let asked = world.services.asked();
    assert_polite(&asked, APART);
    assert_eq!((asked.len(), asked[0].path.as_str()), (1, "/api/data/metar?ids=KOAK,KSFO&format=json"));
    assert_eq!(world.polled("metar", Tier::Normal).await, (0, 0));
    world.services.renews();
    assert_eq!(world.polled("metar", Tier::Normal).await, (2, 0));
    assert_eq!(statuses(&world.services.asked()), [304, 200]);
}

#[tokio::test(flavor = "multi_thread")]
async fn s6_incidents_of_calfire_are_polled_and_only_what_changed_is_a_revision() {
    let world = World::new(&[("fires", "calfire_incidents", "calfire", "{}")]).await;
    assert_eq!(world.polled("fires", Tier::Normal).await, (2, 0));
    let asked = world.services.asked();
    assert_eq!(asked[0].path, "/umbraco/api/IncidentApi/GeoJsonList?inactive=false");
    assert_eq!(world.polled("fires", Tier::Normal).await, (0, 0));
    assert_eq!(statuses(&world.services.asked()), [304]);
    let quiet = world.state("fires").await;
    assert!(quiet.last_new < quiet.last_success, "a list that is frozen can be told from one that is renewed");
    world.services.fails(Fault::Empty);
    assert_eq!(
        world.polled("fires", Tier::Normal).await,
        (0, 0),
        "an empty list says nothing of the fires of the last one"
    );
    world.services.fails(Fault::None);
    world.services.renews();
    assert_eq!(world.polled("fires", Tier::Normal).await, (0, 2));
    assert_eq!(world.state("fires").await.last_new.map(|at| at > quiet.last_new.unwrap()), Some(true));
}

/// Every fault of a service is told as what it is, nothing of it is published or remembered, and when it is over all goes on.
#[tokio::test(flavor = "multi_thread")]
async fn s10_every_fault_is_named_and_none_is_taken_for_data() {
    for (id, source, connector, config, tier) in [
        ("alerts", "noaa_alerts", "nws_alerts", "{areas: [CA]}", Tier::High),
        ("stations", "noaa_observations", "nws_observations", "{stations: [KOAK]}", Tier::Normal),
        ("cells", "noaa_forecast", "nws_forecast", "{cells: [\"MTR/90,105\"], documents: [grid]}", Tier::Normal),
        ("metar", "noaa_observations", "metar", "{stations: [KOAK]}", Tier::Normal),
        ("fires", "calfire_incidents", "calfire", "{}", Tier::Normal),
    ] {
        for (fault, says) in [
            (Fault::Busy(Some(40)), "it is asked again at 2026-08-01T12:0"),
            (Fault::Busy(None), "slow down"),
            (Fault::Forbidden, "status 403: access refused: it is a web page"),
            (Fault::Broken, "An unexpected problem has occurred"),
            (Fault::Cut, "http://127.0.0.1"),
            (Fault::Short, ""),
            (Fault::ErrorIn200, "An unexpected problem has occurred"),
            (Fault::PageIn200, "it is a web page"),
            (Fault::Moved, "moved to"),
        ] {
            let world = World::new(&[(id, source, connector, config)]).await;
            world.services.fails(fault);
            let state = world.poll(id).await;
            let said = state.last_error.clone().unwrap_or_else(|| panic!("{id}: {fault:?} was taken for data"));
            assert!(said.contains(says), "{id}: {fault:?} said {said:?}");
            assert_eq!(
                (state.breaker.failures(), state.last_success, state.records_failed),
                (1, None, 0),
                "{id}: {fault:?}"
            );
            assert!(world.published(tier).await.is_empty(), "{id}: {fault:?}");
            world.services.asked();
            world.services.fails(Fault::None);
            let state = world.poll(id).await;
            assert_eq!(state.last_error, None, "{id}: after {fault:?}");
            assert!(!world.published(tier).await.is_empty(), "{id}: after {fault:?}");
            let asked = world.services.asked();
            assert!(!asked[0].headers.contains_key("if-none-match"), "{id}: {fault:?} left its validator");
        }
    }
}

/// Two streams of one host: what one is told holds for the other, and they never ask at once.
#[tokio::test(flavor = "multi_thread")]
async fn s11_streams_of_one_host_take_turns_and_share_its_retry_after() {
    let world = World::new(&[
        ("stations", "noaa_observations", "nws_observations", "{stations: [KOAK, KSFO, KSAC]}"),
        ("alerts", "noaa_alerts", "nws_alerts", "{areas: [CA]}"),
        ("others", "noaa_observations", "nws_observations", "{stations: [KSAN, KLAX, KBUR]}"),
    ])
    .await;
    let (one, two, three) = tokio::join!(world.tick("stations"), world.tick("alerts"), world.tick("others"));
    assert_eq!((one.last_error, two.last_error, three.last_error), (None, None, None));
    let mut asked = world.services.asked();
    asked.sort_by_key(|asked| asked.began);
    assert_eq!(asked.len(), 7);
    assert_polite(&asked, APART);
    world.wall.step(60);
    world.services.fails(Fault::Busy(Some(240)));
    assert!(world.poll("alerts").await.last_error.unwrap().contains("slow down"));
    world.services.fails(Fault::None);
    world.services.asked();
    let told = world.poll("stations").await;
    assert!(told.last_error.unwrap().contains("told to wait"));
    assert!(told.not_before.is_some_and(|until| until > world.app.clock.now()));
    assert_eq!(
        (told.breaker.failures(), world.services.asked().len()),
        (0, 0),
        "not its own fault, and nothing was asked"
    );
    world.wall.step(240);
    assert_eq!(world.poll("stations").await.last_error, None);
    assert_eq!(world.services.asked().len(), 3);
}

/// While its breaker is open, the last good answer is shown with its age, and not published again.
#[tokio::test(flavor = "multi_thread")]
async fn s10_a_source_that_is_down_is_shown_as_stale_and_nothing_of_it_is_new() {
    let world = World::new(&[("fires", "calfire_incidents", "calfire", "{}")]).await;
    assert_eq!(world.polled("fires", Tier::Normal).await, (2, 0));
    world.services.fails(Fault::Forbidden);
    let shown = async || {
        let stream = StreamId::new("fires").unwrap();
        let registered = streams::get(&*world.app.store, &stream).await.unwrap().unwrap();
        streams::status(&*world.app.store, &world.app.clock, &registered).await.unwrap()
    };
    for failures in 1..=3 {
        assert_eq!(shown().await.stale_s, None);
        assert_eq!(world.poll("fires").await.breaker.failures(), failures);
    }
    let stale = shown().await;
    assert!(stale.stale_s.is_some_and(|age| age >= 240), "{:?}", stale.stale_s);
    assert!(stale.poll.last_error.unwrap().contains("web page"));
    assert!(world.published(Tier::Normal).await.is_empty());
    world.services.fails(Fault::None);
    world.wall.step(600);
    assert_eq!(world.polled("fires", Tier::Normal).await, (0, 0), "what is as it was is not new");
    assert_eq!(shown().await.stale_s, None);
}

/// An answer that does not come, or does not end, ends with the time that a request has.
#[tokio::test(flavor = "multi_thread")]
async fn s10_a_silent_service_and_one_without_end_are_given_up() {
    let one = async |fault| {
        let world = World::new(&[("fires", "calfire_incidents", "calfire", "{}")]).await;
        world.services.fails(fault);
        let state = world.poll("fires").await;
        assert!(state.last_error.unwrap().contains("no answer within 10s"));
        assert!(world.published(Tier::Normal).await.is_empty());
    };
    tokio::join!(one(Fault::Slow), one(Fault::Endless));
}

#[test]
fn a_config_is_checked_when_it_is_registered_with_its_field_and_its_rule() {
    let stream = |source: &str, connector: &str, interval: &str, config: &str| {
        format!(
            "version: 1\nstreams:\n  - id: one\n    source_id: {source}\n    connector: {connector}\n    tenant: t\n    \
             interval: {interval}\n    config: {config}\n"
        )
    };
    let said = |text: String| StreamsFile::parse(&text).unwrap_err().to_string();
    for (source, connector, interval, config, says) in [
        ("noaa_alerts", "nws_alerts", "60s", "{}", "streams[0].config.areas: is missing"),
        ("noaa_alerts", "nws_alerts", "60s", "{areas: [California]}", "streams[0].config.areas: \"California\" is not"),
        ("noaa_alerts", "nws_alerts", "10s", "{areas: [CA]}", "streams[0].interval: National Weather Service"),
        ("noaa_alerts", "nws_alerts", "60s", "{area: [CA]}", "streams[0].config.area: unknown field"),
        ("noaa_observations", "nws_observations", "5m", "{stations: [koak]}", "streams[0].config.stations: \"koak\""),
        ("noaa_forecast", "nws_forecast", "1h", "{cells: [MTR]}", "streams[0].config.cells: \"MTR\" is not a cell"),
        ("noaa_forecast", "nws_forecast", "1h", "{cells: [\"MTR/1,2\"], documents: []}", "streams[0].config.documents"),
        ("noaa_observations", "metar", "30s", "{stations: [KOAK]}", "streams[0].interval: Aviation Weather Center"),
        ("noaa_observations", "metar", "60s", "{stations: [OAK]}", "streams[0].config.stations: \"OAK\" is not"),
        ("calfire_incidents", "calfire", "5m", "{year: 1999}", "streams[0].config.year: 1999 is not in 2013..2100"),
        (
            "calfire_incidents",
            "metar",
            "5m",
            "{stations: [KOAK]}",
            "streams[0].source_id: calfire_incidents is read from calfire, and the connector metar gives nws-observation",
        ),
        ("noaa_radar", "metar", "5m", "{stations: [KOAK]}", "streams[0].source_id: noaa_radar is not read"),
    ] {
        let error = said(stream(source, connector, interval, config));
        assert!(error.starts_with(says) && error.contains("at line"), "{error}");
    }
    let stations: Vec<String> = (0..60).map(|n| format!("KT{n:02}")).collect();
    let many =
        stream("noaa_observations", "nws_observations", "30s", &format!("{{stations: [{}]}}", stations.join(", ")));
    let file = StreamsFile::parse(&many).unwrap();
    assert_eq!(file.loads()[0].to_string(), {
        "National Weather Service (https://api.weather.gov): 1 stream, 120.0 requests a minute of 120"
    });
    let more = format!(
        "{many}{}",
        stream("noaa_alerts", "nws_alerts", "60s", "{areas: [CA]}")
            .split_once("streams:\n")
            .unwrap()
            .1
            .replace("id: one", "id: two")
    );
    let error = said(more);
    assert!(
        error.starts_with("streams: National Weather Service")
            && error.contains("2 streams, 121.0 requests a minute of 120"),
        "{error}"
    );
}

#[test]
fn s11_streams_check_shows_what_a_file_asks_of_each_service() {
    let check = |file: &Path| {
        let ended = Command::new(binary()).args(["streams", "check"]).arg(file).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (ended.status.code(), text(&ended.stdout), text(&ended.stderr))
    };
    let (code, said, error) = check(&workspace().join("infra/streams.yaml"));
    assert_eq!(code, Some(0), "{error}");
    for line in [
        "NASA FIRMS (https://firms.modaps.eosdis.nasa.gov): 5 streams, 5.0 requests a minute of 500",
        "National Weather Service (https://api.weather.gov): 1 stream, 1.0 requests a minute of 120",
        "CAL FIRE incidents (https://incidents.fire.ca.gov): 1 stream, 0.2 requests a minute of 6",
    ] {
        assert!(said.lines().any(|other| other == line), "{said}");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("streams.yaml");
    std::fs::write(&file, "version: 1\nstreams:\n  - {id: a, source_id: noaa_alerts, connector: nws_alerts, tenant: t, interval: 1s, config: {areas: [CA]}}\n").unwrap();
    let (code, _, error) = check(&file);
    assert!(
        code == Some(1)
            && error.contains("interval: National Weather Service must not be polled more often than every 30 s"),
        "{error}"
    );
}

/// O9: `check` and `apply` tell all that is wrong with a file, for people and for programs.
#[test]
fn o9_a_files_mistakes_are_told_at_once_by_check_and_apply() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("streams.yaml");
    let stream = |id, interval| {
        format!(
            "  - {{id: {id}, source_id: noaa_alerts, connector: nws_alerts, tenant: t, interval: {interval}, config: {{areas: [CA]}}}}\n"
        )
    };
    std::fs::write(&file, format!("version: 1\nstreams:\n{}{}", stream("a b", "60s"), stream("one", "1s"))).unwrap();
    for command in ["check", "apply"] {
        let run = |more: &[&str]| {
            let ended = Command::new(binary()).args(["streams", command]).args(more).arg(&file).output().unwrap();
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            (ended.status.code(), text(&ended.stdout), text(&ended.stderr))
        };
        let (code, _, error) = run(&[]);
        assert!(code == Some(1) && error.contains("streams.yaml: 2 mistakes:\n  streams[0].id: "), "{error}");
        assert!(
            error.contains("\n  streams[1].interval: ") && error.contains(" every 30 s at line 4 column "),
            "{error}"
        );
        let (code, out, _) = run(&["--json"]);
        let told: Value = serde_json::from_str(&out).unwrap();
        assert_eq!((code, told["file"].as_str()), (Some(1), file.to_str()));
        assert_eq!(
            (&told["mistakes"][1]["field"], &told["mistakes"][1]["line"]),
            (&"streams[1].interval".into(), &4.into())
        );
    }
}

/// What is built in asks each service within its rule, and each address setting of a service is a parameter of the template.
#[test]
fn s11_the_built_in_streams_stay_within_every_services_rule() {
    let root = workspace();
    let file = StreamsFile::parse(&std::fs::read_to_string(root.join("infra/streams.yaml")).unwrap()).unwrap();
    let loads: BTreeMap<_, _> = file.loads().iter().map(|load| (load.service.name, load.a_minute)).collect();
    assert!(loads.len() >= 4, "{loads:?}");
    let text = std::fs::read_to_string(root.join("infra/streams.yaml")).unwrap();
    let examples = text.matches("  # - id").count();
    let with_examples = text.replace("  # - id", "  - id").replace("  #   ", "    ");
    let streams = StreamsFile::parse(&with_examples).unwrap().streams.len();
    assert!(streams == file.streams.len() + examples && examples >= 4, "the examples are valid");
    let template = std::fs::read_to_string(root.join("infra/template.yaml")).unwrap();
    for service in sources::services() {
        let line = format!("{}: !Ref {}", service.address_setting, service.address_parameter);
        assert!(template.contains(&line), "{line}");
        assert!(template.contains(&format!("Default: {}\n", service.address)), "{}", service.address);
    }
}

/// L1: what comes of each stream is seen before it runs; nothing is taken of it.
#[test]
fn s11_streams_check_polls_each_stream_once_and_says_what_came() {
    let services = Services::serve();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("streams.yaml");
    let one = |id: &str, source: &str, connector: &str, config: &str| {
        format!(
            "  - {{id: {id}, source_id: {source}, connector: {connector}, tenant: t, interval: 5m, config: {config}}}\n"
        )
    };
    let streams = [
        "version: 1\nstreams:\n",
        &one("alerts", "noaa_alerts", "nws_alerts", "{areas: [CA]}"),
        &one("fires", "calfire_incidents", "calfire", "{}"),
        &one("again", "calfire_incidents", "calfire", "{}"),
        &one("hot", "firms_viirs_snpp", "firms", "{product: VIIRS_SNPP_NRT, area: [-124.5, 32.5, -114.1, 42.1]}"),
    ];
    std::fs::write(&file, streams.concat()).unwrap();
    let check = |more: &[&str]| {
        let mut command = Command::new(binary());
        command.args(["streams", "check"]).arg(&file).args(more).env_remove("FIRMS_MAP_KEY").current_dir(folder.path());
        for service in sources::services().filter(|service| !service.address_setting.is_empty()) {
            command.env(service.address_setting, &services.url);
        }
        let ended = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (ended.status.code(), text(&ended.stdout), text(&ended.stderr))
    };
    let (code, said, error) = check(&["--probe"]);
    assert_eq!(code, Some(1), "{said}{error}");
    assert!(error.contains("fires and again both ask for the same"), "{error}");
    let line = |id: &str| said.lines().find(|line| line.starts_with(&format!("{id} "))).unwrap_or_default().to_owned();
    assert!(line("alerts").contains("records of 1 requests in"), "{said}");
    assert!(line("fires").contains("2 records of 1 requests"), "{said}");
    assert!(said.contains("FIRMS_MAP_KEY is not set"), "{said}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing was written");

    let (code, said, error) = check(&["--probe", "--stream", "fires", "--json"]);
    assert_eq!(code, Some(0), "{said}{error}");
    let told: serde_json::Value = serde_json::from_str(&said).unwrap();
    let found = &told["probed"][0]["found"];
    assert_eq!((found["records"].as_u64(), found["problems"].as_array().map(Vec::len)), (Some(2), Some(0)), "{told}");
    assert_eq!(told["overlaps"][0]["streams"], serde_json::json!(["fires", "again"]));

    services.fails(Fault::Busy(Some(240)));
    let (code, said, _) = check(&["--probe", "--stream", "fires"]);
    assert!(code == Some(1) && said.contains("slow down"), "{said}");
    let (code, _, error) = check(&["--probe", "--stream", "none"]);
    assert!(code == Some(2) && error.contains("no stream of this name"), "{error}");
}
