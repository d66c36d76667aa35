//! What processes tell each other of the sink [R2]: one item of the store, every write a condition, read once a second at most.
//!
//! A process that opens or closes a lane's breaker says so; the others then stop at once, or probe at once, without finding out
//! for themselves. The later word counts: a process whose last success is younger than another one's "away" keeps going and
//! says "back", so that one with a broken network of its own stops the others for a second at most.
//!
//! Each process probes by itself, once in a breaker's time. A claim before each probe would spare the broker a few records,
//! and put a write to the store before the only quick way of an alert. Without the store each process goes by its own breakers.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::{BreakerState, SinkBreakers};
use crate::error::BackendError;
use crate::limits::{BREAKER_OPEN, HEDGE};
use crate::sink::Lane;
use crate::store::{Expect, Item, Key, PutError, Store};
use crate::time::{Clock, Timestamp};

/// What was last said; a lane of which nobody ever said anything is not there.
type Said = BTreeMap<Lane, Word>;

/// What was said of one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// The sink does not take records.
    pub away: bool,
    /// It has been away, or back, since then [O8].
    pub since: Timestamp,
    /// When this was said last.
    pub at: Timestamp,
}

/// A lane's state over all processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// As this process has it, or open when another one says so.
    pub state: BreakerState,
    /// Since when the lane has been away, or back; `None` when it never was away.
    pub since: Option<Timestamp>,
}

/// Tells the others what is new here and hears what they say, when it is time for that. It takes [`HEDGE`] at most.
pub async fn exchange(breakers: &SinkBreakers, store: &dyn Store, clock: &Clock) {
    if !breakers.is_exchange_due() {
        return;
    }
    breakers.begin_exchange();
    match timeout(HEDGE, exchange_now(breakers, store, clock)).await {
        Ok(Ok(())) => {}
        Ok(Err(problem)) => tracing::debug!(%problem, "what others know of the sink could not be exchanged"),
        Err(_) => tracing::debug!("what others know of the sink could not be exchanged in time"),
    }
}

async fn exchange_now(breakers: &SinkBreakers, store: &dyn Store, clock: &Clock) -> Result<(), BackendError> {
    /// Two who write at once need two, and more than a few never have news in the same moment.
    const TRIES: usize = 4;
    for _ in 0..TRIES {
        let item = store.get(&key()).await?;
        let mut said = read(item.as_ref());
        let mut news = Vec::new();
        for lane in Lane::ALL {
            let (breaker, word) = (breakers.lane(lane), said.get(&lane).copied());
            let age = word.map_or(Duration::MAX, |word| clock.since(word.at));
            if let Some((away, number)) = breaker.news(word.is_some_and(|word| word.away), age) {
                let at = clock.now();
                let since = word.filter(|word| word.away == away).map_or(at, |word| word.since);
                said.insert(lane, Word { away, since, at });
                news.push((breaker, number));
            } else if let Some(word) = word {
                breaker.hear(word.away, age);
            }
        }
        if news.is_empty() {
            return Ok(());
        }
        let value = serde_json::to_vec(&said).map_err(|e| BackendError::Fatal(format!("the breakers' item: {e}")))?;
        let expect = item.map_or(Expect::Absent, |item| Expect::Version(item.version));
        match store.put_if(&key(), value.into(), expect, None).await {
            Ok(_) => {
                news.into_iter().for_each(|(breaker, number)| breaker.told(number));
                return Ok(());
            }
            // Somebody else spoke: what they said is heard before ours is said.
            Err(PutError::Conflict) => {}
            Err(e) => return Err(e.unexpected("the breakers' item")),
        }
    }
    Ok(())
}

/// An "away" that nobody repeated for so long is not believed any more when the system's state is told: while anything waits,
/// each failed probe repeats it.
const BELIEVED: Duration = Duration::from_secs(2 * BREAKER_OPEN.as_secs());

/// What is known of each lane, in the order of [`Lane::ALL`], by this process and the others together, for whoever asks for the
/// system's state.
///
/// # Errors
/// When the store is away.
pub async fn known(breakers: &SinkBreakers, store: &dyn Store, clock: &Clock) -> Result<[Known; 2], BackendError> {
    let said = read(store.get(&key()).await?.as_ref());
    let now = clock.now();
    let is_believed = |word: Word| word.away && now.duration_since(word.at).unsigned_abs() < BELIEVED;
    Ok(Lane::ALL.map(|lane| {
        let word = said.get(&lane).copied();
        let state = match breakers.lane(lane).state() {
            BreakerState::Closed if word.is_some_and(is_believed) => BreakerState::Open,
            own => own,
        };
        Known { state, since: word.map(|word| word.since) }
    }))
}

/// An item that another version wrote says nothing: the next word replaces it.
fn read(item: Option<&Item>) -> Said {
    item.and_then(|item| serde_json::from_slice(&item.value).ok()).unwrap_or_default()
}

fn key() -> Key {
    Key::new("breaker", "sink")
}
