//! [S12] for every polled source: in whichever order its rows come, however often, and however they are split into answers, the
//! same set of `(event_id, revision)` is published.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use streammanager::app::{App, Seams};
use streammanager::decode::Context;
use streammanager::embedded::{Commits, Embedded, FileBlobs, MemoryDisk, Options};
use streammanager::faults::sink::FaultySink;
use streammanager::faults::upstream::Scripted;
use streammanager::ingest::dedup::Seen;
use streammanager::ingest::{Ledger, ingest};
use streammanager::record::{Envelope, EventId, Outgoing, SourceId, Stream, StreamId, TenantId, Tier, WhenFull};
use streammanager::settings::Settings;
use streammanager::sources::{self, ConnectorKind};
use streammanager::time::{Clock, Rng};
use streammanager_tests::published;

/// One source's rows, some of them contents of one event, and what makes an answer of some of them.
struct Rows {
    source: &'static str,
    rows: &'static [&'static str],
    answer: fn(&[&str]) -> String,
    events: usize,
    /// Rows of one answer, at the most.
    together: usize,
}

fn features(rows: &[&str]) -> String {
    format!(r#"{{"type": "FeatureCollection", "features": [{}]}}"#, rows.join(","))
}

fn list(rows: &[&str]) -> String {
    format!("[{}]", rows.join(","))
}

fn viirs(rows: &[&str]) -> String {
    let header = "latitude,longitude,bright_ti4,scan,track,acq_date,acq_time,satellite,instrument,confidence,version,bright_ti5,frp,daynight";
    format!("{header}\n{}\n", rows.join("\n"))
}

/// `None`: nothing but a poll reads its rows (`connect::arcgis` has walks over such a layer by seed).
fn rows_of(kind: ConnectorKind) -> Option<Vec<Rows>> {
    Some(match kind {
        ConnectorKind::Firms | ConnectorKind::FirmsArchive => vec![Rows {
            source: if kind == ConnectorKind::Firms { "firms_viirs_noaa20" } else { "historical_firms" },
            rows: &[
                "40.7229,-122.95821,367,0.4,0.4,2025-08-14,5,N20,VIIRS,h,2.0NRT,300,7.1,D",
                "40.7229,-122.95821,367,0.4,0.4,2025-08-14,5,N20,VIIRS,h,2.0NRT,301,7.1,D",
                "40.7230,-122.95821,340,0.4,0.4,2025-08-14,5,N20,VIIRS,n,2.0NRT,300,2.0,D",
                "40.7229,-122.95821,350,0.4,0.4,2025-08-14,1205,N20,VIIRS,n,2.0NRT,300,2.0,N",
            ],
            answer: viirs,
            events: 3,
            together: 4,
        }],
        ConnectorKind::NwsAlerts => vec![Rows {
            source: "noaa_alerts",
            rows: &[
                r#"{"geometry": null, "properties": {"id": "A", "sender": "s", "sent": "2025-08-14T14:05:00-07:00", "status": "Actual",
                    "messageType": "Alert", "event": "Red Flag Warning", "geocode": {"UGC": ["CAZ203"]}}}"#,
                r#"{"geometry": null, "properties": {"id": "B", "sender": "s", "sent": "2025-08-14T14:05:00-07:00", "status": "Actual",
                    "messageType": "Alert", "event": "Red Flag Warning", "geocode": {"UGC": ["CAZ204"]}}}"#,
                r#"{"geometry": null, "properties": {"id": "A", "sender": "s", "sent": "2025-08-14T14:05:00-07:00", "status": "Test",
                    "messageType": "Alert", "event": "Red Flag Warning", "geocode": {"UGC": ["CAZ203"]}}}"#,
            ],
            answer: features,
            events: 3,
            together: 4,
        }],
        ConnectorKind::NwsObservations => vec![Rows {
            source: "noaa_observations",
            rows: &[
                r#"{"geometry": {"type": "Point", "coordinates": [-122.25, 37.83]}, "properties": {"station":
                    "https://api.weather.gov/stations/KTST", "timestamp": "2025-08-14T05:53:00+00:00",
                    "temperature": {"unitCode": "wmoUnit:degC", "value": 17.78, "qualityControl": "V"}}}"#,
                r#"{"geometry": {"type": "Point", "coordinates": [-122.25, 37.83]}, "properties": {"station":
                    "https://api.weather.gov/stations/KTST", "timestamp": "2025-08-14T05:53:00+00:00",
                    "temperature": {"unitCode": "wmoUnit:degC", "value": 18.0, "qualityControl": "V"}}}"#,
                r#"{"geometry": {"type": "Point", "coordinates": [-122.25, 37.83]}, "properties": {"station":
                    "https://api.weather.gov/stations/KTST", "timestamp": "2025-08-14T06:53:00+00:00",
                    "temperature": {"unitCode": "wmoUnit:degC", "value": 17.0, "qualityControl": "V"}}}"#,
            ],
            answer: features,
            events: 2,
            together: 4,
        }],
        ConnectorKind::Metar => vec![Rows {
            source: "noaa_observations",
            rows: &[
                "2025/08/14 05:53\nKTST 140553Z AUTO 15013G19KT 10SM CLR 28/10 A2936\n",
                "2025/08/14 06:53\nKTST 140653Z AUTO 15010KT 10SM CLR 27/10 A2936\n",
                "2025/08/14 05:53\nKTSU 140553Z AUTO 16013KT 10SM CLR 28/10 A2936\n",
            ],
            answer: |rows| rows.join("\n"),
            events: 3,
            together: 4,
        }],
        ConnectorKind::NwsForecast => vec![Rows {
            source: "noaa_forecast",
            rows: &[
                r#"{"geometry": {"type": "Point", "coordinates": [-87.5, 33.2]}, "properties": {"gridId": "BMX", "gridX": 32,
                    "gridY": 69, "forecastGridData": "a"}}"#,
                r#"{"geometry": {"type": "Point", "coordinates": [-87.5, 33.3]}, "properties": {"gridId": "BMX", "gridX": 32,
                    "gridY": 70, "forecastGridData": "a"}}"#,
            ],
            answer: |rows| rows[0].to_owned(),
            events: 2,
            together: 1,
        }],
        ConnectorKind::Calfire | ConnectorKind::CalfireHistory => vec![Rows {
            source: if kind == ConnectorKind::Calfire { "calfire_incidents" } else { "historical_calfire" },
            rows: &[
                r#"{"UniqueId": "a1", "Name": "Test Fire", "County": "Testland", "Started": "2025-08-10T14:10:00Z", "AcresBurned": 5}"#,
                r#"{"UniqueId": "A1", "Name": "Test Fire", "County": "Testland", "Started": "2025-08-10T14:10:00Z", "AcresBurned": 7}"#,
                r#"{"UniqueId": "a2", "Name": "Test Fire", "County": "Testland", "Started": "2025-08-10T14:10:00Z",
                    "Latitude": 37.5, "Longitude": -120.25}"#,
            ],
            answer: list,
            events: 2,
            together: 4,
        }],
        ConnectorKind::Wfigs | ConnectorKind::WfigsHistory => vec![
            Rows {
                source: if kind == ConnectorKind::Wfigs { "wfigs_incidents" } else { "historical_wfigs_incidents" },
                rows: &[
                    r#"{"geometry": {"type": "Point", "coordinates": [-120.5, 39.1]}, "properties": {"IncidentName": "TEST", "IrwinID":
                        "{00000000-0000-4000-8000-0000000000AA}", "FireDiscoveryDateTime": 1755000000000, "POOState": "US-CA",
                        "POOCounty": "Testland", "IncidentSize": 12.5}}"#,
                    r#"{"geometry": {"type": "Point", "coordinates": [-120.5, 39.1]}, "properties": {"IncidentName": "TEST", "IrwinID":
                        "00000000-0000-4000-8000-0000000000aa", "FireDiscoveryDateTime": 1755000000000, "POOState": "US-CA",
                        "POOCounty": "Testland", "IncidentSize": 13.5}}"#,
                    r#"{"geometry": {"type": "Point", "coordinates": [-120.5, 39.1]}, "properties": {"IncidentName": "TEST", "IrwinID":
                        "{00000000-0000-4000-8000-0000000000AB}", "FireDiscoveryDateTime": 1755000000000}}"#,
                ],
                answer: features,
                events: 2,
                together: 4,
            },
            Rows {
                source: if kind == ConnectorKind::Wfigs { "wfigs_perimeters" } else { "historical_wfigs" },
                rows: &[
                    r#"{"geometry": {"type": "Polygon", "coordinates": [[[-122, 40], [-121, 40], [-121, 41], [-122, 40]]]}, "properties":
                        {"poly_IRWINID": "{00000000-0000-4000-8000-0000000000AA}", "poly_DateCurrent": 1755000000000,
                        "attr_FireDiscoveryDateTime": 1755000000000}}"#,
                    r#"{"geometry": {"type": "Polygon", "coordinates": [[[-122, 40], [-121, 40], [-121, 42], [-122, 40]]]}, "properties":
                        {"poly_IRWINID": "{00000000-0000-4000-8000-0000000000AA}", "poly_DateCurrent": 1755100000000,
                        "attr_FireDiscoveryDateTime": 1755000000000}}"#,
                ],
                answer: features,
                events: 1,
                together: 4,
            },
        ],
        ConnectorKind::Zones => vec![Rows {
            source: "evacuation_zones",
            rows: &[
                r#"{"geometry": null, "properties": {"ZONE_ID": "US-CA-XZZ-E001", "COUNTY": "Testland", "STATUS": "Evacuation Order",
                    "EditDate": 1755151200000}}"#,
                r#"{"geometry": null, "properties": {"ZONE_ID": "US-CA-XZZ-E001", "COUNTY": "Testland", "STATUS": "Evacuation Warning",
                    "EditDate": 1755151300000}}"#,
                r#"{"geometry": null, "properties": {"ZONE_ID": "US-CA-XZZ-E001", "COUNTY": "Otherland", "STATUS": "Evacuation Order",
                    "EditDate": 1755151200000}}"#,
            ],
            answer: features,
            events: 2,
            together: 4,
        }],
        ConnectorKind::Firis => vec![Rows {
            source: "firis_perimeters",
            rows: &[
                r#"{"geometry": null, "properties": {"mission": "CA-TST-SAMPLE-N57B", "poly_DateCurrent": 1755151200000}}"#,
                r#"{"geometry": null, "properties": {"mission": "CA-TST-SAMPLE-N57B", "poly_DateCurrent": 1755151200000, "area_acres": 7}}"#,
                r#"{"geometry": null, "properties": {"mission": "CA-TST-SAMPLE-N57B", "poly_DateCurrent": 1755161200000}}"#,
            ],
            answer: features,
            events: 2,
            together: 4,
        }],
        ConnectorKind::Outages => vec![Rows {
            source: "power_outages",
            rows: &[
                r#"{"geometry": null, "properties": {"UtilityCompany": "TEST", "IncidentId": "T1", "StartDate": 1755151200000,
                    "ImpactedCustomers": 41}}"#,
                r#"{"geometry": null, "properties": {"UtilityCompany": "TEST", "IncidentId": "T1", "StartDate": 1755151200000,
                    "ImpactedCustomers": 40}}"#,
                r#"{"geometry": null, "properties": {"UtilityCompany": "TSET", "IncidentId": "T1", "StartDate": 1755151200000}}"#,
            ],
            answer: features,
            events: 2,
            together: 4,
        }],
        ConnectorKind::Purpleair => vec![Rows {
            source: "iot_purpleair",
            rows: &[
                r#"{"sensor_index": 1, "latitude": 40.7, "longitude": -122.9, "last_seen": 1755151200, "temperature": 66}"#,
                r#"{"sensor_index": 1, "latitude": 40.7, "longitude": -122.9, "last_seen": 1755151200, "temperature": 67}"#,
                r#"{"sensor_index": 2, "latitude": 40.7, "longitude": -122.9, "last_seen": 1755151200, "temperature": 66}"#,
            ],
            answer: list,
            events: 2,
            together: 4,
        }],
        ConnectorKind::PurpleairHistory => vec![Rows {
            source: "historical_purpleair",
            rows: &["[1755151200, 66]", "[1755151200, 67]", "[1755151320, 66]"],
            answer: |rows| {
                let rows = rows.join(",");
                format!(r#"{{"sensor_index": 7, "fields": ["time_stamp", "temperature"], "data": [{rows}]}}"#)
            },
            events: 2,
            together: 4,
        }],
        ConnectorKind::FpaFod => vec![Rows {
            source: "historical_fpa_fod",
            rows: &[
                "1,TEST,2451334.5,12.5,39.5,-121.5,CA,Butte",
                "1,TEST,2451334.5,13.5,39.5,-121.5,CA,Butte",
                "2,TEST,2451334.5,12.5,39.5,-121.5,CA,Butte",
            ],
            answer: |rows| {
                let header = "FOD_ID,FIRE_NAME,DISCOVERY_DATE,FIRE_SIZE,LATITUDE,LONGITUDE,STATE,COUNTY";
                format!("{header}\n{}\n", rows.join("\n"))
            },
            events: 2,
            together: 4,
        }],
        ConnectorKind::Synoptic => vec![Rows {
            source: "synoptic_observations",
            rows: &[
                r#"{"STID": "TEST1", "LATITUDE": "38.0", "LONGITUDE": "-120.0", "OBSERVATIONS":
                    {"air_temp_value_1": {"value": 25.0, "date_time": "2025-08-14T04:00:00Z"}}}"#,
                r#"{"STID": "TEST1", "LATITUDE": "38.0", "LONGITUDE": "-120.0", "OBSERVATIONS":
                    {"air_temp_value_1": {"value": 26.0, "date_time": "2025-08-14T04:00:00Z"}}}"#,
                r#"{"STID": "TEST2", "LATITUDE": "38.0", "LONGITUDE": "-120.0", "OBSERVATIONS":
                    {"air_temp_value_1": {"value": 25.0, "date_time": "2025-08-14T04:00:00Z"}}}"#,
            ],
            answer: |rows| format!(r#"{{"UNITS": {{"air_temp": "Celsius"}}, "STATION": [{}]}}"#, rows.join(",")),
            events: 2,
            together: 4,
        }],
        ConnectorKind::Airnow | ConnectorKind::AirnowFiles => vec![Rows {
            source: "airnow_observations",
            rows: &[
                "08/14/25|04:00|060999999|Test Site|-8|PM2.5|UG/M3|12.3|Test Air District",
                "08/14/25|04:00|060999999|Test Site|-8|PM2.5|UG/M3|12.4|Test Air District",
                "08/14/25|05:00|060999999|Test Site|-8|PM2.5|UG/M3|12.3|Test Air District",
            ],
            answer: |rows| rows.join("\n") + "\n",
            events: 2,
            together: 4,
        }],
        ConnectorKind::Ipaws | ConnectorKind::CapFeed => vec![Rows {
            source: if kind == ConnectorKind::Ipaws { "ipaws_alerts" } else { "cap_alerts_test" },
            rows: &[
                r#"{"id": "A", "sender": "s", "sent": "2025-08-14T14:05:00-07:00", "status": "Actual", "msgType": "Alert",
                    "event": "Fire", "area": [{"circle": "40,-122 5"}]}"#,
                r#"{"id": "A", "sender": "s", "sent": "2025-08-14T14:05:00-07:00", "status": "Actual", "msgType": "Alert",
                    "event": "Evacuation", "area": [{"circle": "40,-122 5"}]}"#,
                r#"{"id": "B", "sender": "s", "sent": "2025-08-14T14:05:00-07:00", "status": "Actual", "msgType": "Alert",
                    "event": "Fire", "area": [{"circle": "40,-122 5"}]}"#,
            ],
            answer: |rows| rows[0].to_owned(),
            events: 2,
            together: 1,
        }],
        ConnectorKind::Caltrans => vec![Rows {
            source: "caltrans_closures",
            rows: &[
                r#"{"lcs": {"index": "C1TB-0002", "location": {"begin": {"beginDistrict": "3", "beginLatitude": "38.0",
                    "beginLongitude": "-120.0"}}}}"#,
                r#"{"lcs": {"index": "C1TB-0002", "location": {"begin": {"beginDistrict": "3", "beginLatitude": "38.1",
                    "beginLongitude": "-120.0"}}}}"#,
                r#"{"lcs": {"index": "C1TB-0003", "location": {"begin": {"beginDistrict": "3", "beginLatitude": "38.0",
                    "beginLongitude": "-120.0"}}}}"#,
            ],
            answer: |rows| format!(r#"{{"data": [{}]}}"#, rows.join(",")),
            events: 2,
            together: 4,
        }],
        ConnectorKind::Chp => vec![Rows {
            source: "chp_incidents",
            rows: &[
                r#"<Log ID = "250814TS0001"><LogTime>"Aug 14 2025  1:30AM"</LogTime><LATLON>"38000000:120000000"</LATLON></Log>"#,
                r#"<Log ID = "250814TS0001"><LogTime>"Aug 14 2025  1:30AM"</LogTime><LATLON>"38100000:120000000"</LATLON></Log>"#,
                r#"<Log ID = "250814TS0002"><LogTime>"Aug 14 2025  1:30AM"</LogTime><LATLON>"38000000:120000000"</LATLON></Log>"#,
            ],
            answer: |rows| {
                let logs = rows.concat();
                format!(r#"<State><Center ID = "A"><Dispatch ID = "B">{logs}</Dispatch></Center></State>"#)
            },
            events: 2,
            together: 4,
        }],
        ConnectorKind::Layers => return None,
    })
}

/// Numbers by seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

struct World {
    app: App,
    embedded: Embedded,
    _folder: tempfile::TempDir,
}

impl World {
    fn new() -> World {
        let clock = Clock::simulated("2025-08-15T00:00:00Z".parse().unwrap());
        let options = Options { commits: Commits::Inline, ..Options::new(clock.clone()) };
        let embedded = Embedded::on_disk(&MemoryDisk::new(), options).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let seams = Seams {
            queue: Arc::new(embedded.clone()),
            store: Arc::new(embedded.clone()),
            blobs: Arc::new(FileBlobs::open(folder.path(), Commits::Inline, embedded.trust().clone()).unwrap()),
            sink: Arc::new(FaultySink::memory()),
            upstream: Arc::new(Scripted::new([])),
        };
        let app = App::new(Settings::local(), seams, clock, Rng::seeded(1));
        World { app, embedded, _folder: folder }
    }

    async fn take(&self, source: &str, body: String) {
        let source = SourceId::new(source).unwrap();
        let stream = Stream {
            id: StreamId::new("a").unwrap(),
            source: source.clone(),
            tenant: TenantId::new("test").unwrap(),
            granted: false,
            when_full: WhenFull::Wait,
        };
        let body = Bytes::from(body);
        let context = Context { source: &source, received_at: self.app.clock.now(), topic: None, message: None };
        let rows = sources::format_of(&source).unwrap().rows(&body, context).unwrap();
        let (mut seen, mut ledger) = (Seen::of_tenant(&stream.tenant), Ledger::default());
        ingest(&self.app, &stream, &mut seen, &mut ledger, rows).await.unwrap();
        assert_eq!(ledger.rejected_by_reason.values().sum::<u64>(), 0, "{source}: {ledger:?}\n{body:?}");
    }

    /// What waits in the queues, in the order in which it came.
    fn queued(&self) -> Vec<Outgoing> {
        let mut bodies = Vec::new();
        for tier in Tier::ALL {
            let queue = self.app.settings.queues.tier(tier);
            self.embedded.each_body(queue, |body| bodies.push(Bytes::copy_from_slice(body))).unwrap();
        }
        bodies.iter().flat_map(|body| Envelope::decode(body).unwrap().unpack().unwrap()).collect()
    }

    /// Events and revisions, none of which is published twice.
    fn published(&self) -> BTreeSet<(EventId, u32)> {
        let queued = self.queued();
        let published: BTreeSet<_> = queued.iter().map(|record| (record.event, record.revision)).collect();
        assert_eq!(published.len(), queued.len(), "published twice: {queued:?}");
        published
    }

    /// The fires of a source's records.
    fn incidents(&self, source: &str) -> Vec<Option<String>> {
        let queued = self.queued();
        let of_source = queued.iter().filter(|record| record.source.as_str() == source);
        let incident = |record: &Outgoing| {
            let value: Value = serde_json::from_slice(&record.value).unwrap();
            published::assert_valid(record.topic.name(), &value);
            value["incident"].as_str().map(str::to_owned)
        };
        of_source.map(incident).collect()
    }
}

async fn in_some_way(rows: &Rows, seed: u64) -> BTreeSet<(EventId, u32)> {
    let (world, mut dice) = (World::new(), Dice(seed));
    // Each row once at least, some again.
    let mut order: Vec<usize> = (0..rows.rows.len()).collect();
    order.extend((0..dice.below(6)).map(|_| dice.below(rows.rows.len())));
    for last in (1..order.len()).rev() {
        order.swap(last, dice.below(last + 1));
    }
    let mut rest = &order[..];
    while !rest.is_empty() {
        let (now, later) = rest.split_at(rest.len().min(1 + dice.below(rows.together)));
        let some: Vec<&str> = now.iter().map(|&row| rows.rows[row]).collect();
        world.take(rows.source, (rows.answer)(&some)).await;
        rest = later;
    }
    world.published()
}

#[tokio::test(start_paused = true)]
async fn s12_any_order_repetition_or_split_of_a_polled_sources_rows_is_the_same_events_and_revisions() {
    for &kind in ConnectorKind::ALL {
        for rows in rows_of(kind).into_iter().flatten() {
            let expected = in_some_way(&rows, 0).await;
            let events: BTreeSet<EventId> = expected.iter().map(|(event, _)| *event).collect();
            assert_eq!(events.len(), rows.events, "{}: {expected:?}", rows.source);
            assert_eq!(expected.len(), rows.rows.len(), "{}: each content is a revision", rows.source);
            for seed in 1..60 {
                assert_eq!(in_some_way(&rows, seed).await, expected, "{} by seed {seed}", rows.source);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn s12_a_row_that_is_read_again_when_its_fire_is_known_stays_a_duplicate_and_new_rows_have_the_fire() {
    let world = World::new();
    let row =
        |minute: u32| viirs(&[&format!("39.11,-120.5,367,0.4,0.4,2025-08-14,{minute},N20,VIIRS,h,2.0NRT,300,7.1,D")]);
    world.take("firms_viirs_noaa20", row(100)).await;
    let wfigs = rows_of(ConnectorKind::Wfigs).unwrap().remove(0);
    world.take(wfigs.source, (wfigs.answer)(&wfigs.rows[..1])).await;
    world.take("firms_viirs_noaa20", row(100)).await;
    world.take("firms_viirs_noaa20", row(101)).await;
    let fire = Some("irwin:00000000-0000-4000-8000-0000000000aa".to_owned());
    assert_eq!(world.incidents("firms_viirs_noaa20"), [None, fire.clone()]);
    assert_eq!(world.incidents("wfigs_incidents"), [fire]);
}
