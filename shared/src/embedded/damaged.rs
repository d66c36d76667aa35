//! What was found damaged: out of the way of sound rows, kept with its bytes until somebody has taken it over [Q1].

use bytes::Bytes;
use redb::{ReadableTable, WriteTransaction};
use tokio::sync::oneshot;

use super::{BODIES, DAMAGED, Embedded, ITEMS, Op, QUEUED, next_number, sealed};
use crate::error::BackendError;

/// The counter that numbers damaged rows.
const NUMBER: &str = "damaged";

/// One row that is not what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// Names the row in [`Embedded::forget_damaged`]; later ones have higher numbers.
    pub number: u64,
    /// Where it was: a message of a queue, or an item of the store.
    pub what: String,
    /// What was found there, without its checksum.
    pub bytes: Bytes,
}

impl Embedded {
    /// What was set aside and not yet forgotten, oldest first, `max` at most.
    pub fn damaged(&self, max: usize) -> Result<Vec<Damaged>, BackendError> {
        let rows = self.shared().database().read(|tx| {
            let mut rows = Vec::new();
            for row in tx.open_table(DAMAGED)?.range::<u64>(..)?.take(max) {
                let (number, row) = row?;
                let (what, bytes) = row.value();
                rows.push(Damaged { number: number.value(), what: what.into(), bytes: Bytes::copy_from_slice(bytes) });
            }
            Ok(rows)
        });
        Ok(rows?)
    }

    /// Somebody else keeps it now.
    pub async fn forget_damaged(&self, number: u64) -> Result<(), BackendError> {
        self.done(|reply| Box::new(Forget { number, reply })).await
    }

    /// Sets a row aside, without waiting for it. Whoever met it said so.
    pub(crate) fn set_aside(&self, place: Place) {
        metrics::counter!("stream_damaged_rows_total").increment(1);
        tracing::error!(what = %place, "bytes on the disk are not what was written: they are set aside");
        self.submit(Box::new(SetAside(place)));
    }
}

/// Where a damaged row stands.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    Message { queue: String, number: u64 },
    Item { partition: String, sort: String },
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Message { queue, number } => write!(f, "message {number} of the queue {queue}"),
            Place::Item { partition, sort } => write!(f, "stored item {partition}/{sort}"),
        }
    }
}

struct SetAside(Place);

impl Op for SetAside {
    fn bytes(&self) -> usize {
        0
    }

    fn apply(&mut self, tx: &WriteTransaction) -> Result<bool, redb::Error> {
        let bytes = match &self.0 {
            Place::Message { queue, number } => {
                let key = (queue.as_str(), *number);
                let queued = tx.open_table(QUEUED)?.remove(key)?.is_some();
                let mut bodies = tx.open_table(BODIES)?;
                let body = bodies.remove(key)?.map(|row| sealed::unchecked(row.value()).to_vec());
                // Without a body there is nothing to keep but the fact that it was there.
                body.or(queued.then(Vec::new))
            }
            Place::Item { partition, sort } => {
                let mut items = tx.open_table(ITEMS)?;
                let row = items.remove((partition.as_str(), sort.as_str()))?;
                row.map(|row| sealed::unchecked(row.value().2).to_vec())
            }
        };
        let Some(bytes) = bytes else { return Ok(false) };
        let number = next_number(tx, NUMBER, 1)?;
        tx.open_table(DAMAGED)?.insert(number, (self.0.to_string().as_str(), &bytes[..]))?;
        Ok(true)
    }

    fn finish(self: Box<Self>, _: Result<(), BackendError>) {}
}

struct Forget {
    number: u64,
    reply: oneshot::Sender<Result<(), BackendError>>,
}

impl Op for Forget {
    fn bytes(&self) -> usize {
        0
    }

    fn apply(&mut self, tx: &WriteTransaction) -> Result<bool, redb::Error> {
        let mut damaged = tx.open_table(DAMAGED)?;
        Ok(damaged.get(self.number)?.is_some() && damaged.remove(self.number)?.is_some())
    }

    fn finish(self: Box<Self>, outcome: Result<(), BackendError>) {
        // Whoever asked may have gone.
        let _ = self.reply.send(outcome);
    }
}
