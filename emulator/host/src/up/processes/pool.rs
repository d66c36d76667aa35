//! The execution environments of one function: those that are idle and frozen, and room for those at work.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::log::forwarded;
use crate::exit::Failure;
use crate::runtime::{Environment, Failed, Function, INIT, NotInitialised, Start};
use crate::up::limits::{ENVIRONMENT_KEPT, FINISHING, PROVISIONED_INIT, UNRESERVED_ENVIRONMENTS};

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Pool(Arc<Shared>);

struct Shared {
    function: Function,
    logical_id: String,
    timeout: Duration,
    /// A permit an environment that is not idle.
    room: Arc<Semaphore>,
    /// Those that have answered and are not at their end yet.
    finishing: AtomicUsize,
    /// Frozen, the one that worked last at the end.
    idle: Mutex<Vec<Idle>>,
    /// Ends what runs.
    ends: CancellationToken,
    tasks: TaskTracker,
}

struct Idle {
    environment: Environment,
    start: Start,
    since: Instant,
}

/// Why an event got no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Uninvoked {
    #[error("TooManyRequestsException: Rate Exceeded: as many calls run as {0} may have at a time")]
    Throttled(String),
    #[error(transparent)]
    NotInitialised(#[from] NotInitialised),
    #[error(transparent)]
    Failed(#[from] Failed),
    #[error("the system stops")]
    Stopped,
}

impl Pool {
    /// `reserved`: environments that it may have, where the template says it.
    pub(crate) fn new(
        function: Function,
        logical_id: String,
        timeout: Duration,
        reserved: Option<u32>,
        ends: CancellationToken,
    ) -> Pool {
        let room = reserved.unwrap_or(UNRESERVED_ENVIRONMENTS) as usize;
        let (room, finishing) = (Arc::new(Semaphore::new(room)), AtomicUsize::new(0));
        let (idle, tasks) = (Mutex::default(), TaskTracker::new());
        Pool(Arc::new(Shared { function, logical_id, timeout, room, finishing, idle, ends, tasks }))
    }

    /// Starts this many environments before any event needs one.
    ///
    /// # Errors
    /// When one does not get ready, as a deployment would fail.
    pub(crate) async fn provision(&self, environments: u32) -> Result<(), Failure> {
        for _ in 0..environments {
            let provisioned = self.0.provision().await;
            provisioned.map_err(|e| Failure::new(format!("{} does not get ready: {e}", self.0.logical_id)))?;
        }
        Ok(())
    }

    /// Invokes the function as a synchronous caller does.
    pub(crate) async fn invoke(&self, event: &Value) -> Result<Value, Uninvoked> {
        let place = self.0.place().await.ok_or_else(|| Uninvoked::Throttled(self.0.logical_id.clone()))?;
        let (environment, start) = match self.thawed() {
            Some(thawed) => thawed,
            None => (self.0.fresh().await?, Start::OnDemand),
        };
        let until = Instant::now() + self.0.timeout;
        let begun = environment.begin(event, self.0.timeout).await;
        let answer = tokio::select! { biased;
            () = self.0.ends.cancelled() => {
                environment.terminate().await;
                return Err(Uninvoked::Stopped);
            }
            answer = begun.answer() => answer,
        };
        self.0.finishing.fetch_add(1, Ordering::Relaxed);
        self.0.tasks.spawn(self.clone().put_back(environment, start, until, place));
        Ok(answer?)
    }

    /// Ends every environment.
    pub(crate) async fn end(&self) {
        self.0.ends.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
        let idle = std::mem::take(&mut *self.0.idle.lock());
        futures::future::join_all(idle.into_iter().map(|idle| idle.environment.terminate())).await;
    }

    /// The one that worked last: the others have the more time to be given up.
    fn thawed(&self) -> Option<(Environment, Start)> {
        loop {
            let Idle { environment, start, .. } = self.0.idle.lock().pop()?;
            if !environment.has_ended() {
                environment.thaw();
                return Some((environment, start));
            }
            tracing::warn!(function = self.0.logical_id, "an idle process has ended; another one takes its place");
            self.replace(start);
        }
    }

    /// Of those that are kept ready, Lambda keeps the number.
    fn replace(&self, ended: Start) {
        if ended == Start::OnDemand || self.0.ends.is_cancelled() {
            return;
        }
        let shared = self.0.clone();
        self.0.tasks.spawn(async move {
            let provisioned = shared.ends.clone().run_until_cancelled_owned(shared.provision()).await;
            if let Some(Err(problem)) = provisioned {
                tracing::warn!(%problem, function = shared.logical_id, "one process less is kept ready");
            }
        });
    }

    /// The caller has its answer; what the function still does before it asks for the next event has the rest of its time.
    async fn put_back(self, environment: Environment, start: Start, until: Instant, place: OwnedSemaphorePermit) {
        let idle = tokio::select! { biased;
            () = self.0.ends.cancelled() => {
                environment.terminate().await;
                return;
            }
            idle = timeout_at(until, environment.idle()) => idle,
        };
        if idle.is_err() {
            let function = &self.0.logical_id;
            tracing::warn!(function, "the function answered and did not come to its end in time: it is ended");
        }
        if idle.is_err() || environment.has_ended() {
            self.replace(start);
        } else {
            self.0.keep(environment, start);
        }
        drop(place);
        self.0.finishing.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    /// Room for one more at work. A caller that has its answer may be back before its environment is at its end, and is not
    /// refused for that.
    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        match self.room.clone().try_acquire_owned() {
            Err(_) if self.finishing.load(Ordering::Relaxed) > 0 => {
                timeout(FINISHING, self.room.clone().acquire_owned()).await.ok()?.ok()
            }
            place => place.ok(),
        }
    }

    /// Keeps one more ready.
    async fn provision(&self) -> Result<(), NotInitialised> {
        let output = forwarded(&self.logical_id);
        let environment = Environment::start(&self.function, Start::Provisioned, output, PROVISIONED_INIT).await?;
        self.keep(environment, Start::Provisioned);
        Ok(())
    }

    /// An initialisation that takes too long is begun once more, within the time of the invocation.
    async fn fresh(&self) -> Result<Environment, NotInitialised> {
        let start = |time| Environment::start(&self.function, Start::OnDemand, forwarded(&self.logical_id), time);
        match start(INIT).await {
            Err(NotInitialised::TimedOut(_)) => start(self.timeout).await,
            started => started,
        }
    }

    fn keep(&self, environment: Environment, start: Start) {
        environment.freeze();
        let since = Instant::now();
        let mut idle = self.idle.lock();
        idle.retain(|idle| idle.start == Start::Provisioned || since - idle.since < ENVIRONMENT_KEPT);
        idle.push(Idle { environment, start, since });
    }
}
