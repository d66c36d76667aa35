//! The append-only audit log [A5]: every refusal, grant and key change, by day, never overwritten.

use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::error::BackendError;
use crate::limits::AUDITED_A_MINUTE;
use crate::store::{self, Expect, Key, Store};
use crate::time::{Timestamp, rfc3339};

/// What was done or refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A caller was refused: an unknown key, no grant, a wrong topic.
    Refused,
    /// A connector was registered.
    ConnectorRegistered,
    /// A connector got a new key, and the old one is worth nothing.
    KeyRotated,
    /// A connector was revoked.
    KeyRevoked,
    /// An id that sounds critical was served as HIGH, for want of a grant [P2].
    ServedAsHigh,
    /// A stream was started by an operator, or registered as started.
    StreamStarted,
    /// A stream was stopped or removed.
    StreamStopped,
    /// The mappings of one's own sensors were changed [S18].
    MappingsChanged,
    /// The brokers of others were changed [S18].
    BrokersChanged,
    /// Dead letters were redriven [R4].
    DeadLettersRedriven,
    /// Dead letters were deleted for good [R4].
    DeadLettersPurged,
}

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When, by our clock.
    #[serde(serialize_with = "crate::time::serialize")]
    pub at: Timestamp,
    /// What was done or refused.
    pub action: Action,
    /// Who did it or was refused: a connector, a principal, an address; never a key.
    pub actor: String,
    /// What it was about: a source id, a connector, a stream.
    pub subject: String,
    /// The rest in words for people; may be empty.
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
        Err(e) => Err(e.unexpected("audit entry")),
    }
}

/// As [`write`], for what others can cause in any number. `whose`: under which name they are counted; a connector's or
/// stream's id, or an empty text for all who are neither.
pub(crate) async fn write_bounded(
    app: &App,
    action: Action,
    whose: &str,
    actor: &str,
    subject: &str,
    detail: &str,
) -> Result<(), BackendError> {
    let number = app.admission.next_entry(whose, app.clock.now());
    let doubled = number.is_multiple_of(AUDITED_A_MINUTE) && (number / AUDITED_A_MINUTE).is_power_of_two();
    match number {
        1..=AUDITED_A_MINUTE => write(app, action, actor, subject, detail).await,
        _ if doubled => {
            let detail =
                format!("{detail}; the {number}th entry of this minute, those since the one before are not listed");
            write(app, action, actor, subject, &detail).await
        }
        _ => Ok(()),
    }
}

/// An entry as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Sorts by time; the next page begins after the last one's.
    pub id: String,
    /// What was written.
    #[serde(flatten)]
    pub entry: Entry,
}

/// One page of the day of `day`, oldest first: at most `max` entries after the one named.
pub async fn page(
    store: &dyn Store,
    day: Timestamp,
    after: Option<&str>,
    max: usize,
) -> Result<Vec<Listed>, BackendError> {
    let items = store.list(&partition(day), "", after, max).await?;
    let read = |item: store::Item| match serde_json::from_slice(&item.value) {
        Ok(entry) => Ok(Listed { id: item.key.sort, entry }),
        Err(e) => Err(BackendError::Fatal(format!("audit entry {}: {e}", item.key.sort))),
    };
    items.into_iter().map(read).collect()
}
