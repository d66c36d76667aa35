//! What goes wrong, when, and for how long: drawn from the seed. Between faults it is calm for a while, so that the judge can
//! ask for what only holds when nothing is wrong.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use streammanager::faults::Shares;
use streammanager::record::Topic;
use tokio::time::sleep;

use crate::judge::Doubts;
use crate::world::World;

/// One kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    BrokerAway,
    BrokerSlow,
    AcksLost,
    BrokerBusy,
    BrokerRefuses,
    NoLeader,
    QueueAway,
    QueueFlaky,
    StoreAway,
    StoreFlaky,
    BitsTurned,
    ProcessKilled,
    KilledWhileDraining,
    PowerCut,
    PowerCutInCommit,
    SyncFails,
    ClockJumps,
    DutyStolen,
    Repeats,
    SourceAway,
}

use Fault::*;

/// Each with its name in reports.
const FAULTS: [(Fault, &str); 20] = [
    (BrokerAway, "broker away"),
    (BrokerSlow, "broker slow"),
    (AcksLost, "acknowledgements lost"),
    (BrokerBusy, "broker busy"),
    (BrokerRefuses, "records refused"),
    (NoLeader, "topic without a leader"),
    (QueueAway, "queue away"),
    (QueueFlaky, "queue flaky"),
    (StoreAway, "store away"),
    (StoreFlaky, "store flaky"),
    (BitsTurned, "stored bits turned over"),
    (ProcessKilled, "process killed"),
    (KilledWhileDraining, "killed while draining"),
    (PowerCut, "power cut"),
    (PowerCutInCommit, "power cut within a commit"),
    (SyncFails, "fsync failed, pages dropped"),
    (ClockJumps, "clock set"),
    (DutyStolen, "lease stolen"),
    (Repeats, "messages repeated and reordered"),
    (SourceAway, "source away"),
];

impl Fault {
    fn doubts(self) -> Doubts {
        let of_the_broker = matches!(self, BrokerAway | BrokerSlow | AcksLost | BrokerBusy | BrokerRefuses | NoLeader);
        let crash = matches!(self, ProcessKilled | KilledWhileDraining | PowerCut);
        Doubts {
            // It can keep an instance from knowing what of a thread waits in the queue.
            threads: !of_the_broker && !matches!(self, DutyStolen | SourceAway),
            // What is received late, twice, or by another process may be behind what came after it. The judge knows itself when
            // the clock is right.
            readings: !of_the_broker && !crash && !matches!(self, ClockJumps | SourceAway),
            // The broker says itself how it is.
            repeats: !of_the_broker && !crash && self != SourceAway,
        }
    }
}

/// Faults come until the run's end, one after the other; sometimes a second one while the first lasts.
pub(crate) async fn run(world: Arc<World>) {
    loop {
        sleep(world.dice.between(Duration::from_secs(20), Duration::from_secs(12 * 60))).await;
        let first = draw(&world);
        if world.dice.once_in(4) {
            let second = draw(&world);
            tokio::join!(strike(&world, first), strike(&world, second));
        } else {
            strike(&world, first).await;
        }
    }
}

fn draw(world: &World) -> (Fault, &'static str) {
    let drawn = FAULTS[world.dice.below(FAULTS.len() as u64) as usize];
    let only = world.only.as_deref().and_then(|only| FAULTS.into_iter().find(|(_, name)| *name == only));
    only.unwrap_or(drawn)
}

/// The names of all kinds of faults.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    FAULTS.into_iter().map(|(_, name)| name)
}

async fn strike(world: &World, (fault, name): (Fault, &'static str)) {
    let seconds = |least, most| world.dice.between(Duration::from_secs(least), Duration::from_secs(most));
    *world.struck.lock().entry(name).or_default() += 1;
    let doubts = fault.doubts();
    world.judge.fault_begins(doubts);
    match fault {
        BrokerAway => {
            // Most are short; some last for hours.
            let lasts = if world.dice.once_in(16) { seconds(3_600, 3 * 3_600) } else { seconds(1, 600) };
            world.broker.set(|health| health.away = true);
            sleep(lasts).await;
            world.broker.set(|health| health.away = false);
            world.critical_goes_first().await;
        }
        BrokerSlow => {
            let slow = world.dice.between(Duration::from_millis(100), Duration::from_millis(1_900));
            world.broker.set(|health| health.slow = slow);
            sleep(seconds(10, 300)).await;
            world.broker.set(|health| health.slow = Duration::ZERO);
        }
        AcksLost => {
            world.broker.set(|health| health.lost_acks = 40);
            sleep(seconds(10, 300)).await;
            world.broker.set(|health| health.lost_acks = 0);
        }
        BrokerBusy => {
            world.broker.set(|health| health.failing = 60);
            sleep(seconds(10, 300)).await;
            world.broker.set(|health| health.failing = 0);
        }
        BrokerRefuses => {
            world.broker.set(|health| health.refusing = 700);
            sleep(seconds(10, 300)).await;
            world.broker.set(|health| health.refusing = 0);
        }
        NoLeader => {
            let topic = Topic::ALL[world.dice.below(Topic::ALL.len() as u64) as usize];
            world.broker.set(|health| health.leaderless = Some(topic));
            sleep(seconds(5, 300)).await;
            world.broker.set(|health| health.leaderless = None);
        }
        QueueAway => {
            world.queue_faults.outage(true);
            sleep(seconds(1, 120)).await;
            world.queue_faults.quiet();
        }
        QueueFlaky => {
            let shares = Shares { before: 20, after: 20, part: 20 };
            world.queue_faults.seed(world.dice.rng().clone(), shares);
            sleep(seconds(10, 300)).await;
            world.queue_faults.quiet();
        }
        StoreAway => {
            world.store_faults.outage(true);
            sleep(seconds(1, 120)).await;
            world.store_faults.quiet();
        }
        StoreFlaky => {
            world.store_faults.seed(world.dice.rng().clone(), Shares { before: 20, after: 20, part: 0 });
            sleep(seconds(10, 300)).await;
            world.store_faults.quiet();
        }
        ProcessKilled => {
            for _ in 0..=world.dice.below(3) {
                world.kill_one();
                sleep(seconds(0, 20)).await;
            }
        }
        BitsTurned => {
            // While the broker is away, rows wait that can be damaged.
            world.broker.set(|health| health.away = true);
            sleep(seconds(30, 600)).await;
            for _ in 0..=world.dice.below(4) {
                world.turn_bits().await;
            }
            // What is in the program's memory is not read from the disk again before it starts again.
            if !world.dice.once_in(4) {
                world.restart().await;
            }
            world.broker.set(|health| health.away = false);
            sleep(seconds(1, 60)).await;
        }
        KilledWhileDraining => {
            world.broker.set(|health| health.away = true);
            sleep(seconds(60, 1_800)).await;
            world.broker.set(|health| health.away = false);
            world.broker.takes_something().await;
            sleep(Duration::from_millis(world.dice.below(30))).await;
            if world.dice.once_in(2) {
                world.restart().await;
            } else {
                world.power_cut(Duration::ZERO).await;
            }
        }
        PowerCut => {
            for _ in 0..=world.dice.below(3) {
                world.power_cut(seconds(0, 120)).await;
                sleep(seconds(0, 20)).await;
            }
        }
        PowerCutInCommit => {
            world.disk.fail_after(Some(world.dice.below(40)));
            sleep(Duration::from_millis(world.dice.below(2_000))).await;
            world.power_cut(seconds(0, 10)).await;
        }
        SyncFails => {
            world.disk.fail_syncs(1 + world.dice.below(3) as u32);
            sleep(seconds(1, 600)).await;
            world.disk.fail_syncs(0);
            // Somebody has looked at the disk; or the power fails before.
            if world.dice.once_in(2) {
                world.restart().await;
            } else {
                world.power_cut(Duration::ZERO).await;
            }
        }
        ClockJumps => {
            // Less than readings may lie in the future by.
            let by = world.dice.below(480) as i64 - 240;
            world.judge.clock_is_set();
            world.wall.step(by);
            sleep(seconds(60, 600)).await;
            world.wall.step(-by);
            world.judge.clock_is_right(Duration::from_secs(by.unsigned_abs()));
        }
        DutyStolen => {
            world.steal_duty().await;
            sleep(seconds(10, 60)).await;
        }
        Repeats => {
            *world.repeats.lock() = 1 + world.dice.below(20) as u32;
            sleep(seconds(10, 120)).await;
            *world.repeats.lock() = 0;
        }
        SourceAway => {
            world.source.set_away(true);
            sleep(seconds(60, 3_600)).await;
            world.source.set_away(false);
        }
    }
    world.judge.fault_ends(doubts);
}

/// How often each kind of fault struck.
pub(crate) type Struck = BTreeMap<&'static str, u64>;
