//! The table is walked: whatever derives from it knows every line of it.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::schemas;

/// An id that a pattern fits.
fn example(id: &Id) -> SourceId {
    SourceId::new(&id.pattern.replace('*', "x")).unwrap()
}

#[test]
fn every_id_has_one_line_and_a_route() {
    let mut patterns: Vec<_> = ids().map(|(_, id)| id.pattern).collect();
    patterns.sort_unstable();
    assert!(patterns.windows(2).all(|pair| pair[0] != pair[1]), "a pattern stands twice: {patterns:?}");
    for (_, id) in ids() {
        let source = example(id);
        let (_, found) = find(&source).unwrap();
        assert_eq!(found.pattern, id.pattern, "{source} is found under another line");
        let route = route(&source, id.tier == Tier::Critical).unwrap();
        assert_eq!((route.tier, route.topic), (id.tier, id.topic), "{source}");
        assert!(!id.name.is_empty() && readable_ids().contains(id.pattern) == format_of(&source).is_some());
    }
}

#[test]
fn every_topic_that_something_writes_to_has_a_schema_with_its_sources_data() {
    for topic in Topic::ALL {
        let written = *topic == Topic::DEAD_LETTERS || records_of(*topic).next().is_some();
        assert_eq!(schemas::schema_for(*topic).is_some(), written, "{}", topic.name());
    }
    for (source, id) in ids() {
        let Some(records) = &source.records else { continue };
        let schema = schemas::schema_for(id.topic).unwrap();
        let data = (records.data)(&mut SchemaGenerator::default()).to_value();
        assert!(schema["properties"]["data"].to_string().contains(data["$ref"].as_str().unwrap()), "{}", id.pattern);
    }
}

#[test]
fn the_schema_of_streams_yaml_takes_every_connector() {
    let schema = schemas::streams_file().to_string();
    for kind in ConnectorKind::ALL {
        assert!(schema.contains(&format!("\"const\":\"{kind}\"")), "{kind}: {schema}");
    }
}

#[test]
fn a_longer_pattern_goes_before_a_shorter_one() {
    let pattern = |id: &str| find(&SourceId::new(id).unwrap()).map(|(_, id)| id.pattern);
    assert_eq!(pattern("firms_viirs_snpp"), Some("firms_viirs_snpp"));
    assert_eq!(pattern("firms_modis"), Some("firms_*"));
    assert_eq!(pattern("historical_firms_2018"), Some("historical_firms*"));
    assert_eq!(pattern("historical_fod"), Some("historical_*"));
    assert_eq!(pattern("landsat_nrt_2"), None);
    assert_eq!(pattern("tweets"), None);
}
