//! Streams of one file that ask for the same things. What they share is published once [S12], but asked for by each.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Map, Value};

use super::file::{StreamSpec, StreamsFile};
use crate::record::StreamId;

/// Two streams that ask for the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlap {
    /// The one that stands first in the file.
    pub one: StreamId,
    /// The other.
    pub other: StreamId,
    /// What they share, for people.
    pub shared: String,
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Overlap { one, other, shared } = self;
        write!(f, "{one} and {other} both ask for {shared}: it is published once, and asked for twice")
    }
}

impl StreamsFile {
    /// Pairs of a tenant's streams of one connector whose `config` asks for the same, in the file's order.
    pub fn overlaps(&self) -> Vec<Overlap> {
        let mut overlaps = Vec::new();
        for (at, one) in self.streams.iter().enumerate() {
            for other in &self.streams[at + 1..] {
                if let Some(shared) = shared(one, other) {
                    overlaps.push(Overlap { one: one.id.clone(), other: other.id.clone(), shared });
                }
            }
        }
        overlaps
    }
}

fn shared(one: &StreamSpec, other: &StreamSpec) -> Option<String> {
    if one.tenant != other.tenant || one.source_id != other.source_id || one.polled.kind() != other.polled.kind() {
        return None;
    }
    let config = |spec: &StreamSpec| serde_json::to_value(&spec.polled).map(|mut polled| polled["config"].take());
    let (one, other) = (config(one).ok()?, config(other).ok()?);
    if one == other {
        return Some("the same".into());
    }
    let (one, other) = (one.as_object()?, other.as_object()?);
    let fields: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    let differing = fields.into_iter().filter(|field| one.get(*field) != other.get(*field));
    let mut parts = Vec::new();
    for field in differing {
        parts.push(common(field, one, other)?);
    }
    Some(parts.join(" and "))
}

/// What a field that differs has in common nevertheless.
fn common(field: &str, one: &Map<String, Value>, other: &Map<String, Value>) -> Option<String> {
    let (one, other) = (one.get(field)?.as_array()?, other.get(field)?.as_array()?);
    if let (Some(one), Some(other)) = (rectangle(one), rectangle(other)) {
        let [west, south] = [0, 1].map(|at| f64::max(one[at], other[at]));
        let [east, north] = [2, 3].map(|at| f64::min(one[at], other[at]));
        return (west < east && south < north).then(|| format!("{field} {west},{south},{east},{north}"));
    }
    let common: Vec<&str> = one.iter().filter(|item| other.contains(item)).filter_map(Value::as_str).collect();
    (!common.is_empty()).then(|| format!("{field} {}", common.join(", ")))
}

/// West, south, east, north.
fn rectangle(list: &[Value]) -> Option<[f64; 4]> {
    let numbers: Option<Vec<f64>> = list.iter().map(Value::as_f64).collect();
    numbers?.try_into().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn s11_streams_that_ask_for_the_same_are_named_with_what_they_share() {
        let firms = |id: &str, product: &str, area: &str| {
            let source = if product.starts_with("MODIS") { "firms_modis_terra" } else { "firms_viirs_snpp" };
            format!(
                "  - {{id: {id}, source_id: {source}, connector: firms, tenant: t, interval: 60s, config: {{product: {product}, area: {area}}}}}\n"
            )
        };
        let stations = |id: &str, list: &str| {
            format!(
                "  - {{id: {id}, source_id: noaa_observations, connector: nws_observations, tenant: t, interval: 60s, config: {{stations: [{list}]}}}}\n"
            )
        };
        let file = [
            "version: 1\nstreams:\n",
            &firms("north", "VIIRS_SNPP_NRT", "[-124, 38, -118, 42]"),
            &firms("south", "VIIRS_SNPP_NRT", "[-122, 33, -115, 39]"),
            &firms("far", "VIIRS_SNPP_NRT", "[-117, 32, -115, 33]"),
            &firms("modis", "MODIS_NRT", "[-124, 38, -118, 42]"),
            &firms("again", "MODIS_NRT", "[-124, 38, -118, 42]"),
            &stations("one", "KOAK, KSFO, KSAC"),
            &stations("two", "KLAX, KSAC, KOAK"),
            &stations("three", "KBUR"),
        ];
        let told: Vec<String> =
            StreamsFile::parse(&file.concat()).unwrap().overlaps().iter().map(Overlap::to_string).collect();
        let both = |pair: &str, shared: &str| {
            format!("{pair} both ask for {shared}: it is published once, and asked for twice")
        };
        assert_eq!(
            told,
            [
                both("north and south", "area -122,38,-118,39"),
                both("modis and again", "the same"),
                both("one and two", "stations KOAK, KSAC"),
            ]
        );
    }
}
