//! Seeded mutations of small valid bodies against the decoders [A6]: whatever comes, each gives valid drafts or refuses
//! with a reason, and never panics.

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use super::specimens::{self, Specimen};
use super::{Context, Format};
use crate::error::Reject;
use crate::record::{Draft, Geometry, SourceId};
use crate::sources::{self, chp, synoptic};
use crate::time::Timestamp;

const MUTATIONS: usize = 20_000;
/// Bytes that mean something to one of the parsers.
const SPICE: [&[u8]; 20] = [
    b"<",
    b">",
    b"&",
    b"&amp;",
    b"&x;",
    b"<!DOCTYPE a>",
    b"<![CDATA[",
    b"]]>",
    b"<!--",
    b"</alert>",
    b"\"",
    b"{",
    b"[",
    b"null",
    b"NaN",
    b"1e999",
    b"-91",
    b"\xff",
    b"\x00",
    b",",
];

/// One to four edits: a changed, lost, doubled, spiced, emptied or cut-off stretch.
pub(super) fn mutated(body: &[u8], rng: &mut StdRng) -> Vec<u8> {
    let mut body = body.to_vec();
    for _ in 0..rng.random_range(1..=4) {
        if body.is_empty() {
            return body;
        }
        let start = rng.random_range(0..body.len());
        let end = (start + rng.random_range(1..40)).min(body.len());
        match rng.random_range(0..7) {
            0 => body[start] = rng.random(),
            1 => drop(body.drain(start..end)),
            2 => {
                let stretch = body[start..end].to_vec();
                let at = rng.random_range(0..=body.len());
                body.splice(at..at, stretch);
            }
            3 => drop(body.splice(start..start, SPICE[rng.random_range(0..SPICE.len())].iter().copied())),
            4 => {
                if body[start].is_ascii_digit() {
                    body[start] = b'0' + rng.random_range(0..10_u8);
                }
            }
            5 => {
                // A whole value between its delimiters.
                let from = body[start..].iter().position(|byte| b">\"[{".contains(byte)).map(|n| start + n + 1);
                let Some(from) = from else { continue };
                let length = body[from..].iter().position(|byte| b"<\"]}".contains(byte)).unwrap_or(0);
                drop(body.drain(from..from + length));
            }
            _ => body.truncate(start),
        }
    }
    body
}

fn check(draft: &Draft) {
    let data: Value = serde_json::from_str(draft.data.json()).unwrap();
    assert!(data.is_object());
    if let Some(Geometry::GeoJson(text)) = &draft.geometry {
        let geometry: Value = serde_json::from_str(text).unwrap();
        assert!(geometry["coordinates"].is_array(), "{text}");
    }
    assert_eq!(draft.position.is_some(), draft.geometry.is_some(), "{data}");
    for quality in &draft.quality {
        assert!(!quality.problem.is_empty());
    }
}

fn refused(reject: &Reject) {
    assert!(!reject.detail.is_empty(), "{reject:?}");
}

/// Mutations of each specimen's bodies, evenly; panics unless some were taken and some refused.
fn survive(specimens: &[Specimen]) {
    specimens.iter().zip(1..).for_each(|(specimen, seed)| survives(specimen, seed));
}

fn survives(Specimen { format, source, bodies }: &Specimen, seed: u64) {
    let (format, source) = (*format, *source);
    let source = SourceId::new(source).unwrap();
    let context = Context { source: &source, received_at: Timestamp::UNIX_EPOCH, topic: None, message: None };
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut taken, mut rejected) = (0_usize, 0_usize);
    for body in bodies {
        recognised(format, body.as_bytes());
        let intact = Bytes::from(body.clone());
        assert!(format.rows(&intact, context).unwrap().all(|row| row.is_ok()), "the fixture itself is sound");
    }
    for n in 0..MUTATIONS {
        let body = Bytes::from(mutated(bodies[n % bodies.len()].as_bytes(), &mut rng));
        match format.rows(&body, context) {
            Ok(rows) => rows.for_each(|row| match row {
                Ok(draft) => {
                    check(&draft);
                    taken += 1;
                }
                Err(reject) => {
                    refused(&reject);
                    rejected += 1;
                }
            }),
            Err(reject) => {
                refused(&reject);
                assert_eq!(reject.raw, body, "a body refused as a whole is kept as a whole");
                rejected += 1;
            }
        }
    }
    assert!(taken > MUTATIONS / 50 && rejected > MUTATIONS / 50, "{taken} taken, {rejected} refused");
}

/// A format that has marks is known by its own bodies, and by none of another's.
fn recognised(format: Format, body: &[u8]) {
    let known = sources::recognise(body).map(|(known, _)| known.name);
    let has_marks = sources::formats().iter().any(|other| other.name == format.name && !other.marks.is_empty());
    match known {
        // Synoptic's answers are read as readings are, whoever sends them.
        Ok(known) if format.name == synoptic::FORMAT.name => assert_eq!(known, Format::SENSOR.name),
        Ok(known) => assert_eq!(known, format.name, "{}", String::from_utf8_lossy(body)),
        // A reading may say so little that only its topic tells what it is.
        Err(words) => {
            assert!(!has_marks || format.name == Format::SENSOR.name, "{words}: {}", String::from_utf8_lossy(body))
        }
    }
}

#[test]
fn a6_cap_never_panics() {
    survive(&specimens::cap());
}

#[test]
fn a6_feeds_of_alerts_never_panic() {
    survive(&specimens::feeds_of_alerts());
}

#[test]
fn a6_alert_json_never_panics() {
    survive(&specimens::alert_json());
}

#[test]
fn a6_firms_tables_never_panic() {
    survive(&specimens::firms_tables());
}

#[test]
fn a6_nws_documents_never_panic() {
    survive(&specimens::nws_documents());
}

#[test]
fn a6_firms_json_never_panics() {
    survive(&specimens::firms_json());
}

#[test]
fn a6_incidents_never_panic() {
    survive(&specimens::incidents());
}

#[test]
fn a6_perimeters_never_panic() {
    survive(&specimens::perimeters());
}

#[test]
fn a6_layers_never_panic() {
    survive(&specimens::layers());
}

#[test]
fn a6_lane_closures_never_panic() {
    survive(&specimens::lane_closures());
}

#[test]
fn a6_fire_occurrences_never_panic() {
    survive(&specimens::fire_occurrences());
}

#[test]
fn a6_sensors_never_panic() {
    survive(&specimens::sensors());
}

#[test]
fn a6_stations_never_panic() {
    survive(&specimens::stations());
}

#[test]
fn a6_airnow_never_panics() {
    survive(&specimens::airnow());
}

/// As for every format, and nothing that dispatchers noted comes out of it: no edit moves so long a text.
#[test]
fn a6_dispatch_logs_never_panic_and_never_show_their_notes() {
    const SECRET: &str = specimens::SECRET;
    let Specimen { bodies, .. } = specimens::dispatch_logs().remove(0);
    let file = &bodies[0];
    let source = SourceId::new("chp_incidents").unwrap();
    let context = Context { source: &source, received_at: Timestamp::UNIX_EPOCH, topic: None, message: None };
    recognised(chp::FORMAT, file.as_bytes());
    let mut rng = StdRng::seed_from_u64(13);
    let (mut taken, mut rejected) = (0_usize, 0_usize);
    for _ in 0..MUTATIONS {
        let body = Bytes::from(mutated(file.as_bytes(), &mut rng));
        let hidden = |shown: String| assert!(!shown.contains(&SECRET[15..60]), "{body:?}\n{shown}");
        match chp::FORMAT.rows(&body, context) {
            Ok(rows) => rows.for_each(|row| match row {
                Ok(draft) => {
                    check(&draft);
                    let kept = draft.refused(Reject::new(crate::error::Reason::FutureTime, "ahead"));
                    hidden(format!("{draft:?} {}", String::from_utf8_lossy(&kept.raw)));
                    taken += 1;
                }
                Err(reject) => {
                    refused(&reject);
                    hidden(format!("{} {}", reject.detail, String::from_utf8_lossy(&reject.raw)));
                    assert!(chp::FORMAT.rows(&reject.raw, context).is_ok(), "what is kept can be read again");
                    rejected += 1;
                }
            }),
            Err(reject) => {
                refused(&reject);
                hidden(format!("{} {}", reject.detail, String::from_utf8_lossy(&reject.raw)));
            }
        }
    }
    assert!(taken > MUTATIONS / 50 && rejected > MUTATIONS / 50, "{taken} taken, {rejected} refused");
}
