//! When a sensor measured: the many ways in which devices write a time. A device without a clock is told apart from one
//! that writes nonsense.

use serde_json::{Map, Value};

use super::measures::{number, shown};
use super::{find, names::compact};
use crate::error::{Reason, Reject};
use crate::limits::CLOCK_SKEW;
use crate::record::Quality;
use crate::time::Timestamp;

/// Names of the time of measurement in compact form, the surer first.
pub(super) const NAMES: [&str; 20] = [
    "observedat",
    "measuredat",
    "lastseen",
    "dateutc",
    "datetimeutc",
    "timeutc",
    "time",
    "timestamp",
    "timestamputc",
    "ts",
    "epoch",
    "datetime",
    "sampledat",
    "recordedat",
    "utc",
    "obstime",
    "reportedat",
    "createdat",
    "receivedat",
    "unixtime",
];

/// SenML's relative time, in seconds after the receipt; mostly negative.
const AFTER_RECEIPT: &str = "secondsafterreceipt";

/// 2000-01-01: an earlier number is a device counting from its own start.
const FIRST_SECOND: f64 = 946_684_800.0;

/// When a reading was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Stamp {
    /// By the sensor's own clock.
    Own(Timestamp),
    /// The sensor tells no time: the time of receipt stands for it, and the message has to tell readings apart [S12].
    OfReceipt(Timestamp),
}

impl Stamp {
    pub(super) fn at(self) -> Timestamp {
        match self {
            Stamp::Own(at) | Stamp::OfReceipt(at) => at,
        }
    }

    pub(super) fn own(self) -> Option<Timestamp> {
        match self {
            Stamp::Own(at) => Some(at),
            Stamp::OfReceipt(_) => None,
        }
    }
}

/// The reading's own time, or `received_at` with a note when it has none or no clock. A mapping may name `its` time; without
/// one it is found by its name.
///
/// # Errors
/// `bad_time` for a time that is there and is none.
pub(super) fn of(
    reading: &Map<String, Value>,
    its: Option<Option<(&str, &Value)>>,
    received_at: Timestamp,
    quality: &mut Vec<Quality>,
) -> Result<Stamp, Reject> {
    let mut receipt = |problem: &str, raw: &str| {
        quality.push(Quality::new("observed_at", problem, raw));
        Ok(Stamp::OfReceipt(received_at))
    };
    let Some((name, value)) = its.unwrap_or_else(|| find(reading, &NAMES)) else {
        if let Some(seconds) = find(reading, &[AFTER_RECEIPT]).and_then(|(_, value)| number(value).ok().flatten()) {
            let at = Timestamp::from_microsecond(received_at.as_microsecond().saturating_add((seconds * 1e6) as i64));
            let at =
                at.map_err(|_| Reject::new(Reason::BadTime, format!("{seconds} s after the receipt is not a time")))?;
            quality.push(Quality::new("observed_at", "is told relative to the time of receipt", &seconds.to_string()));
            return Ok(Stamp::OfReceipt(at));
        }
        return receipt("the reading tells no time: this is the time of receipt", "");
    };
    let text = shown(value).trim().to_owned();
    let bad = || {
        Reject::new(Reason::BadTime, format!("{name} {:?} is not a time", text.chars().take(80).collect::<String>()))
    };
    if let Some(number) = number_of(value, &text) {
        let seconds = in_seconds(number);
        if seconds < FIRST_SECOND {
            return receipt("the sensor's clock is not set: this is the time of receipt", &text);
        }
        return Timestamp::from_microsecond((seconds * 1e6).round() as i64).map(Stamp::Own).map_err(|_| bad());
    }
    if text.eq_ignore_ascii_case("now") {
        return receipt("the sensor tells no time but \"now\": this is the time of receipt", &text);
    }
    if let Some(at) = with_offset(&text) {
        return Ok(Stamp::Own(at));
    }
    let dashed = text.replace('/', "-");
    let at: Timestamp = format!("{dashed}Z").parse().map_err(|_| bad())?;
    if compact(name).contains("utc") {
        return Ok(Stamp::Own(at));
    }
    // East of Greenwich a local time is still to come in UTC.
    if at > received_at + CLOCK_SKEW {
        return receipt("has no offset and cannot be UTC: this is the time of receipt", &text);
    }
    quality.push(Quality::new("observed_at", "has no offset: read as UTC", &text));
    Ok(Stamp::Own(at))
}

fn number_of(value: &Value, text: &str) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(_) => text.parse().ok().filter(|number: &f64| number.is_finite()),
        _ => None,
    }
}

/// RFC 3339 and what devices make of it: `2021/08/20T03:15:12z`, `2026-11-27T22:55:31+0100`, `… 22:55:31 UTC`.
fn with_offset(text: &str) -> Option<Timestamp> {
    let dashed = text.replace('/', "-");
    let zoned = match dashed.strip_suffix("UTC").or_else(|| dashed.strip_suffix("GMT")) {
        Some(utc) => format!("{}Z", utc.trim_end()),
        None => dashed,
    };
    if let Ok(at) = zoned.parse() {
        return Some(at);
    }
    let sign = zoned.rfind(['+', '-']).filter(|at| zoned[..*at].contains(':'))?;
    let (moment, offset) = (zoned[..sign].trim_end(), &zoned[sign..]);
    let (hours, minutes) = (offset.get(..3)?, offset.get(3..).filter(|minutes| !minutes.is_empty()).unwrap_or("00"));
    format!("{moment}{hours}:{}", minutes.trim_start_matches(':')).parse().ok()
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

    fn read(name: &str, value: Value) -> Result<(String, bool, usize), Reason> {
        let mut quality = Vec::new();
        let received_at = "2026-01-01T00:00:00Z".parse().unwrap();
        let reading = Map::from_iter([(name.to_owned(), value)]);
        of(&reading, None, received_at, &mut quality)
            .map(|stamp| (stamp.at().to_string(), stamp.own().is_some(), quality.len()))
            .map_err(|reject| reject.reason)
    }

    #[test]
    fn every_way_to_write_a_time_is_read() {
        let at = |notes| Ok(("2025-08-14T06:07:00Z".to_owned(), true, notes));
        for value in [
            json!(1755151620),
            json!(1755151620000_u64),
            json!(1755151620000000_u64),
            json!(1755151620000000000_u64),
            json!("1755151620000000000"),
            json!("1755151620"),
            json!(1755151620.0),
            json!("2025-08-14T06:07Z"),
            json!("2025-08-14 06:07:00Z"),
            json!("2025-08-13T23:07:00-07:00"),
            json!("2025-08-13T23:07:00-0700"),
            json!("2025-08-13 23:07:00 -0700"),
            json!("2025-08-13T23:07:00-07"),
            json!("2025-08-14 06:07:00 UTC"),
            json!("2025/08/14T06:07:00z"),
        ] {
            assert_eq!(read("time", value.clone()), at(0), "{value}");
        }
        assert_eq!(read("time", json!("2025-08-14T06:07:00")), at(1), "no offset");
        assert_eq!(read("dateutc", json!("2025-08-14 06:07:00")), at(0), "the name says UTC");
        assert_eq!(read("Date_Time", json!("2025-08-14 06:07:00")), at(1));
    }

    #[test]
    fn no_time_and_no_clock_are_the_time_of_receipt_but_nonsense_is_refused() {
        let received = Ok(("2026-01-01T00:00:00Z".to_owned(), false, 1));
        for value in [json!(null), json!(0), json!(84213), json!("0"), json!("now"), json!("2026-01-01T07:00:00")] {
            assert_eq!(read("time", value.clone()), received, "{value}");
        }
        let relative = read("seconds_after_receipt", json!(-60));
        assert_eq!(relative, Ok(("2025-12-31T23:59:00Z".to_owned(), false, 1)));
        for value in
            [json!("yesterday"), json!("2025-02-30T00:00:00Z"), json!(true), json!([1]), json!(1e300), json!("")]
        {
            assert_eq!(read("time", value.clone()), Err(Reason::BadTime), "{value}");
        }
    }
}
