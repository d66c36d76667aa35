//! A function's event source mapping of a stream: reads each shard, calls the function with what `batches` says, moves the
//! checkpoint, and reports what is given up.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use serde_json::{Value, json};
use streammanager::queue::{Queue, QueueRef};
use streammanager::time::{Clock, Rng, rfc3339};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::batches::{Batches, Next, Outcome, Piece, Plan, Why};
use super::count_given_up;
use super::log::Given;
use super::shard::Shard;
use crate::template::StartAt;
use crate::up::failures::{self, Failed, LastCall, SEND_AGAIN};
use crate::up::functions::Invocation;
use crate::up::invoke::{Invoke, Reported, reported};

/// A store that is away is asked again after this; and it is looked for records this often.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What the template says, and what it takes to do it.
pub(crate) struct Mapping {
    pub(crate) functions: Arc<dyn Invoke>,
    /// Its logical id.
    pub(crate) function: String,
    pub(crate) function_arn: String,
    pub(crate) stream_arn: String,
    pub(crate) plan: Plan,
    pub(crate) start: StartAt,
    pub(crate) report_failures: bool,
    pub(crate) on_failure: Option<QueueRef>,
    pub(crate) queue: Arc<dyn Queue>,
    pub(crate) clock: Clock,
    pub(crate) rng: Rng,
}

/// What has ended in a lane.
enum Ended {
    /// With the blocks that are still to be deleted.
    Call(usize, Result<Value, Invocation>, Vec<u64>),
    GivenUp(usize, Why, bool),
}

/// One shard's reader.
pub(super) struct Reader {
    shard: Shard,
    mapping: Arc<Mapping>,
    batches: Batches,
    /// Blocks that the checkpoint has passed and that are still stored; they are deleted beside the function's work, so that no
    /// batch waits for it.
    passed: Vec<u64>,
    under_way: FuturesUnordered<BoxFuture<'static, Ended>>,
    /// Records given up, of all shards.
    given_up: Arc<AtomicU64>,
}

impl Reader {
    pub(super) fn new(shard: Shard, mapping: Arc<Mapping>, given_up: Arc<AtomicU64>) -> Reader {
        let batches = Batches::new(mapping.plan.clone(), shard.log.read());
        Reader { shard, mapping, batches, passed: Vec::new(), under_way: FuturesUnordered::new(), given_up }
    }

    /// Until it is told to stop; what is at work then ends before.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        while !(stop.is_cancelled() && self.under_way.is_empty()) {
            let log = self.shard.log.clone();
            let arrived = log.arrived();
            let mut until = None;
            if !stop.is_cancelled() {
                while self.read_more().await {}
                until = self.start_what_is_due();
            }
            self.pass().await;
            if self.under_way.is_empty() {
                self.shard.log.delete(&mut self.passed).await;
            }
            let soon = Instant::now() + LOOK_AGAIN;
            tokio::select! { biased;
                Some(ended) = self.under_way.next() => self.ended(ended),
                () = stop.cancelled(), if !stop.is_cancelled() => {}
                () = arrived => {}
                () = tokio::time::sleep_until(until.map_or(soon, |until| soon.min(until))) => {}
            }
        }
        self.pass().await;
    }

    /// Whether something came.
    async fn read_more(&mut self) -> bool {
        let Some((after, records, bytes)) = self.batches.wants() else { return false };
        match self.shard.log.next(after, records, bytes).await {
            Ok(Given { records, damaged }) => {
                if damaged > 0 {
                    count_given_up(&self.given_up, damaged, "damaged");
                }
                let came = !records.is_empty();
                self.batches.take(records, Instant::now());
                came || damaged > 0
            }
            Err(problem) => {
                tracing::warn!(%problem, function = self.mapping.function, "a shard cannot be read now");
                false
            }
        }
    }

    /// When something is due next.
    fn start_what_is_due(&mut self) -> Option<Instant> {
        loop {
            match self.batches.next(Instant::now(), self.mapping.clock.now()) {
                Next::Call(lane) => self.call(lane),
                Next::GiveUp(lane, why) => self.give_up(lane, why),
                Next::Wait(until) => return until,
            }
        }
    }

    fn call(&mut self, lane: usize) {
        let event = self.shard.event(&self.batches.piece(lane).records, &self.mapping.stream_arn);
        let (mapping, log, mut passed) =
            (self.mapping.clone(), self.shard.log.clone(), std::mem::take(&mut self.passed));
        self.under_way.push(Box::pin(async move {
            let invoked = mapping.functions.invoke_with_records(&mapping.function, event);
            let (answer, ()) = tokio::join!(invoked, log.delete(&mut passed));
            Ended::Call(lane, answer, passed)
        }));
    }

    fn give_up(&mut self, lane: usize, why: Why) {
        let piece = self.batches.piece(lane);
        let report = self.report(piece, why);
        let (records, to) = (piece.records.len(), self.mapping.on_failure.as_ref().map(QueueRef::as_str));
        tracing::error!(
            function = self.mapping.function,
            shard = self.shard.id(),
            records,
            calls = piece.calls,
            because = why.condition(),
            to,
            "records of the stream are given up, as the template says"
        );
        let mapping = self.mapping.clone();
        self.under_way.push(Box::pin(async move {
            let told = match &mapping.on_failure {
                None => Ok(()),
                Some(to) => failures::send(&*mapping.queue, to, &report).await,
            };
            if let Err(problem) = &told {
                let function = &mapping.function;
                tracing::error!(%problem, function, "the on-failure destination does not take its report: it is sent again");
            }
            Ended::GivenUp(lane, why, told.is_ok())
        }));
    }

    /// What the on-failure destination is sent: where the records are, not the records.
    fn report(&self, piece: &Piece, why: Why) -> Value {
        let mapping = &self.mapping;
        let failed = Failed {
            function_arn: &mapping.function_arn,
            condition: why.condition(),
            calls: piece.calls,
            last: piece.last,
        };
        let mut report = failed.report(&mapping.rng, mapping.clock.now());
        if let (Some(first), Some(last)) = (piece.records.first(), piece.records.last()) {
            report["KinesisBatchInfo"] = json!({
                "shardId": self.shard.id(),
                "startSequenceNumber": self.shard.sequence_number(first.number),
                "endSequenceNumber": self.shard.sequence_number(last.number),
                "approximateArrivalOfFirstRecord": rfc3339(first.arrival.at),
                "approximateArrivalOfLastRecord": rfc3339(last.arrival.at),
                "batchSize": piece.records.len(),
                "streamArn": mapping.stream_arn,
            });
        }
        report
    }

    fn ended(&mut self, ended: Ended) {
        let now = Instant::now();
        match ended {
            Ended::Call(lane, answer, passed) => {
                self.passed.extend(passed);
                let outcome = self.outcome(self.batches.piece(lane), answer);
                self.batches.ended(lane, outcome, now);
            }
            Ended::GivenUp(lane, why, true) => {
                let records = self.batches.piece(lane).records.len() as u64;
                let because = match why {
                    Why::RetriesExhausted => "retries",
                    Why::TooOld => "age",
                    Why::Expired => "retention",
                };
                count_given_up(&self.given_up, records, because);
                self.batches.given_up(lane);
            }
            Ended::GivenUp(lane, _, false) => self.batches.give_up_later(lane, now + SEND_AGAIN),
        }
    }

    fn outcome(&self, piece: &Piece, answer: Result<Value, Invocation>) -> Outcome {
        let function = &self.mapping.function;
        let answer = match answer {
            Err(problem) if problem.spends_no_try() => {
                tracing::debug!(%problem, function, "a Kinesis batch waits");
                return Outcome::Throttled;
            }
            Err(problem) => {
                tracing::warn!(%problem, function, "a Kinesis batch is tried again");
                return Outcome::Failed(LastCall::Error);
            }
            // Without `ReportBatchItemFailures` nobody reads what is answered.
            Ok(_) if !self.mapping.report_failures => return Outcome::Done,
            Ok(answer) => answer,
        };
        let named = match reported(&answer) {
            Reported::Done => return Outcome::Done,
            Reported::Failed(named) => named,
            Reported::Malformed(problem) => {
                tracing::error!(problem, function, "the answer names no failed records: the whole batch has failed");
                return Outcome::Failed(LastCall::Answer);
            }
        };
        let numbers = named.into_iter().map(|named| {
            let number = self.shard.number(named)?;
            piece.records.binary_search_by_key(&number, |record| record.number).is_ok().then_some(number)
        });
        match numbers.collect::<Option<Vec<u64>>>().and_then(|numbers| numbers.into_iter().min()) {
            Some(first) => {
                tracing::warn!(function, from = first, "records of a Kinesis batch failed");
                Outcome::FailedFrom(first)
            }
            None => {
                tracing::error!(function, "the answer names records of another batch: the whole batch has failed");
                Outcome::Failed(LastCall::Answer)
            }
        }
    }

    /// What cannot be moved now is moved with the next batch; until then a kill repeats it.
    async fn pass(&mut self) {
        match self.shard.log.pass(self.batches.checkpoint()).await {
            Ok(passed) => self.passed.extend(passed),
            Err(problem) => tracing::warn!(%problem, function = self.mapping.function, "a checkpoint waits"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
