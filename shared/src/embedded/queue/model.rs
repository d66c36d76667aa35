//! The embedded queue against a plain model: random sends, receives, settlings, waits, crashes and torn commits by seed.
//! The model predicts every answer exactly, except what a failed commit leaves open.

use std::collections::BTreeMap;
use std::time::Duration;

use super::index::MARK_AHEAD;
use super::*;
use crate::embedded::{Commits, MemoryDisk, Options};
use crate::time::{Clock, Rng};

const SEEDS: u64 = 200;
const STEPS: usize = 120;
const CAPACITY: u64 = 12;
const VISIBILITY: Duration = Duration::from_secs(5);
const MAX_RECEIVES: u32 = 2;

#[derive(Debug, Clone)]
struct Modelled {
    body: String,
    /// As the queue counts now, and as it would after a crash.
    receives: u32,
    written: u32,
    /// It was given out at some time.
    received: bool,
    /// Of its last receive since the start.
    last: Option<Receipt>,
    state: State,
}

#[derive(Debug, Clone, PartialEq)]
enum State {
    Waiting { visible_at: Timestamp },
    InFlight { until: Timestamp, receipt: Receipt },
}

/// In the order in which they were sent or moved.
#[derive(Default)]
struct Model {
    main: Vec<Modelled>,
    dead: Vec<Modelled>,
    /// Every receipt ever given.
    receipts: Vec<Receipt>,
}

impl Model {
    fn advance(&mut self, now: Timestamp) {
        for message in self.main.iter_mut() {
            if let State::InFlight { until, .. } = message.state
                && until <= now
            {
                message.state = State::Waiting { visible_at: until };
                message.written = message.receives;
            }
        }
    }

    /// The bodies and receive counts that a receive must give.
    fn receive(&mut self, max: usize, now: Timestamp) -> Vec<(String, u32)> {
        self.advance(now);
        let mut got = Vec::new();
        let mut at = 0;
        while got.len() < max && at < self.main.len() {
            let message = &mut self.main[at];
            if !matches!(message.state, State::Waiting { visible_at } if visible_at <= now) {
                at += 1;
            } else if message.receives >= MAX_RECEIVES {
                let dead = self.main.remove(at);
                self.dead.push(Modelled { receives: 0, written: 0, received: false, last: None, ..dead });
            } else {
                message.receives += 1;
                // Its receipt is known once the answer is there.
                message.state = State::InFlight { until: now + VISIBILITY, receipt: Receipt(String::new()) };
                got.push((message.body.clone(), message.receives));
                at += 1;
            }
        }
        got
    }

    fn settle(&mut self, receipt: &Receipt, settle: Settle, now: Timestamp) {
        let held =
            |message: &Modelled| matches!(&message.state, State::InFlight { receipt: own, .. } if own == receipt);
        let forgets = |message: &Modelled| settle == Settle::Forget && message.last.as_ref() == Some(receipt);
        let Some(at) = self.main.iter().position(|message| held(message) || forgets(message)) else { return };
        let message = &mut self.main[at];
        match settle {
            Settle::Forget => _ = self.main.remove(at),
            Settle::Extend(hidden) => message.state = State::InFlight { until: now + hidden, receipt: receipt.clone() },
            Settle::Release => {
                message.state = State::Waiting { visible_at: now };
                message.written = message.receives;
            }
        }
    }

    /// Whether the receipt was good.
    fn replace(&mut self, receipt: &Receipt, body: String) -> bool {
        let held =
            |message: &&mut Modelled| matches!(&message.state, State::InFlight { receipt: own, .. } if own == receipt);
        self.main.iter_mut().find(held).map(|message| message.body = body).is_some()
    }

    fn depth(&mut self, now: Timestamp) -> Depth {
        self.advance(now);
        let mut depth = Depth::default();
        for message in &self.main {
            match message.state {
                State::InFlight { .. } => depth.in_flight += 1,
                State::Waiting { visible_at } if visible_at <= now => depth.visible += 1,
                State::Waiting { .. } => depth.delayed += 1,
            }
        }
        depth
    }

    /// What must be on disk: body → (in the dead-letter queue, receives).
    fn written(&self) -> BTreeMap<String, (bool, u32)> {
        let main = self.main.iter().map(|message| (message, false));
        let all = main.chain(self.dead.iter().map(|message| (message, true)));
        all.map(|(message, dead)| (message.body.clone(), (dead, message.written))).collect()
    }

    /// Becomes what is on disk, nothing in flight. Messages of the main queue up to `mark` count as received.
    fn restart(&mut self, rows: Vec<Row>, mark: u64) {
        let received = |row: &Row| !row.dead && row.number <= mark;
        let modelled = |row: &Row| Modelled {
            body: row.body.clone(),
            receives: row.receives.max(u32::from(received(row))),
            received: received(row),
            last: None,
            written: row.receives,
            state: State::Waiting { visible_at: row.visible_at },
        };
        (self.dead, self.main) = (Vec::new(), Vec::new());
        for row in &rows {
            if row.dead { &mut self.dead } else { &mut self.main }.push(modelled(row));
        }
    }
}

struct Row {
    number: u64,
    body: String,
    dead: bool,
    receives: u32,
    visible_at: Timestamp,
}

struct Run {
    rng: Rng,
    disk: MemoryDisk,
    options: Options,
    embedded: Option<Embedded>,
    model: Model,
    sent: usize,
    /// The highest number that a receive gave.
    highest: u64,
}

impl Run {
    fn new(seed: u64) -> Run {
        let main = QueueOptions {
            visibility: VISIBILITY,
            capacity: CAPACITY,
            dead_letters: Some((QueueRef::new("dead"), MAX_RECEIVES)),
            ..QueueOptions::default()
        };
        let clock = Clock::simulated("2026-08-01T00:00:00Z".parse().unwrap());
        let queues = BTreeMap::from([(QueueRef::new("main"), main)]);
        let options = Options { commits: Commits::Inline, queues, ..Options::new(clock) };
        let disk = MemoryDisk::new();
        let embedded = Some(Embedded::on_disk(&disk, options.clone()).unwrap());
        Run { rng: Rng::seeded(seed), disk, options, embedded, model: Model::default(), sent: 0, highest: 0 }
    }

    fn below(&self, bound: u64) -> u64 {
        u64::from_be_bytes(self.rng.bytes()) % bound
    }

    fn now(&self) -> Timestamp {
        self.options.clock.now()
    }

    fn embedded(&self) -> &Embedded {
        self.embedded.as_ref().unwrap()
    }

    async fn step(&mut self) {
        let main = QueueRef::new("main");
        let now = self.now();
        // One step in eight has its commit torn at some write, and the machine crashes then.
        let torn = self.below(8) == 0;
        if torn {
            self.disk.fail_after(Some(self.below(12)));
        }
        let before = self.model.written();
        match self.below(10) {
            0..=2 => {
                let count = 1 + self.below(3);
                let delay = Duration::from_secs(if self.below(4) == 0 { 1 + self.below(8) } else { 0 });
                let bodies: Vec<String> = (0..count).map(|n| format!("{}", self.sent as u64 + n)).collect();
                self.sent += bodies.len();
                let messages: Vec<Message> =
                    bodies.iter().map(|body| Message { body: Body::Text(body.clone()), delay }).collect();
                let room = CAPACITY.saturating_sub(self.model.main.len() as u64);
                let answer = self.embedded().send(&main, &messages).await;
                for (n, body) in (0..).zip(bodies) {
                    if let Ok(outcomes) = &answer {
                        let want = if n < room { Ok(()) } else { Err(SendError::Full) };
                        assert_eq!(outcomes[n as usize], want);
                    }
                    if n < room {
                        let state = State::Waiting { visible_at: now + delay };
                        self.model.main.push(Modelled {
                            body,
                            receives: 0,
                            written: 0,
                            received: false,
                            last: None,
                            state,
                        });
                    }
                }
            }
            3..=5 => {
                let max = 1 + self.below(5) as usize;
                let got = self.embedded().receive(&main, max, Duration::ZERO).await;
                let want = self.model.receive(max, now);
                if let Ok(got) = got {
                    let found: Vec<(String, u32)> = got.iter().map(|one| (text(&one.body), one.receives)).collect();
                    // A move to the dead letters that fails leaves its messages for the crash to show.
                    assert!(found == want || torn, "{found:?}, expected {want:?}");
                    for one in got {
                        self.model.receipts.push(one.receipt.clone());
                        self.highest = self.highest.max(one.id.parse().unwrap());
                        let body = text(&one.body);
                        if let Some(message) = self.model.main.iter_mut().find(|message| message.body == body) {
                            message.received = true;
                            message.last = Some(one.receipt.clone());
                            message.state = State::InFlight { until: now + VISIBILITY, receipt: one.receipt };
                        }
                    }
                }
            }
            6..=7 => {
                self.model.advance(now);
                let settling: Vec<(Receipt, Settle)> = (0..self.below(4))
                    .filter(|_| !self.model.receipts.is_empty())
                    .map(|_| {
                        // Mostly recent ones; the older are stale.
                        let back = self.below(8).min(self.model.receipts.len() as u64 - 1) as usize;
                        let receipt = self.model.receipts[self.model.receipts.len() - 1 - back].clone();
                        let settle = match self.below(4) {
                            0 | 1 => Settle::Forget,
                            2 => Settle::Extend(Duration::from_secs(self.below(10))),
                            _ => Settle::Release,
                        };
                        (receipt, settle)
                    })
                    .collect();
                let answer = self.embedded().settle(&main, &settling).await;
                assert!(answer.is_ok() || torn, "{answer:?}");
                for (receipt, settle) in &settling {
                    self.model.settle(receipt, *settle, now);
                }
            }
            8 if self.below(3) == 0 && !self.model.receipts.is_empty() => {
                self.model.advance(now);
                let back = self.below(6).min(self.model.receipts.len() as u64 - 1) as usize;
                let receipt = self.model.receipts[self.model.receipts.len() - 1 - back].clone();
                let body = format!("rest {}", self.sent);
                self.sent += 1;
                let answer = self.embedded().replace(&main, &receipt, Body::Text(body.clone())).await;
                let good = self.model.replace(&receipt, body);
                if let Ok(remains) = answer {
                    assert_eq!(remains == Remains::InPlace, good);
                }
            }
            8 => {
                tokio::time::sleep(Duration::from_secs(1 + self.below(4))).await;
                let depth = self.embedded().depth(&main).await.unwrap();
                let now = self.now();
                assert_eq!(depth, self.model.depth(now));
                let dead = self.embedded().depth(&QueueRef::new("dead")).await.unwrap();
                assert_eq!(dead.total(), self.model.dead.len() as u64);
            }
            _ if torn => {}
            _ => {
                self.crash(&before, torn);
                return;
            }
        }
        if torn {
            self.crash(&before, torn);
        }
    }

    /// What is on disk afterwards is, message by message, as it was before the step or as it was to be after it; the two
    /// are the same unless the step's commit was torn.
    fn crash(&mut self, before: &BTreeMap<String, (bool, u32)>, torn: bool) {
        self.disk.crash(&self.rng);
        self.embedded = None;
        self.embedded = Some(Embedded::on_disk(&self.disk, self.options.clone()).unwrap());
        let rows = self.rows();
        let found: BTreeMap<&String, (bool, u32)> =
            rows.iter().map(|row| (&row.body, (row.dead, row.receives))).collect();
        assert_eq!(found.len(), rows.len(), "a message is in both queues");
        let after = self.model.written();
        for body in before.keys().chain(after.keys()).chain(found.keys().copied()) {
            let (is, was, meant) = (found.get(body), before.get(body), after.get(body));
            assert!(is == was || is == meant, "{body} is {is:?}, was {was:?}, was to be {meant:?}");
        }
        let mark = self.embedded().shared().database().received().unwrap().get("main").copied().unwrap_or(0);
        let received = self.model.main.iter().filter(|message| message.received);
        for message in received {
            let row = rows.iter().find(|row| !row.dead && row.body == message.body);
            assert!(row.is_none_or(|row| row.number <= mark), "{} was received and does not count so", message.body);
        }
        // A mark whose receive then failed stands for the highest that it would have given.
        let reach = if torn { self.highest.max(mark.saturating_sub(MARK_AHEAD)) } else { self.highest };
        assert!(mark <= reach + MARK_AHEAD, "{mark} counts too many as received, {reach} was the highest");
        self.highest = reach;
        self.model.restart(rows, mark);
    }

    fn rows(&self) -> Vec<Row> {
        let database = self.embedded().shared().database();
        let mut queued = database.queued().unwrap();
        queued.sort_by_key(|(_, number, _)| *number);
        let read = database.read(|tx| {
            let bodies = tx.open_table(BODIES)?;
            let mut rows = Vec::new();
            for (queue, number, (_, visible_at, receives, _)) in &queued {
                let body = sealed::unchecked(bodies.get((queue.as_str(), *number))?.unwrap().value()).to_vec();
                let body = String::from_utf8(body).unwrap();
                let visible_at = from_moment(*visible_at);
                rows.push(Row { number: *number, body, dead: queue == "dead", receives: *receives, visible_at });
            }
            Ok(rows)
        });
        read.unwrap()
    }
}

fn text(body: &Body) -> String {
    match body {
        Body::Text(text) => text.clone(),
        Body::Binary(_) => panic!("only text was sent"),
    }
}

#[tokio::test(start_paused = true)]
async fn the_queue_does_what_the_model_does() {
    let (mut moved, mut sent) = (0, 0);
    for seed in 0..SEEDS {
        println!("seed {seed}");
        let mut run = Run::new(seed);
        for _ in 0..STEPS {
            run.step().await;
        }
        moved += run.model.dead.len();
        sent += run.sent;
    }
    println!("{sent} sent, {moved} moved to the dead letters");
    assert!(moved > 100, "the seeds hardly reach the dead letters");
}
