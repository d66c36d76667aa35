//! The one writer of a data folder: whatever waits goes into one transaction, and everybody is answered after its
//! commit. A failed commit answers each of its operations and the writer goes on.
//!
//! A transaction costs a sync of the disk and a third of a millisecond of work, whatever is in it. So the writer waits for what
//! comes together: a moment for anything, and longer for what only forgets.

use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redb::WriteTransaction;

use super::{Commits, Failed, Shared};
use crate::error::BackendError;
use crate::limits::BULK_IN_FLIGHT_ENVELOPES;

/// Operations of one transaction: bounds how long the first of them waits for the last.
const GROUP_OPS: usize = 512;
/// Their bytes: bounds what a transaction holds in memory.
const GROUP_BYTES: usize = 8 * 1024 * 1024;
/// What one caller gives, such as the marks of one batch and the envelopes of the next, comes within this.
const COMPANY: Duration = Duration::from_micros(100);
/// Operations that only forget wait so long for another one, which brings its commit with it: about as long as a batch takes.
const PATIENCE: Duration = Duration::from_millis(10);
/// They wait no longer when there are so many: half of the envelopes that may be in flight [K6].
const PATIENT_OPS: usize = BULK_IN_FLIGHT_ENVELOPES / 2;

/// One change. `apply` may run again after a transaction that failed; `finish` runs once, after the commit or its failure.
pub(crate) trait Op: Send {
    fn bytes(&self) -> usize;
    /// Brings something new, so that it is refused when the disk is full; whatever else writes may use the reserve.
    fn takes_in(&self) -> bool {
        false
    }
    /// Only forgets: nothing new waits for it.
    fn is_patient(&self) -> bool {
        false
    }
    /// Whether anything was changed.
    fn apply(&mut self, tx: &WriteTransaction) -> Result<bool, redb::Error>;
    fn finish(self: Box<Self>, outcome: Result<(), BackendError>);
}

pub(crate) struct Writer {
    shared: Arc<Shared>,
    committer: Committer,
}

/// Who commits. The queues are unbounded: each caller awaits its operation, so there are as many as callers, and what nobody
/// awaits is small.
enum Committer {
    /// The caller, one at a time.
    Caller(Mutex<()>),
    Thread {
        ops: mpsc::Sender<Box<dyn Op>>,
        handle: JoinHandle<()>,
    },
    #[cfg(feature = "testing")]
    Task(tokio::sync::mpsc::UnboundedSender<Box<dyn Op>>),
}

impl Writer {
    pub(crate) fn start(shared: Arc<Shared>, commits: Commits) -> Result<Writer, BackendError> {
        let committer = match commits {
            Commits::Inline => Committer::Caller(Mutex::new(())),
            #[cfg(feature = "testing")]
            Commits::Stepped(wait) => {
                let (ops, waiting) = tokio::sync::mpsc::unbounded_channel();
                tokio::spawn(step(shared.clone(), waiting, wait));
                Committer::Task(ops)
            }
            Commits::Grouped => {
                let (ops, waiting) = mpsc::channel();
                let shared = shared.clone();
                let handle = std::thread::Builder::new()
                    .name("embedded-writer".into())
                    .spawn(move || run(&shared, &waiting))
                    .map_err(|e| BackendError::Fatal(format!("cannot start the writer's thread: {e}")))?;
                Committer::Thread { ops, handle }
            }
        };
        Ok(Writer { shared, committer })
    }

    pub(crate) fn submit(&self, op: Box<dyn Op>) {
        let refused = match &self.committer {
            Committer::Caller(alone) => {
                let _alone = alone.lock();
                return commit(&self.shared, vec![op]);
            }
            Committer::Thread { ops, .. } => ops.send(op).err().map(|mpsc::SendError(op)| op),
            #[cfg(feature = "testing")]
            Committer::Task(ops) => ops.send(op).err().map(|refused| refused.0),
        };
        if let Some(op) = refused {
            op.finish(Err(BackendError::Fatal("the writer's thread has died".into())));
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let nobody = Committer::Caller(Mutex::new(()));
        if let Committer::Thread { ops, handle } = std::mem::replace(&mut self.committer, nobody) {
            drop(ops);
            // A panic of the thread was reported when it happened.
            let _ = handle.join();
        }
    }
}

fn run(shared: &Shared, waiting: &mpsc::Receiver<Box<dyn Op>>) {
    while let Ok(first) = waiting.recv() {
        let mut until = deadline(&*first);
        let mut patient = usize::from(first.is_patient());
        let next = || {
            let left = until.saturating_duration_since(now());
            let op = waiting.recv_timeout(if patient < PATIENT_OPS { left } else { Duration::ZERO }).ok()?;
            until = until.min(deadline(&*op));
            patient += usize::from(op.is_patient());
            Some(op)
        };
        commit(shared, group(first, next));
    }
}

/// When an operation that has just come waits no longer for others.
fn deadline(op: &dyn Op) -> Instant {
    now() + if op.is_patient() { PATIENCE } else { COMPANY }
}

#[allow(clippy::disallowed_methods)] // a thread, which no simulated run has
fn now() -> Instant {
    Instant::now()
}

#[cfg(feature = "testing")]
async fn step(
    shared: Arc<Shared>,
    mut waiting: tokio::sync::mpsc::UnboundedReceiver<Box<dyn Op>>,
    wait: std::time::Duration,
) {
    while let Some(first) = waiting.recv().await {
        tokio::time::sleep(wait).await;
        commit(&shared, group(first, || waiting.try_recv().ok()));
    }
}

/// What shares the transaction of `first`: all that waits, within its bounds.
fn group(first: Box<dyn Op>, mut next: impl FnMut() -> Option<Box<dyn Op>>) -> Vec<Box<dyn Op>> {
    let mut bytes = first.bytes();
    let mut group = vec![first];
    while group.len() < GROUP_OPS && bytes < GROUP_BYTES {
        let Some(op) = next() else { break };
        bytes += op.bytes();
        group.push(op);
    }
    group
}

/// Commits a group and answers each of its operations. On a full disk, what takes nothing in is tried again from the reserve;
/// where damage was met, each operation is tried alone, so that one of them never fails the others.
fn commit(shared: &Shared, mut group: Vec<Box<dyn Op>>) {
    let failed = match transaction(shared, &mut group) {
        Ok(()) => return finish(group, &Ok(())),
        Err(failed) => failed,
    };
    match failed {
        Failed::Damaged(_) if group.len() > 1 => group.into_iter().for_each(|op| commit(shared, vec![op])),
        Failed::Full(problem) => {
            let (new, rest): (Vec<_>, Vec<_>) = group.into_iter().partition(|op| op.takes_in());
            let again = !rest.is_empty() && (shared.room.give_up() || !new.is_empty());
            let refused = Err(BackendError::Retry(problem));
            finish(new, &refused);
            if again { commit(shared, rest) } else { finish(rest, &refused) }
        }
        // Said when it was lost, once.
        failed @ Failed::Distrusted(_) => finish(group, &Err(failed.into())),
        failed => {
            let error = BackendError::from(failed);
            tracing::error!(%error, "a commit failed; its operations were answered to be tried again");
            finish(group, &Err(error));
        }
    }
    if !shared.database.is_open()
        && let Err(failed) = recover(shared)
    {
        let error = BackendError::from(failed);
        tracing::error!(%error, "the database stays closed until the next write");
    }
}

fn transaction(shared: &Shared, group: &mut [Box<dyn Op>]) -> Result<(), Failed> {
    if !shared.database.is_open() {
        recover(shared)?;
    }
    shared.database.write(|tx| {
        let mut changed = false;
        for op in group {
            changed |= op.apply(tx)?;
        }
        Ok(changed)
    })
}

fn finish(group: Vec<Box<dyn Op>>, outcome: &Result<(), BackendError>) {
    group.into_iter().for_each(|op| op.finish(outcome.clone()));
}

/// Opens the database again. A commit that reported failure may have happened, so the queues look at what is there.
fn recover(shared: &Shared) -> Result<(), Failed> {
    shared.database.reopen().map_err(|e| Failed::Other(e.to_string()))?;
    match shared.database.queued() {
        Ok(rows) => {
            shared.queues.reconcile(&rows, shared);
            Ok(())
        }
        Err(failed) => {
            shared.database.close();
            Err(failed)
        }
    }
}
