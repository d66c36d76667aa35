//! Walks over a layer with faults, in both forms, by seed; and what an answer means, step by step.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use serde_json::json;

use super::*;
use crate::connect::{Fetched, SourceError};
use crate::faults::arcgis::{LayerDouble, LayerFault};
use crate::limits::{LAYER_PAGES, LAYER_REREAD};
use crate::record::{Data, Observation, SourceId};
use crate::sources::identify;
use crate::time::Rng;
use crate::upstream::Response;

/// The layer's rows as records of a source that knows them by their `N`.
struct Plain;

impl Reads for Plain {
    fn stale_after(&self) -> Option<Duration> {
        Some(Duration::from_secs(7_200))
    }

    fn compare(&self, _: Value, answer: &Answer<'_>) -> Compared {
        Compared { memory: json!({"rows": answer.rows.len(), "whole": answer.whole}), ..Compared::default() }
    }

    fn row(&self, row: LayerRow<'_>, context: Context<'_>) -> Row {
        let key = vec![row.item.values["N"].to_string()];
        let data =
            Data::of(&json!({"key": key, "values": row.item.values, "stale": row.stale, "fresh": row.fresh_again}))?;
        identify(Observation {
            origin: row.origin,
            source: context.source.clone(),
            observed_at: context.received_at,
            published_at: None,
            geometry: None,
            position: None,
            derived_from: None,
            quality: row.item.quality,
            alert: None,
            data,
            rank: 0,
        })
    }
}

struct World {
    double: LayerDouble,
    /// A poll's time is over after so many requests.
    time: Option<usize>,
    layer: Layer<Plain>,
    cursor: Cursor,
    now: Timestamp,
}

impl World {
    fn new(form: Option<Form>) -> World {
        let fields =
            vec![("N", "esriFieldTypeInteger", Vec::new()), ("STATE", "esriFieldTypeString", vec![("O", "Open")])];
        let query = Query { format: form, ..Query::default() };
        World {
            double: LayerDouble::new(fields),
            time: None,
            layer: Layer { url: "http://gis.test/arcgis/rest/services/x/FeatureServer/0".into(), query, reads: Plain },
            cursor: Cursor::default(),
            now: "2026-09-01T12:00:00Z".parse().unwrap(),
        }
    }

    fn fill(&self, ids: impl Iterator<Item = i64>) {
        for id in ids {
            self.double.put(id, json!({"N": id * 10, "STATE": "O"}), json!({"x": -120.0, "y": 38.0}));
        }
    }

    fn edit(&self, seconds_ago: i64) {
        let at = self.now.as_millisecond() - seconds_ago * 1000;
        self.double.set(|layer| layer.edited = Some(at));
    }

    fn later(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    /// Whether a poll finds nothing newer.
    fn is_unchanged(&self) -> bool {
        self.poll().is_ok_and(|fetched| fetched.body.is_none() && fetched.cursor == self.cursor)
    }

    /// A poll without anything that waits; what does not come within its time is a failure.
    fn poll(&self) -> Result<Fetched, SourceError> {
        let mut walk = self.layer.walk(&self.cursor, self.now);
        for asked in 0..LAYER_PAGES as usize + 4 {
            if self.time.is_some_and(|time| asked >= time) {
                return walk.cut()?.ok_or_else(|| SourceError::Failed("nothing came in time".into()));
            }
            let request = walk.next();
            let target = request.url.reveal().strip_prefix("http://gis.test").unwrap().to_owned();
            let (delay, response) = self.double.answer(&target);
            if !delay.is_zero() {
                return Err(SourceError::Failed("no answer within 10s".into()));
            }
            if let Some(fetched) = walk.absorb(response, self.now)? {
                return Ok(fetched);
            }
        }
        panic!("a walk without end: {:?}", self.double.asked().last());
    }

    /// A poll whose records are accepted: its rows' `N`, and what is kept of them.
    fn taken(&mut self) -> Result<(Vec<i64>, Value), SourceError> {
        let fetched = self.poll()?;
        if fetched.body.is_none() {
            return Ok((Vec::new(), json!({"memory": {"whole": "unchanged"}})));
        }
        self.cursor = fetched.cursor.clone();
        let numbers = self.data(&fetched).iter().map(|data| data["values"]["N"].as_i64().unwrap_or(-1)).collect();
        let kept: Value = serde_json::from_str(&self.cursor.0).unwrap();
        Ok((numbers, kept))
    }

    fn data(&self, fetched: &Fetched) -> Vec<Value> {
        let source = SourceId::new("layer_test").unwrap();
        let context = Context { source: &source, received_at: self.now, topic: None, message: None };
        let rows = self.layer.rows(fetched.body.as_ref().unwrap(), context).unwrap();
        rows.map(|row| serde_json::from_str(row.unwrap().data.json()).unwrap()).collect()
    }
}

#[test]
fn s13_pages_are_read_to_the_end_in_both_forms_and_with_and_without_offsets() {
    for form in [Form::GeoJson, Form::Json] {
        for pages in [true, false] {
            for (rows, largest) in [(0, 100), (1, 100), (100, 100), (101, 100), (1_250, 2_000), (250, 100)] {
                let mut world = World::new(Some(form));
                world.fill(1..=rows);
                world.edit(60);
                world.double.set(|layer| (layer.pages, layer.largest_page) = (pages, largest));
                let (numbers, kept) = world.taken().unwrap();
                let wanted: Vec<i64> = (1..=rows).map(|id| id * 10).collect();
                assert_eq!(numbers, wanted, "{form:?} {pages} {rows} {largest}");
                assert_eq!(kept["memory"]["whole"], rows > 0, "an empty answer says nothing of rows that are gone");
                let asked = world.double.asked();
                assert!(
                    asked.iter().all(|target| !target.contains("resultRecordCount=2000")),
                    "never more than a page: {asked:?}"
                );
            }
        }
    }
}

/// S13, M4: a layer for which one poll's time is too short is read by several.
#[test]
fn s13_a_poll_whose_time_is_over_goes_on_at_the_next_one_and_says_nothing_of_what_is_gone() {
    for pages in [true, false] {
        let mut world = World::new(None);
        world.fill((1..=1_000).filter(|id| id % 3 > 0));
        world.edit(60);
        world.double.set(|layer| (layer.pages, layer.largest_page) = (pages, 100));
        world.time = Some(5);
        let mut came = BTreeSet::new();
        for poll in 1..=3 {
            let (numbers, kept) = world.taken().unwrap();
            assert_eq!(numbers.len(), if poll < 3 { 300 } else { 67 }, "{pages}, poll {poll}");
            assert_eq!(kept["memory"]["whole"], json!(false), "{pages}, poll {poll}");
            came.extend(numbers);
            world.later(60);
        }
        assert_eq!(came.len(), 667, "all rows came, none twice");
        world.time = None;
        let (numbers, kept) = world.taken().unwrap();
        assert_eq!((numbers.len(), &kept["memory"]["whole"]), (667, &json!(true)), "from the beginning again");
        world.time = Some(1);
        world.later(LAYER_REREAD.as_secs());
        assert_eq!(world.taken(), Err(SourceError::Failed("nothing came in time".into())));
    }
}

#[test]
fn s13_a_layer_that_has_not_changed_is_not_read_again_but_for_now_and_then() {
    let mut world = World::new(None);
    world.fill(1..=3);
    world.edit(60);
    world.taken().unwrap();
    let asked = world.double.asked().len();
    world.later(60);
    assert!(world.is_unchanged());
    assert_eq!(world.double.asked().len(), asked + 1, "only its document was asked for");
    world.edit(0);
    world.fill(4..=4);
    assert_eq!(world.taken().unwrap().0, [10, 20, 30, 40]);
    world.later(LAYER_REREAD.as_secs());
    assert_eq!(world.taken().unwrap().0.len(), 4, "what it says of itself may be old");
    // Without a word of its changes it is read at every poll.
    world.double.set(|layer| layer.edited = None);
    for _ in 0..2 {
        world.later(60);
        assert_eq!(world.taken().unwrap().0.len(), 4);
    }
}

#[test]
fn s13_a_cache_gives_neither_old_rows_nor_an_old_document() {
    let mut world = World::new(None);
    world.double.set(|layer| layer.cached = true);
    world.fill(1..=3);
    world.edit(60);
    world.taken().unwrap();
    world.fill(4..=4);
    world.edit(0);
    world.later(60);
    assert_eq!(world.taken().unwrap().0, [10, 20, 30, 40]);
}

#[test]
fn s13_a_layer_that_stops_is_stale_once_and_fresh_again_once() {
    let mut world = World::new(None);
    world.fill(1..=1);
    world.edit(0);
    let data = world.poll().unwrap();
    assert_eq!(world.data(&data)[0]["stale"], json!(false));
    world.cursor = data.cursor;
    world.later(7_000);
    world.cursor = world.poll().unwrap().cursor;
    world.later(300);
    let fetched = world.poll().unwrap();
    let data = world.data(&fetched);
    assert_eq!(
        (&data[0]["stale"], &data[0]["fresh"]),
        (&json!(true), &Value::Null),
        "at once, also within ten minutes"
    );
    world.cursor = fetched.cursor;
    world.later(60);
    assert!(world.is_unchanged());
    world.edit(0);
    let fetched = world.poll().unwrap();
    let data = world.data(&fetched);
    assert!(data[0]["stale"] == json!(false) && data[0]["fresh"].is_string(), "{data:?}");
}

#[test]
fn s13_codes_have_their_names_and_the_rows_their_own_bytes() {
    for form in [Form::GeoJson, Form::Json] {
        let world = World::new(Some(form));
        world.fill(1..=1);
        let fetched = world.poll().unwrap();
        assert_eq!(world.data(&fetched)[0]["values"]["STATE"], "Open");
        let text = String::from_utf8_lossy(fetched.body.as_ref().unwrap()).into_owned();
        assert!(text.contains(r#""STATE":"O""#), "as it was sent: {text}");
    }
}

/// What each fault of the first answer, and of the later ones, says.
#[test]
fn s13_what_is_no_whole_answer_is_refused_in_the_services_own_words() {
    let says = |fault, before: usize| {
        let world = World::new(None);
        world.fill(1..=1_100);
        world.edit(60);
        world.double.set(|layer| layer.fault = Some((fault, before)));
        match world.poll() {
            Ok(fetched) => format!("ok: {} rows", world.data(&fetched).len()),
            Err(SourceError::Busy { until, said }) => {
                format!("busy for {} s: {said}", until.as_second() - world.now.as_second())
            }
            Err(SourceError::Refused(said)) => format!("refused: {said}"),
            Err(other) => format!("failed: {other}"),
        }
    };
    for (fault, words) in [
        (LayerFault::TooMany, "busy for 120 s: status 429: \"slow down\""),
        (LayerFault::Forbidden, "failed: status 403: \"<!DOCTYPE html>"),
        (LayerFault::BadGateway, "failed: status 502: \"<!DOCTYPE html>"),
        (LayerFault::Truncated, "failed: the answer is no JSON object, or was cut off"),
        (LayerFault::QuotaInside, "busy for 60 s: status 200, error 429: Unable to perform query. Too many requests."),
        (
            LayerFault::ErrorInside,
            "refused: status 200, error 400: Cannot perform query. Invalid query parameters. 'Invalid field",
        ),
        (LayerFault::Redirect, "failed: status 302: the service has moved to \"https://elsewhere.example/\""),
        (LayerFault::List, "failed: the answer is no JSON object"),
    ] {
        for before in [0, 1, 2, 3] {
            let said = says(fault, before);
            assert!(said.starts_with(words), "{fault:?} from answer {before} on: {said}");
        }
    }
    assert!(says(LayerFault::Empty, 0).starts_with("ok: 0 rows"));
    assert!(says(LayerFault::Empty, 2).starts_with("failed: 1100 rows were counted and none came"));
    assert!(says(LayerFault::SamePage, 0).starts_with("failed: a page repeats rows"));
    assert_eq!(says(LayerFault::EmptyPage, 0), "ok: 600 rows", "what stands behind it is asked for all the same");
    assert!(says(LayerFault::ShortPage, 0).starts_with("ok: "), "its rows are real, and the next poll reads it again");
}

#[test]
fn s13_a_layer_without_the_fields_or_with_too_many_rows_needs_a_person() {
    struct Wants;
    impl Reads for Wants {
        fn needs(&self) -> Vec<(&str, &str)> {
            vec![("text.name", "NAME")]
        }
        fn row(&self, _: LayerRow<'_>, _: Context<'_>) -> Row {
            unreachable!("nothing is read")
        }
    }
    let world = World::new(None);
    let layer = Layer { url: world.layer.url.clone(), query: Query::default(), reads: Wants };
    let mut walk = layer.walk(&Cursor::default(), world.now);
    let (_, response) = world.double.answer("/x/FeatureServer/0?f=json");
    let Err(SourceError::Refused(said)) = walk.absorb(response, world.now) else { panic!("it was taken") };
    assert_eq!(said, "config.text.name: the layer has no field NAME; it has OBJECTID, N, STATE");
    let many = World::new(None);
    many.fill(1..=101);
    many.double.set(|layer| layer.largest_page = 1);
    let Err(SourceError::Refused(said)) = many.poll() else { panic!("it was taken") };
    assert!(said.starts_with("101 rows are more than the 100"), "{said}");
}

/// Behind a row without a number nothing can be asked for.
#[test]
fn s13_a_row_without_a_number_ends_no_history_and_is_named() {
    struct Once;
    impl Reads for Once {
        fn reads_once(&self) -> bool {
            true
        }
        fn row(&self, _: LayerRow<'_>, _: Context<'_>) -> Row {
            unreachable!("nothing is read")
        }
    }
    let world = World::new(None);
    world.fill(1..=3);
    let layer = Layer { url: world.layer.url.clone(), query: Query::default(), reads: Once };
    for id in [json!(null), json!("three"), json!(2.5)] {
        let mut walk = layer.walk(&Cursor::default(), world.now);
        for _ in 0..2 {
            let (_, response) = world.double.answer(walk.next().url.reveal().strip_prefix("http://gis.test").unwrap());
            assert_eq!(walk.absorb(response, world.now), Ok(None));
        }
        let page = json!({"features": [{"attributes": {"OBJECTID": id, "N": 1}}]}).to_string();
        let response = Response { status: 200, headers: Vec::new(), body: page.into(), elapsed: Duration::ZERO };
        let Err(SourceError::Failed(said)) = walk.absorb(response, world.now) else { panic!("it was taken: {id}") };
        assert_eq!(said, "a row has no OBJECTID that is a number");
    }
}

/// Another layer or other rows: what was kept says nothing of them.
#[test]
fn s13_what_is_kept_is_of_the_query_that_it_came_from() {
    let mut world = World::new(None);
    world.fill(1..=2);
    world.edit(60);
    world.taken().unwrap();
    assert!(world.is_unchanged());
    world.layer.query.condition = Some("N > 10".into());
    assert!(world.poll().is_ok());
    assert!(world.double.asked().last().unwrap().contains("where=N%20%3E%2010&"));
}

/// Whatever goes wrong at any request: rows that come are the layer's own and come once; an answer that is taken for whole has all
/// of them; and when the faults are over one poll has everything.
#[test]
fn s13_seeded_faults_never_make_rows_up_or_take_a_part_for_the_whole() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..400 {
        let rng = Rng::seeded(seed);
        let any = |below: u64| u64::from_be_bytes(rng.bytes()) % below;
        let mut world = World::new([None, Some(Form::Json), Some(Form::GeoJson)][any(3) as usize]);
        let (largest, pages) = (1 + any(60) as usize, any(3) > 0);
        world.double.set(|layer| (layer.largest_page, layer.pages) = (largest, pages));
        let mut all: BTreeSet<i64> = BTreeSet::new();
        for _ in 0..12 {
            for _ in 0..any(12) {
                let id = 1 + any(90) as i64;
                if any(4) == 0 {
                    all.remove(&id);
                    world.double.set(|layer| drop(layer.rows.remove(&id)));
                } else {
                    all.insert(id);
                    world.fill(id..=id);
                }
            }
            if any(3) > 0 {
                world.edit(0);
            }
            let fault = LayerFault::ALL[any(LayerFault::ALL.len() as u64) as usize];
            let struck = any(2) == 0 && fault != LayerFault::Endless;
            let from = world.double.asked().len() + any(5) as usize;
            world.double.set(|layer| layer.fault = struck.then_some((fault, from)));
            world.time = (any(5) == 0).then(|| 1 + any(6) as usize);
            let outcome = world.taken();
            world.later(60);
            match outcome {
                Ok((_, kept)) if kept["memory"]["whole"] == "unchanged" => drop(outcomes.insert("unchanged")),
                Ok((numbers, kept)) => {
                    let distinct: BTreeSet<i64> = numbers.iter().map(|number| number / 10).collect();
                    if fault != LayerFault::ChangedType || !struck {
                        assert_eq!(distinct.len(), numbers.len(), "seed {seed}: a row came twice");
                        assert!(distinct.is_subset(&all), "seed {seed}: rows that the layer does not have");
                        if kept["memory"]["whole"] == json!(true) {
                            assert_eq!(distinct, all, "seed {seed}: a part was taken for the whole");
                        }
                    }
                    outcomes.insert(if kept["memory"]["whole"] == json!(true) { "whole" } else { "part" });
                }
                Err(SourceError::Busy { until, .. }) => {
                    assert!(until > world.now - Duration::from_secs(60), "seed {seed}");
                    outcomes.insert("busy");
                }
                Err(SourceError::Failed(_)) => drop(outcomes.insert("failed")),
                Err(SourceError::Refused(_)) => drop(outcomes.insert("refused")),
            }
        }
        world.double.set(|layer| layer.fault = None);
        world.time = None;
        if world.cursor.0.contains("\"above\"") {
            world.taken().unwrap();
        }
        world.later(LAYER_REREAD.as_secs());
        let (numbers, _) = world.taken().unwrap();
        assert_eq!(numbers.iter().map(|number| number / 10).collect::<BTreeSet<_>>(), all, "seed {seed}");
    }
    assert_eq!(outcomes, ["whole", "part", "unchanged", "busy", "failed", "refused"].into());
}

/// A body of whatever bytes: an error, never a panic.
#[test]
fn a6_bytes_of_any_kind_are_no_answer() {
    let world = World::new(None);
    for body in [
        "",
        "null",
        "{",
        "{}",
        r#"{"fields": 1}"#,
        r#"{"count": -1}"#,
        r#"{"error": 5}"#,
        r#"{"features": {}}"#,
        "\u{feff}{}",
    ] {
        let response = |body: &str| Response {
            status: 200,
            headers: Vec::new(),
            body: Bytes::from(body.to_owned()),
            elapsed: Duration::ZERO,
        };
        let mut walk = world.layer.walk(&Cursor("junk".into()), world.now);
        assert!(walk.absorb(response(body), world.now).is_err(), "{body:?} was taken for a layer");
        let mut walk = world.layer.walk(&Cursor::default(), world.now);
        let (_, document) = world.double.answer("/x/FeatureServer/0?f=json");
        assert_eq!(walk.absorb(document, world.now), Ok(None));
        assert!(walk.absorb(response(body), world.now).is_err(), "{body:?} was taken for a count");
    }
    assert!(
        check_url("https://a.test/x/FeatureServer/0").is_ok() && check_url("https://a.test/x/MapServer/12").is_ok()
    );
    for url in [
        "a.test/x/FeatureServer/0",
        "https://a.test/x/FeatureServer",
        "https://a.test/x/FeatureServer/0?f=json",
        "https://a.test/0",
        "ftp://a.test/FeatureServer/0",
        "",
    ] {
        assert!(check_url(url).is_err(), "{url}");
    }
}
