//! Chaos on real processes [Q1, K6, R5]: `up`, a broker and a bulk load, senders at every door, faults by a seeded plan, and a
//! ledger outside of the system that is held against the topics and the dead letters.

pub mod broker;
pub mod ledger;
pub mod plan;
pub mod recovery;
pub mod relay;
pub mod report;
pub mod senders;
pub mod topics;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::runtime::Runtime;

use self::broker::{Broker, Which};
use self::ledger::{Door, Item};
use self::plan::{Fault, Plan};
use self::report::{Disturbance, Report, Run};
use self::senders::{Credentials, Doors, Load, Senders, bad_number};
use self::topics::Watch;
use crate::disk::SmallDisk;
use crate::free_port;
use crate::system::{Start, System, client};
use crate::upstream::{FIRMS_STREAM, FakeUpstream};

/// Nothing more comes through for so long: what waits then is stuck.
const STUCK: Duration = Duration::from_secs(90);
/// Between two looks at the readiness of the intake.
const LOOK: Duration = Duration::from_millis(100);

/// One run.
#[derive(Debug, Clone)]
pub struct Setup {
    pub which: Which,
    pub seed: u64,
    /// Of these the ones that are possible with this broker on this host.
    pub faults: Vec<Fault>,
    /// Of `up`: the plan ends with the last of them, or when the time is over; each kind of fault comes once at least.
    pub kills: u64,
    pub time: Duration,
    /// A fault lasts so long at most.
    pub longest: Duration,
    /// After so many faults the senders pause until everything is delivered.
    pub settle_after: u64,
    pub load: Load,
    pub disk_mib: u64,
    /// Each fault is told when it comes.
    pub tells: bool,
}

/// Runs the plan. `folder` is empty.
pub fn run(folder: &Path, setup: &Setup) -> Report {
    let (runtime, began) = (Runtime::new().expect("a runtime"), Instant::now());
    let broker = Broker::start(setup.which, folder);
    // With a broker inside, alerts stop at the disk's floor, and its logs would fill the disk by themselves.
    let disk = (setup.which != Which::Inside).then(|| SmallDisk::mount(folder.join("disk"), setup.disk_mib)).flatten();
    let (http, mqtt) = (free_port(), free_port());
    let doors = Doors::new(http, mqtt, runtime.handle().clone());
    let upstream = senders::upstream(&doors);
    let mut start = Start::quiet(&folder.join("up"));
    std::fs::write(&start.streams, FIRMS_STREAM.replace("60s", "1s")).expect("a streams file");
    (start.kafka, start.upstream) = (broker.told(), Some(upstream.url.clone()));
    if let Some(disk) = &disk {
        start.data = disk.folder().join("data");
    }
    let system = System::up_on(&start, http, mqtt);
    let credentials = runtime.block_on(async {
        let (http_key, mqtt_key) = (system.sender("butte").await, system.sender("yuba").await);
        Credentials { http_key, mqtt_user: "yuba".into(), mqtt_key }
    });
    assert!(doors.credentials.set(credentials).is_ok(), "they register once");
    let watch = Watch::start(&broker.address());
    let looks = Looks::start(&runtime, http);
    let senders = Senders::start(&doors, setup.load, folder.join("bulk"), broker.address());
    let (system, senders) = (Some(system), Some(senders));
    let (open, told) = (Vec::new(), Told::default());
    let mut world = World { runtime, broker, start, system, doors, watch, disk, senders, open, told };
    world.disturb(setup);
    world.end(setup, began, looks, &upstream)
}

/// What `up` said, and what was seen of it from outside.
#[derive(Default)]
struct Told {
    disturbances: Vec<Disturbance>,
    hits: u64,
    hits_in_flight: u64,
    redelivered: u64,
    /// By this life.
    redelivered_now: u64,
    longest_settling: Duration,
    violations: Vec<String>,
}

struct World {
    runtime: Runtime,
    broker: Broker,
    start: Start,
    system: Option<System>,
    doors: Arc<Doors>,
    watch: Watch,
    disk: Option<SmallDisk>,
    /// Until the end.
    senders: Option<Senders>,
    /// Accepted, and when last looked at not on a topic yet.
    open: Vec<Item>,
    told: Told,
}

impl World {
    fn disturb(&mut self, setup: &Setup) {
        let (begin, mut kills, possible) = (Instant::now(), 0, self.possible(&setup.faults));
        let plan = Plan::new(setup.seed, &possible, setup.longest);
        for (number, step) in (1..).zip(plan) {
            sleep(step.flow);
            let began = Instant::now();
            let disturbed = self.disturbs_broker(step.fault);
            if disturbed {
                self.watch.let_go();
            }
            self.inflict(step.fault, step.hold);
            if disturbed {
                self.watch.take_up();
            }
            self.told.disturbances.push(Disturbance { fault: step.fault, began, ended: Instant::now() });
            kills += u64::from(step.fault.kills_up());
            if setup.tells {
                let (at, took) = ((began - begin).as_secs_f64(), began.elapsed().as_secs_f64());
                println!("{at:>8.1} s  {} ({took:.1} s)", step.fault);
            }
            if number % setup.settle_after == 0 {
                let doors = self.doors.clone();
                let (nobody_sends, since) = (doors.gate.write(), Instant::now());
                self.settle();
                self.told.longest_settling = since.elapsed().max(self.told.longest_settling);
                drop(nobody_sends);
            }
            // Each kind of fault came once at least.
            let enough = number >= possible.len() as u64 && (kills >= setup.kills || begin.elapsed() >= setup.time);
            if enough || !self.told.violations.is_empty() {
                return;
            }
        }
    }

    /// What can be done to this broker on this host.
    fn possible(&self, faults: &[Fault]) -> Vec<Fault> {
        use Fault::*;
        let possible = |fault: &Fault| match fault {
            KillBoth | KillBroker | FreezeBroker => !matches!(self.broker, Broker::Inside { .. }),
            CutConnections | Silence => self.broker.relay().is_some(),
            FillDisk => self.disk.is_some(),
            Kill | KillInFlight | FreezeUp | BurnCpu | KillIngest => true,
        };
        faults.iter().copied().filter(possible).collect()
    }

    /// Whether the broker goes, stands still or cannot be reached.
    fn disturbs_broker(&self, fault: Fault) -> bool {
        use Fault::*;
        match fault {
            KillInFlight | KillBoth | KillBroker | FreezeBroker | CutConnections | Silence => true,
            Kill | FreezeUp => matches!(self.broker, Broker::Inside { .. }),
            FillDisk | BurnCpu | KillIngest => false,
        }
    }

    fn inflict(&mut self, fault: Fault, hold: Duration) {
        match fault {
            Fault::Kill => drop(self.kill(|_| {})),
            Fault::KillInFlight => {
                self.broker.signal("-STOP");
                // What it confirmed before arrives, and what comes now is handed over.
                sleep(Duration::from_millis(100));
                self.until_queued();
                self.told.hits_in_flight += u64::from(self.kill(|broker| broker.signal("-CONT")));
            }
            Fault::KillBoth => {
                self.broker.kill();
                self.kill(|_| {});
                // Not the time of `up` alone.
                self.watch.arrivals.lock().forget_flow();
                sleep(hold);
                self.broker.come_back();
            }
            Fault::KillBroker => {
                self.broker.kill();
                sleep(hold);
                self.broker.come_back();
            }
            Fault::FreezeUp => {
                self.system().signal("-STOP");
                sleep(hold);
                self.system().signal("-CONT");
            }
            Fault::FreezeBroker => {
                self.broker.signal("-STOP");
                sleep(hold);
                self.broker.signal("-CONT");
            }
            Fault::CutConnections | Fault::Silence => {
                let relay = self.broker.relay().expect("the plan knows that there is one");
                if fault == Fault::Silence {
                    relay.silence()
                } else {
                    relay.cut()
                }
                sleep(hold);
                relay.mend();
            }
            Fault::FillDisk => {
                let disk = self.disk.as_ref().expect("the plan knows that there is one");
                disk.fill();
                sleep(hold);
                disk.free();
            }
            Fault::BurnCpu => burn(hold),
            Fault::KillIngest => self.senders.iter().for_each(|senders| senders.ingest.kill()),
        }
    }

    fn system(&self) -> &System {
        self.system.as_ref().expect("it runs between two faults")
    }

    /// Kills `up` and starts it again; between the two comes `then`. Whether it found records queued.
    fn kill(&mut self, then: impl FnOnce(&Broker)) -> bool {
        self.told.redelivered += std::mem::take(&mut self.told.redelivered_now);
        let system = self.system.take().expect("it runs between two faults");
        let (http, mqtt, killed) = (system.http, system.mqtt, Instant::now());
        system.kill();
        then(&self.broker);
        let system = System::up_on(&self.start, http, mqtt);
        self.watch.arrivals.lock().await_flow(killed);
        let found_some = system.started["started"]["queued_at_start"].as_u64().unwrap_or_default() > 0;
        self.told.hits += u64::from(found_some);
        self.system = Some(system);
        found_some
    }

    /// Until something waits in the queues, for a moment.
    fn until_queued(&self) {
        let end = Instant::now() + Duration::from_secs(5);
        while Instant::now() < end && self.waiting("stream_queue_depth{").is_some_and(|waiting| waiting.is_empty()) {
            sleep(Duration::from_millis(1));
        }
    }

    /// Lines of the metrics that begin so and are not 0; `None` when they cannot be had.
    fn waiting(&self, begin: &str) -> Option<Vec<String>> {
        let page = self.runtime.block_on(self.system().page("/metrics")).ok()?;
        let waits = |line: &&str| line.starts_with(begin) && !line.ends_with(" 0");
        Some(page.lines().filter(waits).map(str::to_owned).collect())
    }

    /// Until everything that was accepted is on the topics and no queue holds anything; nobody sends meanwhile.
    fn settle(&mut self) {
        if !self.told.violations.is_empty() {
            return;
        }
        self.watch.arrivals.lock().pause();
        let (mut found, mut since) = (0, Instant::now());
        loop {
            let waits = self.waiting("stream_queue_depth{").zip(self.waiting("stream_unread_readings "));
            let waits = waits.map(|(queued, unread)| [queued, unread].concat());
            let missing = self.missing().len();
            if missing == 0 && waits.as_ref().is_some_and(Vec::is_empty) {
                break;
            }
            let now = self.watch.arrivals.lock().found.len();
            if now > found {
                (found, since) = (now, Instant::now());
            } else if since.elapsed() > STUCK {
                let first = self.open.first();
                let problem = format!("{missing} records do not come, first {first:?}; waiting: {waits:?}");
                return self.told.violations.push(problem);
            }
            sleep(Duration::from_millis(20));
        }
        let status = self.runtime.block_on(self.system().page("/status"));
        let status: Value = serde_json::from_str(&status.expect("it answers")).expect("JSON");
        self.told.redelivered_now = status["delivered_by_this_process"]["redelivered"].as_u64().unwrap_or_default();
    }

    /// What `up` has accepted and is not on a topic yet.
    fn missing(&mut self) -> &[Item] {
        let fresh = std::mem::take(&mut self.doors.accepted.lock().fresh);
        // The bulk load delivers for itself.
        self.open.extend(fresh.iter().filter(|item| !matches!(item.door, Door::BadReading | Door::Bulk)));
        let arrivals = self.watch.arrivals.lock();
        self.open.retain(|item| !arrivals.found.contains_key(item));
        &self.open
    }

    /// Numbers of the bad readings that are dead letters, and every other letter.
    fn letters(&self) -> (BTreeSet<u32>, Vec<String>) {
        let (mut bad, mut others, mut after) = (BTreeSet::new(), Vec::new(), String::new());
        loop {
            let path = format!("/dead-letters?max=1000{after}");
            let (status, page) = self.runtime.block_on(self.system().control(reqwest::Method::GET, &path, None));
            assert_eq!(status, 200, "{page}");
            for letter in page["dead_letters"].as_array().expect("a list of letters") {
                match letter["sender"]["topic"].as_str().and_then(bad_number) {
                    Some(number) => drop(bad.insert(number)),
                    None => others.push(letter.to_string()),
                }
            }
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => return (bad, others),
            }
        }
    }

    fn end(mut self, setup: &Setup, began: Instant, looks: Looks, upstream: &FakeUpstream) -> Report {
        let looks = looks.end(&self.runtime);
        let doors = self.doors.clone();
        self.senders.take().into_iter().for_each(Senders::stop);
        // What the polled source answered last is taken in with the next poll at the latest.
        let (asked, end) = (upstream.requests().len(), Instant::now() + STUCK);
        while upstream.requests().len() < asked + 2 && Instant::now() < end {
            sleep(Duration::from_millis(50));
        }
        self.settle();
        let letters = self.letters();
        self.told.redelivered += self.told.redelivered_now;
        let system = self.system.take().expect("it runs between two faults");
        // Before a broker inside ends with it.
        let arrivals = self.watch.end();
        let (code, ledger) = system.stop();
        if (code, &ledger["ledger"]["balanced"]) != (0, &Value::Bool(true)) {
            self.told.violations.push(format!("the last life ends with {code} and {ledger}"));
        }
        let Told { disturbances, hits, hits_in_flight, redelivered, longest_settling, violations, .. } = self.told;
        let (seed, settling) = (setup.seed, longest_settling);
        let run =
            Run { seed, began, disturbances, hits, hits_in_flight, looks, redelivered, settling, letters, violations };
        Report::of(run, &doors.accepted.lock(), arrivals)
    }
}

/// Every core computes something else.
fn burn(hold: Duration) {
    let end = Instant::now() + hold;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let burners = std::iter::repeat_with(|| {
        std::thread::spawn(move || {
            let mut sum = 0u64;
            while Instant::now() < end {
                sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(7));
            }
        })
    });
    for burner in burners.take(2 * cores).collect::<Vec<_>>() {
        burner.join().expect("it only computes");
    }
}

/// How often the intake said that it is ready, of all looks.
struct Looks {
    stop: Arc<AtomicBool>,
    looking: tokio::task::JoinHandle<(u64, u64)>,
}

impl Looks {
    fn start(runtime: &Runtime, http: u16) -> Looks {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let looking = runtime.spawn(async move {
            let (client, url) = (client(), format!("http://127.0.0.1:{http}/health/ready"));
            let (mut looks, mut ready) = (0, 0);
            while !stopped.load(Ordering::Relaxed) {
                let next = tokio::time::Instant::now() + LOOK;
                let answer = client.get(&url).timeout(Duration::from_secs(1)).send().await;
                looks += 1;
                ready += u64::from(answer.is_ok_and(|answer| answer.status().is_success()));
                tokio::time::sleep_until(next).await;
            }
            (looks, ready)
        });
        Looks { stop, looking }
    }

    fn end(self, runtime: &Runtime) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        runtime.block_on(self.looking).expect("it only looks")
    }
}
