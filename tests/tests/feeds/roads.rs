//! Lane closures and CHP's incidents, polled from the double [S16].

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use streammanager::dead;
use streammanager::record::{Outgoing, Tier};
use streammanager::time::Rng;
use streammanager_tests::feeds::Fault;
use streammanager_tests::roads::{INCIDENTS, MADE, NOTE, closure, closures, district_file, incident, incidents};

use super::{World, assert_polite, statuses};

type Stream = (&'static str, &'static str, &'static str, &'static str);

const CLOSURES: Stream = ("closures", "caltrans_closures", "caltrans", "{districts: [3, 11]}");
const ONE_DISTRICT: Stream = ("closures", "caltrans_closures", "caltrans", "{districts: [3]}");
const DISPATCH: Stream = ("dispatch", "chp_incidents", "chp", "{}");

fn told<'a>(records: &'a [(Outgoing, Value)], field: &str) -> Vec<&'a Value> {
    records.iter().map(|(_, value)| &value["data"][field]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn s16_closures_of_each_district_are_polled_and_what_crews_report_is_a_revision() {
    let world = World::new(&[CLOSURES]).await;
    assert_eq!(world.poll("closures").await.last_error, None);
    let records = world.published(Tier::Normal).await;
    assert_eq!(told(&records, "district"), [3, 3, 11, 11].map(Value::from).iter().collect::<Vec<_>>());
    assert_eq!(told(&records, "status"), ["due", "planned"].repeat(2).iter().collect::<Vec<_>>());
    let (record, value) = &records[0];
    assert_eq!((record.topic.name(), record.tier), ("wildfire-infrastructure", Tier::Normal));
    assert_eq!(value["geometry"], json!({"type": "LineString", "coordinates": [[-120.0, 38.0], [-120.0, 38.1]]}));
    assert_eq!((&value["observed_at"], &value["quality"]), (&json!("2026-08-01T11:00:00.000Z"), &json!([])));
    let asked = world.services.asked();
    assert_eq!(asked.iter().map(|asked| asked.path.clone()).collect::<Vec<_>>(), [district_file(3), district_file(11)]);
    assert_polite(&asked, Duration::from_millis(250));
    assert_eq!(world.polled("closures", Tier::Normal).await, (0, 0));
    assert_eq!(statuses(&world.services.asked()), [304, 304]);
    world.services.fails(Fault::Frozen);
    assert_eq!(
        world.polled("closures", Tier::Normal).await,
        (0, 0),
        "the same rows again, without a word that they are"
    );
    world.services.fails(Fault::None);
    world.services.renews();
    assert_eq!(world.poll("closures").await.last_error, None);
    let changed = world.published(Tier::Normal).await;
    assert_eq!(told(&changed, "status"), ["in_place"; 2].iter().collect::<Vec<_>>());
    assert_eq!(changed.iter().map(|(record, _)| record.revision).collect::<Vec<_>>(), [1, 1]);
    let known: BTreeSet<_> = records.iter().map(|(record, _)| record.event).collect();
    assert!(changed.iter().all(|(record, _)| known.contains(&record.event)));
    // The plan's own hour: what was planned is due, and the next file says so without a word of any crew.
    world.wall.step(24 * 3600);
    for district in [3, 11] {
        let now = MADE + 24 * 3600 + 240;
        world.services.tells(
            &district_file(district),
            closures(&[closure(district, 1, true, now), closure(district, 2, false, now)]),
        );
    }
    assert_eq!(world.polled("closures", Tier::Normal).await, (0, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn s16_a_file_that_has_stopped_is_told_and_nothing_of_it_is_new() {
    let world = World::new(&[CLOSURES]).await;
    assert_eq!(world.polled("closures", Tier::Normal).await, (4, 0));
    world.wall.step(30 * 60);
    let now = MADE + 32 * 60;
    world.services.tells(&district_file(3), closures(&[closure(3, 1, true, now), closure(3, 2, false, now)]));
    world
        .services
        .tells(&district_file(11), closures(&[closure(11, 1, true, MADE + 10), closure(11, 3, false, MADE + 10)]));
    let state = world.poll("closures").await;
    let said = state.missing.unwrap();
    assert!(said.starts_with("D11: it has not been renewed since 2026-08-01T12:00:10.000Z"), "{said}");
    let records = world.published(Tier::Normal).await;
    assert_eq!((told(&records, "district"), state.last_error), (vec![&json!(3)], None));
    world.services.fails(Fault::Empty);
    let state = world.poll("closures").await;
    assert!(state.last_error.unwrap().contains("D03: it is empty, which no district's file is: it is broken"));
    assert!(world.published(Tier::Normal).await.is_empty(), "and ends nothing");
    world.services.fails(Fault::None);
    world.wall.step(30 * 60);
    world.services.tells(&district_file(11), closures(&[closure(11, 1, true, now + 1900)]));
    world.services.asked();
    let state = world.poll("closures").await;
    assert!(state.missing.unwrap().starts_with("D03: it has not been renewed since 2026-08-01T12:32:00.000Z"));
    assert_eq!(told(&world.published(Tier::Normal).await, "district"), [&json!(11)]);
    assert_eq!(statuses(&world.services.asked()), [200, 200], "what was wrong left no validator");
}

#[tokio::test(flavor = "multi_thread")]
async fn s16_incidents_are_polled_without_their_notes_and_one_note_more_is_a_revision() {
    let world = World::new(&[DISPATCH]).await;
    assert_eq!(world.poll("dispatch").await.last_error, None);
    let records = world.published(Tier::Normal).await;
    assert_eq!(
        told(&records, "incident_id"),
        ["260801TS0001", "260801TS0002"].map(Value::from).iter().collect::<Vec<_>>()
    );
    let (record, value) = &records[0];
    assert_eq!((record.topic.name(), record.tier), ("wildfire-incidents", Tier::Normal));
    assert_eq!((&value["observed_at"], &value["longitude"]), (&json!("2026-08-01T11:50:00.000Z"), &json!(-120.0)));
    assert_eq!((&value["data"]["notes"], &value["quality"][0]["field"]), (&json!(1), &json!("LogDetails")));
    let asked = world.services.asked();
    assert_polite(&asked, Duration::from_secs(1));
    assert_eq!(asked[0].path, INCIDENTS);
    assert_eq!(world.polled("dispatch", Tier::Normal).await, (0, 0));
    assert_eq!(statuses(&world.services.asked()), [304]);
    world.services.renews();
    assert_eq!(world.polled("dispatch", Tier::Normal).await, (0, 1));
    world.services.tells(INCIDENTS, incidents(&[incident("260801TS0002", 0)]));
    assert_eq!(world.polled("dispatch", Tier::Normal).await, (0, 0), "what is gone is not over");
    world.services.fails(Fault::Empty);
    assert!(world.poll("dispatch").await.last_error.unwrap().contains("no incident at all, which is no all-clear"));
    world.services.fails(Fault::None);
    let whole = incidents(&["260801TS0003", "260801TS0004", "260801TS0005"].map(|id| incident(id, 1)));
    world.services.tells(INCIDENTS, &whole[..whole.len() - 80]);
    let state = world.poll("dispatch").await;
    let said = state.missing.unwrap();
    assert!(said.contains("2 incidents came, and nothing is known of the others"), "{said}");
    assert_eq!((world.published(Tier::Normal).await.len(), state.last_error, state.records_failed), (2, None, 0));
    world.services.tells(INCIDENTS, whole);
    assert_eq!(
        world.polled("dispatch", Tier::Normal).await,
        (1, 0),
        "what was behind the cut comes with the next file"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a6_what_is_kept_of_a_refused_log_has_no_notes_and_can_be_redriven() {
    let world = World::new(&[DISPATCH]).await;
    let (sound, broken) = (incident("260801TS0001", 1), incident("260801TS0002", 2));
    let ahead = broken.replace("4:50AM", "9:50AM");
    let torn = incident("260801TS0003", 2).replace("</LATLON>", "");
    world.services.tells(INCIDENTS, incidents(&[sound, ahead, torn]));
    let state = world.poll("dispatch").await;
    assert_eq!((state.records_processed, state.records_failed, state.last_error), (1, 2, None));
    let shown = format!("{:?}", world.published(Tier::Normal).await.iter().map(|(_, value)| value).collect::<Vec<_>>());
    let letters = dead::list(&*world.app.store, None, 10).await.unwrap().letters;
    assert_eq!(letters.len(), 2);
    let mut kept = String::new();
    for letter in &letters {
        let raw = dead::raw(&*world.app.blobs, letter).await.unwrap().unwrap();
        kept.push_str(&format!("{letter:?} {}", String::from_utf8(raw.to_vec()).unwrap()));
    }
    assert!(kept.contains("260801TS0002") && kept.contains("260801TS0003") && kept.contains("FIRE-Report of Fire"));
    for text in [&shown, &kept] {
        assert!(!text.contains("7ABC123") && !text.contains(NOTE), "{text}");
    }
    // Its time has come.
    world.wall.step(5 * 3600);
    let ahead = letters.iter().find(|letter| letter.reason == streammanager::error::Reason::FutureTime).unwrap();
    let redriven = dead::redrive(&world.app, &dead::Redrive::Letter(ahead.id), "test").await.unwrap();
    assert_eq!(redriven.letters[0].accepted, 1, "{redriven:?}");
    let value = world.published(Tier::Normal).await.remove(0).1;
    assert_eq!(["notes", "dispatch"].map(|name| value["data"][name].clone()), [json!(2), json!("TSTC")]);
}

/// Every fault of either service is told as what it is, nothing of it is published or remembered, and when it is over all goes on.
#[tokio::test(flavor = "multi_thread")]
async fn s10_every_fault_of_the_roads_is_named_and_none_is_taken_for_data() {
    for stream in [ONE_DISTRICT, DISPATCH] {
        let id = stream.0;
        for (fault, says) in [
            (Fault::Busy(Some(40)), "it is asked again at 2026-08-01T12:0"),
            (Fault::Busy(None), "slow down"),
            (Fault::Forbidden, "status 403: access refused: it is a web page"),
            (Fault::Broken, "An unexpected problem has occurred"),
            (Fault::Cut, "http://127.0.0.1"),
            (Fault::ErrorIn200, "An unexpected problem has occurred"),
            (Fault::PageIn200, "it is a web page"),
            (Fault::Empty, ""),
            (Fault::Moved, "moved to"),
        ] {
            let world = World::new(&[stream]).await;
            world.services.fails(fault);
            let state = world.poll(id).await;
            let said = state.last_error.clone().unwrap_or_else(|| panic!("{id}: {fault:?} was taken for data"));
            assert!(said.contains(says), "{id}: {fault:?} said {said:?}");
            assert_eq!((state.breaker.failures(), state.last_success), (1, None), "{id}: {fault:?}");
            assert!(world.published(Tier::Normal).await.is_empty(), "{id}: {fault:?}");
            world.services.asked();
            world.services.fails(Fault::None);
            assert_eq!(world.poll(id).await.last_error, None, "{id}: after {fault:?}");
            assert_eq!(world.published(Tier::Normal).await.len(), 2, "{id}: after {fault:?}");
            let asked = world.services.asked();
            assert!(!asked[0].headers.contains_key("if-none-match"), "{id}: {fault:?} left its validator");
        }
    }
}

/// What ends early gives what came whole; another district's trouble costs it alone; a field that is renamed or of another type
/// costs its window, or its value.
#[tokio::test(flavor = "multi_thread")]
async fn s9_what_is_damaged_costs_itself_alone() {
    for stream in [ONE_DISTRICT, DISPATCH] {
        let world = World::new(&[stream]).await;
        world.services.fails(Fault::Short);
        let state = world.poll(stream.0).await;
        let said = state.missing.or(state.last_error).unwrap();
        assert!(said.contains("cut"), "{said}");
        assert!(world.published(Tier::Normal).await.len() < 2 && state.records_failed == 0);
        world.services.fails(Fault::None);
        world.poll(stream.0).await;
        assert!(!world.published(Tier::Normal).await.is_empty());
        assert_eq!(world.state(stream.0).await.records_processed, 2);
    }
    let world = World::new(&[CLOSURES]).await;
    let mut renamed = closure(3, 1, true, MADE);
    let codes = renamed["lcs"]["closure"].as_object_mut().unwrap();
    let code = codes.remove("code1097").unwrap();
    codes.insert("established".into(), code["isCode1097"].clone());
    let mut retyped = closure(3, 2, false, MADE);
    retyped["lcs"]["location"]["begin"]["beginLatitude"] = json!([38]);
    let text =
        closures(&[renamed, retyped, closure(3, 3, false, MADE)]).replacen("\"typeOfWork\":", "\"typeOfWork\"", 3);
    let mended = text.replacen("\"typeOfWork\"\"", "\"typeOfWork\":\"", 2);
    world.services.tells(&district_file(3), mended);
    world.services.tells(&district_file(11), "not yet");
    let state = world.poll("closures").await;
    let said = state.missing.unwrap();
    assert!(said.contains("D03: it is damaged") && said.contains("D11: bad_json"), "{said}");
    assert_eq!(
        (state.records_failed, state.last_error),
        (2, None),
        "a latitude that is a list, and an item that is no JSON"
    );
    let records = world.published(Tier::Normal).await;
    assert_eq!(told(&records, "status"), [&json!("unknown")]);
    let notes = records[0].1["quality"].to_string();
    assert!(notes.contains("isCode1097 is missing") && notes.contains("established"), "{notes}");
}

/// Rows in any order, again and again, in any parts: the same events come with the same revisions.
#[tokio::test(flavor = "multi_thread")]
async fn s12_order_repeats_and_parts_change_nothing() {
    let rng = Rng::seeded(16);
    let below = |bound: usize| usize::from(u16::from_be_bytes(rng.bytes())) % bound;
    let rows: Vec<Value> = (1..=6).flat_map(|n| [closure(3, n, false, MADE), closure(3, n, true, MADE)]).collect();
    let logs: Vec<String> =
        (1..=6).flat_map(|n| [1, 2].map(|notes| incident(&format!("260801TS{n:04}"), notes))).collect();
    let mut expected: [Option<BTreeSet<String>>; 2] = [None, None];
    for _ in 0..4 {
        let world = World::new(&[ONE_DISTRICT, DISPATCH]).await;
        for (name, expected) in ["closures", "dispatch"].into_iter().zip(&mut expected) {
            let mut order: Vec<usize> = (0..12).chain((0..5).map(|_| below(12))).collect();
            (1..order.len()).for_each(|at| order.swap(at, below(at + 1)));
            let (one, two) = order.split_at(1 + below(order.len() - 1));
            let mut seen = BTreeSet::new();
            for part in [one, two, one] {
                if name == "closures" {
                    let part: Vec<Value> = part.iter().map(|at| rows[*at].clone()).collect();
                    world.services.tells(&district_file(3), closures(&part));
                } else {
                    let part: Vec<String> = part.iter().map(|at| logs[*at].clone()).collect();
                    world.services.tells(INCIDENTS, incidents(&part));
                }
                assert_eq!(world.poll(name).await.last_error, None);
                for (record, _) in world.published(Tier::Normal).await {
                    assert!(seen.insert(format!("{}-{}", record.event, record.revision)), "published twice");
                }
            }
            assert_eq!(seen.len(), 12);
            assert_eq!(*expected.get_or_insert_with(|| seen.clone()), seen);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s10_a_silent_road_service_and_one_without_end_are_given_up() {
    let one = async |stream: Stream, fault| {
        let world = World::new(&[stream]).await;
        world.services.fails(fault);
        assert!(world.poll(stream.0).await.last_error.unwrap().contains("no answer within 10s"));
    };
    tokio::join!(
        one(ONE_DISTRICT, Fault::Slow),
        one(ONE_DISTRICT, Fault::Endless),
        one(DISPATCH, Fault::Slow),
        one(DISPATCH, Fault::Endless)
    );
}
