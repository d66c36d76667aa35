//! The embedded backends against the seams' laws, on a simulated disk and on a real folder, and what only they promise:
//! one owner, a full disk survived.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use super::{Commits, Embedded, MemoryDisk, Options, QueueOptions, Trust};
use crate::blobs;
use crate::embedded::FileBlobs;
use crate::error::BackendError;
use crate::faults::{Fault, Faults, Faulty, Shares};
use crate::queue::{self, Body, Message, Queue, QueueRef, SendError, Settle};
use crate::store::{self, Expect, Key, Store};
use crate::time::{Clock, Rng, Timestamp, WallClock};

enum Place {
    Disk(MemoryDisk, Rng),
    Folder(PathBuf),
}

struct Process {
    place: Place,
    options: Options,
    current: Mutex<Option<Embedded>>,
}

impl Process {
    fn new(place: Place, clock: Clock, commits: Commits) -> Process {
        let world = Process { place, options: options(clock, commits), current: Mutex::default() };
        world.start();
        world
    }

    fn start(&self) {
        let opened = match &self.place {
            Place::Disk(disk, _) => Embedded::on_disk(disk, self.options.clone()),
            Place::Folder(folder) => Embedded::open(folder, self.options.clone()),
        };
        *self.current.lock() = Some(opened.unwrap());
    }

    fn current(&self) -> Embedded {
        self.current.lock().clone().unwrap()
    }

    fn crash(&self) -> bool {
        match &self.place {
            Place::Disk(disk, rng) => disk.crash(rng),
            // A folder is only closed; a process is killed elsewhere.
            Place::Folder(_) => {}
        }
        *self.current.lock() = None;
        self.start();
        true
    }
}

#[async_trait]
impl queue::conformance::TestQueues for Process {
    fn queue(&self) -> Arc<dyn Queue> {
        Arc::new(self.current())
    }
    fn at(&self, name: &str) -> QueueRef {
        QueueRef::new(name)
    }
    async fn crash(&self) -> bool {
        // What nobody waits for is written before.
        if let Commits::Stepped(wait) = self.options.commits {
            tokio::time::sleep(2 * wait).await;
        }
        Process::crash(self)
    }
    fn bounded(&self) -> bool {
        true
    }
    fn ends_waits(&self) -> bool {
        true
    }
}

#[async_trait]
impl store::conformance::TestStores for Process {
    fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.current())
    }
    fn clock(&self) -> Clock {
        self.options.clock.clone()
    }
    async fn crash(&self) -> bool {
        Process::crash(self)
    }
}

fn options(clock: Clock, commits: Commits) -> Options {
    let queues = queue::conformance::specs().into_iter().map(|spec| {
        let defaults = QueueOptions::default();
        let options = QueueOptions {
            visibility: queue::conformance::VISIBILITY,
            capacity: spec.capacity.unwrap_or(defaults.capacity),
            dead_letters: spec.dead_letters.map(|(name, receives)| (QueueRef::new(name), receives)),
            ..defaults
        };
        (QueueRef::new(spec.name), options)
    });
    Options { commits, queues: queues.collect::<BTreeMap<_, _>>(), ..Options::new(clock) }
}

fn simulated(disk: &MemoryDisk, seed: u64) -> Process {
    committing(disk, seed, Commits::Inline)
}

fn committing(disk: &MemoryDisk, seed: u64, commits: Commits) -> Process {
    let start: Timestamp = "2026-08-01T00:00:00.000123Z".parse().unwrap();
    Process::new(Place::Disk(disk.clone(), Rng::seeded(seed)), Clock::simulated(start), commits)
}

#[tokio::test(start_paused = true)]
async fn the_laws_hold_on_a_simulated_disk() {
    for commits in [Commits::Inline, Commits::Stepped(Duration::from_millis(1))] {
        let world = committing(&MemoryDisk::new(), 1, commits);
        queue::conformance::run(&world).await;
        store::conformance::run(&world).await;
    }
}

/// What is of the living: the same laws, as long as they live.
#[tokio::test(start_paused = true)]
async fn the_laws_hold_for_what_ends_with_the_process() {
    /// Partitions of the laws as names within one of the living.
    struct Leases(Embedded);
    fn inner(key: &Key) -> Key {
        Key::new(store::LEASES, format!("{}\n{}", key.partition, key.sort))
    }
    fn outer(item: store::Item) -> store::Item {
        let (partition, sort) = item.key.sort.split_once('\n').unwrap();
        store::Item { key: Key::new(partition, sort), ..item }
    }
    #[async_trait]
    impl Store for Leases {
        async fn get(&self, key: &Key) -> Result<Option<store::Item>, BackendError> {
            Ok(self.0.get(&inner(key)).await?.map(outer))
        }
        async fn list(
            &self,
            partition: &str,
            prefix: &str,
            after: Option<&str>,
            max: usize,
        ) -> Result<Vec<store::Item>, BackendError> {
            let (prefix, after) =
                (format!("{partition}\n{prefix}"), after.map(|after| format!("{partition}\n{after}")));
            let listed = self.0.list(store::LEASES, &prefix, after.as_deref(), max).await?;
            Ok(listed.into_iter().map(outer).collect())
        }
        async fn put_if(
            &self,
            key: &Key,
            value: Bytes,
            expect: Expect,
            expires: Option<Timestamp>,
        ) -> Result<store::Version, store::PutError> {
            self.0.put_if(&inner(key), value, expect, expires).await
        }
        async fn delete_if(&self, key: &Key, expect: Expect) -> Result<(), store::PutError> {
            self.0.delete_if(&inner(key), expect).await
        }
    }
    struct World(Process);
    #[async_trait]
    impl store::conformance::TestStores for World {
        fn store(&self) -> Arc<dyn Store> {
            Arc::new(Leases(self.0.current()))
        }
        fn clock(&self) -> Clock {
            self.0.options.clock.clone()
        }
    }
    store::conformance::run(&World(simulated(&MemoryDisk::new(), 1))).await;
}

/// A host that has nothing to do does not wear out its disk: leases are renewed every second, and reports come every five.
#[tokio::test(start_paused = true)]
async fn what_is_of_the_living_is_never_written_and_ends_with_its_process() {
    let disk = MemoryDisk::new();
    let world = simulated(&disk, 1);
    disk.fail_after(Some(0));
    let keys = store::OF_THE_LIVING.map(|partition| Key::new(partition, "name"));
    for key in &keys {
        world.current().put_if(key, Bytes::from_static(b"1"), Expect::Absent, None).await.unwrap();
        assert!(world.current().get(key).await.unwrap().is_some());
    }
    disk.fail_after(None);
    Process::crash(&world);
    for key in &keys {
        assert_eq!(world.current().get(key).await.unwrap(), None);
    }
}

/// What comes in while a commit's time passes shares it, and a crash before the commit takes all of it.
#[tokio::test(start_paused = true)]
async fn q1_a_crash_between_a_send_and_its_commit_takes_what_nobody_was_told_of() {
    let disk = MemoryDisk::new();
    let world = committing(&disk, 1, Commits::Stepped(Duration::from_millis(10)));
    let (embedded, to) = (world.current(), QueueRef::new("local:crash"));
    let message = |n: u8| [Message::now(Body::Binary(Bytes::from(vec![n])))];
    embedded.send(&to, &message(1)).await.unwrap();
    let (second, third) = (message(2), message(3));
    {
        let mut sends = std::pin::pin!(futures::future::join(embedded.send(&to, &second), embedded.send(&to, &third)));
        assert!(futures::poll!(&mut sends).is_pending(), "no commit yet");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Process::crash(&world);
    let found = world.current().receive(&to, 10, Duration::ZERO).await.unwrap();
    assert_eq!(found.into_iter().map(|delivery| delivery.body).collect::<Vec<_>>(), [message(1)[0].body.clone()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_laws_hold_in_a_folder_with_grouped_commits() {
    let folder = tempfile::tempdir().unwrap();
    let world = Process::new(Place::Folder(folder.path().into()), Clock::system(), Commits::Grouped);
    tokio::join!(queue_laws(&world), store_laws(&world));
}

#[tokio::test(start_paused = true)]
async fn the_laws_hold_through_a_quiet_faulty() {
    struct Quiet(Process);
    #[async_trait]
    impl queue::conformance::TestQueues for Quiet {
        fn queue(&self) -> Arc<dyn Queue> {
            Arc::new(Faulty::new(self.0.current(), Faults::none()))
        }
        fn at(&self, name: &str) -> QueueRef {
            QueueRef::new(name)
        }
        async fn crash(&self) -> bool {
            self.0.crash()
        }
        fn bounded(&self) -> bool {
            true
        }
    }
    #[async_trait]
    impl store::conformance::TestStores for Quiet {
        fn store(&self) -> Arc<dyn Store> {
            Arc::new(Faulty::new(self.0.current(), Faults::none()))
        }
        fn clock(&self) -> Clock {
            self.0.options.clock.clone()
        }
        async fn crash(&self) -> bool {
            self.0.crash()
        }
    }
    let world = Quiet(simulated(&MemoryDisk::new(), 1));
    queue::conformance::run(&world).await;
    store::conformance::run(&world).await;
    let folder = tempfile::tempdir().unwrap();
    let blobs = FileBlobs::open(folder.path(), Commits::Inline, Trust::of(folder.path())).unwrap();
    blobs::conformance::run(&Faulty::new(blobs, Faults::none()), "salt").await;
}

/// A caller that tries again until it is told `Ok` loses nothing through a queue and a store that fail half the time.
#[tokio::test(start_paused = true)]
async fn trying_again_loses_nothing_through_a_faulty_queue_and_store() {
    for seed in 0..20 {
        let world = simulated(&MemoryDisk::new(), seed);
        let faults = Faults::none();
        faults.script([Fault::Part, Fault::After, Fault::Late(Duration::from_secs(1)), Fault::Before]);
        faults.seed(Rng::seeded(seed), Shares { before: 50, after: 50, part: 50 });
        let faulty = Faulty::new(world.current(), faults.clone());
        let at = QueueRef::new("q");
        let mut unsent: Vec<Message> = (0..30).map(|n| Message::now(Body::Text(n.to_string()))).collect();
        while !unsent.is_empty() {
            if let Ok(outcomes) = faulty.send(&at, &unsent).await {
                let mut outcomes = outcomes.iter();
                unsent.retain(|_| outcomes.next().is_some_and(Result::is_err));
            }
        }
        let mut unseen: std::collections::BTreeSet<String> = (0..30).map(|n| n.to_string()).collect();
        while faulty.depth(&at).await.is_ok_and(|depth| depth.total() > 0) || !unseen.is_empty() {
            let got = faulty.receive(&at, 10, Duration::from_secs(20)).await.unwrap_or_default();
            for delivery in got {
                if let Body::Text(text) = &delivery.body {
                    unseen.remove(text);
                }
                while faulty.settle(&at, &[(delivery.receipt.clone(), Settle::Forget)]).await.is_err() {}
            }
        }
        let key = Key::new("p", "count");
        for n in 1..=10u8 {
            // Whoever got no answer reads before writing again.
            loop {
                match faulty.get(&key).await {
                    Ok(Some(item)) if item.value[..] == [n] => break,
                    Ok(old) => {
                        let expect = old.map_or(Expect::Absent, |item| Expect::Version(item.version));
                        let _ = faulty.put_if(&key, Bytes::from(vec![n]), expect, None).await;
                    }
                    Err(_) => {}
                }
            }
        }
        assert!(faults.injected() > 20, "{}", faults.injected());
        faults.outage(true);
        assert!(matches!(faulty.get(&key).await, Err(BackendError::Retry(_))));
        faults.quiet();
        assert_eq!(faulty.get(&key).await.unwrap().map(|item| item.value.to_vec()), Some(vec![10]));
    }
}

// Those that crash would pull the world from under the others, which run side by side here.
async fn queue_laws(world: &Process) {
    use queue::conformance::{LAWS, Law};
    let laws = LAWS.iter().filter(|(name, _): &&Law| !name.starts_with("a_crash"));
    futures::future::join_all(laws.map(|(_, law)| law(world))).await;
}

async fn store_laws(world: &Process) {
    use store::conformance::{LAWS, Law};
    let laws = LAWS.iter().filter(|(name, _): &&Law| !name.starts_with("a_crash"));
    futures::future::join_all(laws.map(|(_, law)| law(world))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_laws_of_blobs_hold_in_a_folder() {
    for commits in [Commits::Grouped, Commits::Inline] {
        let folder = tempfile::tempdir().unwrap();
        let blobs = FileBlobs::open(folder.path(), commits, Trust::of(folder.path())).unwrap();
        blobs::conformance::run(&blobs, "salt").await;
        let again = FileBlobs::open(folder.path(), commits, Trust::of(folder.path())).unwrap();
        let blob = blobs::BlobRef::of(b"other salt");
        assert_eq!(blobs::Blobs::get(&again, &blob).await.unwrap(), Some(Bytes::from_static(b"other salt")));
        let (head, tail) = blob.as_str().split_at(2);
        std::fs::write(folder.path().join("blobs").join(head).join(tail), "changed").unwrap();
        assert!(matches!(blobs::Blobs::get(&again, &blob).await, Err(BackendError::Fatal(_))));
    }
}

#[tokio::test]
async fn a_folder_has_one_owner_and_says_who() {
    let folder = tempfile::tempdir().unwrap();
    let first = Embedded::open(folder.path(), Options::new(Clock::system())).unwrap();
    let refused = Embedded::open(folder.path(), Options::new(Clock::system())).err().unwrap().to_string();
    assert!(refused.contains(&folder.path().display().to_string()), "{refused}");
    assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
    let clone = first.clone();
    drop(first);
    assert!(Embedded::open(folder.path(), Options::new(Clock::system())).is_err(), "a clone still holds it");
    drop(clone);
    Embedded::open(folder.path(), Options::new(Clock::system())).expect("nobody holds it");
}

#[tokio::test]
async fn a_database_that_is_lost_is_not_made_anew() {
    let at = QueueRef::new("q");
    for other in ["blobs/", "kafka/", "control.key"] {
        let folder = tempfile::tempdir().unwrap();
        let open = || Embedded::open(folder.path(), Options::new(Clock::system()));
        open().unwrap().send(&at, &[Message::now(Body::Text("kept".into()))]).await.unwrap();
        let path = folder.path().join(other);
        match other.strip_suffix('/') {
            Some(_) => std::fs::create_dir(path).unwrap(),
            None => std::fs::write(path, "key").unwrap(),
        }
        let store = folder.path().join("state.redb");
        let sound = std::fs::read(&store).unwrap();
        for lose in [|store: &PathBuf| std::fs::write(store, ""), |store: &PathBuf| std::fs::remove_file(store)] {
            lose(&store).unwrap();
            let refused = open().err().expect("refused");
            assert!(matches!(refused, BackendError::Fatal(_)), "{refused}");
            let says = refused.to_string();
            for part in [store.to_str().unwrap(), other.trim_end_matches('/'), "not new", "copy", "another"] {
                assert!(says.contains(part), "{part:?} is not in {says:?}");
            }
            assert!(!std::fs::metadata(&store).is_ok_and(|file| file.len() > 0), "it was made anew");
        }
        std::fs::write(&store, sound).unwrap();
        assert_eq!(open().unwrap().depth(&at).await.unwrap().visible, 1);
    }
}

#[test]
fn a_first_start_that_was_interrupted_is_begun_again() {
    for (left, bytes) in [("LOCK", 0), ("state.redb", 0), ("state.redb.new", 0), ("state.redb.new", 8192)] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(left), vec![0; bytes]).unwrap();
        drop(Embedded::open(folder.path(), Options::new(Clock::system())).unwrap());
        Embedded::open(folder.path(), Options::new(Clock::system())).unwrap();
        assert!(!folder.path().join("state.redb.new").exists());
    }
}

#[tokio::test]
async fn dropping_waits_for_what_was_submitted() {
    let folder = tempfile::tempdir().unwrap();
    let at = QueueRef::new("q");
    let embedded = Embedded::open(folder.path(), Options::new(Clock::system())).unwrap();
    {
        let messages = [Message::now(Body::Text("kept".into()))];
        let mut send = Box::pin(embedded.send(&at, &messages));
        // Polled once, then given up: it was submitted.
        let _ = futures::poll!(&mut send);
    }
    drop(embedded);
    let embedded = Embedded::open(folder.path(), Options::new(Clock::system())).unwrap();
    assert_eq!(embedded.depth(&at).await.unwrap().visible, 1);
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_is_survived() {
    let disk = MemoryDisk::new();
    let world = simulated(&disk, 2);
    let embedded = world.current();
    let (at, key) = (QueueRef::new("q"), Key::new("p", "k"));
    let message = |text: &str| [Message::now(Body::Text(text.repeat(10_000)))];
    embedded.send(&at, &message("a")).await.unwrap()[0].clone().unwrap();
    let version = embedded.put_if(&key, Bytes::from_static(b"1"), Expect::Absent, None).await.unwrap();
    let got = embedded.receive(&at, 1, Duration::ZERO).await.unwrap();

    disk.fail_after(Some(0));
    let failed = embedded.send(&at, &message("b")).await;
    assert!(matches!(failed, Err(BackendError::Retry(_))), "{failed:?}");
    let failed = embedded.settle(&at, &[(got[0].receipt.clone(), Settle::Forget)]).await;
    assert!(matches!(failed, Err(BackendError::Retry(_))), "{failed:?}");
    let failed = embedded.put_if(&key, Bytes::from_static(b"2"), Expect::Version(version), None).await;
    assert!(matches!(failed, Err(store::PutError::Backend(BackendError::Retry(_)))), "{failed:?}");

    disk.fail_after(None);
    embedded.put_if(&key, Bytes::from_static(b"3"), Expect::Version(version), None).await.unwrap();
    embedded.send(&at, &message("c")).await.unwrap()[0].clone().unwrap();
    // The receipt of before still holds.
    embedded.settle(&at, &[(got[0].receipt.clone(), Settle::Forget)]).await.unwrap();
    let left = embedded.receive(&at, 10, Duration::ZERO).await.unwrap();
    assert_eq!(left.iter().map(|delivery| delivery.body.clone()).collect::<Vec<_>>(), [message("c")[0].body.clone()]);
    assert_eq!(embedded.depth(&at).await.unwrap().total(), 1);
    world.crash();
    assert_eq!(world.current().depth(&at).await.unwrap().total(), 1);
}

/// Queue and store on a simulated disk, with a clock that can be set, and a queue `ticks` that forgets after an hour.
fn on_a_settable_clock(disk: &MemoryDisk) -> (Embedded, WallClock) {
    let (clock, wall) = Clock::settable("2026-08-01T00:00:00Z".parse().unwrap());
    let ticks = QueueOptions { retention: Some(Duration::from_secs(3_600)), ..QueueOptions::default() };
    let queues = [(QueueRef::new("ticks"), ticks)].into();
    let options = Options { commits: Commits::Inline, queues, ..Options::new(clock) };
    (Embedded::on_disk(disk, options).unwrap(), wall)
}

/// Q1: only what is of no use later is dropped for its age; what was accepted stays, however far the clock jumps.
#[tokio::test(start_paused = true)]
async fn q1_only_a_queue_with_a_retention_drops_what_is_old() {
    let (embedded, wall) = on_a_settable_clock(&MemoryDisk::new());
    let (ticks, accepted) = (QueueRef::new("ticks"), QueueRef::new("accepted"));
    for at in [&ticks, &accepted] {
        for _ in 0..12 {
            embedded.send(at, &[Message::now(Body::Text("old".into()))]).await.unwrap();
        }
    }
    wall.step(15 * 86_400);
    embedded.send(&ticks, &[Message::now(Body::Text("young".into()))]).await.unwrap();
    let got = embedded.receive(&ticks, 10, Duration::ZERO).await.unwrap();
    assert_eq!(got.iter().map(|delivery| &delivery.body).collect::<Vec<_>>(), [&Body::Text("young".into())]);
    assert_eq!(embedded.depth(&ticks).await.unwrap().total(), 1);
    assert_eq!(embedded.receive(&accepted, 10, Duration::ZERO).await.unwrap().len(), 10);
    assert_eq!(embedded.depth(&accepted).await.unwrap().total(), 12);
}

/// Delays and visibilities are waited for: a step of the clock makes none of them longer or shorter, nor does a restart.
#[tokio::test(start_paused = true)]
async fn a_step_of_the_clock_changes_no_delay_and_no_visibility() {
    for step in [-3_600, -15 * 86_400, 15 * 86_400] {
        let disk = MemoryDisk::new();
        let (embedded, wall) = on_a_settable_clock(&disk);
        let at = QueueRef::new("q");
        embedded.send(&at, &[Message::now(Body::Text("in work".into()))]).await.unwrap();
        assert_eq!(embedded.receive(&at, 1, Duration::ZERO).await.unwrap().len(), 1);
        let delayed = Message { body: Body::Text("delayed".into()), delay: Duration::from_secs(3) };
        embedded.send(&at, std::slice::from_ref(&delayed)).await.unwrap();
        wall.step(step);
        embedded.send(&at, std::slice::from_ref(&delayed)).await.unwrap();
        assert_eq!(embedded.receive(&at, 10, Duration::from_secs(2)).await.unwrap().len(), 0, "{step} s: too early");
        let got = embedded.receive(&at, 10, Duration::from_secs(2)).await.unwrap();
        assert_eq!(got.len(), 2, "{step} s: their delay is over");
        tokio::time::sleep(crate::limits::VISIBILITY).await;
        assert_eq!(embedded.receive(&at, 10, Duration::ZERO).await.unwrap().len(), 3, "{step} s: all came back");
        // Restarted on a clock that stands far before the sends.
        embedded.send(&at, &[delayed]).await.unwrap();
        drop(embedded);
        let (embedded, _) = on_a_settable_clock(&disk);
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert_eq!(embedded.receive(&at, 10, Duration::ZERO).await.unwrap().len(), 4, "{step} s: after a restart");
    }
}

#[tokio::test(start_paused = true)]
async fn expired_items_are_swept_by_later_writes() {
    let disk = MemoryDisk::new();
    let world = simulated(&disk, 4);
    let embedded = world.current();
    let soon = Some(world.options.clock.now() + Duration::from_secs(1));
    for n in 0..40 {
        embedded.put_if(&Key::new("p", n.to_string()), Bytes::from_static(b"v"), Expect::Any, soon).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    for n in 0..5 {
        embedded.put_if(&Key::new("other", n.to_string()), Bytes::from_static(b"v"), Expect::Any, None).await.unwrap();
    }
    let rows = embedded.shared().database().read(|tx| {
        use redb::ReadableTableMetadata as _;
        Ok((tx.open_table(super::ITEMS)?.len()?, tx.open_table(super::EXPIRIES)?.len()?))
    });
    assert_eq!(rows.unwrap(), (5, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn senders_side_by_side_lose_nothing_and_keep_the_bound() {
    let folder = tempfile::tempdir().unwrap();
    let at = QueueRef::new("q");
    let bound = QueueOptions { capacity: 500, ..QueueOptions::default() };
    let queues = BTreeMap::from([(at.clone(), bound)]);
    let embedded = Embedded::open(folder.path(), Options { queues, ..Options::new(Clock::system()) }).unwrap();
    let sending = (0..16).map(|sender| {
        let (embedded, at) = (embedded.clone(), at.clone());
        tokio::spawn(async move {
            let mut taken = 0;
            for n in 0..50 {
                let body = Body::Binary(Bytes::from(format!("{sender}/{n}")));
                match &embedded.send(&at, &[Message::now(body)]).await.unwrap()[0] {
                    Ok(()) => taken += 1,
                    Err(SendError::Full) => {}
                    Err(e) => panic!("{e}"),
                }
            }
            taken
        })
    });
    let taken: u64 = futures::future::join_all(sending).await.into_iter().map(Result::unwrap).sum();
    assert_eq!(taken, 500);
    let mut bodies = std::collections::BTreeSet::new();
    loop {
        let got = embedded.receive(&at, 10, Duration::ZERO).await.unwrap();
        if got.is_empty() {
            break;
        }
        let receipts: Vec<_> = got.iter().map(|delivery| (delivery.receipt.clone(), Settle::Forget)).collect();
        embedded.settle(&at, &receipts).await.unwrap();
        for delivery in got {
            let Body::Binary(body) = delivery.body else { panic!("sent as binary") };
            assert!(bodies.insert(body), "twice");
        }
    }
    assert_eq!(bodies.len(), 500);
    assert_eq!(embedded.depth(&at).await.unwrap().total(), 0);
}
