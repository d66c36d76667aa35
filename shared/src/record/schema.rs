//! What JSON Schema says of the parts that every record has. The published schemas are put together in `crate::schemas`.

use schemars::{Schema, SchemaGenerator, json_schema};

pub(crate) fn time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "date-time", "pattern": "\\.[0-9]{3}Z$" })
}

pub(crate) fn optional_time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "null"], "format": "date-time", "pattern": "\\.[0-9]{3}Z$" })
}

/// RFC 7946 as far as records use it.
pub(crate) fn geometry(_: &mut SchemaGenerator) -> Schema {
    let position = json_schema!({
        "type": "array", "minItems": 2, "maxItems": 2,
        "prefixItems": [
            { "type": "number", "minimum": -180, "maximum": 180 },
            { "type": "number", "minimum": -90, "maximum": 90 }
        ]
    });
    let line = json_schema!({ "type": "array", "minItems": 2, "items": position.clone() });
    let lines = json_schema!({ "type": "array", "minItems": 1, "items": line.clone() });
    let polygon = json_schema!({
        "type": "array", "minItems": 1, "items": { "type": "array", "minItems": 4, "items": position.clone() }
    });
    let shape = |kind: &str, coordinates: Schema| {
        json_schema!({
            "type": "object", "additionalProperties": false, "required": ["type", "coordinates"],
            "properties": { "type": { "const": kind }, "coordinates": coordinates }
        })
    };
    let polygons = json_schema!({ "type": "array", "minItems": 1, "items": polygon.clone() });
    json_schema!({ "oneOf": [
        { "type": "null" },
        shape("Point", position),
        shape("LineString", line),
        shape("MultiLineString", lines),
        shape("Polygon", polygon),
        shape("MultiPolygon", polygons)
    ] })
}
