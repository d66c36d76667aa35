#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::app::Seams;
use crate::embedded::{Commits, Embedded, FileBlobs, MemoryDisk, Options};
use crate::faults::sink::FaultySink;
use crate::faults::upstream::Scripted;
use crate::faults::{Fault, Faults, Faulty};
use crate::ingest::ingest;
use crate::limits::{SEEN_TURN, SEEN_TURN_SHARE};
use crate::record::{Data, Envelope, EventId, Observation, Origin, SourceId, StreamId, TenantId, WhenFull};
use crate::settings::Settings;
use crate::sources::identify;
use crate::time::{Clock, Rng};

const SOURCE: &str = "firms_viirs_snpp";

struct World {
    app: App,
    embedded: Embedded,
    queue: Faults,
    store: Faults,
    _folder: tempfile::TempDir,
}

impl World {
    fn new() -> World {
        World::on(&MemoryDisk::default())
    }

    fn on(disk: &MemoryDisk) -> World {
        let clock = Clock::simulated("2026-08-01T00:10:00Z".parse().unwrap());
        let options = Options { commits: Commits::Inline, ..Options::new(clock.clone()) };
        let embedded = Embedded::on_disk(disk, options).unwrap();
        let (queue, store) = (Faults::none(), Faults::none());
        let folder = tempfile::tempdir().unwrap();
        let seams = Seams {
            queue: Arc::new(Faulty::new(embedded.clone(), queue.clone())),
            store: Arc::new(Faulty::new(embedded.clone(), store.clone())),
            blobs: Arc::new(FileBlobs::open(folder.path(), Commits::Inline, embedded.trust().clone()).unwrap()),
            sink: Arc::new(FaultySink::memory()),
            upstream: Arc::new(Scripted::new([])),
        };
        let app = App::new(Settings::local(), seams, clock, Rng::seeded(1));
        World { app, embedded, queue, store, _folder: folder }
    }

    fn stream(&self, id: &str) -> Stream {
        Stream {
            id: StreamId::new(id).unwrap(),
            source: SourceId::new(SOURCE).unwrap(),
            tenant: TenantId::new("test").unwrap(),
            granted: false,
            when_full: WhenFull::Refuse,
        }
    }

    fn rows(&self, count: usize) -> impl Iterator<Item = Row> {
        let at = self.app.clock.now();
        (0..count).map(move |n| {
            identify(Observation {
                origin: Origin::default(),
                source: SourceId::new(SOURCE).unwrap(),
                observed_at: at,
                published_at: None,
                geometry: None,
                position: None,
                derived_from: None,
                quality: Vec::new(),
                alert: None,
                data: Data::of(&json!({ "satellite": n.to_string() })).unwrap(),
                rank: 0,
            })
        })
    }

    async fn offer(&self, seen: &mut Seen, count: usize) -> (Ledger, Result<(), IngestError>) {
        let mut ledger = Ledger::default();
        let taken = ingest(&self.app, &self.stream("a"), seen, &mut ledger, self.rows(count)).await;
        (ledger, taken)
    }

    /// The events that wait in the queue, one of each record.
    fn queued(&self) -> Vec<EventId> {
        let mut events = Vec::new();
        let visit = |body: &[u8]| {
            let envelope = Envelope::decode(&body.to_vec().into()).unwrap();
            events.extend(envelope.unpack().unwrap().iter().map(|record| record.event));
        };
        self.embedded.each_body(&self.app.settings.queues.high, visit).unwrap();
        events
    }
}

fn distinct(events: &[EventId]) -> usize {
    events.iter().collect::<BTreeSet<_>>().len()
}

/// The third batch is judged while the second one is refused.
#[tokio::test(start_paused = true)]
async fn s12_a_batch_judged_ahead_of_a_refused_one_is_new_when_it_comes_again() {
    let world = World::new();
    let mut seen = Seen::of_tenant(&TenantId::new("test").unwrap());
    world.queue.script([Fault::None, Fault::Before]);
    let (first, refused) = world.offer(&mut seen, 3_000).await;
    assert!(matches!(refused, Err(IngestError::Backend(_))), "{refused:?}");
    assert_eq!((first.decoded, first.accepted, first.new), (1_000, 1_000, 1_000));
    let (again, taken) = world.offer(&mut seen, 3_000).await;
    taken.unwrap();
    assert_eq!((again.decoded, again.new, again.duplicates), (3_000, 2_000, 1_000));
    let queued = world.queued();
    assert_eq!((queued.len(), distinct(&queued)), (3_000, 3_000), "each once");
}

/// What the queue took is in the ledger also when the seen-set cannot be told; it comes again with the same identity.
#[tokio::test(start_paused = true)]
async fn s12_what_the_seen_set_was_not_told_comes_again_and_nothing_is_left_out() {
    for calls_before in 0..12 {
        let world = World::new();
        let mut seen = Seen::of_tenant(&TenantId::new("test").unwrap());
        world.store.script((0..calls_before).map(|_| Fault::None).chain([Fault::Before]));
        let (first, failed) = world.offer(&mut seen, 3_000).await;
        let queued = world.queued();
        assert_eq!((first.accepted, first.decoded), (queued.len() as u64, queued.len() as u64), "{calls_before}");
        if failed.is_ok() {
            assert_eq!(queued.len(), 3_000, "{calls_before}");
        }
        world.store.quiet();
        let (_, taken) = world.offer(&mut seen, 3_000).await;
        taken.unwrap();
        assert_eq!(distinct(&world.queued()), 3_000, "{calls_before}");
        assert!(world.queued().len() <= 3_000 + 2 * BATCH_RECORDS, "two batches come again at most: {calls_before}");
    }
}

/// The program dies at each write of its disk.
#[tokio::test(start_paused = true)]
async fn k6_a_crash_of_a_host_brings_one_batch_of_a_body_again() {
    let (mut died, mut again) = (0, 0);
    for writes in (0..).step_by(9) {
        let disk = MemoryDisk::default();
        let world = World::on(&disk);
        disk.fail_after(Some(writes));
        let (_, taken) = world.offer(&mut Seen::of_tenant(&TenantId::new("test").unwrap()), 4_000).await;
        disk.kill();
        disk.fail_after(None);
        drop(world);
        let world = World::on(&disk);
        world.offer(&mut Seen::of_tenant(&TenantId::new("test").unwrap()), 4_000).await.1.unwrap();
        let queued = world.queued();
        assert_eq!(distinct(&queued), 4_000, "{writes} writes");
        assert!(queued.len() <= 4_000 + BATCH_RECORDS, "{} come again after {writes} writes", queued.len() - 4_000);
        again += usize::from(queued.len() > 4_000);
        if taken.is_ok() {
            break;
        }
        died += 1;
    }
    assert!(died > 5 && again > 0, "it died {died} times, and {again} times something came again");
}

/// Each send lasts as long as a turn, so that the other stream has the next one.
#[tokio::test(start_paused = true)]
async fn s12_a_turn_is_given_away_only_when_what_was_judged_in_it_is_stored() {
    let world = World::new();
    world.queue.script((0..20).map(|_| Fault::Late(SEEN_TURN_SHARE + Duration::from_millis(1))));
    let body = async |id| {
        let (mut seen, mut ledger) = (Seen::of_tenant(&TenantId::new("test").unwrap()), Ledger::default());
        ingest(&world.app, &world.stream(id), &mut seen, &mut ledger, world.rows(4_000)).await.unwrap();
        ledger
    };
    let (a, b) = tokio::join!(body("a"), body("b"));
    assert_eq!((a.new + b.new, a.duplicates + b.duplicates), (4_000, 4_000));
    let queued = world.queued();
    assert_eq!((queued.len(), distinct(&queued)), (4_000, 4_000), "each once");
}

/// The first send lasts longer than a turn: the other stream has judged everything by then.
#[tokio::test(start_paused = true)]
async fn s12_what_was_judged_in_a_turn_that_was_lost_is_judged_anew() {
    let world = World::new();
    world.queue.script([Fault::Late(SEEN_TURN + Duration::from_secs(1))]);
    let (mut seen, mut ledger) = (Seen::of_tenant(&TenantId::new("test").unwrap()), Ledger::default());
    let (stream, other) = (world.stream("a"), world.stream("b"));
    let slow = ingest(&world.app, &stream, &mut seen, &mut ledger, world.rows(4_000));
    let quick = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (mut seen, mut ledger) = (Seen::of_tenant(&TenantId::new("test").unwrap()), Ledger::default());
        ingest(&world.app, &other, &mut seen, &mut ledger, world.rows(4_000)).await.unwrap();
        ledger
    };
    let (lost, quick) = tokio::join!(slow, quick);
    assert!(lost.is_err(), "its turn had gone");
    assert_eq!((quick.new, ledger.accepted), (4_000, BATCH_RECORDS as u64));
    let (again, taken) = world.offer(&mut seen, 4_000).await;
    taken.unwrap();
    assert_eq!(again.duplicates, 4_000);
    let queued = world.queued();
    assert_eq!((queued.len(), distinct(&queued)), (4_000 + BATCH_RECORDS, 4_000), "what was under way came twice");
}

/// Nobody else wants the turn, however long a send lasts.
#[tokio::test(start_paused = true)]
async fn s12_a_turn_that_nobody_else_wants_is_kept() {
    let world = World::new();
    world.queue.script((0..4).map(|_| Fault::Late(SEEN_TURN + Duration::from_secs(1))));
    let mut seen = Seen::of_tenant(&TenantId::new("test").unwrap());
    let (ledger, taken) = world.offer(&mut seen, 4_000).await;
    taken.unwrap();
    assert_eq!((ledger.new, world.queued().len()), (4_000, 4_000));
}

/// Where there are threads, others pack: batches are still queued one after the other, and each is told of in the ledger.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q1_batches_that_are_packed_by_other_threads_are_queued_in_their_order() {
    let world = World::new();
    let mut seen = Seen::of_tenant(&TenantId::new("test").unwrap());
    let (ledger, taken) = world.offer(&mut seen, 5_300).await;
    taken.unwrap();
    assert_eq!((ledger.decoded, ledger.accepted, ledger.new), (5_300, 5_300, 5_300));
    let offered: Vec<EventId> = world.rows(5_300).map(|row| row.unwrap().event).collect();
    assert!(world.queued() == offered, "each once, in the order of the rows");
    assert_eq!(world.offer(&mut seen, 5_300).await.0.duplicates, 5_300);
}
