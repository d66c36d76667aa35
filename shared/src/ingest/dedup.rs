//! The seen-set [S12]: what was accepted before, so that it is not published twice, and which revision a changed record becomes.
//! It belongs to tenant and source, whichever stream reads them, and is kept by the hour of observation; what one shard pushes is
//! kept for some minutes by the time of its acceptance, because its history would otherwise be read for every batch. It moves
//! only after the queue has acknowledged. Stored as small appended pages: a commit costs what it adds, not what is there.

mod hours;
mod known;
mod pages;
pub(crate) mod shard;
mod turns;

use crate::error::BackendError;
use crate::record::{Draft, TenantId};
use crate::store::Store;
use crate::time::Clock;

pub use known::{Judged, Mark};
pub(crate) use pages::Pages;
use shard::Shards;

/// A seen-set, as far as it was needed.
#[derive(Debug)]
pub struct Seen(Kind);

#[derive(Debug)]
enum Kind {
    Hours(hours::Hours),
    Shard(shard::Window),
}

impl Seen {
    /// Of a tenant's sources, by the hour of observation: exact over all streams, each of which waits for its turn.
    pub fn of_tenant(tenant: &TenantId) -> Seen {
        Seen(Kind::Hours(hours::Hours::new(tenant)))
    }

    /// Of what one shard pushes: exact for some minutes. One process at a time works on a shard. The process knows what it read
    /// of it before; `done` gives that back.
    pub fn of_shard(shards: &Shards, shard: &str) -> Seen {
        Seen(Kind::Shard(shards.take(shard)))
    }

    /// Takes the turn of the drafts' sources, and reads what is to be known to judge them.
    pub async fn load(&mut self, store: &dyn Store, clock: &Clock, drafts: &[Draft]) -> Result<(), BackendError> {
        match &mut self.0 {
            Kind::Hours(hours) => hours.load(store, clock, drafts).await,
            Kind::Shard(window) => window.load(store, clock).await,
        }
    }

    /// As `load`, for drafts that `judges_ahead` has allowed: the turn stays ours, however late it is.
    pub(crate) async fn load_ahead(&mut self, store: &dyn Store, drafts: &[Draft]) -> Result<(), BackendError> {
        match &mut self.0 {
            Kind::Hours(hours) => hours.load_ahead(store, drafts).await,
            Kind::Shard(_) => Ok(()),
        }
    }

    /// Judges a draft that `load` was told of, and remembers it within this batch, so that a row twice in one body is found.
    pub fn judge(&mut self, draft: &Draft) -> Judged {
        match &mut self.0 {
            Kind::Hours(hours) => hours.judge(draft),
            Kind::Shard(window) => window.judge(draft),
        }
    }

    /// The queue has acknowledged these records' envelope.
    pub fn accept(&mut self, marks: &[Mark]) {
        match &mut self.0 {
            Kind::Hours(hours) => hours.accept(marks),
            Kind::Shard(window) => window.accept(marks),
        }
    }

    /// Whether these drafts may be judged while what was accepted before is not stored yet. Otherwise that is stored first: `load`
    /// may give the turn away, or read the store again.
    pub(crate) fn judges_ahead(&self, drafts: &[Draft]) -> bool {
        match &self.0 {
            Kind::Hours(hours) => hours.judges_ahead(drafts),
            Kind::Shard(_) => false,
        }
    }

    /// Before what was judged a while ago is sent: whoever took too long judges it anew.
    pub(crate) async fn keep_turns(&mut self, store: &dyn Store, clock: &Clock) -> Result<(), BackendError> {
        match &mut self.0 {
            Kind::Hours(hours) => hours.keep_turns(store, clock).await,
            Kind::Shard(_) => Ok(()),
        }
    }

    /// Takes what was accepted, as pages to be stored; `stored` is told of them then.
    pub(crate) fn stage(&mut self, clock: &Clock) -> Pages {
        match &mut self.0 {
            Kind::Hours(hours) => hours.stage(clock),
            Kind::Shard(window) => window.stage(clock),
        }
    }

    /// These pages are stored.
    pub(crate) async fn stored(&mut self, pages: Pages, store: &dyn Store) -> Result<(), BackendError> {
        match &mut self.0 {
            Kind::Hours(hours) => hours.stored(pages, store).await,
            Kind::Shard(window) => {
                window.stored(pages);
                Ok(())
            }
        }
    }

    /// Stores what was accepted.
    pub async fn commit(&mut self, store: &dyn Store, clock: &Clock) -> Result<(), BackendError> {
        let pages = self.stage(clock).store(store).await?;
        self.stored(pages, store).await
    }

    /// Drops what was judged and not accepted: the next batch reads the store again.
    pub(crate) fn forget_unaccepted(&mut self) {
        match &mut self.0 {
            Kind::Hours(hours) => hours.forget(),
            Kind::Shard(window) => window.forget(),
        }
    }

    /// The body is at its end: the next stream has its turn.
    pub async fn leave(&mut self, store: &dyn Store, clock: &Clock) {
        if let Kind::Hours(hours) = &mut self.0
            && let Err(problem) = hours.leave(store, clock).await
        {
            // It ends by itself soon.
            tracing::warn!(%problem, "the turn of a source could not be given back");
        }
    }

    /// Keeps what was read of a shard for its next batch.
    pub fn done(self, shards: &Shards) {
        if let Kind::Shard(window) = self.0 {
            shards.give_back(window);
        }
    }

    /// Keys in memory.
    #[cfg(test)]
    fn known(&self) -> usize {
        match &self.0 {
            Kind::Hours(_) => 0,
            Kind::Shard(window) => window.known(),
        }
    }
}

#[cfg(all(test, feature = "embedded", feature = "testing"))]
mod tests;
