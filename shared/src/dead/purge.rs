//! Letters that an operator deletes for good.

use std::time::Duration;

use serde::Serialize;

use super::remove::{Gone, current};
use super::{DeadLetter, Selection, find, page};
use crate::app::App;
use crate::control::audit::{self, Action};
use crate::error::BackendError;
use crate::limits::PURGE_PAGE;
use crate::record::EventId;

/// What is to be deleted.
#[derive(Debug, Clone)]
pub enum Purge {
    /// One letter.
    Letter(EventId),
    /// Many of them, page by page.
    Selected {
        /// Which ones.
        selection: Selection,
        /// Only letters that were last seen longer ago than this.
        older_than: Option<Duration>,
        /// Where the last page ended.
        after: Option<String>,
    },
}

/// What a page deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Purged {
    /// Letters that are gone with their bytes.
    pub purged: u64,
    /// Letters that were met again at this moment, and stay.
    pub kept: u64,
    /// Where the next page begins; `None` at the end.
    pub next: Option<String>,
}

/// Deletes one page of letters for good; `by` stands in the audit log, before anything goes. A letter that cannot be read
/// stays until it expires.
pub async fn purge(app: &App, purge: &Purge, by: &str) -> Result<Purged, BackendError> {
    let (letters, next) = match purge {
        Purge::Letter(id) => (find(&*app.store, *id).await?.into_iter().collect(), None),
        Purge::Selected { selection, older_than, after } => {
            let listing = page(&*app.store, selection, after.as_deref(), PURGE_PAGE).await?;
            let old = |letter: &DeadLetter| older_than.is_none_or(|age| app.clock.since(letter.last_seen) >= age);
            (listing.letters.into_iter().filter(old).collect::<Vec<_>>(), listing.next)
        }
    };
    let mut purged = Purged { next, ..Purged::default() };
    if letters.is_empty() {
        return Ok(purged);
    }
    let subject = match purge {
        Purge::Letter(id) => id.to_string(),
        Purge::Selected { selection, older_than, .. } => {
            let age = older_than.map(|age| format!(", last seen over {} s ago", age.as_secs()));
            format!("{}{}", selection.words(), age.unwrap_or_default())
        }
    };
    let detail = format!("{} dead letters are deleted for good", letters.len());
    audit::write(app, Action::DeadLettersPurged, by, &subject, &detail).await?;
    let mut gone = Gone::default();
    let mut deleted = Ok(());
    for letter in letters {
        deleted = async {
            let Some((letter, version)) = current(app, &letter.key()).await? else { return Ok(()) };
            if gone.remove(app, &letter, version).await? {
                purged.purged += 1;
            } else {
                purged.kept += 1;
            }
            Ok(())
        }
        .await;
        if deleted.is_err() {
            break;
        }
    }
    gone.make_room(app).await?;
    deleted.map(|()| purged)
}
