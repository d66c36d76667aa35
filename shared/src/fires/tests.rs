//! Names and places of fires as sources tell them, through a store that several instances share.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::decode::Context;
use crate::embedded::{Commits, Embedded, MemoryDisk, Options};
use crate::ingest::enrich;
use crate::record::{SourceId, StreamId, WhenFull};
use crate::store::{Expect, Item, Key, PutError, Version};
use crate::time::{Rng, Timestamp};

struct World {
    store: Embedded,
    clock: Clock,
    fires: Fires,
}

impl World {
    fn new() -> World {
        let clock = Clock::simulated("2026-08-20T00:00:00Z".parse().unwrap());
        let options = Options { commits: Commits::Inline, ..Options::new(clock.clone()) };
        World { store: Embedded::on_disk(&MemoryDisk::default(), options).unwrap(), clock, fires: Fires::default() }
    }

    /// The fires of a document's records.
    async fn told(&self, source: &str, document: Value) -> Vec<Option<String>> {
        self.of(&stream(source, "test"), &drafts(source, &document)).await
    }

    async fn of(&self, stream: &Stream, drafts: &[Draft]) -> Vec<Option<String>> {
        let joined = self.fires.join(&self.store, &self.clock, stream, drafts.iter()).await.unwrap();
        let incident = |(number, draft): (usize, &Draft)| {
            let record = enrich(draft.clone(), 0, stream, self.clock.now()).unwrap();
            joined.incident(number, &record).map(|incident| incident.to_string())
        };
        drafts.iter().enumerate().map(incident).collect()
    }

    async fn one(&self, source: &str, document: Value) -> Option<String> {
        self.told(source, document).await.remove(0)
    }

    async fn seen(&self, latitude: f64, longitude: f64, at: &str) -> Option<String> {
        let (date, time) = at.split_once(' ').unwrap();
        let csv = format!(
            "latitude,longitude,bright_ti4,scan,track,acq_date,acq_time,satellite,instrument,confidence,version,bright_ti5,frp,\
             daynight\n{latitude},{longitude},340,0.4,0.4,{date},{time},N20,VIIRS,n,2.0NRT,300,5,D\n"
        );
        let source = "firms_viirs_noaa20";
        self.of(&stream(source, "test"), &read(source, csv)).await.remove(0)
    }
}

fn stream(source: &str, tenant: &str) -> Stream {
    Stream {
        id: StreamId::new("a").unwrap(),
        source: SourceId::new(source).unwrap(),
        tenant: TenantId::new(tenant).unwrap(),
        granted: false,
        when_full: WhenFull::Wait,
    }
}

fn read(source: &str, body: String) -> Vec<Draft> {
    let (source, body) = (SourceId::new(source).unwrap(), Bytes::from(body));
    let received_at = "2026-08-20T00:00:00Z".parse().unwrap();
    let context = Context { source: &source, received_at, topic: None, message: None };
    sources::format_of(&source).unwrap().rows(&body, context).unwrap().map(|row| row.unwrap()).collect()
}

fn drafts(source: &str, features: &Value) -> Vec<Draft> {
    read(source, json!({"type": "FeatureCollection", "features": features}).to_string())
}

fn ms(at: &str) -> i64 {
    at.parse::<Timestamp>().unwrap().as_millisecond()
}

const BEGAN: &str = "2026-08-14T20:00:00Z";

fn wfigs(id: &str, name: &str, county: &str, began: &str) -> Value {
    json!({"geometry": {"type": "Point", "coordinates": [-120.5, 39.1]}, "properties": {
        "IrwinID": format!("{{00000000-0000-4000-8000-0000000000{id}}}"), "UniqueFireIdentifier": format!("2026-CATST-0000{id}"),
        "IncidentName": name, "POOState": "US-CA", "POOCounty": county, "IncidentSize": 100,
        "FireDiscoveryDateTime": ms(began), "ModifiedOnDateTime_dt": ms("2026-08-19T20:00:00Z")}})
}

fn calfire(id: &str, name: &str, county: &str, began: &str) -> Value {
    json!({"geometry": {"type": "Point", "coordinates": [-120.52, 39.12]}, "properties": {"UniqueId": id, "Name": name,
        "County": county, "Started": began, "Updated": "2026-08-19T20:00:00Z", "Latitude": 39.12, "Longitude": -120.52}})
}

fn square(longitude: f64, latitude: f64, wide: f64) -> Value {
    let (east, north) = (longitude + wide, latitude + wide);
    json!({"type": "Polygon", "coordinates":
        [[[longitude, latitude], [east, latitude], [east, north], [longitude, north], [longitude, latitude]]]})
}

fn perimeter(id: &str, shape: Value) -> Value {
    json!({"geometry": shape, "properties": {
        "poly_SourceGlobalID": format!("{{10000000-0000-4000-8000-0000000000{id}}}"),
        "poly_IRWINID": format!("00000000-0000-4000-8000-0000000000{}", id.to_lowercase()),
        "poly_DateCurrent": ms("2026-08-19T20:00:00Z"), "attr_FireDiscoveryDateTime": ms(BEGAN)}})
}

const AA: &str = "irwin:00000000-0000-4000-8000-0000000000aa";
const BB: &str = "irwin:00000000-0000-4000-8000-0000000000bb";

#[tokio::test(start_paused = true)]
async fn s12_a_fire_has_one_value_under_all_of_its_names_that_of_whoever_told_of_it_first() {
    let world = World::new();
    let first = world.one("wfigs_incidents", json!([wfigs("AA", "CREEK", "Testland", BEGAN)])).await;
    assert_eq!(first.as_deref(), Some(AA));
    // A day later by the other list, in its spelling.
    let late = calfire("c1", " Creek Fire", "Otherland, Testland County", "2026-08-15T13:00:00Z");
    assert_eq!(world.one("calfire_incidents", json!([late])).await, first);
    assert_eq!(world.one("wfigs_perimeters", json!([perimeter("AA", square(-120.6, 39.0, 0.1))])).await, first);
    // The other way round, by ids alone from then on.
    let world = World::new();
    let first = world.one("calfire_incidents", json!([calfire("c1", "Creek Fire", "Testland", BEGAN)])).await;
    assert_eq!(first.as_deref(), Some("calfire:c1"));
    assert_eq!(world.one("wfigs_incidents", json!([wfigs("AA", "CREEK", "Testland", BEGAN)])).await, first);
    assert_eq!(world.one("wfigs_incidents", json!([wfigs("AA", "RENAMED", "Farland", BEGAN)])).await, first);
    assert_eq!(world.one("wfigs_perimeters", json!([perimeter("AA", square(-120.6, 39.0, 0.1))])).await, first);
    let (other, again) = (stream("wfigs_incidents", "other"), json!([wfigs("AA", "CREEK", "Testland", BEGAN)]));
    let value = world.of(&other, &drafts("wfigs_incidents", &again)).await.remove(0);
    assert_eq!(value.as_deref(), Some(AA), "another tenant's fires are its own");
}

#[tokio::test(start_paused = true)]
async fn s12_one_name_in_another_county_season_or_with_another_id_is_another_fire() {
    let world = World::new();
    let first = world.one("wfigs_incidents", json!([wfigs("AA", "CREEK", "Testland", BEGAN)])).await;
    for (county, began) in
        [("Otherland", BEGAN), ("Testland", "2026-07-30T20:00:00Z"), ("Testland", "2025-08-14T20:00:00Z")]
    {
        let id = format!("{county}{began}").to_lowercase();
        let other = world.one("calfire_incidents", json!([calfire(&id, "Creek Fire", county, began)])).await;
        assert_eq!(other, Some(format!("calfire:{id}")), "{county} {began}");
    }
    let second = world.one("wfigs_incidents", json!([wfigs("BB", "CREEK", "Testland", BEGAN)])).await;
    assert_eq!((first.as_deref(), second.as_deref()), (Some(AA), Some(BB)));
    let unclear = world.one("calfire_incidents", json!([calfire("c2", "Creek Fire", "Testland", BEGAN)])).await;
    assert_eq!(unclear.as_deref(), Some("calfire:c2"), "either of two: none of them");
    let flood = json!([{"geometry": null, "properties": {"UniqueId": "f", "Type": "Flood", "Name": "Creek", "County": "Testland", "Started": BEGAN}}]);
    assert_eq!(world.one("calfire_incidents", flood).await, None);
}

#[tokio::test(start_paused = true)]
async fn s12_a_complex_is_one_fire_as_its_sources_say_and_what_burned_before_keeps_its_own_value() {
    let world = World::new();
    let part = |id: &str, complex: &str| {
        let mut fire = wfigs(id, &format!("PART {id}"), "Testland", BEGAN);
        fire["properties"]["CpxID"] = format!("{{00000000-0000-4000-8000-0000000000{complex}}}").into();
        fire
    };
    assert_eq!(world.one("wfigs_incidents", json!([part("01", "AA")])).await.as_deref(), Some(AA));
    assert_eq!(world.one("wfigs_incidents", json!([part("02", "AA")])).await.as_deref(), Some(AA));
    assert_eq!(
        world.one("wfigs_incidents", json!([wfigs("AA", "TEST COMPLEX", "Testland", BEGAN)])).await.as_deref(),
        Some(AA)
    );
    let listed = calfire("c1", "Test Complex", "Testland", BEGAN);
    assert_eq!(world.one("calfire_incidents", json!([listed])).await.as_deref(), Some(AA));
    world.one("wfigs_incidents", json!([wfigs("BB", "ALONE", "Testland", BEGAN)])).await;
    assert_eq!(world.one("wfigs_incidents", json!([part("BB", "AA")])).await.as_deref(), Some(BB));
}

#[tokio::test(start_paused = true)]
async fn s12_what_has_no_name_has_the_fire_that_it_lies_in_or_the_only_one_near() {
    let world = World::new();
    assert_eq!(world.seen(39.1, -120.5, "2026-08-19 2100").await, None, "nothing burns yet");
    world.one("wfigs_incidents", json!([wfigs("AA", "CREEK", "Testland", BEGAN)])).await;
    assert_eq!(world.seen(39.12, -120.5, "2026-08-19 2100").await.as_deref(), Some(AA), "2 km from the point");
    assert_eq!(world.seen(39.2, -120.5, "2026-08-19 2100").await, None, "11 km");
    assert_eq!(world.seen(39.12, -120.5, "2026-08-13 2100").await, None, "a day before it began");
    world.one("wfigs_perimeters", json!([perimeter("AA", square(-120.6, 39.0, 0.2))])).await;
    assert_eq!(world.seen(39.15, -120.45, "2026-08-19 2100").await.as_deref(), Some(AA), "inside");
    // A second one 2.6 km to the east of its perimeter.
    world.one("wfigs_perimeters", json!([perimeter("BB", square(-120.37, 39.0, 0.2))])).await;
    assert_eq!(world.seen(39.1, -120.385, "2026-08-19 2100").await, None, "between them");
    assert_eq!(world.seen(39.1, -120.398, "2026-08-19 2100").await.as_deref(), Some(AA), "0.2 km and 2.4");
    assert_eq!(
        world.seen(39.1, -120.402, "2026-08-19 2100").await.as_deref(),
        Some(AA),
        "inside of one, near the other"
    );
    assert_eq!(world.seen(39.1, -120.14, "2026-08-19 2100").await.as_deref(), Some(BB));
    let zone = |status: &str, shape: Value| json!([{"geometry": shape, "properties": {"ZONE_ID": "Z", "COUNTY": "Testland", "STATUS": status, "EditDate": ms("2026-08-19T22:00:00Z")}}]);
    let (north, far) = (square(-120.6, 39.25, 0.05), square(-120.6, 39.6, 0.05));
    assert_eq!(world.one("evacuation_zones", zone("Evacuation Order", north.clone())).await.as_deref(), Some(AA));
    assert_eq!(world.one("evacuation_zones", zone("Evacuation Order", far)).await, None);
    assert_eq!(world.one("evacuation_zones", zone("Normal", north)).await, None, "it has to do with no fire");
    // Out, and what glows a week later is another one.
    let mut out = wfigs("AA", "CREEK", "Testland", BEGAN);
    out["properties"]["FireOutDateTime"] = ms("2026-08-18T00:00:00Z").into();
    out["properties"]["IncidentSize"] = 101.into();
    world.one("wfigs_incidents", json!([out])).await;
    assert_eq!(world.seen(39.15, -120.45, "2026-08-19 2100").await, None);
    // It was not: whoever said so takes it back.
    let mut burns = wfigs("AA", "CREEK", "Testland", BEGAN);
    burns["properties"]["IncidentSize"] = 102.into();
    world.one("wfigs_incidents", json!([burns])).await;
    assert_eq!(world.seen(39.15, -120.45, "2026-08-19 2100").await.as_deref(), Some(AA));
}

#[tokio::test(start_paused = true)]
async fn s12_a_flights_perimeter_goes_by_its_name_where_several_fires_are_near() {
    let world = World::new();
    world
        .told(
            "wfigs_incidents",
            json!([wfigs("AA", "CREEK", "Testland", BEGAN), wfigs("BB", "RIVER", "Testland", BEGAN)]),
        )
        .await;
    let flight = |name: Value, hour: u32| {
        json!([{"geometry": square(-120.51, 39.09, 0.05), "properties": {"mission": "CA-TST-X-N57B", "incident_name": name,
            "poly_DateCurrent": ms("2026-08-15T00:00:00Z") + i64::from(hour) * 3_600_000}}])
    };
    assert_eq!(world.one("firis_perimeters", flight(Value::Null, 1)).await, None, "either of two");
    assert_eq!(world.one("firis_perimeters", flight("Canyon".into(), 2)).await, None, "none of these");
    assert_eq!(world.one("firis_perimeters", flight("River".into(), 3)).await.as_deref(), Some(BB));
    assert_eq!(world.seen(39.13, -120.47, "2026-08-15 0600").await.as_deref(), Some(BB), "it is that fire's perimeter");
}

#[tokio::test(start_paused = true)]
async fn s12_a_road_that_is_closed_in_an_emergency_beside_a_fire_has_its_value_and_road_works_have_none() {
    let world = World::new();
    world.one("wfigs_incidents", json!([wfigs("AA", "CREEK", "Testland", BEGAN)])).await;
    let closure = |work: &str, latitude: &str| {
        let began = ms("2026-08-19T20:00:00Z") / 1000;
        json!({"data": [{"lcs": {"index": "C1", "location": {"begin": {"beginDistrict": "3", "beginLatitude": latitude,
            "beginLongitude": "-120.5"}}, "closure": {"typeOfWork": work,
            "closureTimestamp": {"closureStartEpoch": began.to_string()}}}}]})
    };
    let source = "caltrans_closures";
    for (work, latitude, value) in
        [("Emergency", "39.11", Some(AA)), ("Emergency", "39.3", None), ("Paving", "39.11", None)]
    {
        let drafts = read(source, closure(work, latitude).to_string());
        assert_eq!(world.of(&stream(source, "test"), &drafts).await[0].as_deref(), value, "{work} {latitude}");
    }
}

/// A store that lets others run before each of its calls, some of them more than once.
struct Interleaved<'a>(&'a Embedded, &'a Rng);

impl Interleaved<'_> {
    async fn others(&self) {
        for _ in 0..self.1.bytes::<1>()[0] % 4 {
            tokio::task::yield_now().await;
        }
    }
}

#[async_trait]
impl Store for Interleaved<'_> {
    async fn get(&self, key: &Key) -> Result<Option<Item>, BackendError> {
        self.others().await;
        self.0.get(key).await
    }

    async fn list(
        &self,
        partition: &str,
        prefix: &str,
        after: Option<&str>,
        max: usize,
    ) -> Result<Vec<Item>, BackendError> {
        self.0.list(partition, prefix, after, max).await
    }

    async fn put_if(
        &self,
        key: &Key,
        value: Bytes,
        expect: Expect,
        expires: Option<Timestamp>,
    ) -> Result<Version, PutError> {
        self.others().await;
        self.0.put_if(key, value, expect, expires).await
    }

    async fn delete_if(&self, key: &Key, expect: Expect) -> Result<(), PutError> {
        self.0.delete_if(key, expect).await
    }
}

#[tokio::test(start_paused = true)]
async fn s12_instances_that_meet_a_fire_at_once_agree_on_its_value() {
    let mut values = BTreeSet::new();
    for seed in 0..300 {
        let (world, rng) = (World::new(), Rng::seeded(seed));
        let instances = [
            ("calfire_incidents", calfire("c1", "Creek Fire", "Testland", BEGAN)),
            ("wfigs_incidents", wfigs("AA", "CREEK", "Testland", BEGAN)),
            ("wfigs_incidents", wfigs("AA", "Creek", "Testland", BEGAN)),
        ];
        let told = instances.map(|(source, feature)| {
            let (store, drafts) = (Interleaved(&world.store, &rng), drafts(source, &json!([feature])));
            let (clock, stream) = (&world.clock, stream(source, "test"));
            async move {
                let joined = Fires::default().join(&store, clock, &stream, drafts.iter()).await.unwrap();
                let record = enrich(drafts[0].clone(), 0, &stream, clock.now()).unwrap();
                joined.incident(0, &record).unwrap()
            }
        });
        let told: BTreeSet<Arc<str>> = futures::future::join_all(told).await.into_iter().collect();
        assert_eq!(told.len(), 1, "seed {seed}: {told:?}");
        values.extend(told);
    }
    assert_eq!(values.len(), 2, "either may be the first: {values:?}");
}
