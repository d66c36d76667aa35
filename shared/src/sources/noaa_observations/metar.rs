//! METAR and SPECI reports as text, one a line, as NOAA's cycle files and aviationweather.gov give them [S2]. A report tells the
//! day of the month and the time alone: the rest comes from the line with a date above it, else from the time of receipt. It
//! tells no place either, and none is guessed.

use bytes::Bytes;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, ToSpan};

use super::{CloudLayer, Weather, WeatherReport};
use crate::decode::{Context, Row, Rows, encoding, short};
use crate::error::{Reason, Reject};
use crate::limits::{RESPONSE_BYTES, UNREAD_NAMED};
use crate::record::{Data, Observation, Origin, Quality};
use crate::sources::identify;
use crate::time::Timestamp;

const KNOT_M_S: f64 = 1_852.0 / 3_600.0;
const MILE_M: f64 = 1_609.344;
const FOOT_M: f64 = 0.304_8;
const INCH_OF_MERCURY_HPA: f64 = 33.863_886;
const INCH_MM: f64 = 25.4;
/// A station's clock may be wrong; what lies further ahead is last month's.
const AHEAD: SignedDuration = SignedDuration::from_hours(24);

/// Of weather codes, in NWS's words.
const MODIFIERS: [(&str, &str); 8] = [
    ("MI", "shallow"),
    ("PR", "partial"),
    ("BC", "patches"),
    ("DR", "low_drifting"),
    ("BL", "blowing"),
    ("SH", "showers"),
    ("TS", "thunderstorms"),
    ("FZ", "freezing"),
];
const PHENOMENA: [(&str, &str); 22] = [
    ("DZ", "drizzle"),
    ("RA", "rain"),
    ("SN", "snow"),
    ("SG", "snow_grains"),
    ("IC", "ice_crystals"),
    ("PL", "ice_pellets"),
    ("GR", "hail"),
    ("GS", "snow_pellets"),
    ("UP", "unknown"),
    ("BR", "fog_mist"),
    ("FG", "fog"),
    ("FU", "smoke"),
    ("VA", "volcanic_ash"),
    ("DU", "dust"),
    ("SA", "sand"),
    ("HZ", "haze"),
    ("PY", "spray"),
    ("PO", "dust_whirls"),
    ("SQ", "squalls"),
    ("FC", "funnel_cloud"),
    ("SS", "sand_storm"),
    ("DS", "dust_storm"),
];

pub(super) fn rows<'a>(body: &'a Bytes, context: Context<'a>) -> Result<Rows<'a>, Reject> {
    if body.len() > RESPONSE_BYTES {
        return Err(Reject::new(Reason::TooLarge, format!("{} bytes, {RESPONSE_BYTES} at most", body.len())));
    }
    let text = encoding::without_mark(body);
    // In bulletins a report ends with `=`.
    let lines = move || text.split(|byte| matches!(byte, b'\n' | b'\r' | b'=')).map(<[u8]>::trim_ascii);
    if !lines().any(looks_like_a_report) {
        return Err(Reject::new(Reason::NotData, "neither JSON with features nor a text with a METAR report"));
    }
    let (mut dated, mut n) = (Dated::Not, 0);
    Ok(Box::new(lines().filter_map(move |line| {
        let text = String::from_utf8_lossy(line);
        if line.is_empty() {
            return None;
        }
        if let Some(date) = date_line(&text) {
            dated = date;
            return None;
        }
        n += 1;
        let raw = body.slice_ref(line);
        Some(row(&text, &raw, dated, context).map_err(|reject| reject.at_row(n).with_raw(raw)))
    })))
}

/// Whether a text's first lines have a report.
pub(super) fn begins(text: &[u8]) -> bool {
    text.split(|byte| matches!(byte, b'\n' | b'\r' | b'=')).take(8).any(|line| looks_like_a_report(line.trim_ascii()))
}

/// A word that only such a text has at the beginning of a line, or a station and a time behind it.
fn looks_like_a_report(line: &[u8]) -> bool {
    let Ok(line) = std::str::from_utf8(line) else { return false };
    let mut words = line.split_ascii_whitespace();
    match words.next() {
        Some("METAR" | "SPECI" | "TAF" | "NIL") => true,
        Some(word) => is_station(word) && words.next().is_some_and(is_like_a_time),
        None => false,
    }
}

fn is_like_a_time(word: &str) -> bool {
    word.strip_suffix('Z').is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Four letters or digits, the first a letter (ICAO).
fn is_station(word: &str) -> bool {
    word.len() == 4
        && word.starts_with(|letter: char| letter.is_ascii_uppercase())
        && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
}

/// What a line above says of the date of the reports below it.
#[derive(Debug, Clone, Copy)]
enum Dated {
    /// There is no such line.
    Not,
    At(Timestamp),
    /// It names no day that there is.
    Wrongly,
}

/// `2024/01/12 15:38` or `2024-01-12 15:38`, in UTC; `None` for a line of another kind.
fn date_line(line: &str) -> Option<Dated> {
    let (date, time) = line.split_once(' ')?;
    let date = date.replace('/', "-");
    let is_of = |text: &str, form: &str| {
        let fits = |(byte, of): (u8, u8)| if of == b'9' { byte.is_ascii_digit() } else { byte == of };
        text.len() == form.len() && text.bytes().zip(form.bytes()).all(fits)
    };
    if !is_of(&date, "9999-99-99") || !is_of(time, "99:99") {
        return None;
    }
    Some(format!("{date}T{time}:00Z").parse().map_or(Dated::Wrongly, Dated::At))
}

/// `121538Z` → the last such time that is not more than a day after `near`.
fn when(group: &str, near: Timestamp) -> Option<Timestamp> {
    let digits = group.strip_suffix('Z').filter(|digits| digits.len() == 6)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = |at: usize| digits.get(at..at + 2)?.parse::<i8>().ok();
    let (day, time) = (number(0)?, Time::new(number(2)?, number(4)?, 0, 0).ok()?);
    let latest = near.checked_add(AHEAD).ok()?;
    let first = TimeZone::UTC.to_datetime(latest).date().first_of_month();
    // Of two months in a row one has 31 days, and the first one may be too early.
    let months = (0..4_i32).filter_map(|back| first.checked_sub(back.months()).ok());
    let dates = months.filter_map(|month| Date::new(month.year(), month.month(), day).ok());
    let mut times = dates.filter_map(|date| TimeZone::UTC.to_timestamp(date.to_datetime(time)).ok());
    times.find(|at| *at <= latest)
}

fn row(text: &str, raw: &Bytes, dated: Dated, context: Context<'_>) -> Row {
    let near = match dated {
        Dated::At(at) => Near::Told(at),
        Dated::Not => Near::Received(context.received_at),
        Dated::Wrongly => Near::Nowhere,
    };
    let Read { report, observed_at, quality } = read(text, near)?;
    // What was corrected is not replaced by what it corrects, whichever comes last.
    let rank = u8::from(report.corrected == Some(true));
    identify(Observation {
        origin: Origin::of(raw.clone()),
        source: context.source.clone(),
        observed_at,
        published_at: None,
        geometry: None,
        position: None,
        derived_from: None,
        alert: None,
        data: Data::of(&report)?,
        quality,
        rank,
    })
}

/// Where in time a report lies, whose own words give the day of the month and the time alone.
#[derive(Debug, Clone, Copy)]
pub(super) enum Near {
    /// A date stands beside it.
    Told(Timestamp),
    /// It is recent.
    Received(Timestamp),
    /// The date beside it is none.
    Nowhere,
}

/// What a report says.
pub(super) struct Read {
    pub(super) report: WeatherReport,
    pub(super) observed_at: Timestamp,
    pub(super) quality: Vec<Quality>,
}

/// # Errors
/// When it is no report, says that there is none, or has no time.
pub(super) fn read(text: &str, near: Near) -> Result<Read, Reject> {
    let mut words = text.split_ascii_whitespace().peekable();
    let missing = |detail: &str| Reject::new(Reason::MissingField, detail);
    let mut report = WeatherReport {
        format: "metar",
        automatic: Some(false),
        corrected: Some(false),
        wind_is_variable: Some(false),
        raw_message: Some(text.to_owned()),
        ..WeatherReport::default()
    };
    if matches!(words.peek(), Some(&"TAF")) {
        return Err(Reject::new(Reason::NotData, "a TAF is a forecast of an airport, not an observation"));
    }
    report.report_type = words.next_if(|word| matches!(*word, "METAR" | "SPECI")).map(str::to_owned);
    if words.next_if_eq(&"COR").is_some() {
        report.corrected = Some(true);
    }
    let station = words.next().unwrap_or_default();
    if station == "NIL" {
        return Err(missing("NIL: there is no report"));
    }
    if !is_station(station) {
        let detail = format!("{:?} is no station of four letters: the line is no METAR report", short(station));
        return Err(Reject::new(Reason::NotData, detail));
    }
    report.station_id = station.to_owned();
    let mut quality = Vec::new();
    let group = words.next().ok_or_else(|| missing("the time is missing"))?;
    if group == "NIL" {
        return Err(missing("NIL: the station sent no report"));
    }
    let at = match near {
        Near::Told(at) | Near::Received(at) => at,
        Near::Nowhere => {
            return Err(Reject::new(Reason::BadTime, "the line with the date above it names no day that there is"));
        }
    };
    let observed_at = when(group, at).ok_or_else(|| {
        Reject::new(Reason::BadTime, format!("{:?} is not day, hour and minute as 121538Z", short(group)))
    })?;
    if words.peek() == Some(&"NIL") {
        return Err(missing("NIL: the station sent no report"));
    }
    if matches!(near, Near::Received(_)) {
        let problem = "has no month: it is the last one that fits the time of receipt";
        quality.push(Quality::new("observed_at", problem, group));
    }
    let rest: Vec<&str> = words.collect();
    let another =
        rest.iter().take_while(|group| **group != "RMK").find(|group| group.len() == 7 && is_like_a_time(group));
    if let Some(another) = another {
        let detail = format!("holds a second time, {another}: two reports in one line cannot be told apart");
        return Err(Reject::new(Reason::NotData, detail));
    }
    let mut groups = Groups { report, quality, rest };
    groups.read();
    let Groups { report, quality, .. } = groups;
    Ok(Read { report, observed_at, quality })
}

/// A report's groups behind its time.
struct Groups<'t> {
    report: WeatherReport,
    quality: Vec<Quality>,
    rest: Vec<&'t str>,
}

impl Groups<'_> {
    fn read(&mut self) {
        let groups = std::mem::take(&mut self.rest);
        let mut n = 0;
        while let Some(&group) = groups.get(n) {
            n += 1;
            let next = groups.get(n).copied().unwrap_or_default();
            match group {
                "RMK" => {
                    self.remarks(&groups[n..]);
                    break;
                }
                "NOSIG" | "BECMG" | "TEMPO" => {
                    self.note(
                        "trend",
                        "is a forecast behind the report, which is not read",
                        &groups[n - 1..].join(" "),
                    );
                    if let Some(remarks) = groups.iter().position(|group| *group == "RMK") {
                        self.remarks(&groups[remarks + 1..]);
                    }
                    break;
                }
                "AUTO" => self.report.automatic = Some(true),
                "COR" => self.report.corrected = Some(true),
                "CAVOK" => {
                    self.report.visibility_m = Some(Some(10_000.0));
                    self.report.visibility_bound = Some("above");
                }
                // Miles before a fraction: `1 1/2SM`.
                _ if group.len() == 1 && next.ends_with("SM") && next.contains('/') && self.miles(group, next) => {
                    n += 1
                }
                _ => {
                    let read = self.wind(group)
                        || self.variable(group)
                        || self.miles("0", group)
                        || self.metres(group)
                        || self.temperatures(group)
                        || self.pressure(group)
                        || self.cloud(group)
                        || self.weather(group);
                    if !read {
                        self.note("raw_message", "has a group that is not understood", group);
                    }
                }
            }
        }
    }

    fn note(&mut self, field: &str, problem: &str, raw: &str) {
        match self.quality.len() {
            ..UNREAD_NAMED => self.quality.push(Quality::new(field, problem, raw)),
            UNREAD_NAMED => {
                self.quality.push(Quality::new("raw_message", "has more groups that are not understood", raw))
            }
            _ => {}
        }
    }

    /// `15013G19KT`, `VRB03KT`, `00000KT`, `24003MPS`, `/////KT`.
    fn wind(&mut self, group: &str) -> bool {
        let (rest, factor) = match (group.strip_suffix("KT"), group.strip_suffix("MPS")) {
            (Some(rest), _) => (rest, KNOT_M_S),
            (_, Some(rest)) => (rest, 1.0),
            _ => return false,
        };
        let (Some(direction), Some(speeds)) = (rest.get(..3), rest.get(3..)) else { return false };
        let (speed, gust) = speeds.split_once('G').map_or((speeds, None), |(speed, gust)| (speed, Some(gust)));
        let read = |digits: &str| match digits {
            "//" => Some(None),
            _ if matches!(digits.len(), 2 | 3) => Some(Some(digits_of(digits)? * factor)),
            _ => None,
        };
        let (Some(speed), Some(gust)) = (read(speed), gust.map_or(Some(None), |gust| read(gust).map(Some))) else {
            return false;
        };
        let is_calm = speed == Some(0.0);
        let towards = match direction {
            "VRB" | "///" => None,
            _ => match digits_of(direction).filter(|degrees| *degrees <= 360.0) {
                Some(degrees) => Some(degrees).filter(|_| !is_calm),
                None => return false,
            },
        };
        if direction == "///" || speed.is_none() {
            self.note("wind_speed_m_s", "was not measured, or its direction was not", group);
        }
        self.report.wind_is_variable = Some(direction == "VRB");
        self.report.wind_direction_deg = Some(towards);
        self.report.wind_speed_m_s = Some(speed.map(rounded));
        self.report.wind_gust_m_s = gust.map(|gust| gust.map(rounded));
        true
    }

    /// `250V320`.
    fn variable(&mut self, group: &str) -> bool {
        let Some((from, to)) = group.split_once('V') else { return false };
        let degrees = |text: &str| digits_of(text).filter(|degrees| text.len() == 3 && *degrees <= 360.0);
        let (Some(from), Some(to)) = (degrees(from), degrees(to)) else { return false };
        self.report.wind_direction_from_deg = Some(Some(from));
        self.report.wind_direction_to_deg = Some(Some(to));
        true
    }

    /// `10SM`, `1/4SM`, `M1/4SM`, `P6SM`, and with `whole` miles before it.
    fn miles(&mut self, whole: &str, group: &str) -> bool {
        let Some(text) = group.strip_suffix("SM") else { return false };
        let bound = match text.as_bytes().first() {
            Some(b'M') => Some("below"),
            Some(b'P') => Some("above"),
            _ => None,
        };
        let text = if bound.is_some() { &text[1..] } else { text };
        if text == "////" || text == "//" {
            self.report.visibility_m = Some(None);
            self.note("visibility_m", "was not measured", group);
            return true;
        }
        let (above, below) = text.split_once('/').unwrap_or((text, "1"));
        let (Some(whole), Some(above), Some(below)) = (digits_of(whole), digits_of(above), digits_of(below)) else {
            return false;
        };
        if below == 0.0 {
            return false;
        }
        self.report.visibility_m = Some(Some(rounded((whole + above / below) * MILE_M)));
        self.report.visibility_bound = bound;
        true
    }

    /// `0800`, `9999` (10 km or more), `2000NE` is a second one by direction and not read, `////`.
    fn metres(&mut self, group: &str) -> bool {
        if group == "////" && self.report.visibility_m.is_none() {
            self.report.visibility_m = Some(None);
            self.note("visibility_m", "was not measured", group);
            return true;
        }
        let digits = group.strip_suffix("NDV").unwrap_or(group);
        let (4, Some(metres)) = (digits.len(), digits_of(digits)) else { return false };
        let is_far = metres == 9_999.0;
        self.report.visibility_m = Some(Some(if is_far { 10_000.0 } else { metres }));
        self.report.visibility_bound = is_far.then_some("above");
        true
    }

    /// `09/07`, `M13/M18`, `28///`, `28/`.
    fn temperatures(&mut self, group: &str) -> bool {
        let Some((air, dew)) = group.split_once('/') else { return false };
        let degrees = |text: &str| match text {
            "" | "//" | "XX" => Some(None),
            _ => {
                let (sign, digits) = text.strip_prefix('M').map_or((1.0, text), |digits| (-1.0, digits));
                Some(Some(digits_of(digits).filter(|_| digits.len() == 2)? * sign + 0.0))
            }
        };
        if group.len() < 3 || group.bytes().all(|byte| byte == b'/') && group.len() != 5 {
            return false;
        }
        // `/////` splits at its first bar.
        let (air, dew) = if group == "/////" { ("//", "//") } else { (air, dew) };
        let (Some(air), Some(dew)) = (degrees(air), degrees(dew)) else { return false };
        if air.is_none() {
            self.note("temperature_c", "was not measured", group);
        }
        if dew.is_none() {
            self.note("dew_point_c", "was not measured", group);
        }
        self.report.temperature_c = Some(air);
        self.report.dew_point_c = Some(dew);
        true
    }

    /// `A2936` in hundredths of an inch of mercury, `Q1013` in hPa.
    fn pressure(&mut self, group: &str) -> bool {
        let (digits, factor) = match (group.strip_prefix('A'), group.strip_prefix('Q')) {
            (Some(digits), _) => (digits, INCH_OF_MERCURY_HPA / 100.0),
            (_, Some(digits)) => (digits, 1.0),
            _ => return false,
        };
        if digits == "////" {
            self.report.altimeter_hpa = Some(None);
            self.note("altimeter_hpa", "was not measured", group);
            return true;
        }
        let (4, Some(number)) = (digits.len(), digits_of(digits)) else { return false };
        self.report.altimeter_hpa = Some(Some(rounded(number * factor)));
        true
    }

    /// `FEW060`, `BKN045CB`, `VV002`, `OVC///`, `CLR`.
    fn cloud(&mut self, group: &str) -> bool {
        if ["CLR", "SKC", "NSC", "NCD"].contains(&group) {
            self.report.cloud_layers.push(CloudLayer { amount: group.to_owned(), ..CloudLayer::default() });
            return true;
        }
        let found =
            ["FEW", "SCT", "BKN", "OVC", "VV", "///"].iter().find_map(|name| Some((name, group.strip_prefix(name)?)));
        let Some((amount, rest)) = found else { return false };
        let (Some(base), Some(kind)) = (rest.get(..3), rest.get(3..)) else { return false };
        let feet = digits_of(base).map(|hundreds| hundreds * 100.0);
        if (feet.is_none() && base != "///") || !["", "CB", "TCU", "///"].contains(&kind) {
            return false;
        }
        if feet.is_none() {
            self.note("cloud_layers", "has a layer whose base was not measured", group);
        }
        if *amount != "///" {
            self.report.cloud_layers.push(CloudLayer {
                amount: (*amount).to_owned(),
                base_m: feet.map(|feet| rounded(feet * FOOT_M)),
                kind: Some(kind).filter(|kind| ["CB", "TCU"].contains(kind)).map(str::to_owned),
            });
        }
        true
    }

    /// `-SN`, `VCTS`, `+TSRAGR`, `FU`, `//`.
    fn weather(&mut self, group: &str) -> bool {
        if group == "//" {
            self.note("weather", "was not observed", group);
            return true;
        }
        let (intensity, in_vicinity, rest) = match group.as_bytes() {
            [b'-', ..] => (Some("light"), false, &group[1..]),
            [b'+', ..] => (Some("heavy"), false, &group[1..]),
            [b'V', b'C', ..] => (None, true, &group[2..]),
            _ => (None, false, group),
        };
        let is_code = !rest.is_empty() && rest.len() % 2 == 0 && rest.bytes().all(|byte| byte.is_ascii_uppercase());
        if !is_code {
            return false;
        }
        let named = |names: &[(&str, &'static str)], code: &str| {
            names.iter().find(|(of, _)| *of == code).map(|(_, word)| *word)
        };
        let (mut modifier, mut phenomena) = (None, Vec::new());
        for at in (0..rest.len()).step_by(2) {
            let code = &rest[at..at + 2];
            match (named(&MODIFIERS, code), named(&PHENOMENA, code)) {
                (Some(word), _) if phenomena.is_empty() && modifier.is_none() => modifier = Some(word),
                (None, Some(word)) => phenomena.push(word),
                _ => return false,
            }
        }
        // A thunderstorm or a shower in sight is a phenomenon of its own.
        if phenomena.is_empty() {
            match modifier.take() {
                Some(alone @ ("thunderstorms" | "showers")) => phenomena.push(alone),
                _ => return false,
            }
        }
        self.report.weather.extend(phenomena.into_iter().map(|weather| Weather {
            intensity: intensity.map(str::to_owned),
            modifier: modifier.map(str::to_owned),
            weather: Some(weather.to_owned()),
            in_vicinity: Some(in_vicinity),
            code: Some(group.to_owned()),
        }));
        true
    }

    /// The remarks stand in the record as they are; of those of US stations the exact temperatures, the pressure at sea level
    /// and the hour's rain are read.
    fn remarks(&mut self, groups: &[&str]) {
        self.report.remarks = Some(groups.join(" ")).filter(|text| !text.is_empty());
        for group in groups {
            if let Some(digits) = group.strip_prefix('T')
                && let (Some(air), dew) = (tenths(digits.get(..4)), tenths(digits.get(4..8)))
                && matches!((digits.len(), dew), (8, Some(_)) | (4, None))
            {
                self.report.temperature_c = Some(Some(air));
                if dew.is_some() {
                    self.report.dew_point_c = Some(dew);
                }
                self.quality
                    .retain(|said| said.field != "temperature_c" && (said.field != "dew_point_c" || dew.is_none()));
            }
            if let Some(digits) = group.strip_prefix("SLP")
                && let (3, Some(tenths)) = (digits.len(), digits_of(digits))
            {
                let hundreds = if tenths >= 500.0 { 900.0 } else { 1_000.0 };
                self.report.sea_level_pressure_hpa = Some(Some(rounded(hundreds + tenths / 10.0)));
            }
            if let Some(digits) = group.strip_prefix('P')
                && let (4, Some(hundredths)) = (digits.len(), digits_of(digits))
            {
                self.report.precipitation_1h_mm = Some(Some(rounded(hundredths / 100.0 * INCH_MM)));
            }
        }
    }
}

/// `0094` → 9.4, `1133` → -13.3.
fn tenths(group: Option<&str>) -> Option<f64> {
    let group = group.filter(|group| group.len() == 4)?;
    let value = digits_of(group.get(1..)?)? / 10.0;
    match group.as_bytes()[0] {
        b'0' => Some(value),
        b'1' => Some(0.0 - value),
        _ => None,
    }
}

/// Digits and nothing else.
fn digits_of(text: &str) -> Option<f64> {
    let fits = (1..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| fits)
}

fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::FORMAT;
    use super::*;
    use crate::record::{Draft, SourceId};

    const RECEIVED: &str = "2026-03-02T00:10:00Z";

    fn rows(text: &str) -> Result<Vec<Row>, Reject> {
        let source = SourceId::new("noaa_observations").unwrap();
        let context = Context { source: &source, received_at: RECEIVED.parse().unwrap(), topic: None, message: None };
        let body = Bytes::from(text.to_owned());
        FORMAT.rows(&body, context).map(Iterator::collect)
    }

    fn one(text: &str) -> (Draft, Value) {
        let draft =
            rows(&format!("2026/03/01 15:38\n{text}\n")).unwrap().remove(0).unwrap_or_else(|e| panic!("{text}: {e}"));
        let data = serde_json::from_str(draft.data.json()).unwrap();
        (draft, data)
    }

    #[test]
    fn s2_a_report_is_read_in_our_units() {
        let (draft, data) = one(
            "SPECI KTST 011538Z AUTO 15013G19KT 120V180 1 1/2SM -SN FU VCTS BKN017CB OVC049 M09/M11 A2936 RMK AO2 SLP125 P0008 T10941111 $",
        );
        assert_eq!(draft.observed_at, "2026-03-01T15:38:00Z".parse().unwrap());
        assert_eq!((draft.position, draft.quality.as_slice()), (None, &[][..]));
        for (field, value) in [
            ("report_type", json!("SPECI")),
            ("automatic", json!(true)),
            ("wind_direction_deg", json!(150.0)),
            ("wind_direction_to_deg", json!(180.0)),
            ("wind_speed_m_s", json!(6.6878)),
            ("wind_gust_m_s", json!(9.7744)),
            ("visibility_m", json!(2414.016)),
            ("temperature_c", json!(-9.4)),
            ("dew_point_c", json!(-11.1)),
            ("altimeter_hpa", json!(994.2437)),
            ("sea_level_pressure_hpa", json!(1012.5)),
            ("precipitation_1h_mm", json!(2.032)),
            ("remarks", json!("AO2 SLP125 P0008 T10941111 $")),
        ] {
            assert_eq!(data[field], value, "{field}");
        }
        let weather: Vec<_> = data["weather"].as_array().unwrap().iter().map(|one| &one["weather"]).collect();
        assert_eq!(weather, ["snow", "smoke", "thunderstorms"]);
        assert_eq!(
            (&data["weather"][0]["intensity"], &data["weather"][2]["in_vicinity"]),
            (&json!("light"), &json!(true))
        );
        assert_eq!(data["cloud_layers"][0], json!({"amount": "BKN", "base_m": 518.16, "kind": "CB"}));
    }

    #[test]
    fn s9_what_was_not_measured_is_null_and_what_is_not_understood_is_named() {
        let (draft, data) = one("KTST 011538Z COR /////KT M1/4SM +TSRAGR VV002 28/// A//// R28L/2600FT WHAT");
        let said: Vec<_> =
            draft.quality.iter().map(|said| (said.field.as_str(), said.raw.as_deref().unwrap())).collect();
        assert_eq!(
            said,
            [
                ("wind_speed_m_s", "/////KT"),
                ("dew_point_c", "28///"),
                ("altimeter_hpa", "A////"),
                ("raw_message", "R28L/2600FT"),
                ("raw_message", "WHAT"),
            ]
        );
        for (field, value) in [
            ("wind_speed_m_s", Value::Null),
            ("dew_point_c", Value::Null),
            ("temperature_c", json!(28.0)),
            ("altimeter_hpa", Value::Null),
            ("visibility_m", json!(402.336)),
            ("visibility_bound", json!("below")),
            ("corrected", json!(true)),
        ] {
            assert_eq!(data[field], value, "{field}");
        }
        assert!(data.get("wind_gust_m_s").is_none());
        let (_, calm) = one("METAR KTST 011538Z 00000MPS CAVOK 07/M00 Q1013 NOSIG");
        assert_eq!((&calm["wind_speed_m_s"], &calm["wind_direction_deg"]), (&json!(0.0), &Value::Null));
        assert_eq!((&calm["dew_point_c"], &calm["visibility_bound"]), (&json!(0.0), &json!("above")));
        assert_eq!(one("KTST 011538Z VRB03KT 9999 10/05 Q1013").1["wind_is_variable"], true);
    }

    #[test]
    fn s9_a_line_that_is_no_report_costs_itself_and_says_why() {
        let read = rows(
            "METAR KTST 012353Z 00000KT 10SM\nTAF KTST 011130Z\nKTST 01153Z 00000KT\nKTST 321553Z\nNIL=\nKTST 011200Z NIL=\nhello\n\n",
        );
        let read = read.unwrap();
        let reasons: Vec<_> = read[1..].iter().map(|row| row.as_ref().unwrap_err().reason).collect();
        let (not_data, bad_time, missing) = (Reason::NotData, Reason::BadTime, Reason::MissingField);
        assert_eq!(reasons, [not_data, bad_time, bad_time, missing, missing, not_data]);
        assert_eq!(read[2].as_ref().unwrap_err().raw, "KTST 01153Z 00000KT");
        let first = read[0].as_ref().unwrap();
        assert_eq!(first.observed_at, "2026-03-01T23:53:00Z".parse().unwrap());
        assert_eq!(first.quality[0].field, "observed_at", "no date line: the month is the receipt's");
        for text in ["", "latitude,longitude", "Too Many Requests", "<html>"] {
            assert_eq!(rows(text).unwrap_err().reason, Reason::NotData, "{text:?}");
        }
    }

    #[test]
    fn s9_reports_in_one_line_are_told_apart_or_refused() {
        let read = |text: &str| -> Vec<Result<String, Reason>> {
            let station = |row: Row| {
                row.map(|draft| serde_json::from_str::<Value>(draft.data.json()).unwrap()["station_id"].to_string())
            };
            rows(text).unwrap().into_iter().map(|row| station(row).map_err(|reject| reject.reason)).collect()
        };
        let one = "KTST 011538Z 18010KT 10SM 10/05 A3000";
        let two = "KTSU 011538Z 27010KT 5SM 20/05 A2900";
        let both = ["\"KTST\"", "\"KTSU\""].map(|station| Ok(station.to_owned()));
        assert_eq!(read(&format!("{one}= {two}=")), both);
        assert_eq!(read(&format!("{one}\r{two}")), both);
        assert_eq!(read(&format!("{one} {two}")), [Err(Reason::NotData)]);
    }

    #[test]
    fn a_line_with_a_date_counts_for_what_follows_and_a_wrong_one_for_nothing() {
        let read = |date: &str| {
            let row = rows(&format!("{date}\nKTST 121538Z 18010KT")).unwrap().pop().unwrap();
            row.map(|draft| draft.observed_at.to_string()).map_err(|reject| reject.reason)
        };
        assert_eq!(read("2024/01/12 15:38"), Ok("2024-01-12T15:38:00Z".into()));
        assert_eq!(read("2024-01-12 15:38"), Ok("2024-01-12T15:38:00Z".into()));
        assert_eq!(read("2024/13/40 15:38"), Err(Reason::BadTime));
    }

    #[test]
    fn s1_what_was_corrected_is_not_replaced_by_what_it_corrects() {
        assert!(one("KTST 011538Z COR 18010KT 11/05").0.rank > one("KTST 011538Z 18010KT 10/05").0.rank);
    }

    #[test]
    fn the_month_is_the_last_one_that_fits() {
        let at = |group: &str, near: &str| when(group, near.parse().unwrap()).map(|at| at.to_string());
        for (group, near, read) in [
            ("121538Z", "2024-01-12T15:38:00Z", Some("2024-01-12T15:38:00Z")),
            ("312353Z", "2026-03-01T00:10:00Z", Some("2026-01-31T23:53:00Z")),
            ("282353Z", "2026-03-01T00:10:00Z", Some("2026-02-28T23:53:00Z")),
            ("010005Z", "2025-12-31T23:59:00Z", Some("2026-01-01T00:05:00Z")),
            ("020005Z", "2025-12-31T23:59:00Z", Some("2025-12-02T00:05:00Z")),
            ("290000Z", "2025-02-28T12:00:00Z", Some("2025-01-29T00:00:00Z")),
            ("000000Z", RECEIVED, None),
            ("012400Z", RECEIVED, None),
            ("01153Z", RECEIVED, None),
            ("0é53Z", RECEIVED, None),
        ] {
            assert_eq!(at(group, near).as_deref(), read, "{group} near {near}");
        }
    }
}
