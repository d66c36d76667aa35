#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::*;
use crate::app::Seams;
use crate::deliver::lag;
use crate::deliver::report::{self, Report, Wait};
use crate::embedded::{Commits, Embedded, FileBlobs, MemoryDisk, Options, QueueOptions};
use crate::faults::sink::FaultySink;
use crate::faults::upstream::Scripted;
use crate::queue::{Body, QueueRef};
use crate::record::{StreamId, Tier, Topic};
use crate::schedule::file::StreamsFile;
use crate::schedule::lease::Lease;
use crate::schedule::ticks;
use crate::settings::{Secret, Settings};
use crate::sink::Position;
use crate::sources::{Polled, Services};
use crate::time::{Clock, Rng, WallClock};
use crate::upstream::{Response, Unreachable};

const HEADER: &str = "latitude,longitude,bright_ti4,scan,track,acq_date,acq_time,satellite,instrument,confidence,version,bright_ti5,frp,daynight";
const GOOD: &str = "36.35636,-114.91283,323.3,0.65,0.73,2026-08-01,5,N,VIIRS,n,2.0NRT,293.5,3.1,N";
const REVISED: &str = "36.35636,-114.91283,323.3,0.65,0.73,2026-08-01,5,N,VIIRS,h,2.0NRT,293.5,3.1,N";
const BAD: &str = "91.5,-114.91283,323.3,0.65,0.73,2026-08-01,5,N,VIIRS,n,2.0NRT,293.5,3.1,N";

/// A queue without room.
const FULL: &str = "local:full";

/// One registered stream, polled every `interval`, whose source answers as scripted.
struct PolledStream {
    app: App,
    source: Arc<Scripted>,
    wall: WallClock,
    stream: StreamId,
    _folder: tempfile::TempDir,
}

type Answers = Vec<(Duration, Result<Response, Unreachable>)>;

fn says(status: u16, headers: &[(&str, &str)], body: String) -> (Duration, Result<Response, Unreachable>) {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    (Duration::ZERO, Ok(Response { status, headers, body: Bytes::from(body), elapsed: Duration::ZERO }))
}

fn rows(rows: &[&str]) -> (Duration, Result<Response, Unreachable>) {
    says(200, &[("etag", "\"v1\"")], format!("{HEADER}\n{}\n", rows.join("\n")))
}

impl PolledStream {
    async fn new(interval: &str, answers: Answers) -> PolledStream {
        let spec = format!(
            "id: snpp, source_id: firms_viirs_snpp, connector: firms, interval: {interval}, \
             config: {{product: VIIRS_SNPP_NRT, area: [-124.5, 32.5, -114.1, 42.1]}}"
        );
        PolledStream::of("snpp", &spec, answers).await
    }

    async fn of(stream: &str, spec: &str, answers: Answers) -> PolledStream {
        let (clock, wall) = Clock::settable("2026-08-01T00:10:00Z".parse().unwrap());
        let full = QueueOptions { capacity: 0, ..QueueOptions::default() };
        let queues = [(QueueRef::new(FULL), full)].into();
        let options = Options { commits: Commits::Inline, queues, ..Options::new(clock.clone()) };
        let embedded = Arc::new(Embedded::on_disk(&MemoryDisk::default(), options).unwrap());
        let folder = tempfile::tempdir().unwrap();
        let source = Arc::new(Scripted::new(answers));
        let mut services = Services::default();
        services.set_key("FIRMS_MAP_KEY", Secret::new("k3y"));
        let app = App::new(
            Settings { services, ..Settings::local() },
            Seams {
                queue: embedded.clone(),
                store: embedded.clone(),
                blobs: Arc::new(FileBlobs::open(folder.path(), Commits::Inline, embedded.trust().clone()).unwrap()),
                sink: Arc::new(FaultySink::memory()),
                upstream: source.clone(),
            },
            clock,
            Rng::seeded(1),
        );
        let file = format!("version: 1\nstreams:\n  - {{tenant: cal-fire, {spec}}}\n");
        streams::apply(&app, &StreamsFile::parse(&file).unwrap(), false).await.unwrap();
        PolledStream { app, source, wall, stream: StreamId::new(stream).unwrap(), _folder: folder }
    }

    fn tick(&self) -> Tick {
        Tick { stream: self.stream.clone(), due_at: self.app.clock.now() }
    }

    /// A poll that is due now; the next one is 45 s later.
    async fn poll(&self) -> PollOutcome {
        let outcome = poll(&self.app, &self.tick()).await.unwrap();
        tokio::time::advance(Duration::from_secs(45)).await;
        outcome
    }

    /// The poll that is due now is not made, nor any other until `until`, and it says why.
    async fn is_throttled(&self, until: Timestamp, because: &str) {
        assert_eq!(self.poll().await, PollOutcome::Dropped("throttled"));
        let state = self.state().await;
        assert_eq!(state.not_before, Some(until));
        assert!(state.is_throttled(self.app.clock.now()));
        assert!(state.last_error.as_ref().is_some_and(|said| said.contains(because)), "{:?}", state.last_error);
        assert_eq!(self.poll().await, PollOutcome::Dropped("told to wait"));
    }

    async fn state(&self) -> PollState {
        streams::poll_state(&*self.app.store, &self.stream).await.unwrap()
    }

    async fn lease(&self, name: &str, owner: &str) -> Option<Lease> {
        self.app.leases.acquire(&*self.app.store, &self.app.clock, name, owner, LEASE).await.unwrap()
    }

    async fn queued(&self) -> u64 {
        self.app.queue.depth(self.app.settings.queues.tier(Tier::High)).await.unwrap().total()
    }
}

fn ledger(outcome: PollOutcome) -> Ledger {
    match outcome {
        PollOutcome::Polled(ledger) => ledger,
        other => panic!("not polled: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn s12_an_overlapping_window_gives_each_record_once_and_its_revision() {
    let world = PolledStream::new("60s", vec![rows(&[GOOD, BAD]), rows(&[GOOD]), rows(&[REVISED])]).await;
    let first = ledger(world.poll().await);
    assert_eq!((first.decoded, first.new, first.rejected), (2, 1, 1));
    let second = ledger(world.poll().await);
    assert_eq!((second.new, second.duplicates), (0, 1));
    let third = ledger(world.poll().await);
    assert_eq!((third.new, third.revisions), (0, 1));
    assert_eq!(world.queued().await, 2, "one envelope a publication");
    let state = world.state().await;
    assert_eq!((state.records_processed, state.records_failed, state.last_error), (2, 1, None));
    let asked = world.source.asked();
    assert!(asked[0].headers.is_empty());
    assert_eq!(asked[1].headers, [("if-none-match".to_owned(), "\"v1\"".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn s10_three_failures_open_the_breaker_for_a_growing_time_and_a_success_closes_it() {
    let silent = || (Duration::from_secs(60), Ok(says(200, &[], String::new()).1.unwrap()));
    let html = || says(200, &[], "<html>down</html>".into());
    let world = PolledStream::new("60s", vec![silent(), html(), silent(), html(), rows(&[GOOD])]).await;
    for _ in 0..3 {
        assert!(matches!(world.poll().await, PollOutcome::Failed(_)));
    }
    let opened = world.state().await;
    assert_eq!((opened.breaker.failures(), opened.breaker.state()), (3, BreakerState::Open));
    assert_eq!(world.poll().await, PollOutcome::Dropped("told to wait"), "open for a minute");
    assert!(matches!(world.poll().await, PollOutcome::Failed(_)), "the probe fails");
    for _ in 0..2 {
        assert_eq!(world.poll().await, PollOutcome::Dropped("told to wait"), "open for two minutes now");
    }
    assert_eq!(ledger(world.poll().await).new, 1);
    let closed = world.state().await;
    assert_eq!((closed.breaker.failures(), closed.not_before, closed.last_error), (0, None, None));
}

#[tokio::test(start_paused = true)]
async fn s11_a_source_that_asks_for_time_gets_it() {
    let world =
        PolledStream::new("60s", vec![says(429, &[("retry-after", "150")], "slow down".into()), rows(&[GOOD])]).await;
    assert!(matches!(world.poll().await, PollOutcome::Failed(_)));
    for _ in 0..3 {
        assert_eq!(world.poll().await, PollOutcome::Dropped("told to wait"));
    }
    assert_eq!(ledger(world.poll().await).new, 1);
    assert_eq!(world.source.asked().len(), 2, "nothing was asked while waiting");
}

/// What one stream is told holds for all that ask the same host: a quota is the key's, not the stream's.
#[tokio::test(start_paused = true)]
async fn s11_streams_of_one_host_share_what_it_tells_one_of_them_in_whatever_form() {
    const AREA: &str = "area: [-124.5, 32.5, -114.1, 42.1]}";
    let stream = |id: &str, source: &str, product: &str| {
        format!("id: {id}, source_id: {source}, connector: firms, interval: 60s, config: {{product: {product}, {AREA}")
    };
    let (one, two) =
        (stream("one", "firms_viirs_snpp", "VIIRS_SNPP_NRT"), stream("two", "firms_viirs_noaa20", "VIIRS_NOAA20_NRT"));
    let answers = vec![says(200, &[], "Exceeding allowed transaction limit.".into()), rows(&[GOOD])];
    let mut world = PolledStream::of("one", &format!("{one}}}\n  - {{tenant: t, {two}"), answers).await;
    assert!(matches!(world.poll().await, PollOutcome::Failed(_)));
    world.stream = StreamId::new("two").unwrap();
    assert_eq!(world.poll().await, PollOutcome::Dropped("its host is to be left alone"));
    assert_eq!((world.state().await.breaker.failures(), world.source.asked().len()), (0, 1));
    let until = world.state().await.not_before.unwrap();
    let ahead = Duration::try_from(until.duration_since(world.app.clock.now())).unwrap();
    tokio::time::advance(ahead).await;
    assert_eq!(ledger(world.poll().await).new, 1);
}

#[tokio::test(start_paused = true)]
async fn an_unmodified_source_is_no_fault_and_an_error_text_is_no_empty_window() {
    let refused = says(200, &[], "Invalid MAP_KEY.".into());
    let world = PolledStream::new("60s", vec![rows(&[GOOD]), says(304, &[], String::new()), refused]).await;
    ledger(world.poll().await);
    assert_eq!(world.poll().await, PollOutcome::NotModified);
    assert_eq!(world.state().await.breaker.failures(), 0);
    let PollOutcome::Failed(text) = world.poll().await else { panic!("a wrong key was taken for data") };
    assert!(text.contains("map key") && !text.contains("k3y"), "{text}");
    assert!(world.state().await.cursor.contains("v1"), "the cursor did not move");
}

/// M4: an invocation has its time; what a poll does not reach in it comes with the next one, and nothing is left out.
#[tokio::test(start_paused = true)]
async fn m4_a_poll_of_many_addresses_that_takes_too_long_goes_on_at_the_next_one() {
    let slow = |station: &str| {
        let body = format!(
            "{{\"properties\": {{\"station\": \"{station}\", \"timestamp\": \"2026-08-01T00:00:00Z\"}}, \"geometry\": null}}"
        );
        let (_, answer) = says(200, &[("etag", "\"v1\"")], body);
        (Duration::from_secs(8), answer)
    };
    let stations = ["KAAA", "KBBB", "KCCC", "KDDD", "KEEE", "KFFF"];
    let spec = format!(
        "id: six, source_id: noaa_observations, connector: nws_observations, interval: 60s, config: {{stations: [{}]}}",
        stations.join(", ")
    );
    let world = PolledStream::of("six", &spec, stations.iter().map(|station| slow(station)).collect()).await;
    assert_eq!(ledger(world.poll().await).new, 4, "8 s each");
    assert!(world.state().await.missing.is_some_and(|said| said.contains("took too long")));
    assert_eq!(ledger(world.poll().await).new, 2);
    assert_eq!(world.state().await.missing, None);
    let asked = world.source.asked();
    let asked: Vec<_> = asked.iter().filter_map(|request| request.url.reveal().split('/').nth(4)).collect();
    assert_eq!(asked, stations);
}

#[tokio::test(start_paused = true)]
async fn q2_a_full_queue_makes_the_poller_wait_and_is_no_fault_of_the_source() {
    let mut world = PolledStream::new("60s", vec![rows(&[GOOD])]).await;
    let filled = world.app.settings.queues.tier(Tier::High).clone();
    let mut settings = (*world.app.settings).clone();
    settings.queues.high = QueueRef::new(FULL);
    world.app.settings = Arc::new(settings);
    for _ in 0..4 {
        assert_eq!(world.poll().await, PollOutcome::Dropped("the queue is full"));
        assert_eq!(world.poll().await, PollOutcome::Dropped("told to wait"));
    }
    let state = world.state().await;
    assert_eq!((state.breaker.failures(), state.cursor.as_str(), state.records_processed), (0, "", 0));
    let mut settings = (*world.app.settings).clone();
    settings.queues.high = filled;
    world.app.settings = Arc::new(settings);
    assert_eq!(ledger(world.poll().await).new, 1, "nothing was lost");
}

/// Q3: before a tier is full its sources wait, and are not even asked; CRITICAL has no polled source.
#[tokio::test(start_paused = true)]
async fn q3_a_tier_that_fills_up_makes_its_sources_wait() {
    let world = PolledStream::new("60s", vec![rows(&[GOOD])]).await;
    let say = async |expected_s| {
        let wait = Wait { expected_s: Some(expected_s), ..Wait::default() };
        let (at, waits) = (world.app.clock.now(), [(Tier::High, wait)].into());
        report::keep(&*world.app.store, &Report { at, waits, breakers: Default::default() }).await.unwrap();
    };
    for (expected_s, pause) in [(400.0, 60), (500.0, 120)] {
        say(expected_s).await;
        let now = world.app.clock.now();
        world.is_throttled(now + Duration::from_secs(pause), "HIGH is").await;
        tokio::time::advance(Duration::from_secs(pause)).await;
    }
    assert_eq!(ledger(world.poll().await).new, 1, "a report of minutes ago says nothing of now");
    assert!(!world.state().await.is_throttled(world.app.clock.now()));
}

/// Q4: the longer of Q3 and Q4 holds, and another topic's readers make nobody wait.
#[tokio::test(start_paused = true)]
async fn q4_consumers_that_fall_behind_make_the_sources_of_their_topic_wait() {
    let world = PolledStream::new("60s", vec![rows(&[GOOD]), rows(&[REVISED])]).await;
    let at = |topic, committed, end| Position { group: "desk".into(), topic, partition: 0, committed, end };
    let look = async |positions: &[Position]| {
        let store = &*world.app.store;
        let lags = lag::last(store).await.unwrap().after(positions, &world.app.clock);
        lag::keep(store, &lags).await.unwrap();
    };
    let behind = [at(Topic::NASA_FIRMS, 5, 6), at(Topic::WEATHER, 0, 100)];
    look(&[at(Topic::NASA_FIRMS, 5, 5), at(Topic::WEATHER, 0, 100)]).await;
    for _ in 0..10 {
        tokio::time::advance(Duration::from_secs(30)).await;
        look(&[at(Topic::NASA_FIRMS, 5, 5), at(Topic::WEATHER, 0, 100)]).await;
    }
    assert_eq!(ledger(world.poll().await).new, 1, "its own topic's readers have read everything");
    for _ in 0..4 {
        look(&behind).await;
        tokio::time::advance(Duration::from_secs(45)).await;
    }
    look(&behind).await;
    world
        .is_throttled(
            world.app.clock.now() + Duration::from_secs(120),
            "group desk is 180 s behind on wildfire-nasa-firms",
        )
        .await;
    tokio::time::advance(Duration::from_secs(120)).await;
    look(&[at(Topic::NASA_FIRMS, 6, 6)]).await;
    assert_eq!(ledger(world.poll().await).revisions, 1);
}

/// P6: a push is not taken when it would wait too long for its turn; alerts are.
#[tokio::test(start_paused = true)]
async fn p6_a_tier_whose_records_would_wait_ten_minutes_takes_no_new_ones() {
    let world = PolledStream::new("60s", vec![]).await;
    let app = &world.app;
    let say = async |tier: Tier, expected_s| {
        let wait = Wait { expected_s: Some(expected_s), ..Wait::default() };
        let (at, waits) = (app.clock.now(), [(tier, wait)].into());
        report::keep(&*app.store, &Report { at, waits, breakers: Default::default() }).await.unwrap();
    };
    let takes = async |tier| {
        tokio::time::advance(Duration::from_secs(5)).await;
        app.room.takes(tier, &*app.store, &app.clock).await
    };
    assert!(takes(Tier::Low).await, "nothing is known");
    say(Tier::Low, 599.0).await;
    assert!(takes(Tier::Low).await);
    say(Tier::Low, 600.0).await;
    assert!(!takes(Tier::Low).await);
    assert!(takes(Tier::Normal).await);
    say(Tier::Critical, 9e9).await;
    assert!(takes(Tier::Critical).await);
    say(Tier::Low, 600.0).await;
    tokio::time::advance(Duration::from_secs(60)).await;
    assert!(takes(Tier::Low).await, "nobody delivers, and nothing is known of now");
}

#[tokio::test(start_paused = true)]
async fn m4_a_tick_is_worked_on_once_in_time_and_by_one() {
    let world = PolledStream::new("60s", vec![rows(&[GOOD])]).await;
    let tick = world.tick();
    let held = world.lease("poll/snpp", "another").await.unwrap();
    let PollOutcome::Dropped(why) = poll(&world.app, &tick).await.unwrap() else { panic!("two polls at once") };
    assert!(why.contains("under way"));
    held.release(&*world.app.store).await.unwrap();

    ledger(poll(&world.app, &tick).await.unwrap());
    assert_eq!(poll(&world.app, &tick).await.unwrap(), PollOutcome::Dropped("a repeat"));
    let late = world.tick();
    tokio::time::advance(Duration::from_secs(61)).await;
    assert_eq!(poll(&world.app, &late).await.unwrap(), PollOutcome::Dropped("late"));
    streams::set_started(&world.app, &world.stream, false, "test").await.unwrap();
    assert_eq!(world.poll().await, PollOutcome::Dropped("stopped"));
    let unknown = Tick { stream: StreamId::new("gone").unwrap(), ..world.tick() };
    assert_eq!(poll(&world.app, &unknown).await.unwrap(), PollOutcome::Dropped("removed"));
    assert_eq!(world.source.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn m4_planned_ticks_arrive_at_their_times_and_each_is_polled() {
    let world = PolledStream::new("15s", vec![rows(&[GOOD])]).await;
    let queue = world.app.settings.queues.stream_ticks.clone();
    assert_eq!(ticks::plan(&world.app).await.unwrap(), 9, "one now and eight in two minutes");
    assert_eq!(ticks::plan(&world.app).await.unwrap(), 0, "the watermark stands");
    let mut polled = Vec::new();
    let began = world.app.clock.now();
    while polled.len() < 9 && world.app.clock.since(began) < Duration::from_secs(300) {
        for delivery in world.app.queue.receive(&queue, 1, Duration::from_secs(1)).await.unwrap() {
            let Body::Text(text) = &delivery.body else { panic!("a tick is text") };
            let tick: Tick = serde_json::from_str(text).unwrap();
            assert!(world.app.clock.now() >= tick.due_at, "{} came before it was due", tick.due_at);
            ledger(poll(&world.app, &tick).await.unwrap());
            polled.push(tick.due_at);
            let forget = [(delivery.receipt, crate::queue::Settle::Forget)];
            world.app.queue.settle(&queue, &forget).await.unwrap();
        }
    }
    assert_eq!(polled.len(), 9);
    assert!(polled[1..].windows(2).all(|pair| pair[1].as_second() - pair[0].as_second() == 15), "{polled:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_applied_again_changes_only_what_the_file_changes() {
    let world = PolledStream::new("60s", vec![rows(&[GOOD])]).await;
    let registered = streams::get(&*world.app.store, &world.stream).await.unwrap().unwrap();
    let mut file =
        StreamsFile { version: 1, streams: vec![registered.spec.clone()], sensors: Vec::new(), mqtt: Vec::new() };
    let again = streams::apply(&world.app, &file, true).await.unwrap();
    assert_eq!((again.unchanged.len(), again.added.len(), again.changed.len()), (1, 0, 0));
    streams::set_started(&world.app, &world.stream, false, "test").await.unwrap();
    let Polled::Firms(config) = &mut file.streams[0].polled else { panic!("another connector") };
    config.days = 3;
    let changed = streams::apply(&world.app, &file, true).await.unwrap();
    assert_eq!(changed.changed, std::slice::from_ref(&world.stream));
    let now = streams::get(&*world.app.store, &world.stream).await.unwrap().unwrap();
    let Polled::Firms(config) = &now.spec.polled else { panic!("another connector") };
    assert_eq!((now.started, config.days), (false, 3), "a stopped stream stays stopped");
    file.streams.clear();
    assert!(streams::apply(&world.app, &file, false).await.unwrap().removed.is_empty(), "only --prune removes");
    assert_eq!(streams::apply(&world.app, &file, true).await.unwrap().removed.len(), 1);
    assert!(streams::list(&*world.app.store).await.unwrap().is_empty());
}

/// M4: the clock was a day ahead while ticks were planned and polled, with a source that had just failed three times. Set
/// right, polls go on within a plan and the breaker's own wait, and none is made twice.
#[tokio::test(start_paused = true)]
async fn m4_a_clock_that_was_set_back_stops_no_polls() {
    const DAY: i64 = 86_400;
    for back in [-30, -90, -3_600, -DAY, -15 * DAY] {
        let html = || says(200, &[], "<html>down</html>".into());
        let world = PolledStream::new("15s", vec![rows(&[GOOD]), html(), html(), html(), rows(&[GOOD])]).await;
        let minutes = async |minutes: u64| {
            let queue = world.app.settings.queues.stream_ticks.clone();
            let before = world.source.asked().len();
            for _ in 0..minutes {
                ticks::plan(&world.app).await.unwrap();
                let end = Instant::now() + Duration::from_secs(60);
                while Instant::now() < end {
                    for delivery in world.app.queue.receive(&queue, 1, Duration::from_secs(1)).await.unwrap() {
                        let Body::Text(text) = &delivery.body else { panic!("a tick is text") };
                        poll(&world.app, &serde_json::from_str(text).unwrap()).await.unwrap();
                        let forget = [(delivery.receipt, crate::queue::Settle::Forget)];
                        world.app.queue.settle(&queue, &forget).await.unwrap();
                    }
                }
            }
            world.source.asked().len() - before
        };
        assert_eq!(minutes(1).await, 4, "three failures open the breaker for a minute");
        world.wall.step(back);
        let polls = minutes(2).await;
        assert!((2..=8).contains(&polls), "{back} s: {polls} polls in two minutes");
        let polls = minutes(2).await;
        assert!((7..=9).contains(&polls), "{back} s: {polls} polls in the next two minutes");
    }
}

/// Whoever died with a lease, on a clock that was ahead, holds up nobody for longer than the lease.
#[tokio::test(start_paused = true)]
async fn a_lease_from_the_future_ends_by_the_monotonic_clock() {
    let world = PolledStream::new("60s", vec![rows(&[GOOD])]).await;
    let dead = world.lease("one", "dead").await.unwrap();
    world.wall.step(-3_600);
    assert!(world.lease("one", "heir").await.is_none());
    tokio::time::advance(LEASE / 2).await;
    assert!(world.lease("one", "heir").await.is_none());
    tokio::time::advance(LEASE / 2).await;
    let mut heir = world.lease("one", "heir").await.expect("the dead one's time is over");
    let mut dead = dead;
    assert!(!dead.renew(&*world.app.store, &world.app.clock).await.unwrap(), "it is fenced");
    // One that is renewed stays with its holder.
    for _ in 0..5 {
        tokio::time::advance(LEASE / 2).await;
        assert!(heir.renew(&*world.app.store, &world.app.clock).await.unwrap());
        assert!(world.lease("one", "third").await.is_none());
    }
}

/// A6: whoever reads the keys reads them again after a service has refused one, and not for any other trouble.
#[tokio::test(start_paused = true)]
async fn a6_a_refused_key_is_told_as_such() {
    let answers = vec![says(400, &[], "Invalid MAP_KEY.".to_owned()), says(503, &[], "down".to_owned())];
    let polled = PolledStream::new("45s", answers).await;
    assert!(!polled.app.key_doubt.settle());
    for in_doubt in [true, false] {
        assert!(matches!(polled.poll().await, PollOutcome::Failed(_)));
        assert_eq!(polled.app.key_doubt.settle(), in_doubt);
    }
}
