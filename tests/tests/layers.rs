//! Layers of ArcGIS servers as polled sources, from a double of such a server to the queues [S13, S14].

#![allow(clippy::unwrap_used)]

#[path = "layers/history.rs"]
mod history;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use streammanager::connect::arcgis::Form;
use streammanager::dead;
use streammanager::faults::arcgis::{LayerDouble, LayerFault};
use streammanager::record::Tier;
use streammanager::schedule::file::StreamsFile;
use streammanager::upstream::http::HttpUpstream;
use streammanager_tests::arcgis::{LayerWorld, Published, serve};
use streammanager_tests::workspace;

/// One stream with this source, connector and config.
fn file(source: &str, connector: &str, config: &str) -> String {
    format!(
        "version: 1\nstreams:\n  - id: a\n    source_id: {source}\n    connector: {connector}\n    tenant: test\n    \
         interval: 60s\n    config: {config}\n"
    )
}

fn square(longitude: f64, latitude: f64) -> Value {
    let (east, north) = (longitude + 0.1, latitude + 0.1);
    json!({"rings": [[[longitude, latitude], [longitude, north], [east, north], [east, latitude], [longitude, latitude]]]})
}

fn zones() -> LayerDouble {
    let text = |name| (name, "esriFieldTypeString", Vec::new());
    LayerDouble::new(vec![
        text("ZONE_ID"),
        text("COUNTY"),
        ("STATUS", "esriFieldTypeString", vec![("EO", "Evacuation Order"), ("EW", "Evacuation Warning")]),
        text("PUBLIC_INFO"),
        text("NOTES"),
        ("EditDate", "esriFieldTypeDate", Vec::new()),
    ])
}

const EDITED: i64 = 1_788_200_000_000;

fn zone(id: &str, status: &str, edited: i64) -> Value {
    json!({"ZONE_ID": id, "COUNTY": "Testland", "STATUS": status, "PUBLIC_INFO": null, "NOTES": "Test Rd", "EditDate": edited})
}

async fn zone_world() -> LayerWorld {
    let double = zones();
    for (id, name) in [(1, "US-CA-XZZ-E001"), (2, "US-CA-XZZ-E002"), (3, "US-CA-XZZ-E003")] {
        double.put(id, zone(name, "EO", EDITED), square(-120.0 + id as f64, 38.0));
    }
    let world = LayerWorld::new(&file("evacuation_zones", "zones", "{}"), double).await;
    world.edited();
    world
}

fn told(records: &[Published]) -> Vec<(String, String, u64)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let of = |record: &Published| {
        (text(record.data("zone_id")), text(record.data("status")), record.value["revision"].as_u64().unwrap())
    };
    records.iter().map(of).collect()
}

fn one(zone: &str, status: &str, revision: u64) -> Vec<(String, String, u64)> {
    vec![(zone.to_owned(), status.to_owned(), revision)]
}

const THIRD: &str = "US-CA-XZZ-E003";

#[tokio::test(start_paused = true)]
async fn s14_an_order_becomes_a_warning_leaves_the_list_and_comes_back() {
    let world = zone_world().await;
    let first = world.poll().await;
    assert_eq!(first.len(), 3);
    assert!(first.iter().all(|record| record.topic == "wildfire-evacuation-zones" && record.tier == Tier::High));
    assert_eq!((first[2].data("status"), first[2].data("public_info")), (&json!("order"), &json!("Test Rd")));
    assert_eq!(first[2].data("status_text"), "Evacuation Order", "codes by their names");
    assert!(world.poll().await.is_empty(), "nothing has changed");

    world.double.put(3, zone(THIRD, "EW", EDITED + 1), square(-117.0, 38.0));
    world.edited();
    let changed = world.poll().await;
    assert_eq!(told(&changed), one(THIRD, "warning", 1));
    assert_eq!(changed[0].value["event_id"], first[2].value["event_id"]);

    world.double.set(|layer| drop(layer.rows.remove(&3)));
    world.edited();
    assert!(world.poll().await.is_empty(), "one answer without it is not enough");
    let gone = world.poll().await;
    assert_eq!(
        told(&gone),
        one(THIRD, "lifted_unconfirmed", 2),
        "the second is, also when the layer says that nothing changed"
    );
    assert_eq!((gone[0].data("status_before"), gone[0].tier), (&json!("warning"), Tier::High));
    assert_eq!(gone[0].key, first[2].key, "in the order of the zone's records");
    assert!(gone[0].value["quality"].to_string().contains("nobody has said so"));
    for _ in 0..12 {
        world.edited();
        assert!(world.poll().await.is_empty(), "it is told once");
    }

    world.double.put(4, zone(THIRD, "EW", EDITED + 1), square(-117.0, 38.0));
    world.edited();
    assert_eq!(told(&world.poll().await), one(THIRD, "warning", 3), "the very row that was told before is news again");
    assert!(world.poll().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn s14_no_zone_is_gone_for_an_empty_answer_a_part_or_a_failure() {
    let world = zone_world().await;
    assert_eq!(world.poll().await.len(), 3);
    for fault in LayerFault::ALL {
        // A time that cannot be read any more is a change of its record.
        if fault == LayerFault::ChangedType {
            continue;
        }
        for _ in 0..4 {
            world.double.fails(Some(fault));
            world.edited();
            let records = world.poll().await;
            assert!(records.is_empty(), "{fault:?}: {:?}", told(&records));
        }
        world.double.fails(None);
        // Breakers close and waits end.
        tokio::time::advance(Duration::from_secs(1_200)).await;
        world.edited();
        assert!(world.poll().await.is_empty(), "{fault:?}");
        assert_eq!(world.state().await.last_error, None, "{fault:?}");
    }
    // One whole answer without it, an empty one, one with it: it was never gone.
    let third = world.double.clone();
    third.set(|layer| drop(layer.rows.remove(&3)));
    world.edited();
    assert!(world.poll().await.is_empty());
    world.double.fails(Some(LayerFault::Empty));
    assert!(world.poll().await.is_empty());
    world.double.fails(None);
    world.double.put(3, zone(THIRD, "EO", EDITED), square(-117.0, 38.0));
    assert!(world.poll().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn s14_unknown_words_are_never_normal_and_the_most_severe_row_of_a_zone_counts() {
    let world = zone_world().await;
    world.poll().await;
    world.double.put(3, zone(THIRD, "Normal-ish", EDITED + 1), square(-117.0, 38.0));
    world.edited();
    let unknown = world.poll().await;
    assert_eq!(told(&unknown), one(THIRD, "unknown", 1));
    assert_eq!((unknown[0].data("status_text"), unknown[0].tier), (&json!("Normal-ish"), Tier::High));
    assert!(unknown[0].value["quality"].to_string().contains("not a status that is known"));

    world.double.put(4, zone(THIRD, "EO", EDITED), square(-117.0, 38.0));
    world.double.put(5, zone(THIRD, "EW", EDITED + 9), square(-117.0, 38.0));
    for polls in 0..3 {
        world.edited();
        let told_now = told(&world.poll().await);
        assert_eq!(
            told_now,
            if polls == 0 { one(THIRD, "order", 2) } else { Vec::new() },
            "rows of one zone do not take turns"
        );
    }
    // A zone that was lifted in words has nothing left to be lifted.
    for id in [4, 5] {
        world.double.set(|layer| drop(layer.rows.remove(&id)));
    }
    world.double.put(3, zone(THIRD, "Clear to Repopulate", EDITED + 20), square(-117.0, 38.0));
    world.edited();
    assert_eq!(told(&world.poll().await), one(THIRD, "lifted", 3));
    world.double.set(|layer| drop(layer.rows.remove(&3)));
    for _ in 0..3 {
        world.edited();
        assert!(world.poll().await.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn s9_a_zone_without_its_id_costs_itself_alone() {
    let world = zone_world().await;
    world.double.put(
        9,
        json!({"ZONE_ID": null, "COUNTY": "Testland", "STATUS": "EO", "EditDate": EDITED}),
        Value::Null,
    );
    assert_eq!(world.poll().await.len(), 3);
    let letters = dead::list(&*world.app.store, None, 10).await.unwrap().letters;
    assert_eq!(letters.len(), 1);
    assert!(letters[0].detail.contains("ZONE_ID is missing"), "{}", letters[0].detail);
    let raw = dead::raw(&*world.app.blobs, &letters[0]).await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&raw).contains(r#""STATUS":"EO""#), "its bytes as they were sent");
}

const SHELTERS: &str = "version: 1
streams:
  - id: shelters
    source_id: layer_shelters
    connector: layers
    tenant: test
    interval: 60s
    config: {url: 'https://gis.test/arcgis/rest/services/Shelters/FeatureServer/0', key: [SHELTER_ID], time: EditDate,
      text: {name: SHELTER_NAME, status: SHELTER_STATUS},
      place: {county: COUNTY}}
";

fn shelters() -> LayerDouble {
    let text = |name| (name, "esriFieldTypeString", Vec::new());
    LayerDouble::new(vec![
        ("SHELTER_ID", "esriFieldTypeInteger", Vec::new()),
        text("SHELTER_NAME"),
        ("SHELTER_STATUS", "esriFieldTypeString", vec![("O", "Open"), ("C", "Closed")]),
        text("COUNTY"),
        ("BEDS", "esriFieldTypeInteger", Vec::new()),
        ("EditDate", "esriFieldTypeDate", Vec::new()),
    ])
}

fn shelter(id: u32, status: &str, edited: i64) -> Value {
    json!({"SHELTER_ID": id, "SHELTER_NAME": "Test Hall", "SHELTER_STATUS": status, "COUNTY": "Testland", "BEDS": 40, "EditDate": edited})
}

/// The README's streams are what is read.
#[test]
fn s13_the_streams_in_the_readme_are_valid() {
    let readme = std::fs::read_to_string(workspace().join("README.md")).unwrap();
    let blocks: Vec<&str> =
        readme.split("```yaml\n").skip(1).filter_map(|rest| rest.split_once("```")).map(|(block, _)| block).collect();
    let streams: Vec<usize> = blocks.iter().map(|block| StreamsFile::parse(block).unwrap().streams.len()).collect();
    assert_eq!(streams, [5, 1, 2, 0, 0]);
    assert_eq!(blocks[1].lines().count() - 2, 8);
}

#[tokio::test(start_paused = true)]
async fn s13_any_layer_is_a_source_by_eight_lines() {
    assert_eq!(SHELTERS.lines().count() - 2, 8);
    for geojson in [true, false] {
        let double = shelters();
        double.set(|layer| layer.geojson = geojson);
        for id in 1..=700 {
            double.put(i64::from(id), shelter(id, "O", EDITED), json!({"x": -121.0, "y": 38.5}));
        }
        let world = LayerWorld::new(SHELTERS, double).await;
        world.edited();
        let records = world.poll().await;
        assert_eq!(records.len(), 700);
        let record = &records[6];
        assert_eq!((record.topic, record.tier), ("wildfire-infrastructure", Tier::Low));
        for (field, value) in [
            ("key", json!(["7"])),
            ("name", json!("Test Hall")),
            ("status", json!("Open")),
            ("county", json!("Testland")),
            ("attributes", json!({"BEDS": 40})),
        ] {
            assert_eq!(record.data(field), &value, "{field}");
        }
        assert_eq!((&record.value["latitude"], &record.value["quality"]), (&json!(38.5), &json!([])));
        assert!(world.poll().await.is_empty(), "a second poll publishes nothing");
        world.double.put(7, shelter(7, "C", EDITED + 86_400_000), json!({"x": -121.0, "y": 38.5}));
        world.edited();
        let changed = world.poll().await;
        assert_eq!(changed.len(), 1);
        assert_eq!(
            (&changed[0].value["revision"], changed[0].data("status")),
            (&json!(1), &json!("Closed")),
            "a day later and all the same its revision"
        );
    }
}

#[test]
fn s13_a_layers_config_is_checked_before_anything_is_asked() {
    let parse = |from: &str, to: &str| {
        assert!(SHELTERS.contains(from), "{from}");
        StreamsFile::parse(&SHELTERS.replace(from, to)).map(|_| ()).unwrap_err().to_string()
    };
    for (from, to, says) in [
        (
            "/FeatureServer/0",
            "/FeatureServer",
            "streams[0].config.url: \"https://gis.test/arcgis/rest/services/Shelters/FeatureServer\" does not end",
        ),
        ("https://gis", "ftp://gis", "streams[0].config.url"),
        ("key: [SHELTER_ID]", "key: []", "streams[0].config.key: 0 fields: a key has 1 to 4"),
        ("key: [SHELTER_ID]", "key: [objectid]", "streams[0].config.key: objectid numbers the service's rows"),
        ("name: SHELTER_NAME", "name: \"a b\"", "streams[0].config.text.name: \"a b\" is no name of a field"),
        ("name: SHELTER_NAME", "title: SHELTER_NAME", "streams[0].config.text.title: unknown field"),
        ("county: COUNTY", "latitude: LAT", "streams[0].config.place: latitude and longitude go together"),
        ("place: {", "query: {area: [1, 2, 3]}, place: {", "streams[0].config.query.area"),
        ("place: {", "query: {simplify: 2}, place: {", "streams[0].config.query.simplify: 2 is not above 0"),
        ("place: {", "query: {where: \" \"}, place: {", "streams[0].config.query.where"),
        ("place: {", "tier: HIGH, place: {", "streams[0].config.tier: unknown field `tier`"),
        (
            "layer_shelters",
            "power_outages",
            "streams[0].source_id: power_outages is read from power-outages, and the connector layers gives arcgis-layer",
        ),
        ("layer_shelters", "life_safety_shelters", "streams[0].source_id: life_safety_shelters is a critical id"),
        ("connector: layers", "connector: wfigs", "streams[0].config.key: unknown field"),
    ] {
        let said = parse(from, to);
        assert!(said.contains(says), "{to:?} said {said:?}, not {says:?}");
        assert!(said.contains(" at line "), "{said}");
    }
}

/// A field that the layer does not have: the stream says which setting names it.
#[tokio::test(start_paused = true)]
async fn s13_a_setting_that_names_no_field_of_the_layer_is_told_at_the_first_poll() {
    let world = LayerWorld::new(&SHELTERS.replace("county: COUNTY", "county: KOUNTY"), shelters()).await;
    assert!(world.poll().await.is_empty());
    let said = world.state().await.last_error.unwrap();
    assert!(
        said.starts_with("config.place.county: the layer has no field KOUNTY; it has OBJECTID, SHELTER_ID"),
        "{said}"
    );
}

const IRWIN: &str = "{00000000-0000-4000-8000-0000000000AA}";

fn fires(source: &str) -> LayerDouble {
    let double = LayerDouble::new(vec![("poly_IRWINID", "esriFieldTypeString", Vec::new())]);
    for (id, own) in [(1, "{10000000-0000-4000-8000-0000000000BB}"), (2, "20000000-0000-4000-8000-0000000000bb")] {
        let attributes = match source {
            "wfigs_perimeters" => json!({
                "poly_IRWINID": IRWIN, "poly_SourceGlobalID": own, "attr_IncidentName": "SAMPLE", "attr_IncidentSize": 10.5 + id as f64,
                "attr_FireDiscoveryDateTime": EDITED, "poly_DateCurrent": EDITED + id,
            }),
            "wfigs_incidents" => json!({
                "IrwinID": own, "IncidentName": "SAMPLE", "IncidentSize": 3, "FireDiscoveryDateTime": EDITED, "POOState": "US-CA",
            }),
            "firis_perimeters" => json!({
                "GlobalID": own, "incident_name": null, "mission": "CA-TST-SAMPLE-N57B", "area_acres": 166.0,
                "poly_DateCurrent": EDITED, "source": "FIRIS", "type": "Heat Perimeter", "displayStatus": "Active", "EditDate": EDITED,
            }),
            _ => json!({
                "UtilityCompany": "TEST", "StartDate": EDITED, "EstimatedRestoreDate": null, "Cause": null, "ImpactedCustomers": 41,
                "County": "Testland", "OutageStatus": "Active", "OutageType": "Not Planned", "IncidentId": format!("T{id}"), "GlobalID": own,
            }),
        };
        let shape = if source.ends_with("perimeters") { square(-121.0, 38.0) } else { json!({"x": -121.0, "y": 38.5}) };
        double.put(id, attributes, shape);
    }
    // Nothing names it.
    double.put(3, json!({"GlobalID": "{00000000-0000-0000-0000-000000000000}", "IrwinID": "00000000-0000-0000-0000-000000000000"}), Value::Null);
    double
}

#[tokio::test(start_paused = true)]
async fn s13_fires_and_outages_are_polled_in_both_forms_and_once() {
    for (source, connector, topic) in [
        ("wfigs_perimeters", "wfigs", "wildfire-incidents"),
        ("wfigs_incidents", "wfigs", "wildfire-incidents"),
        ("firis_perimeters", "firis", "wildfire-incidents"),
        ("power_outages", "outages", "wildfire-infrastructure"),
    ] {
        let mut ids = Vec::new();
        for form in [Form::GeoJson, Form::Json] {
            let config = format!("{{format: {}}}", if form == Form::Json { "json" } else { "geojson" });
            let world = LayerWorld::new(&file(source, connector, &config), fires(source)).await;
            world.edited();
            let records = world.poll().await;
            assert_eq!(records.len(), 2, "{source}");
            assert!(records.iter().all(|record| record.topic == topic && record.tier == Tier::Normal), "{source}");
            assert!(records.iter().all(|record| record.value["h3"].is_string()), "{source} has no place");
            assert_ne!(
                records[0].value["event_id"], records[1].value["event_id"],
                "{source}: one fire's perimeters are two events"
            );
            let letters = dead::list(&*world.app.store, None, 10).await.unwrap().letters;
            assert_eq!(letters.len(), 1, "{source}: the nil id names nothing");
            ids.push((records[0].value["event_id"].clone(), records[0].value["geometry"].clone()));
            world.edited();
            assert!(world.poll().await.is_empty(), "{source}: a second poll publishes nothing");
            // The same id in another spelling.
            world.double.set(|layer| {
                for (attributes, _) in layer.rows.values_mut() {
                    for name in ["poly_SourceGlobalID", "IrwinID", "GlobalID"] {
                        if let Some(Value::String(id)) = attributes.get_mut(name) {
                            *id = id.trim_matches(['{', '}']).to_lowercase();
                        }
                    }
                }
            });
            world.edited();
            assert!(world.poll().await.is_empty(), "{source}: its id is the same");
        }
        assert_eq!(ids[0].0, ids[1].0, "{source}");
        assert_eq!(
            ids[0].1["type"].as_str().map(|kind| kind.trim_start_matches("Multi")),
            ids[1].1["type"].as_str().map(|kind| kind.trim_start_matches("Multi"))
        );
    }
}

/// A layer that stopped a day ago says `Active` of everything.
#[tokio::test(start_paused = true)]
async fn s13_outages_of_a_layer_that_has_stopped_are_stale() {
    let world = LayerWorld::new(&file("power_outages", "outages", "{}"), fires("power_outages")).await;
    let day_old = world.now().as_millisecond() - 26 * 3_600_000;
    world.double.set(|layer| layer.edited = Some(day_old));
    let records = world.poll().await;
    assert!(records.iter().all(|record| record.data("stale") == true), "{records:?}");
    assert!(world.poll().await.is_empty());
    world.edited();
    let fresh = world.poll().await;
    assert_eq!((fresh.len(), fresh[0].data("stale"), &fresh[0].value["revision"]), (2, &json!(false), &json!(1)));
    // It stops again, and goes on again: each is told, although all the rest was said before.
    for revision in [2, 3] {
        if revision == 2 {
            tokio::time::advance(Duration::from_secs(3 * 3_600)).await;
        } else {
            world.edited();
        }
        let records = world.poll().await;
        assert_eq!((records.len(), records[0].data("stale")), (2, &json!(revision == 2)), "revision {revision}");
        assert_eq!(records[0].value["revision"], json!(revision));
    }
}

/// Over HTTP, with the client that runs in production.
#[tokio::test(flavor = "multi_thread")]
async fn s13_over_http_an_answer_that_does_not_end_or_moves_is_a_failure_and_the_next_one_is_read() {
    let double = Arc::new(shelters());
    double.put(1, shelter(1, "O", EDITED), json!({"x": -121.0, "y": 38.5}));
    let url = serve(double.clone());
    let upstream = Arc::new(HttpUpstream::with_largest(1024 * 1024).unwrap());
    let streams = SHELTERS.replace("https://gis.test", &url);
    let world = LayerWorld::asking(&streams, double.clone(), upstream).await;
    let asked = async |fault| {
        double.fails(fault);
        let file = StreamsFile::parse(&streams).unwrap();
        let connector =
            file.streams[0].polled.connector(&file.streams[0].source_id, &world.app.settings.services).unwrap();
        let walk = connector.walk(&streammanager::connect::Cursor::default(), world.now());
        let within = Duration::from_secs(5);
        match world.app.upstream.call(&walk.next(), within).await {
            Ok(response) => format!("status {}", response.status),
            Err(e) => e.to_string(),
        }
    };
    assert_eq!(asked(Some(LayerFault::Endless)).await, "the response is larger than 1048576 bytes");
    assert_eq!(asked(Some(LayerFault::Redirect)).await, "status 302", "it is not followed");
    assert_eq!(asked(None).await, "status 200");
}
