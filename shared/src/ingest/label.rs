//! The `source_id` label of metrics. Anybody can make up the kind of a sensor, so that labels have a bound [Q2]: names that
//! the table of sources lists whole always have their own, of others the first few hundred.

use std::collections::BTreeSet;

use parking_lot::Mutex;

use crate::limits::LABELLED_SOURCES;

/// What further names share.
const OTHERS: &str = "others";

/// As the recorder of metrics, one a process.
static NAMED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// The label of `source`.
pub(super) fn of(source: &str) -> String {
    let mut named = NAMED.lock();
    if !named.contains(source) {
        if named.len() >= LABELLED_SOURCES && !is_listed(source) {
            return OTHERS.to_owned();
        }
        named.insert(source.to_owned());
    }
    source.to_owned()
}

/// Whether the table of sources has this very id, not only a pattern for it.
fn is_listed(source: &str) -> bool {
    crate::sources::ids().any(|(_, id)| id.pattern == source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q2_made_up_sources_do_not_make_labels_without_end() {
        let labels: BTreeSet<String> = (0..10_000).map(|n| of(&format!("iot_made_up_{n}"))).collect();
        assert!(labels.len() <= LABELLED_SOURCES + 1, "{} labels", labels.len());
        assert!(labels.contains(OTHERS));
        assert_eq!(of("firms_viirs_noaa20"), "firms_viirs_noaa20", "a listed source keeps its own");
    }
}
