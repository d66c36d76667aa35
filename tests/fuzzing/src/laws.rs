//! What holds of every body, whatever its bytes: a record that is published whole and known by its key, or a refusal with its
//! reason and its bytes; the same again for the same bytes; and memory in proportion to the body.

use bytes::Bytes;
use peak_alloc::PeakAlloc;
use serde_json::Value;
use sha2::{Digest, Sha256};
use streammanager::error::Reject;
use streammanager::ingest::{enrich, validate};
use streammanager::limits::{DECODE_BASE_BYTES, DECODE_BYTES_A_BYTE};
use streammanager::record::{Draft, value};
use streammanager::sources::{self, chp};

use crate::target::Target;

/// What a body was for its decoder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// Each row's event, or the reason why there is none.
    pub rows: Vec<Result<String, &'static str>>,
}

/// Reads `body` twice and holds what comes of it against the laws.
///
/// # Panics
/// When one of them is broken.
pub fn hold(target: &Target, body: &Bytes) -> Read {
    if let Err(words) = sources::recognise(body) {
        assert!(!words.is_empty());
    }
    let read = read(target, body);
    assert_eq!(read, self::read(target, body), "the same bytes read again");
    read
}

/// Bytes that were allocated at once while the body was read, beside the body; 0 in a program whose global allocator is not
/// [`PeakAlloc`].
pub fn memory(target: &Target, body: &Bytes) -> usize {
    PeakAlloc.reset_peak_usage();
    let before = PeakAlloc.current_usage();
    if let Ok(rows) = target.rows(body) {
        rows.for_each(drop);
    }
    PeakAlloc.peak_usage().saturating_sub(before)
}

/// The most memory that the reading of so many bytes may take.
pub fn allowed(length: usize) -> usize {
    DECODE_BASE_BYTES + DECODE_BYTES_A_BYTE * length
}

fn read(target: &Target, body: &Bytes) -> Read {
    let rows = match target.rows(body) {
        Ok(rows) => rows.map(|row| row.map(|draft| published(target, draft))),
        Err(reject) => {
            refused(&reject);
            // Nothing is kept of what may name people.
            let is_private = target.format.name == chp::FORMAT.name && reject.raw.is_empty();
            assert!(is_private || reject.raw == body, "a body that is refused as a whole is kept as a whole");
            return Read { rows: vec![Err(reject.reason.code())] };
        }
    };
    let rows = rows.map(|row| match row.and_then(|published| published) {
        Ok(event) => Ok(event),
        Err(reject) => {
            refused(&reject);
            Err(reject.reason.code())
        }
    });
    Read { rows: rows.collect() }
}

fn refused(reject: &Reject) {
    assert!(!reject.detail.is_empty(), "{reject:?}: a refusal says why");
}

/// The draft's way to its published form, and the event that it is.
fn published(target: &Target, draft: Draft) -> Result<String, Reject> {
    for quality in &draft.quality {
        assert!(!quality.problem.is_empty(), "{quality:?} says nothing");
    }
    assert_eq!(draft.position.is_some(), draft.geometry.is_some(), "a place and a shape come together");
    let draft = validate::check(draft, target.now)?;
    let record = enrich(draft, 0, &target.stream, target.now)?;
    let text = value::json(&record, "fuzzed")?;
    let value: Value = serde_json::from_str(&text).expect("what is published is JSON");
    assert!(value["data"].is_object(), "{text}");
    shape(&value["geometry"]);
    let event = value["event_id"].as_str().expect("a record has an id").to_owned();
    assert_eq!(event, identity(&value), "the id is the hash of the key as it is published [S12]: {text}");
    Ok(event)
}

/// Null, or GeoJSON whose every number is a number.
fn shape(geometry: &Value) {
    match geometry {
        Value::Null => {}
        shape if shape["type"] == "GeometryCollection" => {
            shape["geometries"].as_array().expect("a collection has geometries").iter().for_each(self::shape);
        }
        shape => coordinates(&shape["coordinates"], shape),
    }
}

fn coordinates(value: &Value, shape: &Value) {
    match value {
        Value::Array(list) => {
            assert!(!list.is_empty(), "a list without a point: {shape}");
            list.iter().for_each(|value| coordinates(value, shape));
        }
        value => assert!(value.is_number(), "{value} in {shape}"),
    }
}

/// What anybody makes of a record and its source's natural key alone.
fn identity(value: &Value) -> String {
    let id = value["source_id"].as_str().and_then(|id| streammanager::record::SourceId::new(id).ok());
    let (source, _) = id.as_ref().and_then(sources::find).expect("a record's source is in the table");
    let key = source.records.as_ref().expect("it is read").key;
    let drill =
        value["data"]["status"].as_str().is_some_and(|status| status != "Actual") && key.contains(&"data.sender");
    let status = drill.then_some("data.status");
    let text = |path: &&str| match value.pointer(&format!("/{}", path.replace('.', "/"))) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => "null".to_owned(),
    };
    let texts: Vec<String> = ["source_id"].iter().chain(key).chain(&status).map(text).collect();
    let digest = Sha256::digest(texts.join("\u{1f}"));
    digest[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}
