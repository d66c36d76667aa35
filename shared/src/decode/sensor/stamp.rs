//! When a sensor measured: the many ways in which devices write a time. A device without a clock is told apart from one
//! that writes nonsense.

use serde_json::Value;

use super::measures::shown;
use crate::error::{Reason, Reject};
use crate::record::Quality;
use crate::time::Timestamp;

/// Names of the time of measurement, the surer first.
const NAMES: [&str; 9] =
    ["observed_at", "last_seen", "time", "timestamp", "ts", "datetime", "date_time", "sampled_at", "time_stamp"];

/// 2000-01-01: an earlier number is a device counting from its own start.
const FIRST_SECOND: f64 = 946_684_800.0;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stamp {
    pub(super) at: Timestamp,
    /// As the source wrote it, for the natural key.
    pub(super) text: String,
}

/// The reading's own time, or `received_at` with a note when it has none or no clock.
///
/// # Errors
/// `bad_time` for a time that is there and is none.
pub(super) fn of<'a>(
    field: impl Fn(&str) -> Option<&'a Value>,
    received_at: Timestamp,
    quality: &mut Vec<Quality>,
) -> Result<Stamp, Reject> {
    let told = NAMES.iter().find_map(|name| field(name).filter(|value| !value.is_null()).map(|value| (*name, value)));
    let Some((name, value)) = told else {
        quality.push(Quality::new("observed_at", "no time in the reading: the time of receipt", ""));
        return Ok(Stamp { at: received_at, text: received_at.to_string() });
    };
    let text = shown(value).trim().to_owned();
    let bad =
        || Reject::new(Reason::BadTime, format!("{name} {:?} is no time", text.chars().take(80).collect::<String>()));
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(_) => text.parse().ok().filter(|number: &f64| number.is_finite()),
        _ => None,
    };
    if let Some(number) = number {
        let seconds = in_seconds(number);
        if seconds < FIRST_SECOND {
            quality.push(Quality::new("observed_at", "the sensor's clock is not set: the time of receipt", &text));
            return Ok(Stamp { at: received_at, text: received_at.to_string() });
        }
        let at = Timestamp::from_microsecond((seconds * 1e6).round() as i64).map_err(|_| bad())?;
        return Ok(Stamp { at, text });
    }
    if let Ok(at) = text.parse() {
        return Ok(Stamp { at, text });
    }
    // PurpleAir's local JSON: 2021/08/20T03:15:12z.
    let dashed = text.replace('/', "-");
    if let Ok(at) = dashed.parse() {
        return Ok(Stamp { at, text });
    }
    let at = format!("{dashed}Z").parse().map_err(|_| bad())?;
    quality.push(Quality::new("observed_at", "has no offset: read as UTC", &text));
    Ok(Stamp { at, text })
}

/// Seconds since 1970 from seconds, milli-, micro- or nanoseconds, told apart by size.
fn in_seconds(number: f64) -> f64 {
    match number.abs() {
        size if size < 1e11 => number,
        size if size < 1e14 => number / 1e3,
        size if size < 1e17 => number / 1e6,
        _ => number / 1e9,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: Value) -> Result<(String, usize), Reason> {
        let mut quality = Vec::new();
        let received_at = "2026-01-01T00:00:00Z".parse().unwrap();
        of(|name| (name == "time").then_some(&value), received_at, &mut quality)
            .map(|stamp| (stamp.at.to_string(), quality.len()))
            .map_err(|reject| reject.reason)
    }

    #[test]
    fn every_way_to_write_a_time_is_read() {
        let at = Ok(("2025-08-14T06:07:00Z".to_owned(), 0));
        for value in [
            json!(1755151620),
            json!(1755151620000_u64),
            json!(1755151620000000_u64),
            json!(1755151620000000000_u64),
            json!("1755151620"),
            json!(1755151620.0),
            json!("2025-08-14T06:07Z"),
            json!("2025-08-14 06:07:00Z"),
            json!("2025-08-13T23:07:00-07:00"),
            json!("2025/08/14T06:07:00z"),
        ] {
            assert_eq!(read(value.clone()), at, "{value}");
        }
        assert_eq!(read(json!("2025-08-14T06:07:00")), Ok(("2025-08-14T06:07:00Z".to_owned(), 1)), "no offset");
    }

    #[test]
    fn no_time_and_no_clock_are_the_time_of_receipt_but_nonsense_is_refused() {
        let received = Ok(("2026-01-01T00:00:00Z".to_owned(), 1));
        for value in [json!(null), json!(0), json!(84213), json!("0")] {
            assert_eq!(read(value.clone()), received, "{value}");
        }
        for value in
            [json!("yesterday"), json!("2025-02-30T00:00:00Z"), json!(true), json!([1]), json!(1e300), json!("")]
        {
            assert_eq!(read(value.clone()), Err(Reason::BadTime), "{value}");
        }
    }
}
