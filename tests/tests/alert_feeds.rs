//! Polled feeds of alerts, from a double of their hosts to the queues [S17]: IPAWS's list, indexes of CAP documents, alerts inside of
//! an index. Nothing is lost or told twice, one bad alert costs itself alone, and hosts are asked for what is new.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use streammanager::control::audit::{self, Action};
use streammanager::dead;
use streammanager::error::Reason;
use streammanager::faults::arcgis::LayerDouble;
use streammanager::record::Tier;
use streammanager::schedule::file::StreamsFile;
use streammanager_tests::arcgis::{LayerWorld, Published};
use streammanager_tests::pages::{PageFault, Pages};

const IPAWS: &str =
    "{id: a, source_id: ipaws_alerts, connector: ipaws, tenant: test, interval: 2m, config: {feed: public}}";
const INDEX: &str = "{id: a, source_id: cap_alerts_test, connector: cap_feed, tenant: test, interval: 60s, config: {url: 'https://cap.test/index'}}";
const RECENT: &str = "/IPAWSOPEN_EAS_SERVICE/rest/public/recent/";

struct World {
    layers: LayerWorld,
    pages: Arc<Pages>,
}

impl World {
    async fn new(stream: &str) -> World {
        let pages = Arc::new(Pages::default());
        let nothing = Arc::new(LayerDouble::new(Vec::new()));
        let file = format!("version: 1\nstreams:\n  - {stream}\n");
        World { layers: LayerWorld::asking(&file, nothing, pages.clone()).await, pages }
    }

    /// IPAWS's list from now on.
    fn lists(&self, alerts: &[String]) {
        self.pages.put(&format!("{RECENT}*"), wrapped(alerts));
    }

    /// A poll that succeeds; a minute passes then.
    async fn poll(&self) -> Vec<Published> {
        let records = self.layers.poll().await;
        assert_eq!(self.layers.state().await.last_error, None);
        records
    }

    /// Two polls, between which IPAWS's two minutes pass.
    async fn polls(&self) -> Vec<Published> {
        let records = self.poll().await;
        tokio::time::advance(Duration::from_secs(60)).await;
        records
    }

    fn asked(&self) -> Vec<String> {
        self.pages.asked().into_iter().map(|(path, _)| path).collect()
    }

    async fn letters(&self) -> Vec<(Reason, String, String)> {
        let app = &self.layers.app;
        let mut told = Vec::new();
        for letter in dead::list(&*app.store, None, 100).await.unwrap().letters {
            let raw = dead::raw(&*app.blobs, &letter).await.unwrap().unwrap();
            told.push((letter.reason, letter.detail, String::from_utf8_lossy(&raw).into_owned()));
        }
        told
    }
}

/// An alert that names the one before as a reference.
fn alert(id: &str, status: &str, kind: &str, references: &str, note: &str) -> String {
    let minute = id.bytes().map(u32::from).sum::<u32>() % 50;
    format!(
        "<alert xmlns=\"urn:oasis:names:tc:emergency:cap:1.2\"><identifier>{id}</identifier><sender>oes@test.example</sender>\
         <sent>2026-09-01T11:{minute:02}:00-07:00</sent><status>{status}</status><msgType>{kind}</msgType><scope>Public</scope>\
         <note>{note}</note><references>{references}</references><info><language>en-US</language><category>Fire</category>\
         <event>Evacuation Immediate</event><urgency>Immediate</urgency><severity>Extreme</severity><certainty>Observed</certainty>\
         <area><areaDesc>Testland</areaDesc><polygon>38.0,-120.0 38.1,-120.0 38.1,-119.9 38.0,-120.0</polygon></area></info></alert>"
    )
}

fn actual(id: &str) -> String {
    alert(id, "Actual", "Alert", "", "")
}

fn wrapped(alerts: &[String]) -> String {
    format!("<ns1:alerts xmlns:ns1=\"http://gov.fema.ipaws.services/feed\">{}</ns1:alerts>", alerts.concat())
}

/// An ATOM index, the newest entry first, of documents with these numbers and versions.
fn index(entries: &[(u32, u32)]) -> String {
    let entry = |(n, version): &(u32, u32)| {
        format!(
            "<entry><id>tag:{n}</id><updated>2026-09-01T18:{:02}:{:02}Z</updated><link href=\"/doc/{n}\" type=\"application/cap+xml\"/></entry>",
            n % 60,
            version
        )
    };
    let entries: String = entries.iter().rev().map(entry).collect();
    format!("<feed xmlns=\"http://www.w3.org/2005/Atom\"><id>x</id><title>Alerts</title>{entries}</feed>")
}

fn identifiers(records: &[Published]) -> Vec<String> {
    records.iter().map(|record| record.data("identifier").as_str().unwrap().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn s17_ipaws_is_polled_for_its_last_half_hour_and_each_alert_is_published_once() {
    let world = World::new(IPAWS).await;
    world.lists(&[]);
    assert!(world.polls().await.is_empty(), "no alert is none");
    let broken = actual("B").replace("<note></note>", "<note>a & b</note>");
    let nameless = actual("N").replace("<sender>oes@test.example</sender>", "");
    world.lists(&[actual("A"), broken.clone(), alert("T", "Test", "Alert", "", ""), nameless.clone(), actual("C")]);
    let records = world.polls().await;
    let told: Vec<_> = records.iter().map(|record| (record.topic, record.tier)).collect();
    assert_eq!(
        told,
        [
            ("wildfire-incidents", Tier::High),
            ("wildfire-incidents", Tier::High),
            ("wildfire-alert-drills", Tier::Normal)
        ]
    );
    assert_eq!(identifiers(&records), ["A", "C", "T"]);
    assert_eq!(records[0].key, "oes@test.example,A", "its thread");
    assert_eq!((&records[0].value["geometry"]["type"], &records[0].value["quality"]), (&json!("Polygon"), &json!([])));
    let mut letters = world.letters().await;
    letters.sort_by_key(|(reason, ..)| reason.code());
    let letters: Vec<_> = letters.iter().map(|(reason, _, raw)| (*reason, raw.as_str())).collect();
    assert_eq!(letters, [(Reason::BadXml, broken.as_str()), (Reason::MissingField, nameless.as_str())]);

    world.lists(&[
        actual("A"),
        actual("C"),
        alert("U", "Actual", "Update", "oes@test.example,A,2026-09-01T11:15:00-07:00", ""),
    ]);
    let update = world.polls().await;
    assert_eq!((identifiers(&update), update[0].key.as_str()), (vec!["U".to_owned()], "oes@test.example,A"));
    assert!(world.polls().await.is_empty());
    let from: Vec<_> = world.asked().iter().map(|path| path.strip_prefix(RECENT).unwrap().to_owned()).collect();
    let windows = ["2026-09-01T18:30:00Z", "2026-09-01T18:32:00Z", "2026-09-01T18:34:00Z", "2026-09-01T18:36:00Z"];
    assert_eq!(from, windows, "the half hour before each poll");
    let audited = audit::page(&*world.layers.app.store, world.layers.now(), None, 100).await.unwrap();
    let served = audited.iter().filter(|listed| listed.entry.action == Action::ServedAsHigh);
    assert_eq!(
        served.map(|listed| listed.entry.subject.as_str()).collect::<Vec<_>>(),
        ["ipaws_alerts"; 2],
        "one a poll that served"
    );
}

#[tokio::test(start_paused = true)]
async fn s17_what_ipaws_answers_wrongly_is_an_error_and_the_time_stands_still() {
    let faults = [
        (PageFault::Short, "bad_xml"),
        (PageFault::Says(""), "an empty body"),
        (PageFault::Says("<html><head><title>Access Denied</title></head></html>"), "it is a web page"),
        (PageFault::Says("<!DOCTYPE x><ns1:alerts xmlns:ns1='urn:x'/>"), "doctype"),
        (PageFault::Says("<kml/>"), "<kml> holds no CAP"),
        (PageFault::Says("{\"error\": 1}"), "it is not XML"),
        (PageFault::Status(500, "down"), "status 500"),
        (PageFault::Status(403, "<html></html>"), "access refused"),
        (PageFault::Status(302, ""), "it has moved"),
        (PageFault::Busy(30), "slow down"),
        (PageFault::Silent, "no answer within"),
    ];
    for (fault, says) in faults {
        let world = World::new(IPAWS).await;
        world.lists(&[actual("A"), actual("C")]);
        world.pages.fails(Some(("", fault.clone())));
        assert!(world.layers.poll().await.is_empty(), "{fault:?}");
        let state = world.layers.state().await;
        let said = state.last_error.unwrap_or_else(|| panic!("{fault:?} was taken for data"));
        assert!(said.contains(says), "{fault:?} said {said:?}");
        assert_eq!((state.records_failed, state.cursor.as_str(), state.breaker.failures()), (0, "", 1), "{fault:?}");
        world.pages.fails(None);
        assert_eq!(world.polls().await.len(), 2, "after {fault:?}");
        assert!(world.letters().await.is_empty(), "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn s17_what_ipaws_no_longer_has_is_said_to_be_missing() {
    let world = World::new(IPAWS).await;
    world.lists(&[actual("A")]);
    world.polls().await;
    tokio::time::advance(Duration::from_secs(3_600)).await;
    world.polls().await;
    assert!(world.layers.state().await.missing.is_some_and(|said| said.contains("alerts between are missing")));
    world.polls().await;
    assert_eq!(world.layers.state().await.missing, None);
}

#[tokio::test(start_paused = true)]
async fn s17_documents_of_an_index_are_asked_for_once_and_the_oldest_first() {
    let world = World::new(INDEX).await;
    for n in 1..=3 {
        world.pages.put(&format!("/doc/{n}"), actual(&format!("A{n}")));
    }
    world.pages.put("/index", index(&[(1, 0), (2, 0), (3, 0)]));
    let records = world.poll().await;
    assert_eq!(identifiers(&records), ["A1", "A2", "A3"]);
    assert!(records.iter().all(|record| record.topic == "wildfire-incidents" && record.tier == Tier::High));
    assert_eq!(world.asked(), ["/index", "/doc/1", "/doc/2", "/doc/3"]);
    assert!(world.poll().await.is_empty());
    assert_eq!(world.pages.asked(), [("/index".to_owned(), 304)]);
    // A new one, one whose text has changed, and one that has left the index.
    world.pages.put("/doc/4", alert("A4", "Actual", "Cancel", "oes@test.example,A3,2026-09-01T11:16:00-07:00", ""));
    world.pages.put("/doc/2", alert("A2", "Actual", "Alert", "", "another text"));
    world.pages.put("/index", index(&[(2, 1), (3, 0), (4, 0)]));
    let records = world.poll().await;
    assert_eq!(world.asked(), ["/index", "/doc/4", "/doc/2"], "what is new goes before what is said to have changed");
    let told: Vec<_> = records.iter().map(|record| (record.key.as_str(), record.value["revision"].as_u64())).collect();
    assert_eq!(told, [("oes@test.example,A3", Some(0)), ("oes@test.example,A2", Some(1))]);
    // An index that is empty for a moment forgets nothing.
    world.pages.put("/index", index(&[]));
    assert!(world.poll().await.is_empty());
    world.pages.put("/index", index(&[(1, 0), (2, 1), (3, 0), (4, 0)]));
    world.asked();
    assert!(world.poll().await.is_empty());
    assert_eq!(world.asked(), ["/index"]);
}

#[tokio::test(start_paused = true)]
async fn s17_a_bad_document_costs_itself_alone_and_one_that_cannot_be_had_or_read_is_asked_for_again() {
    let world = World::new(INDEX).await;
    let hostile = "<!DOCTYPE alert [<!ENTITY x \"y\">]><alert>&x;</alert>";
    world.pages.put("/doc/1", hostile);
    // As it is while it is written.
    let half = actual("A2")[..200].to_owned();
    world.pages.put("/doc/2", half.clone());
    world.pages.put("/doc/4", actual("A4"));
    world.pages.put("/index", index(&[(1, 0), (2, 0), (3, 0), (4, 0)]));
    assert_eq!(identifiers(&world.poll().await), ["A4"]);
    let state = world.layers.state().await;
    assert!(state.missing.is_some_and(|said| said.contains("/doc/3: status 404")));
    let letters = world.letters().await;
    let letters: BTreeSet<_> = letters.into_iter().map(|(reason, _, raw)| (reason.code(), raw)).collect();
    let expected = [("doctype", hostile.to_owned()), ("bad_xml", half)];
    assert_eq!(letters, expected.clone().into_iter().collect());
    // It is had later: the index is read again although it has not changed, and what was read is not.
    world.asked();
    world.poll().await;
    assert_eq!(world.asked(), ["/index"], "not every minute");
    world.pages.put("/doc/2", actual("A2"));
    world.pages.put("/doc/3", actual("A3"));
    assert_eq!(identifiers(&world.poll().await), ["A2", "A3"]);
    assert_eq!(world.asked(), ["/index", "/doc/1", "/doc/2", "/doc/3"]);
    let missing = world.layers.state().await.missing;
    assert!(missing.as_ref().is_some_and(|said| said.contains("/doc/1: status 200: doctype")), "{missing:?}");
    assert_eq!(world.letters().await.len(), expected.len(), "what cannot be read is kept once");
    // A host that fails in the middle: what was accepted is not asked for again, and the rest comes when it is back.
    for n in 5..=7 {
        world.pages.put(&format!("/doc/{n}"), actual(&format!("A{n}")));
    }
    world.pages.put("/index", index(&[(5, 0), (6, 0), (7, 0)]));
    let mut told = Vec::new();
    for fault in
        [PageFault::Silent, PageFault::Status(503, "busy"), PageFault::Status(500, "down"), PageFault::Busy(10)]
    {
        world.pages.fails(Some(("/doc/6", fault.clone())));
        told.extend(identifiers(&world.layers.poll().await));
        assert!(world.layers.state().await.last_error.is_some(), "{fault:?}");
        tokio::time::advance(Duration::from_secs(2 * 3_600)).await;
    }
    world.pages.fails(None);
    told.extend(identifiers(&world.poll().await));
    assert_eq!(told, ["A5", "A7", "A6"], "what fails keeps nothing else waiting");
    assert!(world.poll().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn s11_many_documents_are_asked_for_over_several_polls_and_none_twice() {
    let world = World::new(INDEX).await;
    let entries: Vec<(u32, u32)> = (1..=55).map(|n| (n, 0)).collect();
    for (n, _) in &entries {
        world.pages.put(&format!("/doc/{n}"), actual(&format!("A{n:02}")));
    }
    world.pages.put("/index", index(&entries));
    let named = |documents: &mut dyn Iterator<Item = u32>| documents.map(|n| format!("A{n:02}")).collect::<Vec<_>>();
    // The newest of a backlog, then the oldest first.
    for (told, more) in [(named(&mut (46..=55).chain(1..=30)), true), (named(&mut (31..=45)), false)] {
        assert_eq!(identifiers(&world.poll().await), told);
        assert_eq!(world.layers.state().await.missing.is_some_and(|said| said.contains("more documents")), more);
    }
    let asked = world.asked();
    let documents: BTreeSet<_> = asked.iter().filter(|path| path.starts_with("/doc")).collect();
    assert_eq!((asked.len(), documents.len()), (57, 55));
}

/// Every entry says at every poll that it has changed: the new one is not kept waiting by that.
#[tokio::test(start_paused = true)]
async fn s17_an_index_that_is_always_new_keeps_no_new_alert_waiting() {
    let world = World::new(INDEX).await;
    for n in 1..=51 {
        world.pages.put(&format!("/doc/{n}"), actual(&format!("A{n:02}")));
    }
    for version in 0..4 {
        world.pages.put("/index", index(&(1..=50).map(|n| (n, version)).collect::<Vec<_>>()));
        world.poll().await;
    }
    world.pages.put("/index", index(&(1..=51).map(|n| (n, 9)).collect::<Vec<_>>()));
    assert_eq!(identifiers(&world.poll().await), ["A51"]);
}

#[tokio::test(start_paused = true)]
async fn s17_entries_without_a_document_on_this_host_are_told_and_never_asked_for() {
    let world = World::new(INDEX).await;
    world.pages.put("/doc/1", actual("A1"));
    let elsewhere =
        "<entry><id>e</id><link href=\"https://elsewhere.test/doc/9\"/></entry><entry><id>f</id></entry></feed>";
    world.pages.put("/index", index(&[(1, 0)]).replace("</feed>", elsewhere));
    assert_eq!(identifiers(&world.poll().await), ["A1"]);
    for _ in 0..4 {
        assert!(world.poll().await.is_empty());
        let state = world.layers.state().await;
        let said = state.missing.unwrap();
        let expected = "2 entries name no document on this host, such as \"https://elsewhere.test/doc/9\"";
        assert!(said.contains(expected) && state.breaker.failures() == 0, "{said}");
    }
    world.pages.put("/index", index(&[(1, 0)]));
    world.poll().await;
    assert_eq!(world.layers.state().await.missing, None);
    assert!(world.asked().iter().all(|path| !path.contains('9')));
}

/// Of several entries that name one document the newest says whether it has changed.
#[tokio::test(start_paused = true)]
async fn s17_a_document_that_is_named_twice_is_asked_for_once_and_when_its_newest_entry_changes() {
    let world = World::new(INDEX).await;
    world.pages.put("/doc/1", actual("A1"));
    let entry = |version: u32| {
        format!("<entry><id>t</id><updated>2026-09-01T18:00:0{version}Z</updated><link href=\"/doc/1\"/></entry>")
    };
    let feed = |entries: String| format!("<feed xmlns=\"http://www.w3.org/2005/Atom\">{entries}</feed>");
    world.pages.put("/index", feed(entry(1) + &entry(0)));
    assert_eq!(world.poll().await.len(), 1);
    world.pages.put("/doc/1", alert("A1", "Actual", "Alert", "", "more is known"));
    world.pages.put("/index", feed(entry(2) + &entry(1) + &entry(0)));
    assert_eq!(world.poll().await[0].value["revision"], json!(1));
    assert!(world.poll().await.is_empty());
    assert_eq!(world.asked(), ["/index", "/doc/1", "/index", "/doc/1", "/index"]);
}

#[tokio::test(start_paused = true)]
async fn s17_an_index_that_is_none_is_an_error() {
    let faults = [
        (PageFault::Short, "bad_xml"),
        (PageFault::Says(" "), "an empty body"),
        (PageFault::Says("<!DOCTYPE html><html></html>"), "it is a web page"),
        (PageFault::Says("<!DOCTYPE x><feed/>"), "doctype"),
        (PageFault::Says("<kml/>"), "<kml> is neither a feed nor a CAP alert"),
        (PageFault::Says("<feed><entry"), "bad_xml"),
        (PageFault::Status(500, "down"), "status 500"),
        (PageFault::Status(404, "gone"), "status 404"),
        (PageFault::Status(401, "who"), "access refused"),
        (PageFault::Status(302, ""), "it has moved"),
        (PageFault::Status(304, ""), "status 304"),
        (PageFault::Busy(30), "slow down"),
        (PageFault::Silent, "no answer within"),
    ];
    for (fault, says) in faults {
        let world = World::new(INDEX).await;
        world.pages.put("/doc/1", actual("A1"));
        world.pages.put("/index", index(&[(1, 0)]));
        world.pages.fails(Some(("/index", fault.clone())));
        assert!(world.layers.poll().await.is_empty(), "{fault:?}");
        let state = world.layers.state().await;
        let said = state.last_error.unwrap_or_else(|| panic!("{fault:?} was taken for data"));
        assert!(said.contains(says), "{fault:?} said {said:?}");
        assert_eq!((state.records_failed, state.breaker.failures()), (0, 1), "{fault:?}");
        world.pages.fails(None);
        assert_eq!(identifiers(&world.poll().await), ["A1"], "after {fault:?}");
        assert!(world.letters().await.is_empty(), "{fault:?}");
    }
}

/// NWS's ATOM tells the same alerts as its GeoJSON, and they have the same ids.
#[tokio::test(start_paused = true)]
async fn s17_an_index_that_tells_its_alerts_itself_is_read_where_it_stands() {
    let stream = "{id: a, source_id: noaa_alerts, connector: cap_feed, tenant: test, interval: 60s, config: {url: 'https://api.weather.test/alerts/active.atom?area=CA'}}";
    let world = World::new(stream).await;
    let entry = |n: u32, more: &str| {
        format!(
            "<entry><id>https://api.weather.test/alerts/urn:oid:2.49.0.1.840.0.{n}</id><link rel=\"alternate\" href=\"/alerts/{n}\"/>\
             <updated>2026-09-01T08:00:00-07:00</updated><title>Red Flag Warning issued</title><summary>Dry lightning.</summary>\
             <cap:event>Red Flag Warning</cap:event><cap:sent>2026-09-01T08:00:00-07:00</cap:sent><cap:expires>2026-09-02T08:00:00-07:00</cap:expires>\
             <cap:status>Actual</cap:status><cap:msgType>Alert</cap:msgType><cap:category>Met</cap:category><cap:severity>Severe</cap:severity>\
             <cap:areaDesc>North Coast</cap:areaDesc><cap:polygon>38.0,-120.0 38.1,-120.0 38.1,-119.9 38.0,-120.0</cap:polygon>\
             <cap:geocode><valueName>UGC</valueName><value>CAZ203 CAZ204</value><valueName>SAME</valueName><value>006023</value></cap:geocode>\
             <cap:parameter><valueName>VTEC</valueName><value>/O.NEW/</value></cap:parameter>{more}</entry>"
        )
    };
    let feed = |entries: &[String]| {
        format!(
            "<feed xmlns=\"http://www.w3.org/2005/Atom\" xmlns:cap=\"urn:oasis:names:tc:emergency:cap:1.2\">{}</feed>",
            entries.concat()
        )
    };
    let bad = entry(3, "").replace("<cap:sent>2026-09-01T08:00:00-07:00", "<cap:sent>yesterday");
    world.pages.put("/alerts/active.atom?area=CA", feed(&[entry(1, ""), entry(2, ""), bad.clone()]));
    let records = world.poll().await;
    assert_eq!(records.len(), 2);
    assert_eq!(world.asked(), ["/alerts/active.atom?area=CA"]);
    let record = &records[0];
    assert_eq!((record.topic, record.tier, record.key.as_str()), {
        ("wildfire-weather", Tier::High, "w-nws.webmaster@noaa.gov,urn:oid:2.49.0.1.840.0.1")
    });
    let info = &record.data("info")[0];
    assert_eq!(info["area"][0]["geocode"], json!({"UGC": ["CAZ203", "CAZ204"], "SAME": ["006023"]}));
    assert_eq!((&info["description"], &info["parameter"]), (&json!("Dry lightning."), &json!({"VTEC": ["/O.NEW/"]})));
    assert_eq!((&record.value["geometry"]["type"], record.data("format")), (&json!("Polygon"), &json!("cap-atom")));
    let said: Vec<_> = record.value["quality"].as_array().unwrap().iter().map(|said| said["field"].clone()).collect();
    assert_eq!(said, ["sender", "scope"]);
    let letters = world.letters().await;
    assert_eq!((letters.len(), letters[0].0, letters[0].2.as_str()), (1, Reason::BadTime, bad.as_str()));
    assert!(world.poll().await.is_empty());

    let geojson = json!({"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": null, "properties": {
        "id": "urn:oid:2.49.0.1.840.0.1", "sender": "w-nws.webmaster@noaa.gov", "sent": "2026-09-01T08:00:00-07:00", "status": "Actual",
        "messageType": "Alert", "event": "Red Flag Warning"}}]});
    let other = World::new(
        "{id: a, source_id: noaa_alerts, connector: nws_alerts, tenant: test, interval: 60s, config: {areas: [CA]}}",
    )
    .await;
    other.pages.put("/alerts/active?status=actual&area=CA", geojson.to_string());
    assert_eq!(other.poll().await[0].value["event_id"], record.value["event_id"]);
}

/// However the same alerts come, in whatever order, once or again, in one answer or in several: the same events and revisions.
#[tokio::test(start_paused = true)]
async fn s12_order_repetition_and_split_of_a_feed_change_nothing() {
    let of = |records: Vec<Published>| -> BTreeSet<(String, String)> {
        let id = |record: Published| (record.value["event_id"].to_string(), record.value["revision"].to_string());
        records.into_iter().map(id).collect()
    };
    let all: Vec<String> = (1..=6)
        .map(|n| match n {
            4 => alert("A4", "Actual", "Update", "oes@test.example,A1,2026-09-01T11:14:00-07:00", ""),
            5 => alert("A5", "Exercise", "Alert", "", ""),
            n => actual(&format!("A{n}")),
        })
        .collect();
    let mut results = Vec::new();
    for seed in 0..6_usize {
        let world = World::new(INDEX).await;
        let mut alerts = all.clone();
        alerts.rotate_left(seed);
        if seed % 2 == 1 {
            alerts.reverse();
        }
        let mut records = Vec::new();
        match seed {
            0 | 1 => world.pages.put("/index", wrapped(&alerts)),
            2 => world.pages.put("/index", wrapped(&[alerts.clone(), alerts.clone()].concat())),
            3 => {
                for part in [&alerts[..2], &alerts[1..4], &alerts[3..]] {
                    world.pages.put("/index", wrapped(part));
                    records.extend(world.poll().await);
                }
            }
            _ => {
                for (n, alert) in alerts.iter().enumerate() {
                    world.pages.put(&format!("/doc/{n}"), alert.clone());
                }
                world.pages.put("/index", index(&(0..6).map(|n| (n, 0)).collect::<Vec<_>>()));
            }
        }
        for _ in 0..2 {
            records.extend(world.poll().await);
        }
        assert_eq!(records.len(), 6, "seed {seed}: nothing twice");
        results.push(of(records));
    }
    assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn a_feeds_config_is_checked_with_its_field_and_its_rule() {
    for (stream, from, to, says) in [
        (
            IPAWS,
            "interval: 2m",
            "interval: 60s",
            "streams[0].interval: IPAWS-OPEN must not be polled more often than every 120 s",
        ),
        (IPAWS, "feed: public", "feed: all", "streams[0].config.feed: unknown variant `all`"),
        (IPAWS, "feed: public", "feeds: public", "streams[0].config.feeds: unknown field"),
        (IPAWS, "ipaws_alerts", "evacuation_alert_x", "streams[0].source_id: evacuation_alert_x is a critical id"),
        (
            INDEX,
            "https://cap.test/index",
            "cap.test/index",
            "streams[0].config.url: \"cap.test/index\" is not an address",
        ),
        (INDEX, "interval: 60s", "interval: 10s", "streams[0].interval: CAP feeds by config"),
        (INDEX, "cap_alerts_test", "calfire_incidents", "streams[0].source_id: calfire_incidents is read from calfire"),
    ] {
        assert!(stream.contains(from));
        let file = format!("version: 1\nstreams:\n  - {}\n", stream.replace(from, to));
        let error = StreamsFile::parse(&file).unwrap_err().to_string();
        // One that comes too often is also more than its service allows.
        assert!(error.contains(says) && error.contains("at line"), "{error}");
    }
    let file =
        StreamsFile::parse(&format!("version: 1\nstreams:\n  - {INDEX}\n  - {}\n", IPAWS.replace("id: a,", "id: b,")))
            .unwrap();
    let loads: Vec<_> = file.loads().iter().map(ToString::to_string).collect();
    assert_eq!(
        loads,
        [
            "CAP feeds by config (https://cap.test): 1 stream, 41.0 requests a minute of 120",
            "IPAWS-OPEN (https://apps.fema.gov/IPAWSOPEN_EAS_SERVICE): 1 stream, 0.5 requests a minute of 3"
        ]
    );
}
