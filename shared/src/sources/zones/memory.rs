//! What is kept of the zones between answers: which were in the list, and how often each has changed [S14]. Pure: an answer and
//! what was kept before give what is kept now, and which zones have gone.
//!
//! A zone that an answer does not have is *missed*; in its second whole answer without it, it has *gone*, and is published so
//! once. An answer that is empty or not whole misses nobody. One that has gone stays known, so that it is a change when it comes
//! back, even with the same row as before. A county is one however it is spelled: the zone keeps the spelling under which it was
//! first known, and with it its event.

use std::cmp::Reverse;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::status::Status;
use crate::connect::arcgis::{Answer, Compared};
use crate::decode::geometry;
use crate::decode::items::Item;
use crate::decode::named::Named;
use crate::limits::{LAYER_MEMORY_BYTES, ZONE_SHAPES_BYTES};
use crate::sources::fires;

/// A zone as it was in the last answer that had it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Known {
    #[serde(rename = "c")]
    pub(super) county: Option<String>,
    #[serde(rename = "z")]
    pub(super) zone_id: String,
    #[serde(rename = "s")]
    pub(super) status: Status,
    #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
    pub(super) status_text: Option<String>,
    /// How often it has changed.
    #[serde(rename = "n")]
    pub(super) changes: u32,
    /// Last change of its row, in milliseconds since 1970.
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    edited: Option<i64>,
    /// Latitude and longitude of its centre.
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub(super) at: Option<[f64; 2]>,
    /// Whole answers without it, in a row.
    #[serde(rename = "m", default, skip_serializing_if = "is_zero")]
    missed: u8,
}

fn is_zero(missed: &u8) -> bool {
    *missed == 0
}

/// So many whole answers without it, and it has gone.
const GONE: u8 = 2;

/// What is said of a row to whoever makes the record.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Said {
    pub(super) changes: u32,
    /// The county as the zone's record has it.
    pub(super) county: Option<String>,
    /// Rows of the answer that are of the same zone.
    pub(super) rows: usize,
    /// Where rows of the same zone that say the same have shapes of their own: all shapes, this row's among them, as GeoJSON.
    pub(super) shapes: Vec<String>,
    /// Shapes for which there is no room.
    pub(super) shapes_left_out: usize,
}

/// The county as [`fires::county`] has it, and the zone's id.
type Key = (Option<String>, String);

/// A row as far as the list is concerned.
struct Row {
    key: Key,
    county: Option<String>,
    status: Status,
    status_text: Option<String>,
    edited: Option<i64>,
    at: Option<[f64; 2]>,
}

pub(super) fn compare(kept: Value, answer: &Answer<'_>) -> Compared {
    let mut known = kept_by_zone(kept);
    let rows: Vec<Option<Row>> = answer.rows.iter().map(|bytes| read(bytes, answer)).collect();
    // Of several rows of one zone the most severe counts, the newest among those.
    let mut chosen: BTreeMap<&Key, (&Row, usize)> = BTreeMap::new();
    for row in rows.iter().flatten() {
        let (best, count) = chosen.entry(&row.key).or_insert((row, 0));
        *count += 1;
        if (row.status.severity(), row.edited) > (best.status.severity(), best.edited) {
            *best = row;
        }
    }
    let mut alike: BTreeMap<&Key, BTreeSet<String>> = BTreeMap::new();
    for (row, bytes) in rows.iter().zip(answer.rows) {
        let Some(row) = row else { continue };
        let (best, count) = chosen[&row.key];
        if count > 1
            && row.status == best.status
            && let Ok(item) = Item::read(bytes)
            && !item.geometry.is_null()
        {
            alike.entry(&row.key).or_default().insert(item.geometry.to_string());
        }
    }
    let mut said = BTreeMap::new();
    for (key, (row, rows)) in &chosen {
        let zone = seen(known.remove(*key), row);
        let (shapes, shapes_left_out) = united(alike.remove(*key).unwrap_or_default());
        let county = zone.county.clone();
        said.insert(*key, Said { changes: zone.changes, county, rows: *rows, shapes, shapes_left_out });
        known.insert((*key).clone(), zone);
    }
    let is_chosen = |row: &Row| chosen.get(&row.key).is_some_and(|(best, _)| std::ptr::eq(*best, row));
    let of_row = |row: &Option<Row>| match row {
        Some(row) if is_chosen(row) => said.get(&row.key).and_then(|said| serde_json::to_value(said).ok()),
        Some(_) => Some(Value::Bool(false)),
        None => None,
    };
    let told: Vec<Value> = rows.iter().map(|row| of_row(row).unwrap_or_default()).collect();
    let mut gone = Vec::new();
    // A row that cannot be read may be of any zone.
    if answer.whole && rows.iter().all(Option::is_some) {
        let absent = known.iter_mut().filter(|(key, zone)| !chosen.contains_key(key) && zone.missed < GONE);
        for (_, zone) in absent {
            zone.missed += 1;
            if zone.missed == GONE && !zone.status.is_over() {
                zone.changes += 1;
                gone.extend(serde_json::to_value(&*zone).ok());
            }
        }
    }
    let again = known.values().any(|zone| (1..GONE).contains(&zone.missed));
    let (memory, problem) = bounded(known);
    Compared { memory, again, rows: told, gone, problem }
}

/// What was kept, by zone. Versions before this one kept a zone once for each spelling of its county: the last one seen counts.
fn kept_by_zone(kept: Value) -> BTreeMap<Key, Known> {
    let kept: Vec<Known> = serde_json::from_value(kept).unwrap_or_default();
    let mut known: BTreeMap<Key, Known> = BTreeMap::new();
    for zone in kept {
        match known.entry(key(zone.county.as_deref(), &zone.zone_id)) {
            Entry::Vacant(entry) => drop(entry.insert(zone)),
            Entry::Occupied(mut entry) => {
                let before = entry.get_mut();
                let changes = before.changes.max(zone.changes);
                if (zone.missed, Reverse(zone.edited)) < (before.missed, Reverse(before.edited)) {
                    *before = zone;
                }
                before.changes = changes;
            }
        }
    }
    known
}

fn key(county: Option<&str>, zone_id: &str) -> Key {
    (county.and_then(fires::county), zone_id.to_owned())
}

/// As many of these shapes as there is room for, and how many more there are; none where there is only one. They come in an order that
/// is not that of the rows, which changes with every renewal of the list.
fn united(shapes: BTreeSet<String>) -> (Vec<String>, usize) {
    let (all, mut bytes) = (shapes.len(), 0);
    if all < 2 {
        return (Vec::new(), 0);
    }
    let has_room = |shape: &String| {
        bytes += shape.len();
        bytes <= ZONE_SHAPES_BYTES
    };
    let kept: Vec<String> = shapes.into_iter().take_while(has_room).collect();
    let left_out = all - kept.len();
    (kept, left_out)
}

/// The zone after an answer that has it.
fn seen(before: Option<Known>, row: &Row) -> Known {
    let zone_id = row.key.1.clone();
    let county = before.as_ref().map_or_else(|| row.county.clone(), |zone| zone.county.clone());
    let changes = match &before {
        None => 0,
        Some(zone) => zone.changes + u32::from(zone.missed >= GONE || zone.status != row.status),
    };
    let Row { status, status_text, edited, at, .. } = row;
    let status_text = status_text.clone().filter(|_| *status == Status::Unknown);
    Known { county, zone_id, status: *status, status_text, changes, edited: *edited, at: *at, missed: 0 }
}

fn read(bytes: &[u8], answer: &Answer<'_>) -> Option<Row> {
    let mut item = Item::read(bytes).ok()?;
    answer.names.apply(&mut item.values);
    let at = geometry::read(&item.geometry, &mut Vec::new()).position;
    let mut v = Named::new(item.values, Vec::new());
    let status_text = v.text("status", &["STATUS"]);
    let county = v.text("county", &["COUNTY"]);
    Some(Row {
        key: key(county.as_deref(), &v.text("zone_id", &["ZONE_ID"])?),
        county,
        status: Status::of(status_text.as_deref()),
        status_text: status_text.map(|text| text.chars().take(40).collect()),
        edited: v.time("edited_at", &["EditDate"]).map(|at| at.as_millisecond()),
        at: at.map(|at| [at.latitude(), at.longitude()]),
    })
}

/// As many of them as may be kept, and what is to be said of the others. Those that have gone give way, then those of which nobody is
/// told to do anything, the longest unchanged first. A zone that is not kept is published like any other; only that it left the list
/// would not be noticed, nor that it says again what it said before.
fn bounded(known: BTreeMap<Key, Known>) -> (Value, Option<String>) {
    let mut zones: Vec<Known> = known.into_values().collect();
    zones.sort_by_key(|zone| (zone.missed >= GONE, zone.status.is_over(), Reverse(zone.edited)));
    let (all, mut bytes) = (zones.len(), 2);
    zones.retain(|zone| {
        bytes += serde_json::to_string(zone).map_or(0, |text| text.len() + 1);
        bytes <= LAYER_MEMORY_BYTES
    });
    let kept = zones.len();
    let problem = (kept < all).then(|| {
        format!("{} of {all} zones are not kept in memory: what becomes of them would not be noticed; narrow them by where or area", all - kept)
    });
    (serde_json::to_value(zones).unwrap_or_default(), problem)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;
    use crate::connect::arcgis::Names;
    use crate::time::Rng;

    fn row(zone: u64, status: &str) -> Bytes {
        json!({"attributes": {"ZONE_ID": zone.to_string(), "COUNTY": "T", "STATUS": status}}).to_string().into()
    }

    fn answer(kept: Value, rows: &[Bytes], whole: bool) -> Compared {
        compare(kept, &Answer { rows, names: &Names::default(), whole })
    }

    /// Whatever answers come: a zone is said to have gone in the second whole answer in a row without it, once, and only what was
    /// told to do something; and nothing that is published of a zone is ever published of it again as the same content.
    #[test]
    fn s14_a_zone_has_gone_after_two_whole_answers_and_is_never_said_so_twice() {
        let words = ["Evacuation Order", "Evacuation Warning", "Normal", "Lifted", "odd"];
        for seed in 0..200 {
            let rng = Rng::seeded(seed);
            let any = |below: u64| u64::from_be_bytes(rng.bytes()) % below;
            let (mut kept, mut model) = (Value::Null, BTreeMap::<u64, (Status, u8)>::new());
            let mut published = BTreeSet::new();
            for _ in 0..60 {
                let present: BTreeMap<u64, &str> =
                    (0..6).filter(|_| any(3) > 0).map(|zone| (zone, words[any(5) as usize])).collect();
                let whole = any(3) > 0 && !present.is_empty();
                let rows: Vec<Bytes> = present.iter().map(|(zone, word)| row(*zone, word)).collect();
                let compared = answer(kept, &rows, whole);
                let mut gone = BTreeSet::new();
                for (zone, word) in &present {
                    model.insert(*zone, (Status::of(Some(word)), 0));
                }
                for (zone, (status, missed)) in
                    model.iter_mut().filter(|(zone, _)| whole && !present.contains_key(zone))
                {
                    *missed = (*missed + 1).min(3);
                    if *missed == 2 && !status.is_over() {
                        gone.insert(zone.to_string());
                    }
                }
                let told: Vec<Known> =
                    compared.gone.iter().map(|gone| serde_json::from_value(gone.clone()).unwrap()).collect();
                assert_eq!(told.iter().map(|zone| zone.zone_id.clone()).collect::<BTreeSet<_>>(), gone, "seed {seed}");
                for zone in &told {
                    assert!(published.insert((zone.zone_id.clone(), zone.changes, None)), "seed {seed}: {zone:?}");
                }
                assert_eq!(compared.again, model.values().any(|(_, missed)| *missed == 1), "seed {seed}");
                for ((zone, word), said) in present.iter().zip(&compared.rows) {
                    let changes = said["changes"].as_u64().unwrap() as u32;
                    published.insert((zone.to_string(), changes, Some(*word)));
                    let same = published.iter().filter(|(id, n, _)| *id == zone.to_string() && *n == changes);
                    assert_eq!(same.count(), 1, "seed {seed}: another status under the same number of changes");
                }
                kept = compared.memory;
            }
        }
    }

    #[test]
    fn s14_a_row_that_cannot_be_read_or_another_spelling_ends_no_zone() {
        let of = |county: &str| -> Bytes {
            json!({"attributes": {"ZONE_ID": "1", "COUNTY": county, "STATUS": "Evacuation Order"}}).to_string().into()
        };
        let blank =
            Bytes::from_static(br#"{"attributes": {"ZONE_ID": " ", "COUNTY": "T", "STATUS": "Evacuation Order"}}"#);
        let mut kept = answer(Value::Null, &[of("Butte"), row(2, "Normal")], true).memory;
        for rows in [[blank.clone(), row(2, "Normal")], [blank, row(2, "Normal")]] {
            let compared = answer(kept, &rows, true);
            assert!(compared.gone.is_empty(), "{:?}", compared.gone);
            kept = compared.memory;
        }
        for _ in 0..3 {
            let compared = answer(kept, &[of("BUTTE"), row(2, "Normal")], true);
            assert!(compared.gone.is_empty(), "{:?}", compared.gone);
            kept = compared.memory;
        }
    }

    #[test]
    fn s14_what_earlier_versions_kept_of_a_zone_under_two_spellings_is_one_zone() {
        let kept = json!([
            {"c": "BUTTE", "z": "1", "s": "order", "n": 3, "m": 2},
            {"c": "Butte", "z": "1", "s": "order", "n": 1},
        ]);
        let of = |county: &str, status: &str| -> Bytes {
            json!({"attributes": {"ZONE_ID": "1", "COUNTY": county, "STATUS": status}}).to_string().into()
        };
        let compared = answer(kept, &[of("Butte County", "Evacuation Order")], true);
        assert_eq!((&compared.rows[0]["county"], &compared.rows[0]["changes"]), (&json!("Butte"), &json!(3)));
        let zones: Vec<Known> = serde_json::from_value(compared.memory).unwrap();
        assert_eq!(zones.len(), 1);
    }

    #[test]
    fn q2_what_is_kept_is_bounded_and_what_has_gone_gives_way() {
        let long = "x".repeat(200);
        let rows: Vec<Bytes> = (0..2_000).map(|zone| row(zone, &long)).collect();
        let mut kept = answer(Value::Null, &rows, true).memory;
        for _ in 0..2 {
            kept = answer(kept, &rows[..500], true).memory;
        }
        assert!(kept.to_string().len() <= LAYER_MEMORY_BYTES);
        let zones: Vec<Known> = serde_json::from_value(kept).unwrap();
        assert!(zones.iter().filter(|zone| zone.missed == 0).count() == 500, "all that are there stay known");
    }
}
