//! Which fire a record tells of [S12]: one value for the records of a fire, whichever source they came from. What names its fire
//! goes by the index of names. No record's identity or content depends on it: a row that is read again after its fire became known
//! stays a duplicate.

mod names;
mod shape;

use std::sync::Arc;

use crate::error::BackendError;
use crate::record::{Draft, Stream, TenantId};
use crate::sources::{self, Join};
use crate::store::Store;
use crate::time::Clock;
use names::Naming;

/// The fires of a stream's new records, in their order.
///
/// # Errors
/// The store is away, and a record names its fire.
pub(crate) async fn join(
    store: &dyn Store,
    clock: &Clock,
    stream: &Stream,
    drafts: impl Iterator<Item = &Draft>,
) -> Result<Vec<Option<Arc<str>>>, BackendError> {
    let Some(Join::Named(names)) = sources::join(&stream.source) else { return Ok(Vec::new()) };
    let position = |draft: &Draft| draft.position.map(|at| [at.latitude(), at.longitude()]);
    let naming = |draft| Some(Naming { told: names.told(draft)?, began: draft.observed_at, at: position(draft) });
    let namings: Vec<Option<Naming>> = drafts.map(naming).collect();
    let fires: Vec<Naming> = namings.iter().flatten().cloned().collect();
    let mut resolved = names::resolve(store, clock, &stream.tenant, &fires).await?.into_iter();
    let incident = |naming: &Option<Naming>| naming.as_ref().and_then(|_| resolved.next().flatten()).map(Arc::from);
    Ok(namings.iter().map(incident).collect())
}

/// Where a tenant's fires stand in the store.
fn partition(tenant: &TenantId) -> String {
    format!("fires/{tenant}")
}

#[cfg(all(test, feature = "embedded", feature = "testing"))]
mod tests;
