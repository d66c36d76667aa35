//! Readiness that tells the truth, in two answers [O5]: whether this system takes in, which a load balancer asks, and whether what was
//! taken in goes out. Intake goes on while the sink is away.

use serde::Serialize;
use streammanager::app::App;
use streammanager::breaker::{BreakerState, shared};
use streammanager::deliver::report;
use streammanager::error::BackendError;
use streammanager::record::Tier;
use streammanager::sink::Kind;

/// What is well.
pub const OK: &str = "ok";

/// Both answers.
#[derive(Debug, Serialize)]
pub struct Report {
    /// As `intake.ready`.
    pub ready: bool,
    /// Of what comes.
    pub intake: Intake,
    /// Of what goes.
    pub delivery: Delivery,
}

/// Whether what comes is taken in durably: `ok`, or what is wrong.
#[derive(Debug, Serialize)]
pub struct Intake {
    /// All of it is well.
    pub ready: bool,
    /// The CRITICAL tier's.
    pub queue: String,
    /// The state's.
    pub store: String,
    /// The data folder's; AWS has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<String>,
}

/// Whether what was taken in goes out.
#[derive(Debug, Serialize)]
pub struct Delivery {
    /// All of it is well.
    pub ready: bool,
    /// What it goes to.
    pub sink: Kind,
    /// Whether that answers, where this process speaks to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answers: Option<String>,
    /// Whether what goes out can be forgotten: a full disk has a reserve for that, a distrusted one is not written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<String>,
    /// The breaker of alerts.
    pub critical: String,
    /// The breaker of the other tiers.
    pub bulk: String,
    /// Messages in the tiers' queues.
    pub waiting: u64,
}

/// `ok`, or why not.
pub fn words(outcome: Result<(), BackendError>) -> String {
    outcome.map_or_else(|e| e.to_string(), |()| OK.to_owned())
}

fn breaker(state: BreakerState) -> &'static str {
    match state {
        BreakerState::Closed => OK,
        BreakerState::Open => "the circuit breaker is open",
        BreakerState::HalfOpen => "the circuit breaker lets one try through",
    }
}

fn are_well<'a>(all: impl IntoIterator<Item = &'a String>) -> bool {
    all.into_iter().all(|how| how == OK)
}

impl Report {
    /// Of both.
    pub fn new(intake: Intake, delivery: Delivery) -> Report {
        Report { ready: intake.ready, intake, delivery }
    }
}

impl Intake {
    /// Ready when each of these is `ok`.
    pub fn new(queue: String, store: String, disk: Option<String>) -> Intake {
        Intake { ready: are_well([&queue, &store].into_iter().chain(&disk)), queue, store, disk }
    }

    /// The first thing that is wrong.
    pub fn problem(&self) -> Option<String> {
        self.disk.iter().chain([&self.store, &self.queue]).find(|how| *how != OK).cloned()
    }
}

impl Delivery {
    /// Ready when each of these is `ok` and both breakers are closed. `breakers`: of alerts and of the other tiers, or why
    /// they are not known.
    pub fn new(
        sink: Kind,
        answers: Option<String>,
        disk: Option<String>,
        breakers: Result<[BreakerState; 2], BackendError>,
        waiting: u64,
    ) -> Delivery {
        let [critical, bulk] = match breakers {
            Ok(states) => states.map(|state| breaker(state).to_owned()),
            Err(problem) => [(); 2].map(|()| format!("its circuit breaker is not known: {problem}")),
        };
        let ready = are_well([&critical, &bulk].into_iter().chain(&answers).chain(&disk));
        Delivery { ready, sink, answers, disk, critical, bulk, waiting }
    }

    /// What is most worth a person's look.
    pub fn problem(&self) -> Option<String> {
        if self.ready {
            return None;
        }
        if let Some(wrong) = self.disk.iter().chain(&self.answers).find(|how| *how != OK) {
            return Some(wrong.clone());
        }
        Some(match self.critical.as_str() {
            OK => format!("HIGH, NORMAL and LOW: {}", self.bulk),
            critical => format!("CRITICAL: {critical}"),
        })
    }
}

/// Messages in the tiers' queues, of those that answer.
pub async fn waiting(app: &App) -> u64 {
    let mut waiting = 0;
    for tier in Tier::ALL {
        waiting += app.queue.depth(app.settings.queues.tier(tier)).await.map_or(0, |depth| depth.total());
    }
    waiting
}

/// As far as processes share it, for one that does not speak to the sink: whether the queues and the store answer, and what the
/// others have said of the sink.
pub async fn shared(app: &App) -> Report {
    let queue = words(app.queue.depth(&app.settings.queues.critical).await.map(|_| ()));
    let known = shared::known(&app.breakers, &*app.store, &app.clock).await;
    let store = known.as_ref().map_or_else(ToString::to_string, |_| OK.to_owned());
    let report = report::last(&*app.store).await.ok().flatten();
    let breakers = known.map(|known| report::probing(known, report.as_ref(), app.clock.now()).map(|known| known.state));
    Report::new(
        Intake::new(queue, store, None),
        Delivery::new(app.settings.sink, None, None, breakers, waiting(app).await),
    )
}
