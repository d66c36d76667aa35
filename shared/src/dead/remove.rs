//! Letters that go: redriven or purged. The letter goes first and its bytes then, so that no letter is left without its bytes.

use std::collections::BTreeMap;

use super::{Allowance, DeadLetter, bounds, original, parse};
use crate::app::App;
use crate::error::BackendError;
use crate::record::StreamId;
use crate::store::{Expect, Key, PutError, Version};

/// Letters that are gone, counted before their bounds are told of them, a page at a time.
#[derive(Debug, Default)]
pub(super) struct Gone(BTreeMap<(StreamId, Allowance), (u64, u64)>);

impl Gone {
    /// Removes the letter as it was read. `false`: it was met again meanwhile, and stays.
    pub(super) async fn remove(
        &mut self,
        app: &App,
        letter: &DeadLetter,
        version: Version,
    ) -> Result<bool, BackendError> {
        match app.store.delete_if(&letter.key(), Expect::Version(version)).await {
            Ok(()) => {}
            Err(PutError::Conflict) => return Ok(false),
            Err(e) => return Err(e.unexpected("dead letter")),
        }
        let (letters, bytes) = self.0.entry((letter.stream.clone(), letter.allowance)).or_default();
        *letters += 1;
        *bytes += letter.raw_bytes;
        original::forget(app, &letter.raw).await;
        Ok(true)
    }

    /// Makes room for as many others.
    pub(super) async fn make_room(self, app: &App) -> Result<(), BackendError> {
        for ((stream, allowance), (letters, bytes)) in self.0 {
            metrics::gauge!("stream_dlq_size").decrement(letters as f64);
            bounds::give_back(&*app.store, &stream, allowance, letters, bytes).await?;
        }
        Ok(())
    }
}

/// A letter as it is now, with what its removal is to be conditional on.
pub(super) async fn current(app: &App, key: &Key) -> Result<Option<(DeadLetter, Version)>, BackendError> {
    let Some(item) = app.store.get(key).await? else { return Ok(None) };
    Ok(Some((parse(&item.value)?, item.version)))
}
