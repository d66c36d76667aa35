//! Items that mean something only while a process of this folder lives ([`OF_THE_LIVING`]). They are kept in memory, so that a
//! system that has nothing to do writes nothing: the folder's lock proves at each opening that whoever held one is dead.

use std::collections::BTreeMap;

use bytes::Bytes;
use parking_lot::Mutex;

use super::store::lives;
use crate::store::{Expect, Item, Key, OF_THE_LIVING, PutError, Version};
use crate::time::Timestamp;

#[derive(Debug, Default)]
pub(super) struct Living(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    items: BTreeMap<Key, Item>,
    written: u64,
}

impl Living {
    /// Whether the items of `partition` are kept here.
    pub(super) fn keeps(partition: &str) -> bool {
        OF_THE_LIVING.contains(&partition)
    }

    pub(super) fn get(&self, key: &Key, now: Timestamp) -> Option<Item> {
        self.0.lock().items.get(key).filter(|item| lives(item.expires, now)).cloned()
    }

    pub(super) fn list(
        &self,
        partition: &str,
        prefix: &str,
        after: Option<&str>,
        max: usize,
        now: Timestamp,
    ) -> Vec<Item> {
        let state = self.0.lock();
        let from = Key::new(partition, prefix);
        let listed = state.items.range(from..).map(|(_, item)| item);
        listed
            .take_while(|item| item.key.partition == partition && item.key.sort.starts_with(prefix))
            .filter(|item| after.is_none_or(|after| item.key.sort.as_str() > after) && lives(item.expires, now))
            .take(max)
            .cloned()
            .collect()
    }

    /// A put, or a delete where there is no row.
    pub(super) fn write(
        &self,
        key: &Key,
        expect: Expect,
        row: Option<(Bytes, Option<Timestamp>)>,
        now: Timestamp,
    ) -> Result<Version, PutError> {
        let mut state = self.0.lock();
        // There are as many as streams, sources and duties, so that looking at all of them costs nothing.
        state.items.retain(|_, item| lives(item.expires, now));
        let before = state.items.get(key).map(|item| item.version);
        let holds = match expect {
            Expect::Any => true,
            Expect::Absent => before.is_none(),
            Expect::Version(version) => before == Some(version),
        };
        if !holds {
            return Err(PutError::Conflict);
        }
        state.written += 1;
        let version = Version(state.written);
        match row {
            Some((value, expires)) => {
                state.items.insert(key.clone(), Item { key: key.clone(), value, version, expires });
            }
            None => _ = state.items.remove(key),
        }
        Ok(version)
    }
}
