//! The execution environments of one function: those that are idle and frozen, and room for those at work.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::log::forwarded;
use crate::exit::Failure;
use crate::runtime::{Environment, Failed, Function, INIT, NotInitialised, Start};
use crate::up::limits::{ENVIRONMENT_KEPT, PROVISIONED_INIT, UNRESERVED_ENVIRONMENTS};

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Pool(Arc<Shared>);

struct Shared {
    function: Function,
    logical_id: String,
    timeout: Duration,
    /// A permit an environment that is not idle.
    room: Arc<Semaphore>,
    /// Frozen, the one that worked last at the end, with the time since when.
    idle: Mutex<Vec<(Environment, Instant)>>,
    /// Ends what runs.
    ends: CancellationToken,
    tasks: TaskTracker,
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
        let (room, idle, tasks) = (Arc::new(Semaphore::new(room)), Mutex::default(), TaskTracker::new());
        Pool(Arc::new(Shared { function, logical_id, timeout, room, idle, ends, tasks }))
    }

    /// Starts this many environments before any event needs one.
    ///
    /// # Errors
    /// When one does not get ready, as a deployment would fail.
    pub(crate) async fn provision(&self, environments: u32) -> Result<(), Failure> {
        for _ in 0..environments {
            let output = forwarded(&self.0.logical_id);
            let started = Environment::start(&self.0.function, Start::Provisioned, output, PROVISIONED_INIT).await;
            let environment =
                started.map_err(|e| Failure::new(format!("{} does not get ready: {e}", self.0.logical_id)))?;
            self.0.keep(environment);
        }
        Ok(())
    }

    /// Invokes the function as a synchronous caller does.
    pub(crate) async fn invoke(&self, event: &Value) -> Result<Value, Uninvoked> {
        let throttled = |_| Uninvoked::Throttled(self.0.logical_id.clone());
        let place = self.0.room.clone().try_acquire_owned().map_err(throttled)?;
        let environment = match self.0.thawed() {
            Some(environment) => environment,
            None => self.0.fresh().await?,
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
        let shared = self.0.clone();
        self.0.tasks.spawn(async move { shared.put_back(environment, until, place).await });
        Ok(answer?)
    }

    /// Ends every environment.
    pub(crate) async fn end(&self) {
        self.0.ends.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
        let idle = std::mem::take(&mut *self.0.idle.lock());
        futures::future::join_all(idle.into_iter().map(|(environment, _)| environment.terminate())).await;
    }
}

impl Shared {
    /// The one that worked last: the others have the more time to be given up.
    fn thawed(&self) -> Option<Environment> {
        loop {
            let (environment, _) = self.idle.lock().pop()?;
            if !environment.has_ended() {
                environment.thaw();
                return Some(environment);
            }
            tracing::warn!(function = self.logical_id, "an idle process has ended; another one takes its place");
        }
    }

    /// An initialisation that takes too long is begun once more, within the time of the invocation.
    async fn fresh(&self) -> Result<Environment, NotInitialised> {
        let start = |time| Environment::start(&self.function, Start::OnDemand, forwarded(&self.logical_id), time);
        match start(INIT).await {
            Err(NotInitialised::TimedOut(_)) => start(self.timeout).await,
            started => started,
        }
    }

    /// The caller has its answer; what the function still does before it asks for the next event has the rest of its time.
    async fn put_back(&self, environment: Environment, until: Instant, _place: OwnedSemaphorePermit) {
        let idle = tokio::select! { biased;
            () = self.ends.cancelled() => {
                environment.terminate().await;
                return;
            }
            idle = timeout_at(until, environment.idle()) => idle,
        };
        if idle.is_err() {
            let function = &self.logical_id;
            tracing::warn!(function, "the function answered and did not come to its end in time: it is ended");
        } else if !environment.has_ended() {
            self.keep(environment);
        }
    }

    fn keep(&self, environment: Environment) {
        environment.freeze();
        let now = Instant::now();
        let mut idle = self.idle.lock();
        idle.retain(|(_, since)| now - *since < ENVIRONMENT_KEPT);
        idle.push((environment, now));
    }
}
