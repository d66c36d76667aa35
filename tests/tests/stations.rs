//! Stations and air quality, polled from a double of their services through the handler into the queues [S17]: records valid
//! against their published schemas, nothing published twice whatever order and split it comes in, every fault named and none
//! taken for data, keys nowhere, and what is paid for kept within its bound.

#![allow(clippy::unwrap_used)]

#[path = "stations/history.rs"]
mod history;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use streammanager::connect::probe::probe;
use streammanager::record::Tier;
use streammanager::schedule::file::StreamsFile;
use streammanager_functions::schedule;
use streammanager_tests::polled::{PolledWorld, Published};
use streammanager_tests::stations::{Fault, KEY, Measured, Stations, settings};

const START: &str = "2026-08-01T12:00:00Z";

struct World {
    polled: PolledWorld,
    services: Arc<Stations>,
}

impl std::ops::Deref for World {
    type Target = PolledWorld;

    fn deref(&self) -> &PolledWorld {
        &self.polled
    }
}

fn file(source: &str, connector: &str, interval: &str, config: &str) -> String {
    format!(
        "version: 1\nstreams:\n  - {{id: one, source_id: {source}, connector: {connector}, tenant: cal-fire, interval: {interval}, config: {config}}}\n"
    )
}

impl World {
    async fn new(streams_file: &str) -> World {
        World::with_key(streams_file, KEY).await
    }

    async fn with_key(streams_file: &str, key: &str) -> World {
        let services = Arc::new(Stations::default());
        let polled = PolledWorld::new(streams_file, START, settings(key), services.clone()).await;
        World { polled, services }
    }

    async fn synoptic(config: &str) -> World {
        World::new(&file("synoptic_observations", "synoptic", "60s", config)).await
    }

    async fn purpleair(points_a_day: u64) -> World {
        let config = format!("{{area: [-124.5, 32.5, -114.1, 42.1], points_a_day: {points_a_day}}}");
        World::new(&file("iot_purpleair", "purpleair", "12h", &config)).await
    }

    /// The good ones of a poll.
    async fn records(&self) -> Vec<Published> {
        let records = self.poll().await;
        assert_eq!(self.state().await.last_error, None);
        records
    }
}

fn revisions(records: &[Published]) -> Vec<u64> {
    records.iter().map(|record| record.identity().1).collect()
}

const RAWS: &str = "{networks: [2], area: [-124.5, 32.5, -114.1, 42.1]}";

#[tokio::test(start_paused = true)]
async fn s17_the_latest_of_every_station_is_polled_once_and_a_changed_value_is_a_revision() {
    let world = World::synoptic(RAWS).await;
    world.services.measured(&[
        Measured::new("TKNC1", "2026-08-01T11:04:00Z", 31.5),
        Measured::new("CEEC1", "2026-08-01T11:10:00Z", None),
    ]);
    let records = world.records().await;
    assert_eq!(records.len(), 2);
    let (empty, warm) = (&records[0], &records[1]);
    assert_eq!((warm.topic, warm.tier), ("wildfire-weather", Tier::Normal));
    assert_eq!((warm.data("sensor_id"), warm.data("temperature_c")), (&json!("TKNC1"), &json!(31.5)));
    assert_eq!(
        (warm.data("elevation_m"), warm.data("measured_at")),
        (&json!(304.8), &json!("2026-08-01T11:04:00.000Z"))
    );
    assert_eq!(warm.said(), Vec::<String>::new());
    assert_eq!(
        (empty.data("temperature_c"), empty.data("sensor_id")),
        (&Value::Null, &json!("CEEC1")),
        "null is no zero"
    );
    assert!(world.records().await.is_empty(), "read again, published once");
    world.services.measured(&[Measured::new("TKNC1", "2026-08-01T11:04:00Z", 30.5)]);
    assert_eq!(revisions(&world.records().await), [1]);
    world.services.measured(&[Measured::new("TKNC1", "2026-08-01T12:04:00Z", 30.5)]);
    assert_eq!(revisions(&world.records().await), [0], "another hour is another event");
    world.services.measured(&[]);
    assert!(world.records().await.is_empty(), "no station is no error");
}

#[tokio::test(start_paused = true)]
async fn m1_a_bounded_range_is_a_batch_that_goes_on_from_its_cursor_and_ends_completed() {
    let config = "{stations: [TKNC1], start: '2026-07-28T00:00:00Z', end: '2026-07-31T12:00:00Z'}";
    let world = World::synoptic(config).await;
    let days = [28, 29, 30, 31].map(|day| Measured::new("TKNC1", &format!("2026-07-{day}T11:00:00Z"), f64::from(day)));
    world.services.measured(&days);
    let status = world.status().await;
    assert_eq!((status.mode.as_str(), status.mode_reason.as_str()), ("batch", "what it asks for has an end"));
    schedule::handle(&world.app, Value::Null).await.unwrap();
    let ticks = &world.app.settings.queues.batch_ticks;
    assert_eq!(world.app.queue.receive(ticks, 10, Duration::ZERO).await.unwrap().len(), 1, "its ticks are a batch's");
    world.services.fails(Fault::Broken);
    assert!(world.poll().await.is_empty());
    world.services.fails(Fault::None);
    let asked = world.services.asked();
    let records = world.records().await;
    assert_eq!(records.len(), 4);
    let urls: Vec<String> = world.services.asked().into_iter().map(|asked| asked.url).collect();
    assert_eq!(urls.len(), 4, "a day a request");
    assert_eq!(asked[0].url, urls[0], "what failed is asked again");
    assert!(urls[3].ends_with("&start=202607310000&end=202607311200"), "{urls:?}");
    let status = world.status().await;
    assert!(status.poll.completed_at.is_some() && status.next_poll.is_none(), "{:?}", status.poll);
    assert!(world.poll().await.is_empty() && world.services.asked().is_empty(), "it has ended");
    let longer = config.replace("31T12", "31T13");
    world.apply(&file("synoptic_observations", "synoptic", "60s", &longer)).await;
    assert!(world.records().await.is_empty(), "what was known stays known");
    assert_eq!(world.services.asked().len(), 4, "another range is read from its start");
}

/// A look at a stream asks for what its first poll asks, and no more.
#[tokio::test(start_paused = true)]
async fn s11_a_probe_of_a_range_and_of_hourly_files_ends_where_they_end() {
    let range = "{stations: [TKNC1], start: '2026-07-28T00:00:00Z', end: '2026-07-31T12:00:00Z'}";
    for (source, connector, config, requests) in [
        ("synoptic_observations", "synoptic", range, 4),
        ("airnow_observations", "airnow_files", "{file: by_parameter, hours: 3}", 3),
    ] {
        let world = World::new(&file(source, connector, "60s", config)).await;
        world.services.measured(&[Measured::new("TKNC1", "2026-07-29T11:00:00Z", 31.5)]);
        world.services.stands_at("HourlyData_2026080111.dat", &of_file("060999999", 11, "PM2.5", 12.3));
        let spec = StreamsFile::parse(&file(source, connector, "60s", config)).unwrap().streams.remove(0);
        let asks = spec.polled.connector(&spec.source_id, &world.app.settings.services).unwrap();
        let apart = spec.polled.service().manners.apart;
        let found = probe(&*asks, &*world.services, &spec.source_id, apart, &world.app.clock).await;
        assert_eq!((found.requests, found.records, found.more), (requests, 1, false), "{found:?}");
    }
}

/// What comes at once, in parts, in another order and repeated, through either service: one set of records.
#[tokio::test(start_paused = true)]
async fn s12_any_order_repetition_and_split_of_readings_gives_the_same_records() {
    let all: Vec<Measured> = (0..6)
        .map(|n| Measured::new(["A", "B"][n % 2], &format!("2026-08-01T0{}:00:00Z", n / 2 + 4), n as f64))
        .collect();
    let identities = async |config: &str, parts: &[&[usize]]| {
        let world = World::synoptic(config).await;
        let mut identities = BTreeSet::new();
        for part in parts {
            world.services.measured(&part.iter().map(|n| all[*n].clone()).collect::<Vec<_>>());
            identities.extend(world.records().await.iter().map(Published::identity));
        }
        identities
    };
    let series = "{stations: [A, B], recent_minutes: 600}";
    let whole = identities(series, &[&[0, 1, 2, 3, 4, 5]]).await;
    assert_eq!(whole.len(), 6);
    for parts in [&[&[5, 4, 3][..], &[2, 1, 0]][..], &[&[0], &[1, 0], &[2, 3, 4], &[5, 0], &[0, 1, 2]]] {
        assert_eq!(identities(series, parts).await, whole, "{parts:?}");
    }
    let latest: Vec<&[usize]> = vec![&[0], &[1], &[2], &[3], &[4], &[5]];
    assert_eq!(identities("{stations: [A, B]}", &latest).await, whole, "the latest one by one");
}

#[tokio::test(start_paused = true)]
async fn s17_purpleair_is_asked_for_what_is_new_and_a_sensor_is_published_once_a_measurement() {
    let world = World::purpleair(100_000).await;
    let at = world.now();
    world.services.data_at(at);
    world.services.measured(&[
        Measured::new("131075", "2026-08-01T11:58:00Z", 12.5),
        Measured::new("7", "2026-08-01T11:59:00Z", 0.0),
    ]);
    let records = world.records().await;
    assert_eq!(records.len(), 2);
    let first = &records[0];
    assert_eq!((first.topic, first.tier), ("wildfire-iot-sensors", Tier::Normal));
    assert_eq!((first.data("sensor_id"), first.data("pm2_5_ug_m3")), (&json!("131075"), &json!(12.5)));
    assert_eq!(
        (first.data("temperature_c"), first.data("measured_at")),
        (&json!(30.0), &json!("2026-08-01T11:58:00.000Z"))
    );
    assert_eq!(records[1].data("pm2_5_ug_m3"), &json!(0.0), "zero is a value");
    let asked = world.services.asked();
    assert!(asked[0].headers["x-api-key"] == KEY && !asked[0].url.contains(KEY));
    assert!(!asked[0].url.contains("modified_since"));
    world.services.measured(&[Measured::new("131075", "2026-08-01T12:00:30Z", 13.0)]);
    assert_eq!(revisions(&world.records().await), [0]);
    let asked = world.services.asked();
    assert!(asked[0].url.ends_with(&format!("&modified_since={}", at.as_second())), "{}", asked[0].url);
    assert!(world.records().await.is_empty());
    world.services.stands_at("/v1/sensors", r#"{"fields": ["sensor_index", "last_seen", "pm2.5_atm", "odd"], "data": [[1, 1785585600, "much", 5]], "data_time_stamp": 1785585600}"#);
    let odd = world.records().await;
    let said = odd[0].said();
    assert!(said.contains(&"pm2_5_ug_m3: is not a number".to_owned()), "{said:?}");
    assert!(said.iter().any(|said| said.ends_with("odd")), "a field that is not understood is named: {said:?}");
    assert!(world.state().await.missing.unwrap().contains("lacks the fields"));
}

#[tokio::test(start_paused = true)]
async fn s11_when_its_points_are_used_up_purpleair_waits_until_the_day_ends_and_says_so() {
    // A sensor costs 14 with the default fields, a call 5.
    let world = World::purpleair(24).await;
    world.services.measured(&[Measured::new("7", "2026-08-01T11:59:00Z", 0.0)]);
    world.services.data_at(world.now());
    assert_eq!(world.records().await.len(), 1);
    world.services.fails(Fault::Broken);
    assert!(world.poll().await.is_empty());
    assert_eq!(world.services.asked().len(), 2);
    world.services.fails(Fault::None);
    for _ in 0..3 {
        assert!(world.poll().await.is_empty());
    }
    let state = world.state().await;
    let said = "its points of the day are used up (24 of 24): it is asked again at 2026-08-02T00:00:00.000Z";
    assert_eq!(state.last_error.as_deref(), Some(said));
    assert_eq!((world.services.asked().len(), state.breaker.failures()), (0, 1), "the waiting is no failure of its");
    world
        .apply(&file("iot_purpleair", "purpleair", "12h", "{area: [-124.5, 32.5, -114.1, 42.1], points_a_day: 30}"))
        .await;
    assert!(world.records().await.is_empty());
    assert_eq!(world.services.asked().len(), 1, "who may use more is heard at the next poll");
    tokio::time::advance(Duration::from_secs(12 * 3600)).await;
    world.records().await;
    assert_eq!(world.services.asked().len(), 1, "another day");
}

/// A value as AirNow's API gives it.
fn of_api(id: &str, hour: u32, parameter: &str, value: f64) -> Value {
    json!({"Latitude": 38.5, "Longitude": -120.25, "UTC": format!("2026-08-01T{hour:02}:00"), "Parameter": parameter, "Unit": "UG/M3",
        "Value": value, "AQI": 50, "Category": 1, "SiteName": "Test", "AgencyName": "District", "FullAQSCode": id, "IntlAQSCode": format!("840{id}")})
}

/// The same as a line of its hourly file.
fn of_file(id: &str, hour: u32, parameter: &str, value: f64) -> String {
    format!("08/01/26|{hour:02}:00|{id}|Test|-8|{parameter}|UG/M3|{value}|District\n")
}

#[tokio::test(start_paused = true)]
async fn s17_airnows_last_hours_are_polled_and_what_it_revises_later_is_a_revision() {
    let config = "{area: [-124.5, 32.5, -114.1, 42.1], parameters: [PM25]}";
    let world = World::new(&file("airnow_observations", "airnow", "60s", config)).await;
    let tell = |values: &[Value]| world.services.stands_at("/aq/data/", &Value::from(values.to_vec()).to_string());
    tell(&[
        of_api("060999999", 10, "PM2.5", 12.3),
        of_api("060999999", 11, "PM2.5", 0.0),
        of_api("061", 11, "PM2.5", -999.0),
    ]);
    let records = world.records().await;
    assert_eq!(records.len(), 3);
    let first = &records[0];
    assert_eq!((first.topic, first.tier), ("wildfire-weather", Tier::Normal));
    assert_eq!((first.data("site_id"), first.data("parameter")), (&json!("060999999"), &json!("PM2.5")));
    assert_eq!(
        (first.data("value"), first.data("unit"), first.value["observed_at"].as_str()),
        (&json!(12.3), &json!("ug/m3"), Some("2026-08-01T10:00:00.000Z"))
    );
    assert_eq!((records[1].data("value"), records[1].data("state")), (&json!(0.0), &json!("measured")));
    assert_eq!((records[2].data("value"), records[2].data("state")), (&Value::Null, &json!("missing")));
    let asked = world.services.asked();
    assert!(asked[0].url.contains("startDate=2026-08-01T08&endDate=2026-08-01T12&"), "{}", asked[0].url);
    assert!(world.records().await.is_empty(), "read again, published once");
    tell(&[of_api("060999999", 10, "PM2.5", 14.0), of_api("060999999", 11, "PM2.5", 0.0)]);
    assert_eq!(revisions(&world.records().await), [1], "only what changed");
    tell(&[]);
    assert!(world.records().await.is_empty());
    let state = world.state().await;
    assert!(state.missing.unwrap().contains("its answer is empty"), "nothing is no all-clear");
}

#[tokio::test(start_paused = true)]
async fn s17_airnows_hourly_files_are_read_once_each_until_they_change_and_four_states_are_told_apart() {
    let config = "{file: by_parameter, states: ['06'], hours: 3}";
    let world = World::new(&file("airnow_observations", "airnow_files", "60s", config)).await;
    let files = &world.services;
    let name = |hour: u32| format!("/airnow/2026/20260801/HourlyData_20260801{hour:02}.dat");
    files.stands_at(&name(9), &(of_file("060999999", 9, "PM2.5", 12.3) + &of_file("320000001", 9, "PM2.5", 5.0)));
    files.stands_at(&name(10), " \n");
    let records = world.records().await;
    assert_eq!(records.len(), 1, "another state's sites are not asked for");
    let paths: Vec<String> =
        files.asked().iter().map(|asked| asked.url.split_once(".org").unwrap().1.to_owned()).collect();
    assert_eq!(paths, [name(9), name(10), name(11)]);
    let missing = world.state().await.missing.unwrap();
    assert_eq!(
        missing, "HourlyData_2026080110.dat is empty: it says nothing of its hour, not that nothing was measured",
        "11 is not late yet"
    );
    assert!(world.records().await.is_empty());
    let statuses: Vec<u16> = files.asked().iter().map(|asked| asked.status).collect();
    assert_eq!(statuses, [304, 200, 404], "an empty file is never taken for the last word");
    files.stands_at(&name(9), &of_file("060999999", 9, "PM2.5", 13.3));
    files.stands_at(&name(11), &of_file("060999999", 11, "PM2.5", 0.0));
    let records = world.records().await;
    assert_eq!((revisions(&records), records[1].data("value")), (vec![1, 0], &json!(0.0)));
    files.stands_at(&name(9), "<!DOCTYPE html><html></html>");
    assert!(world.poll().await.is_empty());
    assert!(world.state().await.last_error.unwrap().contains("it is a web page"));
    files.asked();
    files.stands_at(&name(10), &of_file("060999999", 10, "PM2.5", 7.0));
    assert_eq!(world.records().await.len(), 1, "the hour that failed holds up no other");
    assert!(files.asked()[0].url.ends_with("HourlyData_2026080110.dat"));
    files.stands_at(&name(9), &of_file("060999999", 9, "PM2.5", 14.3));
    files.stands_at(&name(10), "<!DOCTYPE html><html></html>");
    assert_eq!(world.poll().await.len(), 1);
    files.asked();
    files.stands_at(&name(11), &of_file("060999999", 11, "PM2.5", 1.0));
    assert_eq!(world.poll().await.len(), 1, "nor in the middle");
    assert!(files.asked()[0].url.ends_with("HourlyData_2026080111.dat"));
    tokio::time::advance(Duration::from_secs(3 * 3600)).await;
    assert!(world.poll().await.is_empty());
    let state = world.state().await;
    let late = "HourlyData_2026080112.dat is not there";
    assert!(state.missing.clone().unwrap_or_default().contains(late), "{:?}", state.missing);
}

/// S12: the file by parameter does not say where a site is. Whichever of the doors is read first, the newest revision has the place.
#[tokio::test(start_paused = true)]
async fn s12_a_door_that_tells_less_never_revises_what_another_one_told() {
    const BY_PARAMETER: &str = "{file: by_parameter, hours: 1}";
    const BY_SITE: &str = "{file: by_site, hours: 1}";
    const API: &str = "{area: [-124.5, 32.5, -114.1, 42.1], hours: 1}";
    let streams = |config: &str| {
        file("airnow_observations", if config == API { "airnow" } else { "airnow_files" }, "60s", config)
    };
    for orders in [[BY_SITE, BY_PARAMETER, BY_SITE], [BY_PARAMETER, BY_SITE, BY_PARAMETER], [API, BY_PARAMETER, API]] {
        let world = World::new(&streams(orders[0])).await;
        let tell = |value: f64| {
            let of_site = format!(
                "AQSID,SiteName,Latitude,Longitude,ValidDate,ValidTime,DataSource,PM25_Measured,PM25,PM25_Unit\n060999999,Test,38.5,-120.25,08/01/2026,11:00,District,1,{value},UG/M3\n"
            );
            world.services.stands_at("/airnow/2026/20260801/HourlyAQObs_2026080111.dat", &of_site);
            let of_parameter = of_file("060999999", 11, "PM2.5", value);
            world.services.stands_at("/airnow/2026/20260801/HourlyData_2026080111.dat", &of_parameter);
            world.services.stands_at("/aq/data/", &json!([of_api("060999999", 11, "PM2.5", value)]).to_string());
        };
        tell(12.5);
        let mut told = Vec::new();
        for config in orders.iter().chain(&orders) {
            world.apply(&streams(config)).await;
            told.extend(world.records().await);
            tell(12.5);
        }
        let newest = told.last().unwrap();
        assert_eq!(newest.value["latitude"], json!(38.5), "{orders:?}");
        let expected = if orders[0] == BY_PARAMETER { vec![0, 1] } else { vec![0] };
        assert_eq!(revisions(&told), expected, "{orders:?}");
        // AirNow's own revision comes through the door that tells where it is, whichever is asked first.
        tell(14.0);
        let mut revised = Vec::new();
        for config in [BY_PARAMETER, BY_SITE, API] {
            world.apply(&streams(config)).await;
            revised.extend(world.records().await);
        }
        assert!(!revised.is_empty(), "{orders:?}");
        for record in revised {
            assert_eq!((record.data("value"), &record.value["latitude"]), (&json!(14.0), &json!(38.5)), "{orders:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn s12_an_hours_value_is_one_event_through_either_of_airnows_doors_in_any_order() {
    let values = [("060000001", 9), ("060000002", 9), ("060000001", 10), ("060000002", 10)];
    let identities = async |orders: &[&[usize]], by_file: bool| {
        let config = if by_file { "{file: by_parameter, hours: 1}" } else { "{area: [-124.5, 32.5, -114.1, 42.1]}" };
        let connector = if by_file { "airnow_files" } else { "airnow" };
        let world = World::new(&file("airnow_observations", connector, "60s", config)).await;
        let mut identities = BTreeSet::new();
        for order in orders {
            let told = order.iter().map(|n| values[*n]);
            if by_file {
                let lines: String = told.map(|(id, hour)| of_file(id, hour, "PM2.5", 1.0)).collect();
                world.services.stands_at("HourlyData_2026080111.dat", &lines);
            } else {
                let list: Vec<Value> = told.map(|(id, hour)| of_api(id, hour, "PM2.5", 1.0)).collect();
                world.services.stands_at("/aq/data/", &Value::from(list).to_string());
            }
            identities.extend(world.records().await.iter().map(Published::identity));
        }
        identities
    };
    let whole = identities(&[&[0, 1, 2, 3]], true).await;
    assert_eq!(whole.len(), 4);
    for by_file in [true, false] {
        for orders in [&[&[3, 2, 1, 0][..]][..], &[&[0], &[1, 0], &[2, 3], &[0, 1, 2, 3]]] {
            assert_eq!(identities(orders, by_file).await, whole, "{by_file} {orders:?}");
        }
    }
}

/// Every service, with its source and a config.
const EVERY: [(&str, &str, &str); 4] = [
    ("airnow_observations", "airnow", "{area: [-124.5, 32.5, -114.1, 42.1]}"),
    ("airnow_observations", "airnow_files", "{file: by_parameter, hours: 1}"),
    ("synoptic_observations", "synoptic", RAWS),
    ("iot_purpleair", "purpleair", "{area: [-124.5, 32.5, -114.1, 42.1], points_a_day: 100000}"),
];

/// Something good from every service.
fn good(services: &Stations) {
    services.data_at("2026-08-01T11:59:30Z".parse().unwrap());
    services.measured(&[Measured::new("7", "2026-08-01T11:59:00Z", 12.5)]);
    services.stands_at("/aq/data/", &Value::from(vec![of_api("060999999", 10, "PM2.5", 12.3)]).to_string());
    services.stands_at("HourlyData_2026080111.dat", &of_file("060999999", 11, "PM2.5", 12.3));
}

#[tokio::test(start_paused = true)]
async fn s10_every_fault_is_named_and_none_is_taken_for_data() {
    for (source, connector, config) in EVERY {
        for (fault, says) in [
            (Fault::Away, "connection refused"),
            (Fault::Busy(Some(40)), "it is asked again at 2026-08-01T12:0"),
            (Fault::Busy(None), "slow down"),
            (Fault::Forbidden, "it is a web page"),
            (Fault::Broken, "cannot serve"),
            (Fault::PageIn200, "it is a web page"),
            (Fault::ErrorIn200, "An unexpected problem has occurred"),
            (Fault::Short, ""),
            (Fault::Empty, ""),
            (Fault::Moved, "moved to"),
        ] {
            let world = World::new(&file(source, connector, "60s", config)).await;
            good(&world.services);
            world.services.fails(fault);
            assert!(world.poll().await.is_empty(), "{connector}: {fault:?}");
            let state = world.state().await;
            if (connector, fault) == ("airnow_files", Fault::Short) {
                assert_eq!((state.last_error, state.records_failed), (None, 1), "a line that is cut costs itself");
                continue;
            }
            let said = state.last_error.clone().unwrap_or_else(|| panic!("{connector}: {fault:?} was taken for data"));
            assert!(said.contains(says), "{connector}: {fault:?} said {said:?}");
            assert!(connector == "airnow_files" || !said.contains(&KEY[..6]));
            assert!(!state.cursor.contains(KEY), "{connector}: {fault:?} shows the key: {said}");
            assert_eq!((state.breaker.failures(), state.last_success), (1, None), "{connector}: {fault:?}");
            world.services.fails(Fault::None);
            assert!(!world.records().await.is_empty(), "{connector}: after {fault:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a6_a_wrong_key_is_told_in_the_services_words_and_a_missing_one_by_its_setting() {
    for (source, connector, config, says) in [
        (EVERY[0].0, EVERY[0].1, EVERY[0].2, "Invalid API key: check AIRNOW_API_KEY"),
        (EVERY[2].0, EVERY[2].1, EVERY[2].2, "Invalid token.: check SYNOPTIC_TOKEN"),
        (
            EVERY[3].0,
            EVERY[3].1,
            EVERY[3].2,
            "ApiKeyInvalidError: The provided api_key was not valid.: check PURPLEAIR_API_KEY",
        ),
    ] {
        let text = file(source, connector, "60s", config);
        let wrong = World::with_key(&text, "wr0ng").await;
        assert!(wrong.poll().await.is_empty());
        let said = wrong.state().await.last_error.unwrap();
        assert!(said.contains(says) && !said.contains("wr0ng"), "{said}");
        let odd = World::with_key(&text, "a&b=c").await;
        odd.poll().await;
        assert!(odd.state().await.last_error.unwrap().contains("it is no key of this service"));
        assert!(odd.services.asked().is_empty());
    }
}

#[test]
fn s11_a_file_asks_no_more_than_each_service_allows_and_shows_what_it_costs() {
    let said = |text: String| StreamsFile::parse(&text).unwrap_err().to_string();
    let purpleair = |interval, points: u64| {
        file(
            "iot_purpleair",
            "purpleair",
            interval,
            &format!("{{area: [-124.5, 32.5, -114.1, 42.1], points_a_day: {points}}}"),
        )
    };
    for (text, says) in [
        (file("synoptic_observations", "synoptic", "30s", RAWS), "streams[0].interval: Synoptic Data must not"),
        (file("synoptic_observations", "synoptic", "60s", "{}"), "streams[0].config.area: is missing"),
        (
            file("iot_raws", "synoptic", "60s", RAWS),
            "streams[0].source_id: iot_raws is read from sensor, and the connector",
        ),
        (
            file("airnow_observations", "airnow", "60s", "{area: [-124.5, 32.5, -114.1, 42.1], hours: 90}"),
            "streams[0].config.hours: 90 is",
        ),
        (
            file("airnow_observations", "airnow_files", "60s", "{states: [CA]}"),
            "streams[0].config.states: \"CA\" is not",
        ),
        (purpleair("30s", 50_000), "streams[0].interval: PurpleAir must not"),
        (purpleair("60s", 5_000), "streams[0].interval: the calls alone are 7200 points a day"),
    ] {
        let error = said(text);
        assert!(error.starts_with(says) && error.contains("at line"), "{error}");
    }
    let load = |text: String| StreamsFile::parse(&text).unwrap().loads()[0].to_string();
    assert_eq!(
        load(purpleair("2m", 50_000)),
        "PurpleAir (https://api.purpleair.com): 1 stream, 0.5 requests a minute of 10; 3600 points a day for the calls alone, 50000 at the most"
    );
    let range = "{networks: [2], start: '2026-01-01T00:00:00Z', end: '2026-12-01T00:00:00Z'}";
    assert_eq!(
        load(file("synoptic_observations", "synoptic", "1m", range)),
        "Synoptic Data (https://api.synopticdata.com): 1 stream, 30.0 requests a minute of 60"
    );
}
