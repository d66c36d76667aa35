//! The append-only audit log [A5]: every refusal, grant and key change, by day, never overwritten.

use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::error::BackendError;
use crate::store::{self, Expect, Key};
use crate::time::{Timestamp, rfc3339};

/// What was done or refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Refused,
    ConnectorRegistered,
    KeyRotated,
    KeyRevoked,
    /// An id that sounds critical was served as HIGH, for want of a grant [P2].
    ServedAsHigh,
    StreamStarted,
    StreamStopped,
}

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    #[serde(serialize_with = "crate::time::serialize")]
    pub at: Timestamp,
    pub action: Action,
    /// Who did it or was refused: a connector, a principal, an address; never a key.
    pub actor: String,
    /// What it was about: a source id, a connector, a stream.
    pub subject: String,
    pub detail: String,
}

fn partition(at: Timestamp) -> String {
    format!("audit/{}", &rfc3339(at)[..10])
}

/// Writes one entry; durable when it returns.
pub async fn write(app: &App, action: Action, actor: &str, subject: &str, detail: &str) -> Result<(), BackendError> {
    let at = app.clock.now();
    let entry = Entry { at, action, actor: actor.into(), subject: subject.into(), detail: detail.into() };
    let value = serde_json::to_vec(&entry).map_err(|e| BackendError::Fatal(format!("audit entry: {e}")))?;
    let key = Key::new(partition(at), app.rng.ulid(at).to_string());
    match app.store.put_if(&key, value.into(), Expect::Absent, None).await {
        Ok(_) => Ok(()),
        Err(e) => Err(e.of("audit entry")),
    }
}

/// The last `max` entries of the day of `day`, oldest first.
pub async fn list(app: &App, day: Timestamp, max: usize) -> Result<Vec<Entry>, BackendError> {
    let items = store::list_all(&*app.store, &partition(day), "", usize::MAX).await?;
    let read = |item: &store::Item| {
        serde_json::from_slice(&item.value)
            .map_err(|e| BackendError::Fatal(format!("audit entry {}: {e}", item.key.sort)))
    };
    let mut entries: Vec<Entry> = items.iter().map(read).collect::<Result<_, _>>()?;
    entries.drain(..entries.len().saturating_sub(max));
    Ok(entries)
}
