#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::json;

use super::*;
use crate::app::{App, Seams};
use crate::embedded::{Commits, Embedded, FileBlobs, MemoryDisk, Options};
use crate::faults::sink::FaultySink;
use crate::faults::upstream::Scripted;
use crate::ingest::{Ledger, ingest};
use crate::limits::SEEN_TURN_SHARE;
use crate::record::{Data, Observation, Origin, SourceId, Stream, StreamId, WhenFull};
use crate::settings::Settings;
use crate::sources::identify;
use crate::store::{Expect, Item, Key, PutError, Store, Version};
use crate::time::{Clock, Rng, Timestamp, WallClock};

/// Counts calls and bytes on their way to a store.
struct Counted {
    store: Arc<dyn Store>,
    calls: AtomicU64,
    bytes: AtomicU64,
}

impl Counted {
    fn count(&self, bytes: usize) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn so_far(&self) -> (u64, u64) {
        (self.calls.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }
}

#[async_trait]
impl Store for Counted {
    async fn get(&self, key: &Key) -> Result<Option<Item>, BackendError> {
        let item = self.store.get(key).await?;
        self.count(item.as_ref().map_or(0, |item| item.value.len()));
        Ok(item)
    }

    async fn list(&self, of: &str, prefix: &str, after: Option<&str>, max: usize) -> Result<Vec<Item>, BackendError> {
        let items = self.store.list(of, prefix, after, max).await?;
        self.count(items.iter().map(|item| item.value.len()).sum());
        Ok(items)
    }

    async fn put_if(
        &self,
        key: &Key,
        value: Bytes,
        expect: Expect,
        until: Option<Timestamp>,
    ) -> Result<Version, PutError> {
        self.count(value.len());
        self.store.put_if(key, value, expect, until).await
    }

    async fn delete_if(&self, key: &Key, expect: Expect) -> Result<(), PutError> {
        self.count(0);
        self.store.delete_if(key, expect).await
    }
}

struct CountedApp {
    app: App,
    store: Arc<Counted>,
    wall: WallClock,
    _folder: tempfile::TempDir,
}

impl CountedApp {
    fn new() -> CountedApp {
        let (clock, wall) = Clock::settable("2026-08-01T00:10:00Z".parse().unwrap());
        let options = Options { commits: Commits::Inline, ..Options::new(clock.clone()) };
        let embedded = Arc::new(Embedded::on_disk(&MemoryDisk::default(), options).unwrap());
        let store = Arc::new(Counted { store: embedded.clone(), calls: 0.into(), bytes: 0.into() });
        let folder = tempfile::tempdir().unwrap();
        let seams = Seams {
            queue: embedded.clone(),
            store: store.clone(),
            blobs: Arc::new(FileBlobs::open(folder.path(), Commits::Inline, embedded.trust().clone()).unwrap()),
            sink: Arc::new(FaultySink::memory()),
            upstream: Arc::new(Scripted::new([])),
        };
        CountedApp { app: App::new(Settings::local(), seams, clock, Rng::seeded(1)), store, wall, _folder: folder }
    }

    fn stream(&self, id: &str, source: &str) -> Stream {
        Stream {
            id: StreamId::new(id).unwrap(),
            source: SourceId::new(source).unwrap(),
            tenant: TenantId::new("test").unwrap(),
            granted: false,
            when_full: WhenFull::Refuse,
        }
    }

    fn draft(&self, source: &str, n: usize, content: &str, rank: u8) -> Draft {
        identify(Observation {
            origin: Origin::default(),
            source: SourceId::new(source).unwrap(),
            observed_at: self.app.clock.now(),
            published_at: None,
            geometry: None,
            position: None,
            derived_from: None,
            quality: Vec::new(),
            alert: None,
            data: Data::of(&json!({ "sensor_id": n, "satellite": n.to_string(), "content": content })).unwrap(),
            rank,
        })
        .unwrap()
    }

    /// One body of a stream; a new process's memory each time.
    async fn body(&self, stream: &Stream, drafts: Vec<Draft>) -> Ledger {
        let (mut seen, mut ledger) = (Seen::of_tenant(&stream.tenant), Ledger::default());
        ingest(&self.app, stream, &mut seen, &mut ledger, drafts.into_iter().map(Ok)).await.unwrap();
        ledger
    }

    async fn one(&self, content: &str, rank: u8) -> (u64, u64, u64) {
        let stream = self.stream("a", "firms_viirs_snpp");
        let ledger = self.body(&stream, vec![self.draft("firms_viirs_snpp", 1, content, rank)]).await;
        (ledger.new, ledger.revisions, ledger.duplicates)
    }
}

const NEW: (u64, u64, u64) = (1, 0, 0);
const REVISION: (u64, u64, u64) = (0, 1, 0);
const DUPLICATE: (u64, u64, u64) = (0, 0, 1);

#[tokio::test(start_paused = true)]
async fn s12_a_content_that_was_published_before_is_a_duplicate_also_after_other_contents() {
    let world = CountedApp::new();
    assert_eq!(world.one("a", 0).await, NEW);
    for content in ["b", "c", "d"] {
        assert_eq!(world.one(content, 0).await, REVISION, "{content}");
    }
    for content in ["a", "b", "c", "d", "a"] {
        assert_eq!(world.one(content, 0).await, DUPLICATE, "{content}");
    }
    assert_eq!(world.one("e", 0).await, REVISION);
    assert_eq!(world.one("a", 0).await, REVISION, "the last four are known, a fifth is not");
}

/// S12: a row that a list shows unchanged for years is not published again, and what no list shows any more is forgotten.
#[tokio::test(start_paused = true)]
async fn s12_what_lasts_is_known_while_it_is_seen_and_for_a_year_after() {
    let world = CountedApp::new();
    let stream = world.stream("a", "firms_viirs_snpp");
    let again = async |n: usize, content: &str| {
        let mut row = world.draft("firms_viirs_snpp", n, content, 0);
        row.lasting = true;
        let ledger = world.body(&stream, vec![row]).await;
        (ledger.new, ledger.revisions, ledger.duplicates)
    };
    assert_eq!(again(1, "a").await, NEW);
    assert_eq!(again(1, "b").await, REVISION);
    assert_eq!(again(2, "never seen again").await, NEW);
    for _ in 0..12 {
        world.wall.step(120 * 24 * HOUR);
        assert_eq!(again(1, "b").await, DUPLICATE);
        assert_eq!(again(1, "a").await, DUPLICATE, "its earlier contents are known as well");
    }
    assert_eq!(again(2, "never seen again").await, NEW, "nothing is kept for ever");
    world.wall.step(390 * 24 * HOUR);
    assert_eq!(again(1, "c").await, REVISION, "the revision goes on");
    world.wall.step(820 * 24 * HOUR);
    assert_eq!(again(1, "c").await, NEW);
}

#[tokio::test(start_paused = true)]
async fn s1_a_better_version_revises_and_a_worse_one_after_it_is_a_duplicate() {
    let world = CountedApp::new();
    assert_eq!(world.one("urt", 1).await, NEW);
    assert_eq!(world.one("nrt", 3).await, REVISION);
    for (content, rank) in [("urt", 1), ("urt again", 1), ("rt", 2), ("nrt", 3)] {
        assert_eq!(world.one(content, rank).await, DUPLICATE, "{content}");
    }
    assert_eq!(world.one("standard", 4).await, REVISION);
    assert_eq!(world.one("nrt corrected", 3).await, DUPLICATE);
}

#[tokio::test(start_paused = true)]
async fn s12_streams_with_overlapping_areas_publish_what_they_share_once() {
    let world = CountedApp::new();
    let drafts: Vec<Draft> = (0..300)
        .flat_map(|n| ["firms_modis_terra", "firms_modis_aqua"].map(|source| world.draft(source, n, "x", 0)))
        .collect();
    let streams: Vec<Stream> = (0..5).map(|n| world.stream(&format!("s{n}"), "firms_modis_terra")).collect();
    let bodies = streams.iter().map(|stream| world.body(stream, drafts.clone()));
    let ledgers = futures::future::join_all(bodies).await;
    let sum = |of: fn(&Ledger) -> u64| ledgers.iter().map(of).sum::<u64>();
    assert_eq!((sum(|l| l.new), sum(|l| l.revisions), sum(|l| l.duplicates)), (600, 0, 4 * 600));
    let other = Stream { tenant: TenantId::new("other").unwrap(), ..streams[0].clone() };
    assert_eq!(world.body(&other, drafts).await.new, 600, "another tenant has a seen-set of its own");
}

#[tokio::test(start_paused = true)]
async fn s12_who_comes_back_after_another_goes_by_what_that_one_stored_and_revisions_count_on() {
    let world = CountedApp::new();
    let stream = world.stream("a", "firms_viirs_snpp");
    let draft = |content| world.draft("firms_viirs_snpp", 1, content, 0);
    let mut first = Seen::of_tenant(&stream.tenant);
    let offer = async |seen: &mut Seen, content| {
        let mut ledger = Ledger::default();
        ingest(&world.app, &stream, seen, &mut ledger, [Ok(draft(content))].into_iter()).await.unwrap();
        (ledger.new, ledger.revisions, ledger.duplicates)
    };
    assert_eq!(offer(&mut first, "x").await, NEW);
    assert_eq!(world.one("y", 0).await, REVISION);
    assert_eq!(offer(&mut first, "y").await, DUPLICATE, "the other one published it");
    assert_eq!(offer(&mut first, "z").await, REVISION);
    let mut next = Seen::of_tenant(&stream.tenant);
    next.load(&*world.app.store, &world.app.clock, &[draft("a")]).await.unwrap();
    for (content, revision) in [("a", 3), ("b", 4)] {
        assert_eq!(next.judge(&draft(content)), Judged::Revision(revision));
    }
}

#[tokio::test(start_paused = true)]
async fn s12_a_holder_that_died_in_its_turn_is_waited_for_and_followed() {
    let world = CountedApp::new();
    let draft = world.draft("firms_viirs_snpp", 1, "x", 0);
    let mut dead = Seen::of_tenant(&TenantId::new("test").unwrap());
    dead.load(&*world.app.store, &world.app.clock, std::slice::from_ref(&draft)).await.unwrap();
    drop(dead);
    assert_eq!(world.one("x", 0).await, NEW);
}

/// An hour's pages are merged when there are many; merged ones stay as they are.
#[tokio::test(start_paused = true)]
async fn s12_an_hour_costs_its_last_batch_what_it_cost_the_first_and_is_known_to_whoever_reads_it() {
    const BATCH: usize = 1_000;
    let world = CountedApp::new();
    let mut seen = Seen::of_tenant(&TenantId::new("test").unwrap());
    let drafts = |numbers: std::ops::Range<usize>, content| -> Vec<Draft> {
        numbers.map(|n| world.draft("firms_viirs_snpp", n, content, 0)).collect()
    };
    let mut costs = Vec::new();
    for batch in 0..192 {
        let batch = drafts(batch * BATCH..(batch + 1) * BATCH, "x");
        seen.load(&*world.app.store, &world.app.clock, &batch).await.unwrap();
        let before = world.store.so_far().1;
        let marks: Vec<Mark> =
            batch.iter().map(|draft| Mark::of(draft, seen.judge(draft).revision().unwrap())).collect();
        seen.accept(&marks);
        seen.commit(&*world.app.store, &world.app.clock).await.unwrap();
        costs.push(world.store.so_far().1 - before);
    }
    seen.leave(&*world.app.store, &world.app.clock).await;
    let (early, late) = (costs[..64].iter().sum::<u64>(), costs[128..].iter().sum::<u64>());
    assert!(late * 10 <= early * 11, "the first third took {early} bytes of the store, the last one {late}");

    let stream = world.stream("a", "firms_viirs_snpp");
    let known = world.body(&stream, drafts(0..192 * BATCH, "x")).await;
    assert_eq!(known.duplicates, 192 * BATCH as u64);
    let pages = world.app.store.list("seen/test/firms_viirs_snpp", "", None, 1_000).await.unwrap();
    let full = 192 * BATCH * 16 / crate::limits::SEEN_PAGE_BYTES;
    assert!(pages.len() <= full + crate::limits::SEEN_MERGED_PAGES, "{} pages, {full} full ones", pages.len());

    // Contents in merged pages stay in their order: revisions count on, and the last four are known.
    for (content, revision) in [("a", 1), ("b", 2), ("c", 3), ("d", 4)] {
        for batch in 0..12 {
            let again = world.body(&stream, drafts(batch * 100..(batch + 1) * 100, content)).await;
            assert_eq!(again.revisions, 100, "{content}, {revision}");
        }
    }
    let last = world.body(&stream, drafts(0..100, "a")).await;
    assert_eq!((last.duplicates, last.revisions), (100, 0));
    let fifth = world.body(&stream, drafts(0..100, "x")).await;
    assert_eq!((fifth.duplicates, fifth.revisions), (0, 100), "four contents came after it");
}

/// A layer of an agency, whose features change at every poll for years.
#[tokio::test(start_paused = true)]
async fn q2_an_hour_whose_keys_are_revised_for_ever_keeps_their_last_contents_alone() {
    // More than a full page holds of four contents each.
    const KEYS: usize = 5_000;
    let world = CountedApp::new();
    let mut seen = Seen::of_tenant(&TenantId::new("test").unwrap());
    let mut drafts: Vec<Draft> = (0..KEYS).map(|n| world.draft("firms_viirs_snpp", n, "x", 0)).collect();
    let mut full = Vec::new();
    for poll in 0..200 {
        drafts.iter_mut().for_each(|draft| draft.content = poll);
        seen.load(&*world.app.store, &world.app.clock, &drafts).await.unwrap();
        let judged = drafts.iter().map(|draft| Mark::of(draft, seen.judge(draft).revision().unwrap()));
        let marks: Vec<Mark> = judged.collect();
        seen.accept(&marks);
        seen.commit(&*world.app.store, &world.app.clock).await.unwrap();
        if poll % 20 == 19 {
            let pages = world.app.store.list("seen/test/firms_viirs_snpp", "", None, 1_000).await.unwrap();
            full.push(pages.iter().filter(|page| page.value.len() == crate::limits::SEEN_PAGE_BYTES).count());
        }
    }
    assert!(full.iter().all(|pages| *pages <= 4), "of 1,000,000 marks of 5,000 keys there are {full:?} full pages");
    let mut another = Seen::of_tenant(&TenantId::new("test").unwrap());
    seen.leave(&*world.app.store, &world.app.clock).await;
    drafts.iter_mut().for_each(|draft| draft.content = 196);
    another.load(&*world.app.store, &world.app.clock, &drafts).await.unwrap();
    assert!(drafts.iter().all(|draft| another.judge(draft) == Judged::Duplicate), "the fourth last content");
    let next = world.draft("firms_viirs_snpp", 7, "new", 0);
    assert_eq!(another.judge(&next), Judged::Revision(200));
}

/// A batch of pushed readings, in a process that keeps its windows.
async fn push(world: &CountedApp, numbers: std::ops::Range<usize>) -> Ledger {
    let stream = world.stream("iot_x", "iot_x");
    let drafts: Vec<Draft> = numbers.map(|n| world.draft("iot_x", n, "x", 0)).collect();
    let (mut seen, mut ledger) = (Seen::of_shard(&world.app.shards, "shard-0"), Ledger::default());
    ingest(&world.app, &stream, &mut seen, &mut ledger, drafts.into_iter().map(Ok)).await.unwrap();
    seen.done(&world.app.shards);
    ledger
}

#[tokio::test(start_paused = true)]
async fn s12_a_pushed_reading_costs_the_same_after_200_000_as_at_first() {
    const BATCH: usize = 500;
    let world = CountedApp::new();
    let mut costs = Vec::new();
    // The first one also looks whether its tier takes anything.
    assert_eq!(push(&world, 200_000..200_001).await.new, 1);
    for batch in 0..200_000 / BATCH {
        let before = world.store.so_far();
        assert_eq!(push(&world, batch * BATCH..(batch + 1) * BATCH).await.new, BATCH as u64);
        let after = world.store.so_far();
        costs.push((after.0 - before.0, after.1 - before.1));
        // The queue is not what is measured here.
        let queue = &world.app.settings.queues.normal;
        for delivery in world.app.queue.receive(queue, 10, Duration::ZERO).await.unwrap() {
            world.app.queue.settle(queue, &[(delivery.receipt, crate::queue::Settle::Forget)]).await.unwrap();
        }
    }
    assert!(costs.iter().all(|cost| *cost == costs[0]), "first {:?}, last {:?}", costs[0], costs.last());
    assert_eq!(costs[0], (2, 16 * BATCH as u64), "one look for others' pages, one page of 16 bytes a reading");
    assert_eq!(push(&world, 199_000..199_500).await.duplicates, 500, "what came within five minutes is known");
}

#[tokio::test(start_paused = true)]
async fn s12_another_process_knows_what_a_shard_pushed_within_five_minutes_and_not_for_ever() {
    let world = CountedApp::new();
    push(&world, 0..3).await;
    let elsewhere = App { shards: Arc::default(), ..world.app.clone() };
    let stream = world.stream("iot_x", "iot_x");
    let offered = || (0..4).map(|n| Ok(world.draft("iot_x", n, "x", 0))).collect::<Vec<_>>().into_iter();
    let (mut seen, mut ledger) = (Seen::of_shard(&elsewhere.shards, "shard-0"), Ledger::default());
    ingest(&elsewhere, &stream, &mut seen, &mut ledger, offered()).await.unwrap();
    assert_eq!((ledger.new, ledger.duplicates), (1, 3));
    let (new, known) = (push(&world, 3..4).await, push(&world, 4..5).await);
    assert_eq!((new.duplicates, known.new), (1, 1), "the first process reads on");
    tokio::time::advance(Duration::from_secs(301)).await;
    let mut late = Seen::of_shard(&world.app.shards, "shard-0");
    late.load(&*world.app.store, &world.app.clock, &[]).await.unwrap();
    assert_eq!(late.known(), 0, "nothing is kept beyond its time");
}

const HOUR: i64 = 3_600;

/// M4: the host's clock is set forward and back. What came within five minutes is known, and nothing is known for longer.
#[tokio::test(start_paused = true)]
async fn m4_a_shards_window_is_five_minutes_long_however_the_clock_is_set() {
    for step in [15 * 24 * HOUR, -HOUR] {
        let world = CountedApp::new();
        let draft = |n| Ok(world.draft("iot_x", n, "x", 0));
        let stream = world.stream("iot_x", "iot_x");
        let drafts: Vec<_> = (0..10).map(draft).collect();
        let again = async |of: std::ops::Range<usize>| {
            let (mut seen, mut ledger) = (Seen::of_shard(&world.app.shards, "shard-0"), Ledger::default());
            let rows: Vec<_> = drafts[of].to_vec();
            ingest(&world.app, &stream, &mut seen, &mut ledger, rows.into_iter()).await.unwrap();
            seen.done(&world.app.shards);
            (ledger.new, ledger.duplicates)
        };
        // Back in time they must not lie in the future.
        world.wall.step(2 * HOUR);
        assert_eq!(again(0..5).await, (5, 0));
        world.wall.step(step);
        assert_eq!(again(0..7).await, (2, 5), "the clock was set by {step} s");
        tokio::time::advance(Duration::from_secs(301)).await;
        let mut late = Seen::of_shard(&world.app.shards, "shard-0");
        late.load(&*world.app.store, &world.app.clock, &[]).await.unwrap();
        assert_eq!(late.known(), 0, "{step} s");
    }
}

/// M4: a holder that died had its end written by a clock that was ahead. Others wait for it no longer than for any.
#[tokio::test(start_paused = true)]
async fn m4_a_dead_holders_turn_ends_although_the_clock_is_set_back() {
    let world = CountedApp::new();
    let draft = world.draft("firms_viirs_snpp", 1, "x", 0);
    let mut dead = Seen::of_tenant(&TenantId::new("test").unwrap());
    dead.load(&*world.app.store, &world.app.clock, std::slice::from_ref(&draft)).await.unwrap();
    drop(dead);
    world.wall.step(-HOUR);
    assert_eq!(world.one("x", 0).await, NEW);
}

/// M4: a long body gives its turn away after a while although the clock was set back meanwhile.
#[tokio::test(start_paused = true)]
async fn m4_a_turn_is_shared_although_the_clock_is_set_back() {
    let world = CountedApp::new();
    let draft = world.draft("firms_viirs_snpp", 1, "x", 0);
    let mut long = Seen::of_tenant(&TenantId::new("test").unwrap());
    long.load(&*world.app.store, &world.app.clock, std::slice::from_ref(&draft)).await.unwrap();
    world.wall.step(-HOUR);
    tokio::time::advance(SEEN_TURN_SHARE).await;
    let waiting = world.one("x", 0);
    tokio::pin!(waiting);
    assert!(futures::poll!(&mut waiting).is_pending(), "it waits for its turn");
    let (next, loaded) =
        tokio::join!(waiting, long.load(&*world.app.store, &world.app.clock, std::slice::from_ref(&draft)));
    loaded.unwrap();
    assert_eq!(next, NEW, "before the long one's end");
}
