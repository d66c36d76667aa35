//! Databases damaged by chance, and what is read of them: never a panic, everything that is given out is what was written, and
//! what is not given out is reported.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use ulid::Ulid;

use super::{Report, Row, read, repair};
use crate::embedded::{Commits, Embedded, FolderLock, Options, salvage};
use crate::queue::{Body, Message, Queue, QueueRef};
use crate::record::{Envelope, EventId, Outgoing, SourceId, StreamId, TenantId, Tier, Topic, Traceparent};
use crate::store::{Expect, Key, Store};
use crate::time::{Clock, Rng, Timestamp};

const PAGE: usize = 4096;
/// Messages of each tier's queue, and items of the store.
const EACH: u64 = 150;

fn now() -> Timestamp {
    "2026-08-01T00:00:00Z".parse().unwrap()
}

fn queue(tier: Tier) -> QueueRef {
    QueueRef::new(&format!("local:{tier:?}"))
}

fn options() -> Options {
    Options { commits: Commits::Inline, ..Options::new(Clock::simulated(now())) }
}

fn envelope(tier: Tier, n: u64, rng: &Rng) -> Bytes {
    let mut value = format!("{{\"n\":{n},\"random\":\"").into_bytes();
    (0..12).for_each(|_| value.extend(crate::record::hex(&rng.bytes::<16>()).into_bytes()));
    value.extend(b"\"}");
    let (tenant, trace) = (TenantId::new("butte").unwrap(), Traceparent::new([1; 16], [2; 8]));
    let record = Outgoing {
        topic: Topic::CRITICAL_ALERTS,
        key: "thread".into(),
        value: value.into(),
        event: EventId::from_bytes([n as u8; 16]),
        revision: 0,
        source: SourceId::new("evacuation_alert_butte").unwrap(),
        tenant: tenant.clone(),
        tier,
        dataschema: "urn:x".into(),
        observed_at: now(),
        published_at: None,
        ingested_at: now(),
        traceparent: trace.clone(),
        extra: Vec::new(),
    };
    let stream = StreamId::new("butte").unwrap();
    let packed = Envelope::pack(Ulid::from(u128::from(n)), stream, tenant, tier, now(), trace, &[record], 1);
    packed.unwrap().encode().unwrap()
}

type Messages = BTreeMap<(String, u64), Vec<u8>>;
type Items = BTreeMap<(String, String), Vec<u8>>;

/// A folder with four tiers and a store, as a crash leaves it: the bytes of its database, and what was accepted.
async fn accepted(rng: &Rng) -> (Vec<u8>, Messages, Items) {
    let folder = tempfile::tempdir().unwrap();
    let embedded = Embedded::open(folder.path(), options()).unwrap();
    let (mut messages, mut items) = (Messages::new(), Items::new());
    let mut number = 0;
    for n in 0..EACH {
        for tier in Tier::ALL {
            number += 1;
            let body = envelope(tier, number, rng);
            embedded.send(&queue(tier), &[Message::now(Body::Binary(body.clone()))]).await.unwrap()[0].clone().unwrap();
            messages.insert((queue(tier).as_str().to_owned(), number), body.to_vec());
        }
        let mut value = Vec::new();
        (0..20).for_each(|_| value.extend(rng.bytes::<16>()));
        let key = Key::new(format!("partition/{}", n % 7), format!("{n:04}"));
        let expires = (n % 3 == 0).then(|| now() + std::time::Duration::from_secs(86_400));
        embedded.put_if(&key, value.clone().into(), Expect::Any, expires).await.unwrap();
        items.insert((key.partition, key.sort), value);
    }
    // Copied while it is open: no clean end.
    (std::fs::read(folder.path().join("state.redb")).unwrap(), messages, items)
}

/// Reads, and checks that nothing is given out that was not accepted.
fn salvaged(database: &Path, messages: &Messages, items: &Items) -> (Report, Messages, Items) {
    let (mut found, mut stored) = (Messages::new(), Items::new());
    let report = read(database, &mut |row| match row {
        Row::Message(message) => {
            let key = (message.queue.to_owned(), message.number);
            assert_eq!(messages.get(&key).map(Vec::as_slice), Some(message.body), "{key:?}");
            found.insert(key, message.body.to_vec());
        }
        Row::Item(item) => {
            let key = (item.partition.to_owned(), item.sort.to_owned());
            assert_eq!(items.get(&key).map(Vec::as_slice), Some(item.value), "{key:?}");
            stored.insert(key, item.value.to_vec());
        }
        _ => {}
    });
    (report.unwrap(), found, stored)
}

#[tokio::test(start_paused = true)]
async fn r3_a_sound_database_is_read_whole_without_redb_also_after_a_crash() {
    let (bytes, messages, items) = accepted(&Rng::seeded(1)).await;
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("state.redb");
    std::fs::write(&database, bytes).unwrap();
    let (report, found, stored) = salvaged(&database, &messages, &items);
    assert!(report.is_sound(), "{report:?}");
    assert_eq!((found, stored), (messages, items));
    assert_eq!(report.tables["bodies"].expected, Some(4 * EACH));
    assert_eq!(report.numbers["layout"], crate::embedded::database::LAYOUT);
}

#[tokio::test(start_paused = true)]
async fn r3_one_lost_page_costs_its_own_rows_wherever_it_is_and_the_ranges_say_which() {
    let (bytes, messages, items) = accepted(&Rng::seeded(2)).await;
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("state.redb");
    let pages = bytes.len() / PAGE;
    let (mut worst, mut lost_somewhere) = (0, 0);
    for page in 0..pages {
        let mut damaged = bytes.clone();
        damaged[page * PAGE..(page + 1) * PAGE].fill(0);
        std::fs::write(&database, damaged).unwrap();
        let (report, found, stored) = salvaged(&database, &messages, &items);
        let lost = messages.len() - found.len() + items.len() - stored.len();
        worst = worst.max(lost);
        if lost > 0 {
            lost_somewhere += 1;
            assert!(!report.is_sound(), "page {page}: {lost} rows vanish in silence");
        }
    }
    println!("{pages} pages: {lost_somewhere} hold rows that nothing else has, at most {worst}");
    // A page holds some ten rows of these; every branch, and the head itself, costs nothing.
    assert!(worst <= 16 && lost_somewhere > 10, "worst {worst}, {lost_somewhere}");
}

/// Flipped bits, zeroed pages and lost ends: whatever is given out was accepted, whatever is not is said, and a repair makes a
/// folder that opens and holds all of it.
#[tokio::test(start_paused = true)]
async fn r3_chance_damage_is_read_reported_and_repaired() {
    let (bytes, messages, items) = accepted(&Rng::seeded(3)).await;
    let (mut kept, mut lost) = (0, 0);
    for seed in 0..120 {
        let rng = Rng::seeded(seed);
        let below = |n: usize| (u64::from_le_bytes(rng.bytes()) % n as u64) as usize;
        let mut damaged = bytes.clone();
        match seed % 4 {
            0 => (0..1 + below(40)).for_each(|_| damaged[below(bytes.len())] ^= 1 << below(8)),
            1 => (0..1 + below(8)).for_each(|_| {
                let page = below(bytes.len() / PAGE);
                damaged[page * PAGE..(page + 1) * PAGE].fill(0);
            }),
            2 => damaged.truncate(below(bytes.len())),
            _ => {
                let (from, to) = (below(bytes.len() / PAGE) * PAGE, below(bytes.len() / PAGE) * PAGE);
                let page = bytes[from..from + PAGE].to_vec();
                damaged[to..to + PAGE].copy_from_slice(&page);
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("state.redb");
        std::fs::write(&database, &damaged).unwrap();
        let (report, found, stored) = salvaged(&database, &messages, &items);
        let all = found.len() == messages.len() && stored.len() == items.len();
        assert!(all || !report.is_sound(), "seed {seed}: rows vanish in silence: {report:?}");
        // A lost end takes with it what lay there.
        if seed % 4 != 2 {
            kept += found.len() + stored.len();
            lost += messages.len() - found.len() + items.len() - stored.len();
        }

        let lock = FolderLock::take(folder.path()).unwrap();
        let repaired = repair(folder.path(), &lock, now()).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        drop(lock);
        assert_eq!(std::fs::read(&repaired.kept_as).unwrap(), damaged, "seed {seed}: the original is not kept");
        let (report, again, stored_again) = salvaged(&database, &messages, &items);
        assert!(report.is_sound(), "seed {seed}: {report:?}");
        assert_eq!((again.len(), stored_again.len()), (found.len(), stored.len()), "seed {seed}");
        let embedded = Embedded::open(folder.path(), options()).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let mut waiting = 0;
        for tier in Tier::ALL {
            waiting += embedded.depth(&queue(tier)).await.unwrap().total();
        }
        assert_eq!(waiting, again.len() as u64, "seed {seed}");
        let live = embedded.contents(folder.path(), true).unwrap();
        assert_eq!(live.contents.queues.values().map(|queue| queue.records).sum::<u64>(), waiting, "seed {seed}");
        // What comes next takes no old one's place.
        for tier in Tier::ALL {
            let body = Body::Binary(envelope(tier, 1, &rng));
            embedded.send(&queue(tier), &[Message::now(body)]).await.unwrap()[0].clone().unwrap();
        }
        let live = embedded.contents(folder.path(), true).unwrap();
        let records = live.contents.queues.values().map(|queue| queue.records).sum::<u64>();
        assert_eq!(records, waiting + Tier::ALL.len() as u64, "seed {seed}");
    }
    println!("{kept} rows kept, {lost} lost");
    assert!(kept > 40 * lost, "{kept} kept, {lost} lost");
}

#[tokio::test(start_paused = true)]
async fn r3_messages_that_somebody_delivered_elsewhere_are_taken_out() {
    let (bytes, messages, items) = accepted(&Rng::seeded(4)).await;
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("state.redb");
    std::fs::write(&database, bytes).unwrap();
    let gone: Vec<(String, u64)> = messages.keys().take(100).cloned().collect();
    salvage::remove(folder.path(), &FolderLock::take(folder.path()).unwrap(), &gone, now()).unwrap();
    let (report, found, _) = salvaged(&database, &messages, &items);
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(found.keys().collect::<Vec<_>>(), messages.keys().skip(100).collect::<Vec<_>>());
}
