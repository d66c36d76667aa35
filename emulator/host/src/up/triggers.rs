//! What the template's triggers start: schedules, event sources, asynchronous invocations, and the routes of the HTTP API.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use streammanager::app::App;
use streammanager::queue::QueueRef;
use streammanager::schedule::lease;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::asynchronous::{AsyncInvocations, Asynchronous};
use super::invoke::Invoke;
use super::kinesis::{KinesisStream, Mapping, Plan};
use super::limits::EVENT_BYTES;
use super::routes::{Route, Routes};
use super::schedules;
use super::sources::{self, FirstReceives, QueueSource};
use crate::exit::Failure;
use crate::template::{ACCOUNT, Function, REGION, Template, Trigger};

/// Starts what the template's triggers say.
pub(super) struct Triggers<'a> {
    pub(super) functions: &'a Arc<dyn Invoke>,
    pub(super) app: &'a App,
    /// Others may work on the same queues and state.
    pub(super) shared: bool,
    pub(super) kinesis: &'a BTreeMap<String, KinesisStream>,
    pub(super) intake: &'a CancellationToken,
    pub(super) work: &'a CancellationToken,
}

impl Triggers<'_> {
    pub(super) async fn start(
        &self,
        template: &Template,
        intake: &TaskTracker,
        work: &TaskTracker,
    ) -> Result<Routes, Failure> {
        let (mut routes, mut read) = (Vec::new(), BTreeSet::new());
        for function in &template.functions {
            let name = function.logical_id.clone();
            let how = self.asynchronous(function);
            for trigger in &function.triggers {
                match trigger {
                    Trigger::Schedule { id, every, flexible, input, enabled } if *enabled => {
                        // Delivery outlives the intake: it drains.
                        let delivers = function.binary == "deliver";
                        let (tasks, stop) = if delivers { (work, self.work) } else { (intake, self.intake) };
                        let fired = schedules::Schedule {
                            how: how.clone(),
                            arn: format!("arn:aws:scheduler:{REGION}:{ACCOUNT}:schedule/default/{name}-{id}"),
                            every: *every,
                            flexible: *flexible,
                            input: input.clone(),
                        };
                        let schedule = fired.run(tasks.clone(), stop.clone());
                        let outlives = (delivers && self.shared).then(|| self.app.clone());
                        tasks.spawn(async move {
                            if let Some(app) = outlives {
                                outlive_leases(&app).await;
                            }
                            schedule.await;
                        });
                    }
                    Trigger::Schedule { .. } => {}
                    Trigger::Queue { queue, batch_size, window, report_failures, max_concurrency } => {
                        let source = QueueSource {
                            functions: self.functions.clone(),
                            function: name.clone(),
                            queue: local(queue),
                            backend: self.app.queue.clone(),
                            batch_size: *batch_size as usize,
                            report_failures: *report_failures,
                            window: *window,
                            max_concurrency: *max_concurrency,
                            clock: self.app.clock.clone(),
                            first_receives: FirstReceives::default(),
                        };
                        work.spawn(sources::run(source, work.clone(), self.work.clone()));
                    }
                    Trigger::Stream {
                        stream,
                        batch_size,
                        window,
                        start,
                        report_failures,
                        bisect,
                        retries,
                        max_record_age,
                        parallel,
                        on_failure,
                    } => {
                        read.insert(stream.clone());
                        let declared = template.streams.iter().find(|declared| declared.name == *stream);
                        let (Some(stream), Some(declared)) = (self.kinesis.get(stream), declared) else {
                            return Err(Failure::new(format!(
                                "template: {name} reads the stream {stream}, which is not in the template"
                            )));
                        };
                        let plan = Plan {
                            batch_size: *batch_size as usize,
                            bytes: EVENT_BYTES,
                            window: *window,
                            bisect: *bisect,
                            retries: *retries,
                            max_age: *max_record_age,
                            retention: declared.retention,
                            parallel: *parallel as usize,
                        };
                        let mapping = Mapping {
                            functions: self.functions.clone(),
                            function: name.clone(),
                            function_arn: function.arn.clone(),
                            stream_arn: declared.arn.clone(),
                            plan,
                            start: *start,
                            report_failures: *report_failures,
                            on_failure: on_failure.as_deref().map(local),
                            queue: self.app.queue.clone(),
                            clock: self.app.clock.clone(),
                            rng: self.app.rng.clone(),
                        };
                        stream.start(mapping, work, self.work).await?;
                    }
                    Trigger::Http { method, path, auth, timeout } => {
                        let (method, path) = (method.clone(), path.clone());
                        routes.push(Route { method, path, auth: *auth, timeout: *timeout, function: name.clone() });
                    }
                }
            }
            let invocations = AsyncInvocations { how, app: self.functions.app_of(&name).cloned() };
            work.spawn(invocations.run(work.clone(), self.work.clone()));
        }
        for stream in template.streams.iter().filter(|stream| !read.contains(&stream.name)) {
            tracing::warn!(
                stream = stream.name,
                "no function reads this stream: what comes waits there until it expires"
            );
            if let Some(kept) = self.kinesis.get(&stream.name) {
                kept.expire(stream.retention, work, self.work);
            }
        }
        Routes::new(routes)
    }

    fn asynchronous(&self, function: &Function) -> Asynchronous {
        Asynchronous {
            functions: self.functions.clone(),
            function: function.logical_id.clone(),
            function_arn: function.arn.clone(),
            timeout: function.timeout,
            backend: self.app.queue.clone(),
            retries: function.retries,
            max_age: function.max_event_age,
            on_failure: function.on_failure.as_deref().map(local),
            clock: self.app.clock.clone(),
            rng: self.app.rng.clone(),
        }
    }
}

/// A queue of the template by its name.
fn local(name: &str) -> QueueRef {
    QueueRef::new(&format!("local:{name}"))
}

/// An earlier process of this host may have died with both leases of delivery, and who then comes first would leave at once.
async fn outlive_leases(app: &App) {
    if let Err(problem) = lease::outlive(&*app.store, &app.clock).await {
        tracing::warn!(%problem, "the leases of an earlier process cannot be read");
    }
}
