//! The index of names: which fire an id or a name in a county means. A name keeps the fire that it was given first, whoever asks.
//! Every write is a condition: instances that meet a fire at the same time agree, for the names that sources share are written
//! before a source's own ids, and who comes second goes by what stands there.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures::future::try_join_all;
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::partition;
use super::shape::{self, At};
use crate::error::BackendError;
use crate::limits::{FIRE_NAMES_KEPT, FIRES_OF_NAME, STORE_CALLS_AT_ONCE};
use crate::record::{TenantId, hex};
use crate::sources::Told;
use crate::store::{Expect, Item, Key, PutError, Store, Version};
use crate::time::{Clock, Timestamp};

/// Two sources' times of one fire's beginning differ by less, also where one tells the day alone or a local time as UTC.
const SAME_BEGINNING: SignedDuration = SignedDuration::from_hours(72);
/// And their places: one tells the origin, the other the middle, or a town.
const SAME_PLACE_KM: f64 = 30.0;
/// Times that the index is read again because another instance wrote it; each time one of them gets on.
const ROUNDS: usize = 16;

/// A fire that a name in a county means.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Namesake {
    incident: String,
    began: Timestamp,
    at: Option<At>,
    /// Its ids as far as they were told with this name.
    ids: BTreeMap<String, String>,
}

/// What a record says of its fire, and when and where that is.
#[derive(Debug, Clone)]
pub(super) struct Naming {
    pub told: Told,
    pub began: Timestamp,
    pub at: Option<At>,
}

impl Naming {
    /// No id differs, and both began at about the same time and place.
    fn may_be(&self, fire: &Namesake) -> bool {
        let same_ids = self.told.ids.iter().all(|(kind, id)| fire.ids.get(*kind).is_none_or(|other| other == id));
        let near = |(a, b)| shape::distance_km(a, b) <= SAME_PLACE_KM;
        same_ids
            && self.began.duration_since(fire.began).abs() <= SAME_BEGINNING
            && self.at.zip(fire.at).is_none_or(near)
    }
}

/// Gives each record its fire. `None` for one that names none that is known and has no id.
///
/// # Errors
/// The store is away.
pub(super) async fn resolve(
    store: &dyn Store,
    clock: &Clock,
    tenant: &TenantId,
    namings: &[Naming],
) -> Result<Vec<Option<String>>, BackendError> {
    let partition = partition(tenant);
    let (ids, names) = (namings.iter().flat_map(ids), namings.iter().flat_map(|naming| &naming.told.namesakes));
    let keys: BTreeSet<String> = ids.map(|id| id_key(id)).chain(names.map(|name| name_key(name))).collect();
    for _ in 0..ROUNDS {
        let mut index = Index::read(store, &partition, &keys).await?;
        let kept_from = clock.now() - FIRE_NAMES_KEPT;
        let incidents = namings.iter().map(|naming| index.incident(naming, kept_from)).collect();
        let expires = clock.now() + FIRE_NAMES_KEPT;
        if write(store, &partition, index.names()?, expires).await?
            && write(store, &partition, index.ids(), expires).await?
        {
            return Ok(incidents);
        }
    }
    Err(BackendError::Retry("the index of fires was written by others all the time".into()))
}

/// The ids of a record, of its complex last: what a fire was called before it became part of one stays.
fn ids(naming: &Naming) -> impl Iterator<Item = &String> {
    naming.told.ids.iter().map(|(_, id)| id).chain(&naming.told.complex)
}

const ID: &str = "id/";
const NAME: &str = "name/";

fn id_key(id: &str) -> String {
    format!("{ID}{}", hash(id))
}

fn name_key(name: &str) -> String {
    format!("{NAME}{}", hash(name))
}

/// Long texts of strangers make no long key.
pub(super) fn hash(text: &str) -> String {
    hex(&Sha256::digest(text)[..16])
}

/// What was read of the index, and what is new in it.
#[derive(Default)]
struct Index {
    ids: BTreeMap<String, Entry<String>>,
    names: BTreeMap<String, Entry<Vec<Namesake>>>,
}

struct Entry<T> {
    value: T,
    version: Option<Version>,
    changed: bool,
}

fn new<T>(value: T) -> Entry<T> {
    Entry { value, version: None, changed: true }
}

/// A key, its new value, and the version that it is to replace.
type Write = (String, Bytes, Option<Version>);

impl Index {
    async fn read(store: &dyn Store, partition: &str, keys: &BTreeSet<String>) -> Result<Index, BackendError> {
        let keys: Vec<&String> = keys.iter().collect();
        let mut read = Vec::with_capacity(keys.len());
        for keys in keys.chunks(STORE_CALLS_AT_ONCE) {
            read.extend(try_join_all(keys.iter().map(|key| item(store, partition, key))).await?);
        }
        let mut index = Index::default();
        for item in read.into_iter().flatten() {
            let (key, version, changed) = (item.key.sort, Some(item.version), false);
            if key.starts_with(ID) {
                let value = String::from_utf8_lossy(&item.value).into_owned();
                index.ids.insert(key, Entry { value, version, changed });
            } else {
                // What another version of the program wrote counts for nothing, and is written anew.
                let value = serde_json::from_slice(&item.value).unwrap_or_default();
                index.names.insert(key, Entry { value, version, changed });
            }
        }
        Ok(index)
    }

    /// The fire of a record, which is entered under all of its names that mean none yet.
    fn incident(&mut self, naming: &Naming, kept_from: Timestamp) -> Option<String> {
        let by_id = ids(naming).find_map(|id| self.ids.get(&id_key(id)).map(|entry| entry.value.clone()));
        let incident = by_id
            .or_else(|| self.by_name(naming))
            .or_else(|| naming.told.complex.clone().or_else(|| naming.told.ids.first().map(|(_, id)| id.clone())))?;
        // Of fires of long ago lists are read as a whole: they would fill the index, and nobody asks for them.
        if naming.began >= kept_from {
            for id in ids(naming) {
                self.ids.entry(id_key(id)).or_insert_with(|| new(incident.clone()));
            }
            naming.told.namesakes.iter().for_each(|name| self.enter(name, naming, &incident));
        }
        Some(incident)
    }

    /// The one fire that a record's name can mean.
    fn by_name(&self, naming: &Naming) -> Option<String> {
        let entries = naming.told.namesakes.iter().filter_map(|name| self.names.get(&name_key(name)));
        let mut fires = entries.flat_map(|entry| &entry.value).filter(|fire| naming.may_be(fire));
        let first = fires.next()?;
        fires.all(|fire| fire.incident == first.incident).then(|| first.incident.clone())
    }

    fn enter(&mut self, name: &str, naming: &Naming, incident: &str) {
        let entry = self.names.entry(name_key(name)).or_insert_with(|| new(Vec::new()));
        let ids = naming.told.ids.iter().map(|(kind, id)| ((*kind).to_owned(), id.clone()));
        match entry.value.iter_mut().find(|fire| fire.incident == incident && naming.may_be(fire)) {
            Some(fire) => {
                let known = fire.ids.len();
                fire.ids.extend(ids);
                entry.changed |= fire.ids.len() > known;
            }
            None => {
                let fire =
                    Namesake { incident: incident.to_owned(), began: naming.began, at: naming.at, ids: ids.collect() };
                entry.value.push(fire);
                // The oldest is the least likely to be meant again.
                if entry.value.len() > FIRES_OF_NAME {
                    entry.value.sort_by_key(|fire| fire.began);
                    entry.value.remove(0);
                }
                entry.changed = true;
            }
        }
    }

    fn ids(&self) -> Vec<Write> {
        let new = self.ids.iter().filter(|(_, entry)| entry.changed);
        new.map(|(key, entry)| (key.clone(), entry.value.clone().into(), entry.version)).collect()
    }

    fn names(&self) -> Result<Vec<Write>, BackendError> {
        let changed = self.names.iter().filter(|(_, entry)| entry.changed);
        let json = |fires| serde_json::to_vec(fires).map_err(|e| BackendError::Fatal(format!("names of fires: {e}")));
        changed.map(|(key, entry)| Ok((key.clone(), json(&entry.value)?.into(), entry.version))).collect()
    }
}

/// `false`: another instance wrote some of it in the meantime.
async fn write(
    store: &dyn Store,
    partition: &str,
    writes: Vec<Write>,
    expires: Timestamp,
) -> Result<bool, BackendError> {
    let mut all = true;
    for writes in writes.chunks(STORE_CALLS_AT_ONCE) {
        let written = try_join_all(writes.iter().map(|one| put(store, partition, one, expires))).await?;
        all &= written.into_iter().all(|written| written);
    }
    Ok(all)
}

async fn item(store: &dyn Store, partition: &str, key: &str) -> Result<Option<Item>, BackendError> {
    store.get(&Key::new(partition, key)).await
}

async fn put(store: &dyn Store, partition: &str, write: &Write, expires: Timestamp) -> Result<bool, BackendError> {
    let (key, value, version) = write;
    let expect = version.map_or(Expect::Absent, Expect::Version);
    match store.put_if(&Key::new(partition, key.as_str()), value.clone(), expect, Some(expires)).await {
        Ok(_) => Ok(true),
        Err(PutError::Conflict) => Ok(false),
        Err(e) => Err(e.unexpected("a name of a fire")),
    }
}
