#![allow(clippy::unwrap_used)]

use super::*;
use crate::decode::{Context, specimens};
use crate::ingest::enrich;
use crate::record::{Stream, StreamId, WhenFull};

const PRODUCER: &str = "the \"first\" one";

/// What its serializer makes of the record.
fn serialized(record: &Record) -> String {
    let draft = &record.draft;
    let cell = record.place.map(|place| place.cell());
    let point = match &draft.geometry {
        Some(Geometry::Point(at)) => Some(*at),
        _ => None,
    };
    let named = draft.alert.as_ref().and_then(|alert| alert.california);
    let value = Value {
        event_id: draft.event,
        revision: record.revision,
        revises: record.revision.checked_sub(1).map(|before| ce_id(draft.event, before)),
        source_id: &draft.source,
        source_name: record.source_name,
        producer_id: PRODUCER,
        tenant: &record.tenant,
        priority: record.tier,
        observed_at: draft.observed_at,
        published_at: draft.published_at,
        ingested_at: record.ingested_at,
        geometry: draft.geometry.as_ref().map(|geometry| match geometry {
            Geometry::Point(at) => GeoJson::Point { kind: "Point", coordinates: *at },
            Geometry::GeoJson(text) => GeoJson::Other(serde_json::from_str(text).unwrap()),
        }),
        latitude: point.map(Position::latitude),
        longitude: point.map(Position::longitude),
        h3: cell.as_ref().map(|cell| cell.as_str()),
        california: record.place.map_or(named, |place| Some(place.california)),
        derived_from: draft.derived_from,
        incident: record.incident.as_deref(),
        quality: &draft.quality,
        data: serde_json::from_str(draft.data.json()).unwrap(),
    };
    serde_json::to_string(&value).unwrap()
}

#[test]
fn k5_a_record_is_written_as_the_type_of_its_schema_serializes() {
    let now: Timestamp = "2025-08-15T00:00:00Z".parse().unwrap();
    let mut kinds = [0; 4];
    for specimen in specimens::all() {
        let source = SourceId::new(specimen.source).unwrap();
        let stream = Stream {
            id: StreamId::new("s").unwrap(),
            source: source.clone(),
            tenant: TenantId::new("butte").unwrap(),
            granted: true,
            when_full: WhenFull::Wait,
        };
        for body in specimen.bodies {
            let body = Bytes::from(body);
            let context = Context { source: &source, received_at: now, topic: None, message: None };
            for row in specimen.format.rows(&body, context).unwrap() {
                let mut record = enrich(row.unwrap(), 0, &stream, now).unwrap();
                kinds[0] += usize::from(matches!(record.draft.geometry, Some(Geometry::Point(_))));
                kinds[1] += usize::from(matches!(record.draft.geometry, Some(Geometry::GeoJson(_))));
                kinds[2] += usize::from(!record.draft.quality.is_empty());
                kinds[3] += usize::from(record.draft.published_at.is_some());
                assert_eq!(json(&record, PRODUCER).unwrap(), serialized(&record));
                record.revision = 12;
                record.incident = Some("wfigs-\u{e9}\"1\"".into());
                record.draft.derived_from = Some(record.draft.event);
                assert_eq!(json(&record, PRODUCER).unwrap(), serialized(&record));
            }
        }
    }
    assert!(kinds.iter().all(|records| *records > 0), "points, shapes, quality, times: {kinds:?}");
}
