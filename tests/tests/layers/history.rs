//! Layers of many years, read once in batches and to their end [M1, M2, M4, S6].

use std::collections::BTreeSet;

use super::*;
use streammanager::sources::Services;
use streammanager_tests::polled::PolledWorld;

/// So many perimeters of all years, five hundred a page.
fn perimeters(rows: i64) -> LayerDouble {
    let double = LayerDouble::new(vec![("poly_IRWINID", "esriFieldTypeString", Vec::new())]);
    double.set(|layer| layer.edited = Some(EDITED));
    for n in 1..=rows {
        let guid = format!("{{{n:08X}-0000-4000-8000-0000000000CC}}");
        // Object ids have holes.
        double.put(
            n * 3,
            json!({"poly_IRWINID": guid, "poly_SourceGlobalID": guid, "attr_IncidentName": format!("FIRE {n}"),
                "attr_FireDiscoveryDateTime": EDITED - n * 86_400_000, "attr_POOState": "US-CA", "attr_POOCounty": "Butte"}),
            square(-121.5, 39.5),
        );
    }
    double
}

/// The same, ten a page.
fn of_ten(rows: i64) -> LayerDouble {
    let double = perimeters(rows);
    double.set(|layer| layer.largest_page = 10);
    double
}

fn streams(config: &str) -> String {
    format!(
        "version: 1\nstreams:\n  - {{id: history, source_id: historical_wfigs_perimeters, connector: wfigs_history, tenant: cal-fire, config: {config}}}\n"
    )
}

const ALL: &str = "{layer: perimeters}";

async fn world(double: LayerDouble) -> LayerWorld {
    LayerWorld::new(&streams(ALL), double).await
}

fn names(records: &[Published]) -> Vec<String> {
    records.iter().map(|record| record.data("incident_name").as_str().unwrap().to_owned()).collect()
}

fn all(rows: i64) -> BTreeSet<String> {
    (1..=rows).map(|n| format!("FIRE {n}")).collect()
}

async fn progress(world: &PolledWorld) -> (u64, Option<u64>) {
    let progress = world.status().await.progress.unwrap();
    (progress.done, progress.whole)
}

#[tokio::test(start_paused = true)]
async fn m1_a_layer_of_all_years_is_read_in_batches_to_its_end_and_then_asked_no_more() {
    let world = world(perimeters(1_234)).await;
    let status = world.status().await;
    assert_eq!((status.mode.as_str(), status.mode_reason.as_str()), ("batch", "what it asks for has an end"));
    assert_eq!((status.current_priority.as_str(), status.interval.get().as_secs()), ("LOW", 60));
    assert_eq!(progress(&world).await, (0, None), "nobody has counted yet");
    let records = world.poll().await;
    assert_eq!(records.len(), 1_234);
    assert_eq!(BTreeSet::from_iter(names(&records)), all(1_234));
    let first = &records[0];
    assert_eq!((first.topic, first.tier), ("wildfire-historical", Tier::Low));
    let status = world.status().await;
    assert!(status.poll.completed_at.is_some() && status.next_poll.is_none(), "{:?}", status.poll);
    assert_eq!((status.poll.last_error, status.poll.missing), (None, None));
    assert_eq!(progress(&world).await, (1_234, Some(1_234)));
    let asked = world.double.asked();
    let pages: Vec<&String> = asked.iter().filter(|target| target.contains("resultRecordCount=500")).collect();
    assert_eq!((pages.len(), asked.len()), (3, 3 * 2 + 2), "a document and a page each, and two counts: {asked:?}");
    assert!(
        pages.iter().all(|page| page.contains("resultOffset=0")),
        "behind the last row, not behind a number of them"
    );
    assert!(world.poll().await.is_empty());
    assert_eq!(world.double.asked().len(), asked.len(), "it has ended");
}

#[tokio::test(start_paused = true)]
async fn m4_a_poll_reads_twenty_batches_and_the_next_one_goes_on_behind_them() {
    let world = world(of_ten(250)).await;
    assert_eq!(world.poll().await.len(), 200);
    assert_eq!(progress(&world).await, (200, Some(250)));
    assert!(world.state().await.completed_at.is_none());
    assert_eq!(world.poll().await.len(), 50);
    assert!(world.state().await.completed_at.is_some());
}

/// Whatever the request during which the process is killed: another one goes on behind the last batch that was taken.
#[tokio::test(start_paused = true)]
async fn m4_killed_in_the_middle_it_goes_on_where_it_was_and_nothing_is_lost_or_comes_twice() {
    for during in 0..8 {
        let double = Arc::new(of_ten(24));
        double.set(|layer| layer.fault = Some((LayerFault::Slow, during)));
        let settings = streammanager::settings::Settings::local();
        let world = PolledWorld::new(&streams(ALL), "2026-09-01T19:00:00Z", settings, double.clone()).await;
        let world = world.killed().await;
        let before = double.asked().len();
        double.set(|layer| layer.fault = None);
        let records = world.poll().await;
        assert_eq!(records.len(), 24, "killed during request {during}");
        assert_eq!(BTreeSet::from_iter(names(&records)), all(24), "killed during request {during}");
        assert!(world.state().await.completed_at.is_some());
        let pages = double.asked()[before..].iter().filter(|target| target.contains("resultRecordCount")).count();
        let read = [0, 0, 0, 1, 1, 2, 2, 2][during];
        assert_eq!(pages, 3 - read, "killed during request {during}: what was read is not asked for again");
    }
}

/// One answer in the middle is bad, whichever it is: it costs its poll, and the next one goes on.
#[tokio::test(start_paused = true)]
async fn s10_a_fault_in_the_middle_neither_ends_a_history_nor_leaves_a_row_out() {
    for fault in LayerFault::ALL {
        for from in 0..8 {
            let double = of_ten(24);
            double.set(|layer| layer.fault = Some((fault, from)));
            let world = world(double).await;
            let mut came = names(&world.poll().await);
            let is_harmless = match fault {
                LayerFault::ShortPage | LayerFault::ChangedType => true,
                LayerFault::Empty => from == 7,
                // It strikes the second page from then on.
                LayerFault::EmptyPage => from > 4,
                _ => false,
            };
            let state = world.state().await;
            assert_eq!(state.completed_at.is_some(), is_harmless, "{fault:?} from {from}: {state:?}");
            let is_told = state.last_error.is_some() || state.missing.is_some();
            assert_eq!(!is_told, is_harmless, "{fault:?} from {from}: {state:?}");
            world.double.set(|layer| layer.fault = None);
            tokio::time::advance(Duration::from_secs(3_600)).await;
            for _ in 0..4 {
                came.extend(names(&world.poll().await));
            }
            let state = world.state().await;
            assert!(state.completed_at.is_some(), "{fault:?} from {from}: {state:?}");
            if fault != LayerFault::ChangedType {
                assert_eq!(came.len(), 24, "{fault:?} from {from}: twice or never");
                assert_eq!(BTreeSet::from_iter(came), all(24), "{fault:?} from {from}");
            }
        }
    }
}

/// The next poll asks for it again, and if it is still empty goes on behind it, as where rows are hidden page by page.
#[tokio::test(start_paused = true)]
async fn s10_a_page_that_stays_empty_does_not_stop_a_history_and_nothing_behind_it_is_lost() {
    let world = world(of_ten(24)).await;
    world.double.fails(Some(LayerFault::EmptyPage));
    assert_eq!(world.poll().await.len(), 10);
    let state = world.state().await;
    assert!(state.missing.unwrap().contains("a page came without rows") && state.completed_at.is_none());
    assert_eq!(names(&world.poll().await), ["FIRE 21", "FIRE 22", "FIRE 23", "FIRE 24"]);
    let state = world.state().await;
    assert!(state.missing.unwrap().contains("14 rows came of 24") && state.completed_at.is_none());
    // Rows that stand there all the same come when it is read anew.
    world.double.fails(None);
    let came = BTreeSet::from_iter(names(&world.poll().await));
    assert_eq!(came, all(20).difference(&all(10)).cloned().collect());
    assert!(world.state().await.completed_at.is_some());
    // Those that never come keep it from its end, once it was read anew.
    let world = self::world(of_ten(24)).await;
    world.double.fails(Some(LayerFault::EmptyPage));
    for _ in 0..6 {
        world.poll().await;
    }
    let state = world.state().await;
    assert!(state.last_error.unwrap().contains("14 rows came of 24") && state.completed_at.is_none());
}

/// A layer that is published anew numbers its rows from the first one.
#[tokio::test(start_paused = true)]
async fn s6_a_history_whose_rows_are_numbered_anew_is_read_anew() {
    let world = world(of_ten(250)).await;
    assert_eq!(world.poll().await.len(), 200);
    world
        .double
        .set(|layer| layer.rows = std::mem::take(&mut layer.rows).into_iter().map(|(id, row)| (id / 3, row)).collect());
    assert!(world.poll().await.is_empty());
    assert!(world.state().await.last_error.unwrap().contains("it is read anew"));
    let mut came = names(&world.poll().await);
    came.extend(names(&world.poll().await));
    assert_eq!(
        BTreeSet::from_iter(came),
        all(250).difference(&all(200)).cloned().collect(),
        "what was known stays known"
    );
    assert!(world.state().await.completed_at.is_some());
}

#[tokio::test(start_paused = true)]
async fn s6_rows_that_come_or_go_while_a_history_is_read_do_not_keep_it_from_its_end() {
    let world = world(of_ten(240)).await;
    assert_eq!(world.poll().await.len(), 200);
    // Twelve of those that were read go, and of the others one; twenty are new.
    world.double.set(|layer| (1..=12).chain([201]).for_each(|n| drop(layer.rows.remove(&(n * 3)))));
    let newest = perimeters(260);
    newest.set(|from| world.double.set(|layer| layer.rows.extend(from.rows.split_off(&723))));
    assert_eq!(world.poll().await.len(), 59, "39 that were left, and the new ones");
    let state = world.state().await;
    assert!(state.completed_at.is_some(), "{state:?}");
    assert_eq!(progress(&world).await, (259, Some(259)));
    // A layer without any row is not taken for read.
    let nothing = self::world(perimeters(0)).await;
    nothing.poll().await;
    let state = nothing.state().await;
    assert!(state.completed_at.is_none() && state.last_error.unwrap().contains("counted as none"));
}

/// One fire has one `incident`, in the history as in today's list.
#[tokio::test(start_paused = true)]
async fn s12_a_fire_of_the_history_carries_the_incident_that_todays_list_gives_it() {
    let world = world(perimeters(1)).await;
    let history = world.poll().await;
    world
        .apply(
            &streams(ALL)
                .replace("historical_wfigs_perimeters, connector: wfigs_history", "wfigs_perimeters, connector: wfigs")
                .replace("config: {layer: perimeters}", "interval: 5m, config: {}"),
        )
        .await;
    let today = world.poll().await;
    assert_eq!(today.len(), 1);
    assert_eq!(history[0].value["incident"], today[0].value["incident"]);
    assert_eq!(today[0].value["incident"], json!("irwin:00000001-0000-4000-8000-0000000000cc"));
    assert_eq!(history[0].value["data"], today[0].value["data"], "told in the same fields");
    assert_ne!(history[0].value["event_id"], today[0].value["event_id"], "but of another source");
}

/// `streams check`: what is known before anybody is asked, and after a look.
#[tokio::test(start_paused = true)]
async fn s11_what_a_history_takes_is_told_once_its_rows_are_counted() {
    let file = StreamsFile::parse(&streams(ALL)).unwrap();
    let spec = &file.streams[0];
    let before = spec.whole(&streammanager::connect::Cursor::default()).unwrap();
    assert_eq!(before.to_string(), "history: it has an end; how many rows there are its source says at the first poll");
    let double = perimeters(12_000);
    let connector = spec.polled.connector(&spec.source_id, &Services::default()).unwrap();
    let clock = streammanager::time::Clock::simulated("2026-09-01T19:00:00Z".parse().unwrap());
    let found = streammanager::connect::probe::probe(&*connector, &double, &spec.source_id, None, &clock).await;
    assert!(found.more && found.problems.is_empty(), "{found:?}");
    assert_eq!((found.requests, found.records), (4, 500), "a look reads one batch");
    let told = spec.whole(&found.cursor).unwrap().to_string();
    assert_eq!(told, "history: 12000 rows by 50 requests, about 2 min; 500 of them were read");
    assert_eq!(file.loads()[0].a_minute, 41.0);
    for rows in [1, 499, 500] {
        let double = perimeters(rows);
        let found = streammanager::connect::probe::probe(&*connector, &double, &spec.source_id, None, &clock).await;
        assert!(found.is_good() && !found.more && found.records == rows as u64, "{rows}: {found:?}");
    }
}
