//! Which fire a record tells of [S12]: one value for the records of a fire, whichever source they came from. What names its fire
//! goes by the index of names; what does not, by where fires burn. No record's identity or content depends on it: a row that is
//! read again after its fire became known stays a duplicate.

mod names;
mod places;
mod shape;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::error::BackendError;
use crate::limits::{FIRE_TENANTS, FIRES_LOOKED_UP};
use crate::record::{Draft, Record, Stream, TenantId};
use crate::sources::{self, Areas, Join, Names};
use crate::store::Store;
use crate::time::Clock;
use names::Naming;
use places::{Burning, Search, Sighting};

/// What this process knows of the fires that burn.
#[derive(Debug, Default)]
pub struct Fires {
    tenants: Mutex<HashMap<TenantId, Known>>,
}

#[derive(Debug, Clone)]
struct Known {
    /// `None`: to be looked up again, whatever the time.
    at: Option<Instant>,
    version: places::Version,
    burning: Arc<Burning>,
}

/// The fires of a batch's records.
#[derive(Debug)]
pub(crate) struct Joined(Kind);

#[derive(Debug)]
enum Kind {
    /// They have to do with none.
    None,
    /// By the place of each.
    Points(Arc<Burning>, f64),
    /// Of each, in the batch's order.
    Found(Vec<Option<Arc<str>>>),
}

impl Joined {
    /// The fire of a batch's record, by its number there.
    pub(crate) fn incident(&self, number: usize, record: &Record) -> Option<Arc<str>> {
        match &self.0 {
            Kind::None => None,
            Kind::Points(burning, reach_km) => {
                burning.of_point(record.place.as_ref()?, record.draft.observed_at, *reach_km)
            }
            Kind::Found(_) => self.found(number).cloned(),
        }
    }

    /// The fire of a record that is joined by its names or its shape, by its number in the batch.
    pub(crate) fn found(&self, number: usize) -> Option<&Arc<str>> {
        match &self.0 {
            Kind::Found(incidents) => incidents.get(number)?.as_ref(),
            Kind::None | Kind::Points(..) => None,
        }
    }
}

impl Fires {
    /// The fires of a stream's new records.
    ///
    /// # Errors
    /// The store is away, and a record names its fire.
    pub(crate) async fn join(
        &self,
        store: &dyn Store,
        clock: &Clock,
        stream: &Stream,
        drafts: impl Iterator<Item = &Draft>,
    ) -> Result<Joined, BackendError> {
        let tenant = &stream.tenant;
        match sources::join(&stream.source) {
            None => Ok(Joined(Kind::None)),
            Some(Join::Points { reach_km }) => {
                let burning = self.burning(store, clock, tenant).await;
                Ok(Joined(if burning.is_empty() { Kind::None } else { Kind::Points(burning, *reach_km) }))
            }
            Some(Join::Named(names)) => self.named(store, clock, tenant, names, &drafts.collect::<Vec<_>>()).await,
            Some(Join::Areas(areas)) => self.areas(store, clock, tenant, areas, &drafts.collect::<Vec<_>>()).await,
        }
    }

    async fn named(
        &self,
        store: &dyn Store,
        clock: &Clock,
        tenant: &TenantId,
        names: &Names,
        drafts: &[&Draft],
    ) -> Result<Joined, BackendError> {
        let namings: Vec<Option<Naming>> = drafts
            .iter()
            .map(|draft| {
                let told = names.told(draft)?;
                Some(Naming { told, began: draft.observed_at, at: draft.position.map(places::at) })
            })
            .collect();
        let fires: Vec<Naming> = namings.iter().flatten().cloned().collect();
        let mut resolved = names::resolve(store, clock, tenant, &fires).await?.into_iter();
        let mut burning = None;
        let mut incidents = Vec::with_capacity(drafts.len());
        let mut sightings = Vec::new();
        for (draft, naming) in drafts.iter().zip(namings) {
            let Some(naming) = naming else {
                incidents.push(None);
                continue;
            };
            let parts = shape::parts(draft.geometry.as_ref());
            let mut incident = resolved.next().flatten().map(Arc::<str>::from);
            if incident.is_none() && naming.told.name.is_some() {
                if burning.is_none() {
                    burning = Some(self.burning(store, clock, tenant).await);
                }
                let (name, observed_at, reach_km) = (naming.told.name.as_deref(), draft.observed_at, names.reach_km);
                let search = Search { parts: &parts, observed_at, name, reach_km };
                incident = burning.as_ref().and_then(|burning| burning.of_shape(&search));
            }
            if let Some(incident) = &incident {
                sightings.push(Sighting {
                    incident: incident.clone(),
                    by: draft.event.to_string(),
                    began: Some(draft.observed_at).filter(|_| !naming.told.ids.is_empty()),
                    out: naming.told.out,
                    told: draft.published_at.unwrap_or(draft.observed_at),
                    acres: naming.told.acres,
                    name: naming.told.name,
                    parts,
                });
            }
            incidents.push(incident);
        }
        self.tell(store, clock, tenant, sightings).await?;
        Ok(Joined(Kind::Found(incidents)))
    }

    async fn areas(
        &self,
        store: &dyn Store,
        clock: &Clock,
        tenant: &TenantId,
        areas: &Areas,
        drafts: &[&Draft],
    ) -> Result<Joined, BackendError> {
        let burning = self.burning(store, clock, tenant).await;
        let mut incidents = Vec::with_capacity(drafts.len());
        let mut sightings = Vec::new();
        for draft in drafts {
            let Some(name) = areas.name(draft).filter(|_| !burning.is_empty()) else {
                incidents.push(None);
                continue;
            };
            let parts = shape::parts(draft.geometry.as_ref());
            let (observed_at, reach_km) = (draft.observed_at, areas.reach_km);
            let search = Search { parts: &parts, observed_at, name: name.as_deref(), reach_km };
            let incident = burning.of_shape(&search);
            // By its name it is surely the fire's own.
            if let (Some(incident), Some(_)) = (&incident, &name) {
                let (incident, by, told) = (incident.clone(), draft.source.to_string(), observed_at);
                sightings.push(Sighting { incident, by, began: None, out: None, told, acres: 0.0, name, parts });
            }
            incidents.push(incident);
        }
        self.tell(store, clock, tenant, sightings).await?;
        Ok(Joined(Kind::Found(incidents)))
    }

    async fn tell(
        &self,
        store: &dyn Store,
        clock: &Clock,
        tenant: &TenantId,
        sightings: Vec<Sighting>,
    ) -> Result<(), BackendError> {
        if sightings.is_empty() {
            return Ok(());
        }
        places::tell(store, clock, tenant, sightings).await?;
        if let Some(known) = self.tenants.lock().get_mut(tenant) {
            known.at = None;
        }
        Ok(())
    }

    /// The fires that burn, looked up now and then. With the store away, those that were known last.
    async fn burning(&self, store: &dyn Store, clock: &Clock, tenant: &TenantId) -> Arc<Burning> {
        let now = Instant::now();
        let known = self.tenants.lock().get(tenant).cloned();
        if let Some(known) = &known
            && known.at.is_some_and(|at| now - at < FIRES_LOOKED_UP)
        {
            return known.burning.clone();
        }
        let looked_up = async {
            let version = places::version(store, tenant).await?;
            let burning = match &known {
                Some(known) if known.version == version => known.burning.clone(),
                _ => Arc::new(Burning::load(store, clock, tenant, sources::farthest_point_km()).await?),
            };
            Ok::<_, BackendError>((version, burning))
        };
        let (version, burning) = looked_up.await.unwrap_or_else(|problem| {
            tracing::warn!(%problem, "the fires that burn could not be looked up");
            known.map(|known| (known.version, known.burning)).unwrap_or_default()
        });
        let mut tenants = self.tenants.lock();
        if tenants.len() == FIRE_TENANTS && !tenants.contains_key(tenant) {
            tenants.clear();
        }
        tenants.insert(tenant.clone(), Known { at: Some(now), version, burning: burning.clone() });
        burning
    }
}

/// Where a tenant's fires stand in the store.
fn partition(tenant: &TenantId) -> String {
    format!("fires/{tenant}")
}

#[cfg(all(test, feature = "embedded", feature = "testing"))]
mod tests;
