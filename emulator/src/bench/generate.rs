//! Generated FIRMS responses: what the area API answers for California, from a seed. For the demo, tests and benchmarks;
//! nothing generated claims to be a real detection beyond its shape.

use std::collections::HashSet;
use std::fmt::Write;

use jiff::civil::DateTime;
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use streammanager::ingest::place::place;
use streammanager::record::{California, Position};

/// The area API's columns for VIIRS.
pub(crate) const VIIRS_HEADER: &str = "latitude,longitude,bright_ti4,scan,track,acq_date,acq_time,satellite,instrument,\
                                confidence,version,bright_ti5,frp,daynight";

/// California's bounding box: south, north, west, east.
const BOX: [f64; 4] = [32.5, 42.0, -124.5, -114.1];
/// NOAA-20 crosses California about then, minutes of the UTC day: two passes by night, two by day.
const PASSES: [i64; 4] = [9 * 60 + 24, 11 * 60 + 6, 20 * 60 + 12, 21 * 60 + 54];
/// Detections of one fire, about.
const FIRE_ROWS: usize = 60;
/// Reach of a fire in degrees.
const FIRE_SPREAD: f64 = 0.08;

/// A response of `rows` VIIRS NOAA-20 detections in California, observed within the 24 hours before `now`, no two of
/// one natural key. The same arguments give the same text.
pub(crate) fn firms_viirs_noaa20(seed: u64, rows: usize, now: Timestamp) -> String {
    let mut rng = StdRng::seed_from_u64(seed);
    let fires: Vec<Position> = (0..rows.div_ceil(FIRE_ROWS)).map(|_| inside(&mut rng, BOX)).collect();
    let passes = passes_before(now);
    let mut text = String::with_capacity(100 * (rows + 1));
    text.push_str(VIIRS_HEADER);
    text.push('\n');
    let mut taken = HashSet::with_capacity(rows);
    while taken.len() < rows {
        let fire = fires[rng.random_range(0..fires.len())];
        let at = inside(&mut rng, around(fire));
        let pass = passes[rng.random_range(0..passes.len())];
        let (latitude, longitude) = (format!("{:.5}", at.latitude()), format!("{:.5}", at.longitude()));
        let minute = Offset::UTC.to_datetime(pass);
        if taken.insert((latitude.clone(), longitude.clone(), pass)) {
            row(&mut text, &mut rng, &latitude, &longitude, minute);
        }
    }
    text
}

fn row(text: &mut String, rng: &mut StdRng, latitude: &str, longitude: &str, at: DateTime) {
    let by_day = at.hour() >= 15;
    // Few fires are strong: the product of two draws leans towards the weak.
    let strength = rng.random_range(0.0..1.0f64) * rng.random_range(0.0..1.0f64);
    let bright_ti4 = (if by_day { 325.0 } else { 298.0 } + 90.0 * strength).min(367.0);
    let bright_ti5 = 284.0 + 40.0 * strength + rng.random_range(0.0..8.0);
    let frp = 0.4 + 180.0 * strength * strength;
    let (scan, track) = (rng.random_range(0.32..0.80), rng.random_range(0.36..0.78));
    let confidence = match rng.random_range(0..10) {
        0 => 'l',
        9 => 'h',
        _ => 'n',
    };
    let daynight = if by_day { 'D' } else { 'N' };
    // The API writes the time as a number: 05:07 is 507.
    let time = i32::from(at.hour()) * 100 + i32::from(at.minute());
    let _ = writeln!(
        text,
        "{latitude},{longitude},{bright_ti4:.2},{scan:.2},{track:.2},{},{time},N20,VIIRS,{confidence},2.0NRT,\
         {bright_ti5:.2},{frp:.2},{daynight}",
        at.date(),
    );
}

/// Observation minutes of the last 24 hours: each daily pass once.
fn passes_before(now: Timestamp) -> [Timestamp; 4] {
    const DAY: i64 = 24 * 60;
    let minute_now = now.as_second().div_euclid(60);
    PASSES.map(|pass| {
        let back = (minute_now - pass).rem_euclid(DAY);
        let whole = now - SignedDuration::from_secs(now.as_second().rem_euclid(60));
        whole - SignedDuration::from_mins(back)
    })
}

fn around(fire: Position) -> [f64; 4] {
    let (latitude, longitude) = (fire.latitude(), fire.longitude());
    [latitude - FIRE_SPREAD, latitude + FIRE_SPREAD, longitude - FIRE_SPREAD, longitude + FIRE_SPREAD]
}

/// A point of the box that lies inside California.
fn inside(rng: &mut StdRng, [south, north, west, east]: [f64; 4]) -> Position {
    loop {
        let drawn = Position::new(rng.random_range(south..north), rng.random_range(west..east));
        if let Ok(at) = drawn
            && place(at).california == California::Inside
        {
            return at;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use bytes::Bytes;
    use streammanager::decode::Context;
    use streammanager::ingest::{place, validate};
    use streammanager::record::{California, SourceId};
    use streammanager::sources::firms;

    use super::*;

    #[test]
    fn every_row_is_a_new_valid_detection_in_california_of_the_last_day() {
        let now: Timestamp = "2026-07-24T10:00:30Z".parse().unwrap();
        let body = Bytes::from(firms_viirs_noaa20(1, 2_000, now));
        let source = SourceId::new("firms_viirs_noaa20").unwrap();
        let context = Context { source: &source, received_at: now, topic: None, message: None };
        let mut events = HashSet::new();
        for row in firms::FORMAT.rows(&body, context).unwrap() {
            let draft = validate::check(row.unwrap(), now).unwrap();
            assert_eq!(draft.source, source);
            assert!(draft.quality.is_empty(), "{:?}", draft.quality);
            assert!(draft.observed_at <= now && now.duration_since(draft.observed_at).as_hours() < 24);
            assert_eq!(place::place(draft.position.unwrap()).california, California::Inside);
            events.insert(draft.event);
        }
        assert_eq!(events.len(), 2_000);
    }

    #[test]
    fn the_same_seed_gives_the_same_text() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(firms_viirs_noaa20(7, 50, now), firms_viirs_noaa20(7, 50, now));
        assert_ne!(firms_viirs_noaa20(7, 50, now), firms_viirs_noaa20(8, 50, now));
        assert_eq!(firms_viirs_noaa20(7, 0, now), format!("{VIIRS_HEADER}\n"));
    }
}
