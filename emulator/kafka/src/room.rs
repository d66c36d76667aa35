//! Room for the requests of all connections, taken as their bytes arrive: a client holds what it sent, not what it
//! announced. What is read, and when a client is given up, is the wire's business.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub(super) struct Room {
    kib: Arc<Semaphore>,
    /// Whoever holds the turn needs no more room: when frames wait for each other's room, one of them always goes on.
    turn: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// The room of one frame, given back when dropped.
#[derive(Default)]
pub(super) struct Held {
    kib: Option<OwnedSemaphorePermit>,
    turn: Option<OwnedSemaphorePermit>,
}

impl Room {
    /// Room for `kib` KiB, and for one frame more.
    pub(super) fn new(kib: u32) -> Self {
        let semaphore = |permits: usize| Arc::new(Semaphore::new(permits));
        Self { kib: semaphore(kib as usize), turn: semaphore(1), waiting: AtomicUsize::new(0) }
    }

    /// Waits for room for `bytes` more.
    pub(super) async fn take(&self, held: &mut Held, bytes: usize) -> io::Result<()> {
        if held.turn.is_some() {
            return Ok(());
        }
        let kib = bytes.div_ceil(1 << 10) as u32;
        let more = match self.kib.clone().try_acquire_many_owned(kib) {
            Ok(more) => more,
            Err(_) => {
                let _waiting = Waiting::begin(&self.waiting);
                tokio::select! {
                    biased;
                    more = self.kib.clone().acquire_many_owned(kib) => more.map_err(io::Error::other)?,
                    turn = self.turn.clone().acquire_owned() => {
                        held.turn = Some(turn.map_err(io::Error::other)?);
                        return Ok(());
                    }
                }
            }
        };
        match &mut held.kib {
            Some(kib) => kib.merge(more),
            none => *none = Some(more),
        }
        Ok(())
    }

    /// Whether somebody waits for room.
    pub(super) fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }
}

/// Counts who waits, also if they are given up while they do.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
