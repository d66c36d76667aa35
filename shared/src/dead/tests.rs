use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::app::{App, Seams};
use crate::embedded::{Commits, Embedded, FileBlobs, MemoryDisk, Options};
use crate::faults::sink::FaultySink;
use crate::faults::upstream::Scripted;
use crate::faults::{Faults, Faulty};
use crate::ingest::dedup::Seen;
use crate::ingest::{Ledger, ingest};
use crate::limits::{DEAD_LETTER_KEPT, DEAD_LETTERS_OF_STREAM, DEAD_LETTERS_RECOUNTED};
use crate::record::{Data, Draft, Observation, Origin, Stream, WhenFull};
use crate::settings::Settings;
use crate::sources::identify;
use crate::store::{self, Key};
use crate::time::{Clock, Rng, WallClock};

pub(super) fn app() -> (App, TempDir) {
    let (app, _, folder) = settable_app();
    (app, folder)
}

/// Whose store fails as told.
pub(super) fn faulty_app(faults: &Faults) -> (App, TempDir) {
    let (app, _, folder) = app_with(faults);
    (app, folder)
}

/// With the host's clock, to be set.
fn settable_app() -> (App, WallClock, TempDir) {
    app_with(&Faults::none())
}

fn app_with(faults: &Faults) -> (App, WallClock, TempDir) {
    let (clock, wall) = Clock::settable("2026-08-01T00:00:00Z".parse().unwrap());
    let options = Options { commits: Commits::Inline, ..Options::new(clock.clone()) };
    let embedded = Embedded::on_disk(&MemoryDisk::new(), options).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let seams = Seams {
        queue: Arc::new(embedded.clone()),
        store: Arc::new(Faulty::new(embedded.clone(), faults.clone())),
        blobs: Arc::new(FileBlobs::open(folder.path(), Commits::Inline, embedded.trust().clone()).unwrap()),
        sink: Arc::new(FaultySink::memory()),
        upstream: Arc::new(Scripted::new([])),
    };
    (App::new(Settings::local(), seams, clock, Rng::seeded(1)), wall, folder)
}

pub(super) fn stream(id: &str) -> Stream {
    Stream {
        id: StreamId::new(id).unwrap(),
        source: SourceId::new(id).unwrap(),
        tenant: TenantId::new("test").unwrap(),
        granted: false,
        when_full: WhenFull::Wait,
    }
}

pub(super) fn rejects(source: &SourceId, numbers: std::ops::Range<u64>) -> Vec<Rejected> {
    let reject = |n: u64| Rejected::new(source.clone(), Reject::new(Reason::BadJson, "line 1"), &n.to_string().into());
    numbers.map(reject).collect()
}

/// An observation of tomorrow: its decoder took it, its time is refused.
fn of_tomorrow(app: &App, source: &SourceId, n: u64, origin: Origin) -> Draft {
    let read = Observation {
        origin,
        source: source.clone(),
        observed_at: app.clock.now() + Duration::from_secs(86_400),
        published_at: None,
        geometry: None,
        position: None,
        derived_from: None,
        quality: Vec::new(),
        alert: None,
        data: Data::of(&serde_json::json!({ "n": n })).unwrap(),
        rank: 0,
    };
    identify(read).unwrap()
}

#[tokio::test(start_paused = true)]
async fn s9_what_is_refused_after_decoding_keeps_its_bytes_and_says_who_pushed_it() {
    let (app, _folder) = app();
    let stream = stream("iot_purpleair");
    let sender = Sender {
        topic: "sensors/purpleair/7/state".into(),
        principal: None,
        client: Some("roof".into()),
        sensor: Some("7".into()),
        ..Sender::default()
    };
    let rows: Vec<_> = (0..3)
        .map(|n| {
            let raw = if n < 2 { Bytes::from(format!("{{\"n\":{n}, \"x\":1}}")) } else { Bytes::new() };
            Ok(of_tomorrow(
                &app,
                &stream.source,
                n,
                Origin { sender: Some(Arc::new(sender.clone())), ..Origin::of(raw) },
            ))
        })
        .collect();
    let (mut seen, mut ledger) = (Seen::of_tenant(&stream.tenant), Ledger::default());
    ingest(&app, &stream, &mut seen, &mut ledger, rows.into_iter()).await.unwrap();
    assert_eq!((ledger.rejected, ledger.rejected_first), (3, 3));
    let letters = list(&*app.store, None, 10).await.unwrap().letters;
    let mut kept = BTreeSet::new();
    for letter in &letters {
        assert_eq!((letter.reason, letter.sender.as_ref()), (Reason::FutureTime, Some(&sender)));
        kept.insert(String::from_utf8(raw(&*app.blobs, letter).await.unwrap().unwrap().to_vec()).unwrap());
    }
    let want = ["{\"n\":0, \"x\":1}", "{\"n\":1, \"x\":1}", "{\"n\":2}"].map(str::to_owned);
    assert_eq!(kept, BTreeSet::from(want), "each is a letter of its own");
}

#[tokio::test(start_paused = true)]
async fn s9_a_bad_row_that_is_read_again_is_the_same_letter_and_failed_once() {
    let (app, _folder) = app();
    let stream = stream("iot_x");
    let first = bury_rejects(&app, &stream, rejects(&stream.source, 0..5)).await.unwrap();
    assert_eq!(first.first, BTreeMap::from([(Reason::BadJson, 5)]));
    let again = bury_rejects(&app, &stream, rejects(&stream.source, 3..7)).await.unwrap();
    assert_eq!(again.first, BTreeMap::from([(Reason::BadJson, 2)]));
    let report = patterns(&*app.store).await.unwrap();
    assert_eq!((report.letters, report.beyond, report.patterns[0].attempts), (7, 0, 9));
}

#[tokio::test(start_paused = true)]
async fn q2_a_stream_keeps_so_many_letters_the_rest_is_counted_and_old_ones_expire() {
    let (app, _folder) = app();
    let (noisy, other) = (stream("iot_noisy"), stream("iot_other"));
    let most = DEAD_LETTERS_OF_STREAM;
    for from in (0..most + 500).step_by(300) {
        bury_rejects(&app, &noisy, rejects(&noisy.source, from..(from + 300).min(most + 500))).await.unwrap();
    }
    bury_rejects(&app, &other, rejects(&other.source, 0..1)).await.unwrap();
    let report = patterns(&*app.store).await.unwrap();
    assert_eq!((report.letters, report.beyond), (most + 1, 500), "another stream keeps its own");
    assert_eq!(report.patterns[0].letters, most);
    let known = bury_rejects(&app, &noisy, rejects(&noisy.source, 0..1)).await.unwrap();
    assert!(known.first.is_empty(), "a letter that is there is seen once more");

    tokio::time::sleep(DEAD_LETTER_KEPT + DEAD_LETTERS_RECOUNTED).await;
    let new = bury_rejects(&app, &noisy, rejects(&noisy.source, 9_000..9_010)).await.unwrap();
    assert_eq!(new.first[&Reason::BadJson], 10);
    assert_eq!(list(&*app.store, Some(&noisy.id), 100).await.unwrap().letters.len(), 10, "there is room again");
}

#[tokio::test(start_paused = true)]
async fn r4_a_letter_is_found_by_its_id_with_bytes_of_any_size() {
    let (app, _folder) = app();
    let stream = stream("iot_x");
    let large = Bytes::from(vec![b'x'; 100_000]);
    let reject = Rejected::new(stream.source.clone(), Reject::new(Reason::TooLarge, "too large"), &large);
    bury_rejects(&app, &stream, rejects(&stream.source, 0..450)).await.unwrap();
    bury_rejects(&app, &stream, vec![reject]).await.unwrap();
    let all = list(&*app.store, None, 1_000).await.unwrap().letters;
    let id = all.iter().find(|letter| letter.reason == Reason::TooLarge).unwrap().id;
    let found = find(&*app.store, id).await.unwrap().expect("it is there");
    assert!(matches!(found.raw, Raw::Blob(_)));
    assert_eq!(raw(&*app.blobs, &found).await.unwrap(), Some(large));
    assert_eq!(find(&*app.store, EventId::from_bytes([9; 16])).await.unwrap(), None);
}

/// A store that notes how many items a list was asked for at most.
struct Asked(Arc<dyn Store>, AtomicUsize);

#[async_trait::async_trait]
impl Store for Asked {
    async fn get(&self, key: &Key) -> Result<Option<Item>, BackendError> {
        self.0.get(key).await
    }

    async fn list(
        &self,
        partition: &str,
        prefix: &str,
        after: Option<&str>,
        max: usize,
    ) -> Result<Vec<Item>, BackendError> {
        self.1.fetch_max(max, Ordering::Relaxed);
        self.0.list(partition, prefix, after, max).await
    }

    async fn put_if(
        &self,
        key: &Key,
        value: Bytes,
        expect: store::Expect,
        expires: Option<Timestamp>,
    ) -> Result<store::Version, store::PutError> {
        self.0.put_if(key, value, expect, expires).await
    }

    async fn delete_if(&self, key: &Key, expect: store::Expect) -> Result<(), store::PutError> {
        self.0.delete_if(key, expect).await
    }
}

/// Q2: memory stays flat however many letters there are: report, pages, sweep and the look for an id read some hundreds at once.
#[tokio::test(start_paused = true)]
async fn q2_nothing_reads_all_letters_into_memory() {
    let (app, _folder) = app();
    let stream = stream("iot_x");
    bury_rejects(&app, &stream, rejects(&stream.source, 0..900)).await.unwrap();
    let asked = Arc::new(Asked(app.store.clone(), AtomicUsize::new(0)));
    let app = App { store: asked.clone(), ..app };
    assert_eq!(patterns(&*app.store).await.unwrap().letters, 900);
    let selection = Selection { stream: None, reason: Some(Reason::BadXml) };
    let listing = page(&*app.store, &selection, None, 10).await.unwrap();
    assert_eq!((listing.letters.len(), listing.next), (0, None));
    find(&*app.store, EventId::from_bytes([9; 16])).await.unwrap();
    sweep(&app).await.unwrap();
    let most = asked.1.load(Ordering::Relaxed);
    assert!(most <= 200, "{most} items at once");
}

/// M4: the clock is set back a year after a count. What has expired makes room all the same.
#[tokio::test(start_paused = true)]
async fn m4_letters_are_counted_anew_although_the_clock_was_set_back() {
    let (app, wall, _folder) = settable_app();
    let noisy = stream("iot_noisy");
    let most = DEAD_LETTERS_OF_STREAM;
    wall.step(365 * 24 * 3_600);
    for from in (0..most + 300).step_by(300) {
        bury_rejects(&app, &noisy, rejects(&noisy.source, from..from + 300)).await.unwrap();
    }
    for letter in list(&*app.store, Some(&noisy.id), 100).await.unwrap().letters {
        store::remove(&*app.store, &Key::new(PARTITION, format!("{}/{}", letter.stream, letter.id))).await.unwrap();
    }
    wall.step(-365 * 24 * 3_600);
    bury_rejects(&app, &noisy, rejects(&noisy.source, 90_000..90_010)).await.unwrap();
    let kept = list(&*app.store, Some(&noisy.id), most as usize * 2).await.unwrap().letters;
    assert_eq!(kept.len() as u64, most - 100 + 10);
}
