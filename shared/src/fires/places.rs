//! Where fires are: each as its sources told it last, in the store, and of these what burns now, in memory. A record without a name
//! finds its fire here: the one whose perimeter it lies in, else the only one within its source's reach.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use futures::future::try_join_all;
use h3o::{CellIndex, LatLng, Resolution};
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use super::shape::{self, At, Bounds, Part};
use super::{names, partition};
use crate::error::BackendError;
use crate::limits::{FIRE_PLACES, FIRE_POINTS, FIRE_TOLD_KEPT, FIRES_BURNING, STORE_CALLS_AT_ONCE};
use crate::record::{Place, Position, TenantId};
use crate::store::{self, Expect, Item, Key, PutError, Store, list_all};
use crate::time::{Clock, Timestamp};

/// A satellite may see a fire before anybody reports it, and the report may tell a local time as UTC.
const BEFORE: SignedDuration = SignedDuration::from_hours(12);
/// Embers glow after a fire was declared out.
const AFTER: SignedDuration = SignedDuration::from_hours(24);
/// Nobody tells anything new of a fire that is over, and seldom that it is.
const QUIET: SignedDuration = SignedDuration::from_hours(14 * 24);
/// A fire without a perimeter reaches so many radii of its area from where it began: wind makes it long, and it begins at one end.
const RADII: f64 = 2.0;
/// Of two fires that are near, the nearer one is meant if the other is farther by this factor and by so many kilometres more.
const CLEARLY: f64 = 3.0;
const CLEARLY_KM: f64 = 1.0;
const KM2_PER_ACRE: f64 = 0.004_046_856;
/// Sides of the squares by which a fire's cells are found: cells of resolution 5 are more than twice as wide.
const STEP_KM: f64 = 5.0;

/// One fire.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Fire {
    /// As the store's key, it is hashed: long texts of strangers make no long key.
    #[serde(default)]
    incident: String,
    began: Option<Timestamp>,
    /// When it was out, by each record that says so now: one that is corrected says it no more.
    #[serde(default)]
    outs: BTreeMap<String, Timestamp>,
    told: Option<Timestamp>,
    acres: f64,
    names: Vec<String>,
    /// What each record told last; the newest of them last.
    places: Vec<Told>,
}

/// Of one record's event, or of a source whose records are each of another look at the fire.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Told {
    by: String,
    parts: Vec<Part>,
}

/// What a record that names its fire says of its place.
#[derive(Debug)]
pub(super) struct Sighting {
    pub incident: Arc<str>,
    /// What was told by it before is replaced.
    pub by: String,
    /// The fire's beginning, if the record tells it.
    pub began: Option<Timestamp>,
    pub out: Option<Timestamp>,
    pub told: Timestamp,
    pub acres: f64,
    pub name: Option<String>,
    pub parts: Vec<Part>,
}

impl Fire {
    fn add(&mut self, sighting: &Sighting) {
        self.began = self.began.into_iter().chain(sighting.began).min();
        self.told = self.told.max(Some(sighting.told));
        match sighting.out {
            Some(out) if self.outs.len() < FIRE_PLACES => drop(self.outs.insert(sighting.by.clone(), out)),
            Some(_) => {}
            None => drop(self.outs.remove(&sighting.by)),
        }
        self.acres = if sighting.acres > 0.0 { sighting.acres } else { self.acres };
        if let Some(name) = &sighting.name
            && !self.names.contains(name)
            && self.names.len() < FIRE_PLACES
        {
            self.names.push(name.clone());
        }
        if !sighting.parts.is_empty() {
            self.places.retain(|place| place.by != sighting.by);
            if self.places.len() == FIRE_PLACES {
                self.places.remove(0);
            }
            self.places
                .push(Told { by: sighting.by.clone(), parts: shape::coarser(sighting.parts.clone(), FIRE_POINTS) });
        }
    }

    /// What nobody tells of any more is over.
    fn is_over(&self, now: Timestamp) -> bool {
        self.told.is_none_or(|told| is_over(self.out(), told, now))
    }

    /// By whoever says it last: some declare a fire out while others still work at it.
    fn out(&self) -> Option<Timestamp> {
        self.outs.values().max().copied()
    }
}

fn is_over(out: Option<Timestamp>, told: Timestamp, now: Timestamp) -> bool {
    out.is_some_and(|out| now > out + AFTER) || now > told + QUIET
}

const PLACE: &str = "place/";

/// Its version changes whenever a place does.
fn changed(tenant: &TenantId) -> Key {
    Key::new(partition(tenant), "changed")
}

/// Stores what records tell of their fires' places.
pub(super) async fn tell(
    store: &dyn Store,
    clock: &Clock,
    tenant: &TenantId,
    sightings: Vec<Sighting>,
) -> Result<(), BackendError> {
    let mut fires: BTreeMap<Arc<str>, Vec<Sighting>> = BTreeMap::new();
    for sighting in sightings {
        fires.entry(sighting.incident.clone()).or_default().push(sighting);
    }
    let (now, fires) = (clock.now(), fires.into_iter().collect::<Vec<_>>());
    let mut any = false;
    for fires in fires.chunks(STORE_CALLS_AT_ONCE) {
        let adds = fires.iter().map(|(incident, sightings)| add(store, tenant, incident, sightings, now));
        any |= try_join_all(adds).await?.contains(&true);
    }
    if !any {
        return Ok(());
    }
    match store.put_if(&changed(tenant), Bytes::new(), Expect::Any, Some(now + FIRE_TOLD_KEPT)).await {
        Ok(_) | Err(PutError::Conflict) => Ok(()),
        Err(e) => Err(e.unexpected("a fire's place")),
    }
}

/// Whether it was written. Of a fire that was over before it was told of nothing is: a list of all years would fill the store.
async fn add(
    store: &dyn Store,
    tenant: &TenantId,
    incident: &str,
    sightings: &[Sighting],
    now: Timestamp,
) -> Result<bool, BackendError> {
    let key = Key::new(partition(tenant), format!("{PLACE}{}", names::hash(incident)));
    loop {
        let item = store.get(&key).await?;
        if item.is_none() && sightings.iter().all(|sighting| is_over(sighting.out, sighting.told, now)) {
            return Ok(false);
        }
        let expect = item.as_ref().map_or(Expect::Absent, |item| Expect::Version(item.version));
        let mut fire = item.as_ref().map(read).unwrap_or_default();
        sightings.iter().for_each(|sighting| fire.add(sighting));
        incident.clone_into(&mut fire.incident);
        let value = serde_json::to_vec(&fire).map_err(|e| BackendError::Fatal(format!("a fire's place: {e}")))?;
        match store.put_if(&key, value.into(), expect, Some(now + FIRE_TOLD_KEPT)).await {
            Ok(_) => return Ok(true),
            // Another instance told of the same fire: each of them gets its turn.
            Err(PutError::Conflict) => {}
            Err(e) => return Err(e.unexpected("a fire's place")),
        }
    }
}

/// What another version of the program wrote counts for nothing.
fn read(item: &Item) -> Fire {
    serde_json::from_slice(&item.value).unwrap_or_default()
}

/// The fires that burn, as they were told until a moment.
#[derive(Debug, Default)]
pub(super) struct Burning {
    fires: Vec<Placed>,
    /// By cell, the fires within the largest reach of any point in it.
    cells: HashMap<CellIndex, Vec<u32>>,
}

#[derive(Debug)]
struct Placed {
    incident: Arc<str>,
    fire: Fire,
    parts: Vec<(Bounds, Part)>,
    bounds: Bounds,
    /// How far around its point a fire without a perimeter may reach; `None` with one.
    radius_km: Option<f64>,
}

/// What a record without an id looks for.
pub(super) struct Search<'a> {
    pub parts: &'a [Part],
    pub observed_at: Timestamp,
    pub name: Option<&'a str>,
    pub reach_km: f64,
}

/// The version of what [`Burning`] was made from.
pub(super) type Version = Option<store::Version>;

/// The version that stands in the store now.
pub(super) async fn version(store: &dyn Store, tenant: &TenantId) -> Result<Version, BackendError> {
    Ok(store.get(&changed(tenant)).await?.map(|item| item.version))
}

impl Burning {
    /// Reads all fires; `reach_km` is the largest of a source of points.
    pub(super) async fn load(
        store: &dyn Store,
        clock: &Clock,
        tenant: &TenantId,
        reach_km: f64,
    ) -> Result<Burning, BackendError> {
        let items = list_all(store, &partition(tenant), PLACE, FIRES_BURNING).await?;
        if items.len() == FIRES_BURNING {
            tracing::warn!(%tenant, "more than {FIRES_BURNING} fires burn: detections are joined to these alone");
        }
        let now = clock.now();
        let placed = items.iter().filter_map(|item| Placed::new(Some(read(item)).filter(|fire| !fire.is_over(now))?));
        Ok(Burning::of(placed.collect(), reach_km))
    }

    fn of(fires: Vec<Placed>, reach_km: f64) -> Burning {
        let mut cells: HashMap<CellIndex, Vec<u32>> = HashMap::new();
        for (number, fire) in (0..).zip(&fires) {
            for cell in cells_of(fire.bounds.wider(reach_km + fire.radius_km.unwrap_or(0.0))) {
                let there = cells.entry(cell).or_default();
                if there.last() != Some(&number) {
                    there.push(number);
                }
            }
        }
        Burning { fires, cells }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.fires.is_empty()
    }

    /// The fire of a point, of which every batch has thousands.
    pub(super) fn of_point(&self, place: &Place, observed_at: Timestamp, reach_km: f64) -> Option<Arc<str>> {
        let near = self.cells.get(&place.h3)?;
        let search = Search { parts: &[Part::point(place.position)], observed_at, name: None, reach_km };
        only(near.iter().map(|&number| &self.fires[number as usize]), &search)
    }

    /// The fire of a shape.
    pub(super) fn of_shape(&self, search: &Search<'_>) -> Option<Arc<str>> {
        only(self.fires.iter(), search)
    }
}

/// The one fire that a record lies in, else the only one that is near, or by far the nearest.
fn only<'a>(fires: impl Iterator<Item = &'a Placed>, search: &Search<'_>) -> Option<Arc<str>> {
    let (mut within, mut near) = (Vec::new(), Vec::new());
    for fire in fires.filter(|fire| fire.may_be(search)) {
        match fire.distance(search) {
            Some(Distance::Inside) => within.push(fire),
            Some(Distance::Near(km)) => near.push((km, fire)),
            None => {}
        }
    }
    near.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let is_clear = |km: f64, next: f64| next > CLEARLY * km + CLEARLY_KM;
    match (&within[..], &near[..]) {
        ([one], _) | ([], [(_, one)]) => Some(one.incident.clone()),
        ([], [(km, one), (next, _), ..]) if is_clear(*km, *next) => Some(one.incident.clone()),
        _ => None,
    }
}

impl Placed {
    fn new(mut fire: Fire) -> Option<Placed> {
        let places = std::mem::take(&mut fire.places);
        let parts: Vec<_> =
            places.into_iter().flat_map(|place| place.parts).map(|part| (part.bounds(), part)).collect();
        let radius = (fire.acres * KM2_PER_ACRE / std::f64::consts::PI).sqrt();
        let radius_km = (!parts.iter().any(|(_, part)| part.is_ring())).then_some(RADII * radius);
        let bounds = parts.iter().map(|(bounds, _)| *bounds).reduce(Bounds::with)?;
        Some(Placed { incident: fire.incident.as_str().into(), fire, parts, bounds, radius_km })
    }

    fn may_be(&self, search: &Search<'_>) -> bool {
        let fire = &self.fire;
        let burns = fire.began.is_none_or(|began| search.observed_at >= began - BEFORE)
            && fire.out().is_none_or(|out| search.observed_at <= out + AFTER)
            && fire.told.is_some_and(|told| search.observed_at <= told + QUIET);
        burns && search.name.is_none_or(|name| fire.names.iter().any(|other| other == name))
    }

    /// `None` beyond the reach. Nothing is surely inside of a fire that nobody has mapped.
    fn distance(&self, search: &Search<'_>) -> Option<Distance> {
        let reach_km = search.reach_km + self.radius_km.unwrap_or(0.0);
        let mut nearest = None;
        for part in search.parts {
            let around = part.bounds().wider(reach_km);
            for (_, own) in self.parts.iter().filter(|(bounds, _)| bounds.touches(&around)) {
                let km = own.between_km(part);
                nearest = Some(nearest.map_or(km, |other: f64| other.min(km)));
            }
        }
        match nearest.filter(|km| *km <= reach_km)? {
            0.0 if self.radius_km.is_none() => Some(Distance::Inside),
            km => Some(Distance::Near((km - self.radius_km.unwrap_or(0.0)).max(0.0))),
        }
    }
}

enum Distance {
    Inside,
    Near(f64),
}

/// The cells of a box, and some around it.
fn cells_of(bounds: Bounds) -> Vec<CellIndex> {
    let Bounds { south, north, west, east } = bounds;
    let [dy, dx] = shape::degrees(STEP_KM, 0.0);
    let steps = |from: f64, to: f64, step: f64| {
        (0..=((to - from) / step).ceil() as u32).map(move |n| from + step * f64::from(n))
    };
    let mut cells = Vec::new();
    for latitude in steps(south, north, dy) {
        for longitude in steps(west, east, dx) {
            if let Ok(at) = LatLng::new(latitude, longitude) {
                cells.extend(at.to_cell(Resolution::Five).grid_disk::<Vec<_>>(1));
            }
        }
    }
    cells.sort_unstable();
    cells.dedup();
    cells
}

/// A position as shapes have it.
pub(super) fn at(position: Position) -> At {
    [position.latitude(), position.longitude()]
}
