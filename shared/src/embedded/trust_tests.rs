//! A disk that failed one fsync, and what is refused, read and proved after it [Q1].

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;

use super::{Commits, Embedded, FileBlobs, FolderLock, MemoryDisk, Options, Trust, is_marked, prove};
use crate::blobs::Blobs;
use crate::error::BackendError;
use crate::queue::{Body, Message, Queue, QueueRef, Settle};
use crate::store::{Expect, Key, Store};
use crate::time::{Clock, Rng};

fn options() -> Options {
    let clock = Clock::simulated("2026-08-01T00:00:00Z".parse().unwrap());
    Options { commits: Commits::Inline, ..Options::new(clock) }
}

fn at() -> QueueRef {
    QueueRef::new("critical")
}

async fn send(embedded: &Embedded, n: u8) -> Result<(), BackendError> {
    let message = Message::now(Body::Binary(Bytes::from(vec![n])));
    embedded.send(&at(), &[message]).await.map(|outcomes| outcomes[0].clone().unwrap())
}

async fn received(embedded: &Embedded) -> Vec<u8> {
    // Stored times are whole milliseconds, rounded up.
    tokio::time::sleep(Duration::from_millis(1)).await;
    let found = embedded.receive(&at(), 10, Duration::ZERO).await.unwrap();
    let body = |body: Body| match body {
        Body::Binary(bytes) => bytes[0],
        Body::Text(text) => panic!("{text}"),
    };
    found.into_iter().map(|delivery| body(delivery.body)).collect()
}

fn is_refused<T>(outcome: Result<T, impl std::fmt::Display>) {
    let says = outcome.err().expect("refused").to_string();
    for part in ["fsync", "check the disk", "start again"] {
        assert!(says.contains(part), "{part:?} is not in {says:?}");
    }
}

/// Whichever of a commit's syncs fails, and however well the disk does afterwards.
#[tokio::test(start_paused = true)]
async fn q1_after_a_failed_sync_nothing_is_written_or_given_out_and_everything_can_be_read() {
    for failing in [1, 2, 10] {
        let disk = MemoryDisk::new();
        let embedded = Embedded::on_disk(&disk, options()).unwrap();
        let (key, other) = (Key::new("p", "k"), Key::new("p", "other"));
        send(&embedded, 1).await.unwrap();
        send(&embedded, 2).await.unwrap();
        embedded.put_if(&key, Bytes::from_static(b"1"), Expect::Absent, None).await.unwrap();
        let mut in_hand = embedded.receive(&at(), 1, Duration::ZERO).await.unwrap();

        disk.fail_syncs(failing);
        is_refused(send(&embedded, 3).await);
        disk.fail_syncs(0);
        for _ in 0..3 {
            is_refused(send(&embedded, 4).await);
            is_refused(embedded.put_if(&other, Bytes::new(), Expect::Any, None).await);
            is_refused(embedded.delete_if(&key, Expect::Any).await);
            let receipt = in_hand[0].receipt.clone();
            is_refused(embedded.settle(&at(), &[(receipt, Settle::Forget)]).await);
            is_refused(embedded.receive(&at(), 10, Duration::ZERO).await);
        }
        is_refused(embedded.room());
        assert!(embedded.closed().is_some());
        assert_eq!(embedded.get(&key).await.unwrap().unwrap().value, "1");
        assert_eq!(embedded.get(&other).await.unwrap(), None);
        assert_eq!(embedded.list("p", "", None, 10).await.unwrap().len(), 1);
        assert!(embedded.depth(&at()).await.unwrap().total() >= 2);
        let mut bodies = 0;
        embedded.each_body(&at(), |_| bodies += 1).unwrap();
        assert!(bodies >= 2, "{bodies}");
        drop((embedded, in_hand.pop()));

        // The power fails, or only the process ends: the next one has what was acknowledged, and writes again.
        disk.crash(&Rng::seeded(failing.into()));
        let embedded = Embedded::on_disk(&disk, options()).unwrap();
        assert_eq!(received(&embedded).await, [1, 2]);
        send(&embedded, 5).await.unwrap();
        assert_eq!(embedded.get(&key).await.unwrap().unwrap().value, "1");
    }
}

/// What stands in the system's memory alone is no proof: the next start asks the disk.
#[tokio::test(start_paused = true)]
async fn q1_what_is_acknowledged_after_the_next_start_survives_a_power_cut() {
    for seed in 0..20 {
        let disk = MemoryDisk::new();
        let embedded = Embedded::on_disk(&disk, options()).unwrap();
        send(&embedded, 1).await.unwrap();
        disk.fail_syncs(1);
        is_refused(send(&embedded, 2).await);
        drop(embedded);
        disk.kill();
        let embedded = Embedded::on_disk(&disk, options()).unwrap();
        for n in 3..6 {
            send(&embedded, n).await.unwrap();
        }
        disk.crash(&Rng::seeded(seed));
        let embedded = Embedded::on_disk(&disk, options()).unwrap();
        let found = received(&embedded).await;
        assert!([1, 3, 4, 5].iter().all(|n| found.contains(n)), "seed {seed}: {found:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn q2_a_full_disk_is_trusted_when_it_has_room_again() {
    let disk = MemoryDisk::new();
    let embedded = Embedded::on_disk(&disk, options()).unwrap();
    disk.fail_after(Some(0));
    assert!(send(&embedded, 1).await.is_err());
    disk.fail_after(None);
    send(&embedded, 2).await.unwrap();
    assert_eq!(received(&embedded).await, [2]);
}

fn failed_in(folder: &Path) -> Trust {
    let trust = Trust::of(folder);
    let failed = trust.sync(&"state.redb", || Err(io::Error::other("input/output error")));
    assert!(failed.is_err() && trust.check().is_err());
    trust
}

#[tokio::test]
async fn q1_a_failed_sync_leaves_a_mark_and_the_next_start_proves_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Embedded::open(folder.path(), Options::new(Clock::system()));
    send(&open().unwrap(), 1).await.unwrap();
    assert!(!is_marked(folder.path()));
    failed_in(folder.path());
    assert!(is_marked(folder.path()));
    let embedded = open().unwrap();
    assert!(!is_marked(folder.path()), "the disk holds everything");
    send(&embedded, 2).await.unwrap();
    assert_eq!(embedded.depth(&at()).await.unwrap().total(), 2);
}

#[tokio::test]
async fn q1_a_marked_folder_that_is_damaged_is_repaired_before_it_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let embedded = Embedded::open(folder.path(), Options::new(Clock::system())).unwrap();
    for n in 0..200 {
        let body = vec![n; 3_000];
        embedded.send(&at(), &[Message::now(Body::Binary(body.into()))]).await.unwrap();
    }
    drop(embedded);
    let database = folder.path().join("state.redb");
    let mut bytes = fs::read(&database).unwrap();
    let page = bytes.windows(64).position(|window| window == [100; 64]).unwrap() / 4096;
    bytes[page * 4096..(page + 1) * 4096].fill(0);
    fs::write(&database, &bytes).unwrap();
    failed_in(folder.path());
    let lock = FolderLock::take(folder.path()).unwrap();
    let proof = prove(folder.path(), &lock, Clock::system().now()).unwrap().expect("it is marked");
    assert!(!proof.found.is_sound());
    assert_eq!(fs::read(proof.repaired.unwrap().kept_as).unwrap(), bytes, "the original is kept");
    assert!(!is_marked(folder.path()));
    drop(lock);
    let embedded = Embedded::open(folder.path(), Options::new(Clock::system())).unwrap();
    let left = embedded.depth(&at()).await.unwrap().total();
    assert!((195..200).contains(&left), "{left}");
}

#[tokio::test]
async fn q1_blobs_are_of_the_same_disk() {
    let folder = tempfile::tempdir().unwrap();
    let embedded = Embedded::open(folder.path(), Options::new(Clock::system())).unwrap();
    let blobs = FileBlobs::open(folder.path(), Commits::Inline, embedded.trust().clone()).unwrap();
    let kept = blobs.put(Bytes::from_static(b"kept")).await.unwrap();
    let failed = embedded.trust().sync(&"a blob", || Err(io::Error::other("input/output error")));
    assert!(failed.is_err());
    is_refused(blobs.put(Bytes::from_static(b"new")).await);
    is_refused(blobs.put(Bytes::from_static(b"kept")).await);
    is_refused(blobs.delete(&kept).await);
    is_refused(send(&embedded, 1).await);
    assert_eq!(blobs.get(&kept).await.unwrap(), Some(Bytes::from_static(b"kept")));
}
