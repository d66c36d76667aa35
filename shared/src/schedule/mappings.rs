//! The registered mappings of one's own sensors [S18]: one item of the store, which a process knows for a few seconds.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::decode::sensor::{Mappings, SensorMapping};
use crate::error::BackendError;
use crate::store::{self, Key, Store};

/// A change is in force everywhere by then.
const KNOWN_FOR: Duration = Duration::from_secs(5);

fn key() -> Key {
    Key::new("sensor-mappings", "all")
}

/// Every registered mapping, as the file had them.
pub async fn list(store: &dyn Store) -> Result<Vec<SensorMapping>, BackendError> {
    let Some(item) = store.get(&key()).await? else { return Ok(Vec::new()) };
    serde_json::from_slice(&item.value).map_err(|e| BackendError::Fatal(format!("the sensor mappings: {e}")))
}

/// Registers these instead of all others.
pub(crate) async fn put(store: &dyn Store, mappings: &[SensorMapping]) -> Result<(), BackendError> {
    store::put_json(store, &key(), &mappings, "the sensor mappings").await
}

/// What a process knows of them.
#[derive(Debug, Default)]
pub struct KnownMappings {
    known: Mutex<Option<(Instant, Arc<Mappings>)>>,
}

impl KnownMappings {
    /// The mappings, a few seconds old at most; older ones while the store is away.
    ///
    /// # Errors
    /// When the store is away and they were never read, or what stands there breaks a rule: a reading that has a mapping must
    /// not be read without it.
    pub async fn get(&self, store: &dyn Store) -> Result<Arc<Mappings>, BackendError> {
        let now = Instant::now();
        let known = self.known.lock().clone();
        if let Some((at, mappings)) = &known
            && now - *at < KNOWN_FOR
        {
            return Ok(mappings.clone());
        }
        let read = match (list(store).await, known) {
            (Ok(specs), _) => {
                let wrong = |wrong| BackendError::Fatal(format!("the registered sensor mappings: {wrong}"));
                Arc::new(Mappings::new(&specs).map_err(wrong)?)
            }
            (Err(problem), Some((_, mappings))) => {
                tracing::warn!(%problem, "the sensor mappings cannot be looked up: those known stay in force");
                mappings
            }
            (Err(problem), None) => return Err(problem),
        };
        *self.known.lock() = Some((now, read.clone()));
        Ok(read)
    }
}
