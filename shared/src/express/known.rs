//! What is known of an alert's message by the name that references give it: the first message of its thread, and the contents
//! that were accepted, each with what its sender was told [S12, E4]. The store is what every instance shares; memory
//! answers for this process while the store is away, and the record's `quality` then says that its revision is a best
//! effort.
//!
//! One look comes before an alert is sent and one conditional write after it. Within a process the messages of one name take
//! turns. When another instance took one meanwhile, the write finds it out, so the sender hears of its alert after the write.
//!
//! Where one process alone uses the store, nobody can have: its memory knows all that is under way, the sender hears of its
//! alert as soon as that is durable, and the write follows. What a crash cuts off in the milliseconds between them is not known
//! afterwards: the same content is published again under the same `event_id` and revision [K6].

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedMutexGuard;
use tokio::time::{Duration, Instant, sleep, timeout};

use super::marks::thread_hash;
use super::reply::Accepted;
use crate::error::BackendError;
use crate::limits::{ALERTS_KNOWN, CONTENTS_OF_EVENT, CONTENTS_OF_NAME, KNOWN_LATER, THREAD_KEPT};
use crate::record::{EventId, SourceId};
use crate::store::{Expect, Key, PutError, Store};
use crate::time::Clock;

/// As it is stored.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Known {
    /// Name of the thread's first message; empty while nothing was accepted.
    root: String,
    /// In the order in which they were accepted.
    contents: Vec<Content>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Content {
    hash: u32,
    accepted: Accepted,
}

impl Known {
    /// What the sender of the same content was told [S12].
    pub(super) fn duplicate(&self, event: EventId, hash: u32) -> Option<&Accepted> {
        self.contents_of(event).find(|content| content.hash == hash).map(|content| &content.accepted)
    }

    /// What the event's last revision became.
    pub(super) fn last(&self, event: EventId) -> Option<&Accepted> {
        self.contents_of(event).map(|content| &content.accepted).max_by_key(|accepted| accepted.revision)
    }

    pub(super) fn root(&self) -> Option<&str> {
        (!self.root.is_empty()).then_some(self.root.as_str())
    }

    pub(super) fn add(&mut self, root: &str, hash: u32, accepted: &Accepted) {
        self.root = root.to_owned();
        self.contents.push(Content { hash, accepted: accepted.clone() });
        let of_event = |content: &Content| content.accepted.event_id == accepted.event_id;
        if self.contents.iter().filter(|content| of_event(content)).count() > CONTENTS_OF_EVENT {
            let oldest = self.contents.iter().position(of_event);
            oldest.map(|oldest| self.contents.remove(oldest));
        }
        if self.contents.len() > CONTENTS_OF_NAME {
            // Drills go first: they must never make a message that means it look new.
            let drill = self.contents.iter().position(|content| content.accepted.drill);
            self.contents.remove(drill.unwrap_or(0));
        }
    }

    /// Another instance gave this revision to another content.
    pub(super) fn clashes(&self, hash: u32, accepted: &Accepted) -> bool {
        let later = |content: &Content| content.hash != hash && content.accepted.revision >= accepted.revision;
        self.contents_of(accepted.event_id).any(later)
    }

    fn merge(&mut self, stored: Known) {
        let mine = std::mem::replace(self, stored);
        if self.root.is_empty() {
            self.root = mine.root;
        }
        for content in mine.contents {
            if !self.contents.contains(&content) {
                self.contents.push(content);
            }
        }
        self.contents.sort_by_key(|content| content.accepted.revision);
    }

    fn contents_of(&self, event: EventId) -> impl Iterator<Item = &Content> {
        self.contents.iter().filter(move |content| content.accepted.event_id == event)
    }
}

/// What each accepted content of a message became, in its order; `name`: `sender,identifier`. Nothing for one that is not known.
///
/// # Errors
/// When the store is away, or what it holds cannot be read.
pub async fn accepted(store: &dyn Store, source: &SourceId, name: &str) -> Result<Vec<Accepted>, BackendError> {
    let Some(item) = store.get(&key(source, name)).await? else { return Ok(Vec::new()) };
    let known: Known = serde_json::from_slice(&item.value)
        .map_err(|e| BackendError::Fatal(format!("what is known of alert {name} cannot be read: {e}")))?;
    Ok(known.contents.into_iter().map(|content| content.accepted).collect())
}

/// One sender's message names mean nothing under another source id.
pub(super) fn key(source: &SourceId, name: &str) -> Key {
    Key::new("express/known", format!("{source}/{}", thread_hash(name)))
}

/// What is known of a name, and on which state of the store that rests.
pub(super) struct Look {
    pub(super) known: Known,
    /// `None`: the store did not answer.
    expect: Option<Expect>,
    /// The store knows all of it too.
    pub(super) is_stored: bool,
}

impl Look {
    pub(super) fn store_answered(&self) -> bool {
        self.expect.is_some()
    }
}

/// What became of a conditional write.
enum Written {
    /// The store has it.
    Stored,
    /// Another instance has written meanwhile, or the store was never looked at: look first.
    Behind,
    /// The store is away or slow; whether it has it is not known.
    Unanswered,
}

/// Where messages are known by their names: in the store, and in this process.
#[derive(Clone, Copy)]
pub(super) struct Names<'a> {
    pub(super) store: &'a dyn Store,
    pub(super) recent: &'a Recent,
    pub(super) clock: &'a Clock,
    /// So long one answer of the store is waited for.
    pub(super) patience: Duration,
}

impl Names<'_> {
    /// Waits until no other alert of this name is under way in this process.
    pub(super) async fn turn(&self, key: &Key) -> OwnedMutexGuard<()> {
        self.recent.turn(key).await
    }

    /// What the store and this process know.
    pub(super) async fn look(&self, key: &Key) -> Look {
        let mut known = self.recent.known(key);
        let mut is_stored = known.contents.is_empty();
        let expect = match timeout(self.patience, self.store.get(key)).await {
            Ok(Ok(None)) => Some(Expect::Absent),
            Ok(Ok(Some(item))) => {
                match serde_json::from_slice::<Known>(&item.value) {
                    Ok(stored) => {
                        is_stored = known.contents.iter().all(|content| stored.contents.contains(content));
                        known.merge(stored);
                    }
                    Err(problem) => {
                        tracing::error!(%problem, key = key.sort, "what is known of an alert cannot be read")
                    }
                }
                Some(Expect::Version(item.version))
            }
            Ok(Err(problem)) => {
                tracing::warn!(%problem, "what is known of an alert cannot be looked up");
                None
            }
            Err(_) => {
                tracing::warn!("what is known of an alert was not found in time");
                None
            }
        };
        Look { known, expect, is_stored }
    }

    /// The root of a message that some instance has accepted; `None` for one that none has.
    pub(super) async fn root(&self, source: &SourceId, name: &str) -> Result<Option<String>, BackendError> {
        let key = key(source, name);
        if let Some(root) = self.recent.known(&key).root() {
            return Ok(Some(root.to_owned()));
        }
        let item = self.store.get(&key).await?;
        let known = item.and_then(|item| serde_json::from_slice::<Known>(&item.value).ok());
        Ok(known.and_then(|known| known.root().map(str::to_owned)))
    }

    /// This process knows it from now on.
    pub(super) fn remember(&self, key: &Key, look: &Look) {
        self.recent.keep(key, &look.known);
    }

    /// Keeps what is known now, and learns what other instances wrote meanwhile.
    pub(super) async fn keep(&self, key: &Key, mut look: Look, content: u32, accepted: &Accepted) -> Look {
        loop {
            self.remember(key, &look);
            match self.write(key, &look).await {
                Written::Stored => return Look { is_stored: true, ..look },
                Written::Unanswered => return Look { is_stored: false, ..look },
                Written::Behind => look = self.look(key).await,
            }
            if !look.store_answered() || look.known.clashes(content, accepted) {
                return look;
            }
        }
    }

    /// After the answer: what the store did not take in time is written when it answers again, so that other instances, the
    /// next start and [`accepted`] know of the alert. Given up after [`KNOWN_LATER`], and said.
    pub(super) async fn keep_later(&self, key: &Key) {
        let end = Instant::now() + KNOWN_LATER;
        while Instant::now() < end {
            sleep(self.patience).await;
            // It takes no turn, which would let the next alert of the name wait for the store; the write is conditional.
            let look = self.look(key).await;
            if look.is_stored || look.store_answered() && matches!(self.write(key, &look).await, Written::Stored) {
                return;
            }
        }
        tracing::warn!(key = key.sort, "neither another instance nor the next start will know of this alert");
    }

    /// What others wrote is never overwritten unseen.
    async fn write(&self, key: &Key, look: &Look) -> Written {
        let value = match serde_json::to_vec(&look.known) {
            Ok(value) => value,
            Err(problem) => {
                tracing::error!(%problem, "what is known of an alert cannot be written");
                return Written::Unanswered;
            }
        };
        let Some(expect) = look.expect else { return Written::Behind };
        let put = self.store.put_if(key, value.into(), expect, Some(self.clock.now() + THREAD_KEPT));
        match timeout(self.patience, put).await {
            Ok(Ok(_)) => Written::Stored,
            Ok(Err(PutError::Conflict)) => Written::Behind,
            Ok(Err(problem)) => {
                tracing::warn!(%problem, "what is known of an alert is written later");
                Written::Unanswered
            }
            Err(_) => Written::Unanswered,
        }
    }
}

/// The names that this process took alerts under lately.
#[derive(Debug, Default)]
pub struct Recent {
    alone: bool,
    names: Mutex<BTreeMap<String, Remembered>>,
}

#[derive(Debug, Default)]
struct Remembered {
    at: Option<Instant>,
    known: Known,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Recent {
    /// Of the one process that uses its store.
    pub fn alone() -> Recent {
        Recent { alone: true, ..Recent::default() }
    }

    /// No other process takes alerts with the same store.
    pub(super) fn is_alone(&self) -> bool {
        self.alone
    }

    async fn turn(&self, key: &Key) -> OwnedMutexGuard<()> {
        let turn = {
            let mut names = self.names.lock();
            if names.len() >= ALERTS_KNOWN && !names.contains_key(&key.sort) {
                let idle = names.iter().filter(|(_, name)| Arc::strong_count(&name.turn) == 1);
                let oldest = idle.min_by_key(|(_, name)| name.at).map(|(key, _)| key.clone());
                oldest.map(|key| names.remove(&key));
            }
            let name = names.entry(key.sort.clone()).or_default();
            name.at = Some(Instant::now());
            name.turn.clone()
        };
        turn.lock_owned().await
    }

    fn known(&self, key: &Key) -> Known {
        self.names.lock().get(&key.sort).map(|name| name.known.clone()).unwrap_or_default()
    }

    fn keep(&self, key: &Key, known: &Known) {
        let mut names = self.names.lock();
        let name = names.entry(key.sort.clone()).or_default();
        (name.at, name.known) = (Some(Instant::now()), known.clone());
    }
}
