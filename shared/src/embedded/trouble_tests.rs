//! What the embedded backends do on a disk that is full or that damages bytes.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use bytes::Bytes;

use super::{Commits, Embedded, MemoryDisk, Options};
use crate::error::BackendError;
use crate::limits::{DISK_FLOOR_BYTES, DISK_RESERVE_BYTES};
use crate::queue::{Body, Message, Queue, QueueRef, Settle};
use crate::store::{Expect, Key, Store};
use crate::time::{Clock, Rng};

const MIB: u64 = 1024 * 1024;

fn options(commits: Commits) -> Options {
    let clock = Clock::simulated("2026-08-01T00:00:00Z".parse().unwrap());
    Options { commits, ..Options::new(clock) }
}

fn at() -> QueueRef {
    QueueRef::new("critical")
}

/// Fills the queue until nothing more is taken; gives how many messages were, and what is said.
async fn fill(embedded: &Embedded) -> (u64, String) {
    let message = [Message::now(Body::Binary(Bytes::from(vec![7; 200_000])))];
    for sent in 0.. {
        match embedded.send(&at(), &message).await {
            Ok(outcomes) => assert!(outcomes[0].is_ok(), "{outcomes:?}"),
            Err(BackendError::Retry(problem)) => return (sent, problem),
            Err(fatal) => panic!("{fatal}"),
        }
    }
    unreachable!()
}

/// Receives and forgets until nothing is left; gives how many that were.
async fn drain(embedded: &Embedded) -> u64 {
    let mut forgotten = 0;
    loop {
        let got = embedded.receive(&at(), 10, Duration::ZERO).await.unwrap();
        if got.is_empty() {
            return forgotten;
        }
        forgotten += got.len() as u64;
        let receipts: Vec<_> = got.into_iter().map(|one| (one.receipt, Settle::Forget)).collect();
        embedded.settle(&at(), &receipts).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn q2_on_a_full_disk_nothing_new_is_taken_in_and_what_is_queued_goes_out() {
    let disk = MemoryDisk::new();
    let whole = 64 * MIB;
    disk.set_size(whole);
    let embedded = Embedded::on_disk(&disk, options(Commits::Inline)).unwrap();
    let (sent, says) = fill(&embedded).await;
    assert!(sent > 50, "{sent} messages");
    assert!(says.contains("full") && says.contains("nothing new is taken in"), "{says}");
    assert!(disk.free() < DISK_FLOOR_BYTES);

    // Somebody else writes whatever is left.
    disk.set_size(whole - disk.free());
    assert_eq!(disk.free(), 0);
    let key = Key::new("breaker", "sink");
    let mut version = embedded.put_if(&key, Bytes::from_static(b"1"), Expect::Any, None).await.unwrap();
    assert_eq!(drain(&embedded).await, sent, "what was accepted does not go out");
    for _ in 0..100 {
        let renewed = embedded.put_if(&key, Bytes::from_static(b"2"), Expect::Version(version), None).await;
        version = renewed.expect("what deliveries write comes from the reserve");
    }
    assert!(matches!(embedded.room(), Err(BackendError::Retry(_))), "the reserve is used, nothing new may come");

    disk.set_size(2 * whole + DISK_RESERVE_BYTES);
    embedded.room().expect("there is room again");
    assert!(fill(&embedded).await.0 > 50);
}

#[tokio::test(start_paused = true)]
async fn q2_readings_are_refused_on_a_full_disk_and_read_all_the_same() {
    let disk = MemoryDisk::new();
    disk.set_size(64 * MIB);
    let embedded = Embedded::on_disk(&disk, options(Commits::Inline)).unwrap();
    let key = |n: u64| Key::new("kinesis/readings", format!("{n:020}"));
    embedded.intake().put_if(&key(1), Bytes::from_static(b"reading"), Expect::Absent, None).await.unwrap();
    fill(&embedded).await;
    let refused = embedded.intake().put_if(&key(2), Bytes::from_static(b"reading"), Expect::Absent, None).await;
    assert!(refused.is_err(), "{refused:?}");
    assert!(embedded.intake().get(&key(1)).await.unwrap().is_some());
    embedded.put_if(&Key::new("kinesis", "checkpoint"), Bytes::from_static(b"1"), Expect::Any, None).await.unwrap();
    embedded.intake().delete_if(&key(1), Expect::Any).await.unwrap();
}

/// A disk with accepted messages and items, closed.
async fn accepted(rng: &Rng) -> (MemoryDisk, BTreeMap<u64, Bytes>) {
    let disk = MemoryDisk::new();
    let embedded = Embedded::on_disk(&disk, options(Commits::Inline)).unwrap();
    let mut bodies = BTreeMap::new();
    for n in 0..60u64 {
        let mut body = n.to_le_bytes().to_vec();
        (0..40).for_each(|_| body.extend(rng.bytes::<32>()));
        let body = Bytes::from(body);
        embedded.send(&at(), &[Message::now(Body::Binary(body.clone()))]).await.unwrap()[0].clone().unwrap();
        embedded.put_if(&Key::new("items", format!("{n:03}")), body.clone(), Expect::Any, None).await.unwrap();
        bodies.insert(n, body);
    }
    (disk, bodies)
}

/// 16 flipped bits anywhere behind the file's head: the start is refused, or what is given out is what was accepted.
#[tokio::test(start_paused = true)]
async fn q1_nothing_damaged_is_given_out_and_the_writer_outlives_damaged_pages() {
    let (mut refused, mut set_aside, mut given) = (0, 0, 0);
    for seed in 0..80 {
        let rng = Rng::seeded(seed);
        let (disk, bodies) = accepted(&rng).await;
        disk.crash(&rng);
        disk.flip(&rng, 16);
        let Ok(embedded) = Embedded::on_disk(&disk, options(Commits::Grouped)) else {
            refused += 1;
            continue;
        };
        loop {
            let got = embedded.receive(&at(), 10, Duration::ZERO).await.unwrap_or_default();
            if got.is_empty() {
                break;
            }
            given += got.len();
            for delivery in &got {
                let Body::Binary(body) = &delivery.body else { panic!("seed {seed}: {delivery:?}") };
                assert_eq!(bodies.get(&u64::from_le_bytes(body[..8].try_into().unwrap())), Some(body), "seed {seed}");
            }
            let receipts: Vec<_> = got.into_iter().map(|one| (one.receipt, Settle::Forget)).collect();
            let _ = embedded.settle(&at(), &receipts).await;
        }
        for item in embedded.list("items", "", None, 100).await.unwrap_or_default() {
            let n: u64 = item.key.sort.parse().unwrap();
            assert_eq!(bodies.get(&n), Some(&item.value), "seed {seed}, item {n}");
        }
        // Written or refused: the writer is there.
        let put = embedded.put_if(&Key::new("after", "it"), Bytes::new(), Expect::Any, None).await;
        assert!(!put.as_ref().is_err_and(|e| e.to_string().contains("died")), "seed {seed}: {put:?}");
        set_aside += embedded.damaged(1_000).unwrap_or_default().len();
    }
    println!("{refused} starts refused, {given} given out, {set_aside} set aside");
    assert!(given > 1_000 && set_aside > 40, "{refused} starts refused, {given} given out, {set_aside} set aside");
}

#[tokio::test(start_paused = true)]
async fn q1_what_is_damaged_is_kept_with_its_bytes_until_somebody_takes_it_over() {
    let disk = MemoryDisk::new();
    let embedded = Embedded::on_disk(&disk, options(Commits::Inline)).unwrap();
    for text in ["sound", "to be damaged", "sound too"] {
        embedded.send(&at(), &[Message::now(Body::Text(text.into()))]).await.unwrap()[0].clone().unwrap();
    }
    assert!(disk.turn(b"to be damaged", b"to be dAmaged"));
    drop(embedded);
    let embedded = Embedded::on_disk(&disk, options(Commits::Inline)).unwrap();
    let got = embedded.receive(&at(), 10, Duration::ZERO).await.unwrap();
    let text = |body: &Body| match body {
        Body::Text(text) => text.clone(),
        Body::Binary(bytes) => format!("{bytes:?}"),
    };
    assert_eq!(got.iter().map(|one| text(&one.body)).collect::<Vec<_>>(), ["sound", "sound too"]);
    let damaged = embedded.damaged(10).unwrap();
    assert_eq!(damaged.len(), 1);
    assert_eq!(
        (&damaged[0].bytes[..], damaged[0].what.as_str()),
        (&b"to be dAmaged"[..], "message 2 of the queue critical")
    );
    assert_eq!(embedded.depth(&at()).await.unwrap().total(), 2);
    embedded.forget_damaged(damaged[0].number).await.unwrap();
    assert!(embedded.damaged(10).unwrap().is_empty());
}

#[tokio::test]
async fn a_new_data_folder_is_its_owners_alone() {
    let parent = tempfile::tempdir().unwrap();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let made = parent.path().join("made/data");
    let empty = parent.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    std::fs::set_permissions(&empty, std::fs::Permissions::from_mode(0o755)).unwrap();
    for folder in [made, empty] {
        let embedded = Embedded::open(&folder, Options::new(Clock::system())).unwrap();
        embedded.send(&at(), &[Message::now(Body::Text("secret".into()))]).await.unwrap();
        assert_eq!(mode(&folder), 0o700);
        assert_eq!(mode(&folder.join("state.redb")), 0o600);
    }
}
