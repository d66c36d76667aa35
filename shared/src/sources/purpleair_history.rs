//! What PurpleAir's sensors have measured, from a time to another one, polled sensor by sensor [S6, S17, M1]. An answer is paid for by
//! its rows [S11]: a window of time is as long as the service gives at once, and no longer than the points of a day are enough for.

use std::time::Duration;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::purpleair::{self, CALL, Columns, Paid, check_fields, is_unknown, lacking, points_of_row, request};
use super::synoptic::Moment;
use super::{Id, Records, Services, Source, WrongField, WrongFields, sensors};
use crate::connect::{Connector, Cursor, Fetched, Progress, Rest, Single, SourceError, Walk, keyed, one};
use crate::decode::{Context, Format, Rows};
use crate::error::Reject;
use crate::record::{SourceId, Tier, Topic};
use crate::time::Timestamp;
use crate::upstream::{Request, Response};

pub(super) use super::purpleair::SERVICE;

/// As every reading.
pub const FORMAT: Format = purpleair::FORMAT;

pub(super) static SOURCE: Source = Source {
    ids: &[Id {
        pattern: "historical_purpleair*",
        name: "PurpleAir history",
        tier: Tier::Low,
        topic: Topic::HISTORICAL,
    }],
    records: Some(Records { in_order: false, ..sensors::RECORDS }),
    service: Some(&SERVICE),
};

const SENSORS: usize = 1_000;
/// What the service gives at once of what was measured; of averages it gives more, which nobody has written down.
const WINDOW: Duration = Duration::from_secs(30 * 24 * 3600);
/// The longest range.
const RANGE: Duration = Duration::from_secs(10 * 366 * 24 * 3600);
/// Seconds between a sensor's readings.
const RAW: u64 = 120;
/// Minutes that the service makes averages of.
const AVERAGES: [u32; 6] = [0, 10, 30, 60, 360, 1440];
/// Points of a day that windows leave for calls that fail.
const RESERVE: u64 = 5 * CALL;
/// Windows of one poll: half of the service's requests a minute, so that the sensors of today get theirs.
const A_POLL: u64 = 5;

/// The `config` of a history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "PurpleairHistoryConfig")]
pub struct Config {
    /// The sensors, by their `sensor_index`.
    pub sensors: Vec<u64>,
    /// All readings from then on.
    pub start: Moment,
    /// All readings before then.
    pub end: Moment,
    /// Minutes of which averages are asked for: 10, 30, 60, 360 or 1440; without it, or with 0, what was measured. The stream's
    /// `source_id` ends with them, such as `historical_purpleair_60`.
    #[serde(default)]
    pub average: u32,
    /// In PurpleAir's names; `latitude` and `longitude` only of what was measured.
    #[serde(default = "fields")]
    pub fields: Vec<String>,
    /// Points that it may use in a day, in UTC: 5 a call, and for each row in its answer one a field, two for a field of PM2.5. When
    /// they are used up it waits until the day ends. 25 of them are kept for calls that fail.
    pub points_a_day: u64,
}

fn fields() -> Vec<String> {
    ["humidity", "temperature", "pressure", "pm2.5_atm_a", "pm2.5_atm_b", "pm2.5_atm"].map(str::to_owned).to_vec()
}

impl Config {
    fn seconds(&self) -> u64 {
        u64::try_from(self.end.0.duration_since(self.start.0).as_secs()).unwrap_or_default()
    }

    /// Seconds between two rows.
    fn step(&self) -> u64 {
        if self.average == 0 { RAW } else { u64::from(self.average) * 60 }
    }

    /// Seconds of one request.
    fn window(&self) -> u64 {
        let rows = self.points_a_day.saturating_sub(RESERVE + CALL) / points_of_row(&self.fields).max(1);
        WINDOW.as_secs().min(rows.saturating_mul(self.step())).max(self.step())
    }

    /// Windows of one sensor.
    fn windows(&self) -> u64 {
        self.seconds().div_ceil(self.window())
    }

    /// Windows of all sensors.
    fn parts(&self) -> u64 {
        self.windows() * self.sensors.len() as u64
    }

    /// A sensor, and its window in seconds since 1970, whose end is not in it.
    fn part(&self, done: u64) -> (u64, i64, i64) {
        let (sensor, window) = (done / self.windows().max(1), done % self.windows().max(1));
        let behind = |windows: u64| self.start.0.as_second() + (windows * self.window()).min(self.seconds()) as i64;
        let sensor = usize::try_from(sensor).ok().and_then(|at| self.sensors.get(at)).or(self.sensors.last());
        (sensor.copied().unwrap_or_default(), behind(window), behind(window + 1))
    }

    /// What a window costs at the most, as sensors send.
    fn points(&self, done: u64) -> u64 {
        let (_, from, to) = self.part(done);
        CALL + u64::try_from(to - from).unwrap_or_default().div_ceil(self.step()) * points_of_row(&self.fields)
    }

    /// Requests of one poll at the most.
    pub fn requests(&self) -> usize {
        self.parts().clamp(1, A_POLL) as usize
    }

    /// What serde cannot judge.
    pub fn check(&self) -> Result<(), WrongFields> {
        let wrong = |field: &'static str, rule: String| Err(WrongField::new(field, rule));
        let many = self.sensors.len();
        let twice = (1..many).find(|at| self.sensors[..*at].contains(&self.sensors[*at]));
        let sensors = match twice {
            _ if many == 0 || many > SENSORS => wrong("sensors", format!("{many} entries: it takes 1 to {SENSORS}")),
            Some(at) => wrong("sensors", format!("{} is given twice", self.sensors[at])),
            None => Ok(()),
        };
        let end = if self.end <= self.start {
            wrong("end", "is not after start".to_owned())
        } else if self.end.0 > self.start.0 + RANGE {
            wrong("end", format!("is more than {} days after start", RANGE.as_secs() / 86_400))
        } else {
            Ok(())
        };
        let average = match AVERAGES.contains(&self.average) {
            true => Ok(()),
            false => wrong("average", format!("{} is none of {AVERAGES:?} minutes", self.average)),
        };
        let fields = check_fields(&self.fields).and_then(|()| {
            let place = self.fields.iter().find(|field| self.average > 0 && PLACE.contains(&field.as_str()));
            place.map_or(Ok(()), |place| wrong("fields", format!("{place} has no averages")))
        });
        // An hour at least, or the calls cost more than what they bring.
        let least = RESERVE + CALL + points_of_row(&self.fields) * (3600 / self.step()).max(1);
        let points = match self.points_a_day < least {
            true => wrong(
                "points_a_day",
                format!("{} is less than {least}: one request, and {RESERVE} for calls that fail", self.points_a_day),
            ),
            false => Ok(()),
        };
        WrongFields::all([sensors, end, average, fields, points])
    }

    fn range(&self) -> String {
        let Config { sensors, start, end, average, fields, points_a_day: _ } = self;
        // Of another length of the windows their numbers mean other times.
        format!("{sensors:?}/{}/{}/{average}/{fields:?}/{}", start.0, end.0, self.window())
    }

    pub(super) fn progress(&self, cursor: &Cursor) -> Progress {
        let (whole, place) = (self.parts(), Place::of(cursor, self.range()));
        let windows = self.windows();
        let of_sensor: u64 = (0..windows).map(|window| self.points(window)).sum();
        let points = Some(of_sensor.saturating_mul(self.sensors.len() as u64));
        let of = format!("windows of {} h", self.window().div_ceil(3600));
        Progress { done: place.done.min(whole), whole: Some(whole), of, requests: Some(whole), points }
    }
}

/// Where a sensor is; averages do not have it.
const PLACE: [&str; 2] = ["latitude", "longitude"];

/// What the cursor holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Place {
    of: String,
    /// Windows that were read.
    done: u64,
    #[serde(flatten)]
    paid: Paid,
}

impl Place {
    /// Of another range what was paid today is paid all the same.
    fn of(cursor: &Cursor, range: String) -> Place {
        let place: Place = serde_json::from_str(&cursor.0).unwrap_or_default();
        if place.of == range { place } else { Place { of: range, done: 0, ..place } }
    }

    fn cursor(&self) -> Cursor {
        Cursor(serde_json::to_string(self).unwrap_or_default())
    }
}

/// One stream's connector, with the service's address and key.
pub(super) struct History {
    config: Config,
    base_url: String,
    /// It stands in a header and is never shown [A6].
    key: String,
}

pub(super) fn connector(config: Config, source: SourceId, services: &Services) -> Result<History, String> {
    // A reading has one event through both doors; an average is no reading, and those of other minutes are other averages.
    let id = source.as_str();
    let is_of = |average: u32| average > 0 && !id.starts_with("iot_") && id.ends_with(&format!("_{average}"));
    let of = AVERAGES.into_iter().find(|average| is_of(*average)).unwrap_or(0);
    match (of, config.average) {
        (0, average @ 1..) => {
            return Err(format!("{id} is of readings: averages are published under historical_purpleair_{average}"));
        }
        (of, average) if of != average => return Err(format!("{id} is of averages of {of} minutes")),
        _ => {}
    }
    let key = keyed::plain(services.key(&SERVICE)?, "PURPLEAIR_API_KEY")?.to_owned();
    Ok(History { config, base_url: services.address(&SERVICE).to_owned(), key })
}

impl History {
    fn place(&self, cursor: &Cursor) -> Place {
        Place::of(cursor, self.config.range())
    }

    /// What an answer gave to one who had so many windows before.
    fn fetched(&self, before: u64, place: Place, body: Option<Bytes>, problem: Option<String>) -> Fetched {
        let more = place.done >= self.config.parts() || place.done / A_POLL == before / A_POLL;
        Fetched { body, cursor: place.cursor(), more, problem }
    }
}

impl Connector for History {
    fn host(&self) -> &str {
        &self.base_url
    }

    fn rests(&self, cursor: &Cursor, now: Timestamp) -> Option<Rest> {
        let place = self.place(cursor);
        if place.done >= self.config.parts() {
            return Some(Rest::Ended);
        }
        let (.., end) = self.config.part(place.done);
        let over = Timestamp::from_second(end).ok().and_then(|end| Rest::until_over(end, "its next window", now));
        // The first call of a day is never waited for: a window fits into a day's points.
        let paid = || place.paid.rests(self.config.points(place.done), self.config.points_a_day, now);
        over.or_else(|| paid().filter(|_| place.paid.at(now) > 0))
    }

    /// A call that failed is paid for too.
    fn failed(&self, cursor: &Cursor, now: Timestamp) -> Cursor {
        let place = self.place(cursor);
        Place { paid: place.paid.and(CALL, now), ..place }.cursor()
    }

    /// A look is paid for.
    fn look(&self) -> usize {
        1
    }

    fn walk<'a>(&'a self, cursor: &Cursor, _now: Timestamp) -> Box<dyn Walk + 'a> {
        one(self, cursor)
    }

    fn rows<'a>(&'a self, body: &'a Bytes, context: Context<'a>) -> Result<Rows<'a>, Reject> {
        FORMAT.rows(body, context)
    }
}

impl Single for History {
    fn next(&self, cursor: &Cursor) -> Request {
        let (sensor, from, to) = self.config.part(self.place(cursor).done);
        let (base, fields, average) = (&self.base_url, self.config.fields.join(","), self.config.average);
        let url = format!(
            "{base}/v1/sensors/{sensor}/history?start_timestamp={from}&end_timestamp={to}&average={average}&fields={fields}"
        );
        request(url, &self.key)
    }

    fn absorb(&self, cursor: &Cursor, response: Response, now: Timestamp) -> Result<Fetched, SourceError> {
        let place = self.place(cursor);
        let (sensor, ..) = self.config.part(place.done);
        if is_unknown(&response) {
            let said = keyed::said(&response, &self.key);
            let problem = Some(format!("sensor {sensor} is left out: {said}"));
            let done = (place.done / self.config.windows() + 1) * self.config.windows();
            return Ok(self.fetched(
                place.done,
                Place { done, paid: place.paid.and(CALL, now), ..place },
                None,
                problem,
            ));
        }
        let Columns { members, fields, rows } = Columns::of(&response, &self.key, now)?;
        let number = |name: &str| members.get(name).and_then(|raw| raw.get().parse::<u64>().ok());
        if number("sensor_index") != Some(sensor) {
            return Err(SourceError::Failed(format!("sensor {sensor} was asked for, and the answer is not of it")));
        }
        if !fields.contains("time_stamp") {
            return Err(SourceError::Failed(format!("sensor {sensor}: its answer lacks the times of its rows")));
        }
        let problem = lacking(&self.config.fields, &fields).map(|said| format!("sensor {sensor}: {said}"));
        let paid = place.paid.and(CALL + rows * points_of_row(&self.config.fields), now);
        // A sensor that was away has no rows.
        let body = (rows > 0).then_some(response.body);
        Ok(self.fetched(place.done, Place { done: place.done + 1, paid, ..place }, body, problem))
    }
}
