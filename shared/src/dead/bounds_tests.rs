//! What the bounds of the dead letters hold back, and what they must not.

use serde_json::{Value, json};

use super::tests::*;
use super::*;
use crate::app::App;
use crate::faults::{Fault, Faults};
use crate::limits::{
    DEAD_LETTER_BYTES_OF_STREAM, DEAD_LETTERS, DEAD_LETTERS_OF_STREAM, DEAD_LETTERS_PUSHED, DEAD_LETTERS_RECOUNTED,
};
use crate::record::{Outgoing, Stream, Tier, Topic, Traceparent};
use crate::schedule::file::StreamsFile;
use crate::schedule::streams;
use crate::store::{Expect, Key};

async fn count(app: &App, name: &str) -> Value {
    let item = app.store.get(&Key::new(bounds::COUNTS, name)).await.unwrap().expect("it is counted");
    serde_json::from_slice(&item.value).unwrap()
}

async fn set_count(app: &App, name: &str, count: &Value) {
    let value = serde_json::to_vec(count).unwrap();
    app.store.put_if(&Key::new(bounds::COUNTS, name), value.into(), Expect::Any, None).await.unwrap();
}

/// As many letters as may be, counted just now.
async fn fill(app: &App, name: &str, letters: u64) {
    let now = app.clock.now();
    let full = json!({ "letters": letters, "bytes": 0, "beyond": 0, "full": false, "recounted_at": now });
    set_count(app, name, &full).await;
}

fn refused_by_the_broker(app: &App, Stream { id, source, .. }: &Stream, n: u64) -> Rejected {
    let now = app.clock.now();
    let record = Outgoing {
        topic: Topic::DEAD_LETTERS,
        key: n.to_string(),
        value: n.to_string().into(),
        event: EventId::from_bytes([n as u8; 16]),
        revision: 0,
        source: source.clone(),
        tenant: TenantId::new("test").unwrap(),
        tier: Tier::Low,
        dataschema: "".into(),
        observed_at: now,
        published_at: None,
        ingested_at: now,
        traceparent: Traceparent::new(app.rng.bytes(), app.rng.bytes()),
        extra: Vec::new(),
    };
    Rejected::refused(id, record, Reason::SinkRefused, "too large for the topic".into())
}

/// Q1: what was accepted is forgotten by its queue once this returns. No bound may swallow it, and it takes no room of others.
#[tokio::test(start_paused = true)]
async fn q1_accepted_data_becomes_dead_letters_however_many_there_are() {
    let (app, _folder) = app();
    let stream = stream("iot_noisy");
    fill(&app, "pushed", DEAD_LETTERS_PUSHED).await;
    fill(&app, "registered", DEAD_LETTERS).await;
    for name in ["pushed/iot_noisy", "pushed/stray", "registered/iot_noisy"] {
        fill(&app, name, DEAD_LETTERS_OF_STREAM).await;
    }
    let refused = (0..3).map(|n| refused_by_the_broker(&app, &stream, n)).collect();
    bury_refused(&app, &stream.id, &stream.tenant, refused).await.unwrap();
    bury_unreadable(&app, "a damaged row".into(), "row 7 was damaged on the disk".into()).await.unwrap();
    bury_rejects(&app, &stream, rejects(&stream.source, 10..12)).await.unwrap();
    let sender = Sender { topic: "alerts/a/b".into(), ..Sender::default() };
    let stray = Reject::new(Reason::NotData, "no topic of ours");
    let kept = bury_stray(&app, "pushed".into(), stray.clone(), &sender).await.unwrap();
    assert_eq!(
        (kept, kept.to_string().contains("only counted")),
        (Kept::CountedOnly, true),
        "its sender hears no more"
    );
    let report = patterns(&*app.store).await.unwrap();
    assert_eq!((report.letters, report.beyond), (4, 3), "{report:?}");
    let letters = list(&*app.store, None, 10).await.unwrap().letters;
    assert!(letters.iter().all(|letter| letter.allowance == Allowance::Accepted), "{letters:?}");

    tokio::time::sleep(DEAD_LETTERS_RECOUNTED).await;
    bury_rejects(&app, &stream, rejects(&stream.source, 10..12)).await.unwrap();
    assert_eq!(count(&app, "pushed/iot_noisy").await["letters"], 2, "the accepted ones take no room");
    assert_eq!(bury_stray(&app, "pushed".into(), stray, &sender).await.unwrap(), Kept::Letter, "there is room again");
}

/// Q2: anybody can make up kinds of sensors, with a thousand bad readings each.
#[tokio::test(start_paused = true)]
async fn q2_made_up_kinds_use_up_an_allowance_of_their_own() {
    let (app, _folder) = app();
    let file = "version: 1\nstreams:\n  - id: firms\n    source_id: firms_viirs_snpp\n    connector: firms\n    tenant: cal-fire\n    \
                interval: 60s\n    config: {product: VIIRS_SNPP_NRT, area: [-124.5, 32.5, -114.1, 42.1]}\n";
    let file = StreamsFile::parse(file).unwrap();
    streams::apply(&app, &file, false).await.unwrap();
    fill(&app, "pushed", DEAD_LETTERS_PUSHED).await;
    for kind in ["iot_a", "iot_b"] {
        let made_up = stream(kind);
        let buried = bury_rejects(&app, &made_up, rejects(&made_up.source, 0..5)).await.unwrap();
        assert!(buried.first.is_empty(), "beyond the bound nothing counts as failed anew: {buried:?}");
        let none = app.store.get(&Key::new(bounds::COUNTS, format!("pushed/{kind}"))).await.unwrap();
        assert_eq!(none, None, "a name without letters leaves nothing behind");
    }
    let firms = stream("firms");
    let unproved =
        Rejected::new(firms.source.clone(), Reject::new(Reason::UnauthorisedSource, "no grant"), &"x".into());
    assert_eq!(bury_unadmitted(&app, None, unproved).await.unwrap(), Kept::CountedOnly);
    let buried = bury_rejects(&app, &firms, rejects(&firms.source, 0..5)).await.unwrap();
    assert_eq!(buried.first[&Reason::BadJson], 5);
    let report = patterns(&*app.store).await.unwrap();
    assert_eq!((report.letters, report.beyond), (5, 11));
}

#[tokio::test(start_paused = true)]
async fn q2_the_bytes_of_a_stream_are_bounded_too() {
    let (app, _folder) = app();
    let stream = stream("iot_noisy");
    let left = 10_000;
    let bytes = DEAD_LETTER_BYTES_OF_STREAM - left;
    let almost = json!({ "letters": 7, "bytes": bytes, "beyond": 0, "full": false, "recounted_at": app.clock.now() });
    set_count(&app, "pushed/iot_noisy", &almost).await;
    let large = |n: u8| {
        let body = vec![n; 6_000].into();
        Rejected::new(stream.source.clone(), Reject::new(Reason::BadJson, "line 1"), &body)
    };
    bury_rejects(&app, &stream, vec![large(0), large(1)]).await.unwrap();
    let report = patterns(&*app.store).await.unwrap();
    assert_eq!((report.letters, report.beyond), (1, 1));
    assert_eq!(count(&app, "pushed/iot_noisy").await["bytes"], bytes + 6_000);

    tokio::time::sleep(DEAD_LETTERS_RECOUNTED).await;
    bury_rejects(&app, &stream, vec![large(1)]).await.unwrap();
    assert_eq!(count(&app, "pushed/iot_noisy").await["bytes"], 12_000, "counted anew, since one did not fit");
}

#[tokio::test(start_paused = true)]
async fn q2_letters_that_were_stored_before_another_failed_are_counted() {
    let faults = Faults::none();
    let (app, _folder) = faulty_app(&faults);
    let stream = stream("iot_x");
    // Two look-ups of the name, two counts; a look and a write of each letter, of which the last fails.
    faults.script([Fault::None; 7].into_iter().chain([Fault::Before]));
    let failed = bury_rejects(&app, &stream, rejects(&stream.source, 0..2)).await;
    assert!(matches!(failed, Err(BackendError::Retry(_))), "{failed:?}");
    assert_eq!(count(&app, "pushed/iot_x").await["letters"], 1);
    let again = bury_rejects(&app, &stream, rejects(&stream.source, 0..2)).await.unwrap();
    assert_eq!(again.first[&Reason::BadJson], 1);
    assert_eq!(count(&app, "pushed").await["letters"], 2);
}

#[tokio::test(start_paused = true)]
async fn q2_a_count_that_cannot_be_read_is_made_anew_from_what_is_there() {
    let (app, _folder) = app();
    let stream = stream("iot_x");
    bury_rejects(&app, &stream, rejects(&stream.source, 0..5)).await.unwrap();
    for name in ["pushed", "pushed/iot_x"] {
        set_count(&app, name, &json!("damaged")).await;
    }
    bury_rejects(&app, &stream, rejects(&stream.source, 5..7)).await.unwrap();
    assert_eq!(count(&app, "pushed").await["letters"], 7);
    assert_eq!(count(&app, "pushed/iot_x").await["letters"], 7);
}

/// R4: one letter that was damaged hides no other.
#[tokio::test(start_paused = true)]
async fn r4_a_letter_that_cannot_be_read_is_said_and_written_anew_when_it_is_met_again() {
    let (app, _folder) = app();
    let stream = stream("iot_x");
    bury_rejects(&app, &stream, rejects(&stream.source, 0..3)).await.unwrap();
    let damaged = list(&*app.store, None, 10).await.unwrap().letters.remove(1);
    let key = Key::new(PARTITION, format!("{}/{}", damaged.stream, damaged.id));
    app.store.put_if(&key, "{".into(), Expect::Any, None).await.unwrap();
    let listing = list(&*app.store, None, 10).await.unwrap();
    assert_eq!((listing.letters.len(), listing.unreadable), (2, 1));
    let report = patterns(&*app.store).await.unwrap();
    assert_eq!((report.letters, report.unreadable, report.patterns[0].letters), (3, 1, 2));
    bury_rejects(&app, &stream, rejects(&stream.source, 0..3)).await.unwrap();
    assert_eq!(find(&*app.store, damaged.id).await.unwrap(), Some(damaged));
    assert_eq!(patterns(&*app.store).await.unwrap().unreadable, 0);
}
