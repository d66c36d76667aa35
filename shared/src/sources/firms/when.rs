//! A FIRMS row's date and time of day, in every spelling that its products and spreadsheets give them → one moment, one spelling.

use std::ops::Range;

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use serde::{Serialize, Serializer};

use super::table::shorten;
use crate::error::{Reason, Reject};
use crate::time::Timestamp;

/// When a row was observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct When<'a> {
    pub(super) at: Timestamp,
    /// The day, YYYY-MM-DD.
    pub(super) date: &'a str,
    pub(super) time: TimeOfDay,
}

/// Minutes since midnight, written as HHMM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeOfDay(u32);

impl Serialize for TimeOfDay {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (hour, minute) = (self.0 / 60, self.0 % 60);
        let digits = [hour / 10, hour % 10, minute / 10, minute % 10].map(|digit| b'0' + digit as u8);
        serializer.serialize_str(std::str::from_utf8(&digits).map_err(serde::ser::Error::custom)?)
    }
}

/// The moments of dates and times of day, in any of the ways that a FIRMS row has them; `None` for what is none.
pub fn moments<'a>(cells: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> impl Iterator<Item = Option<Timestamp>> {
    let mut calendar = Calendar::default();
    cells.into_iter().map(move |(date, time)| calendar.when(date, time).ok().map(|when| when.at))
}

/// Dates and times of day → moments in UTC. Neighbouring rows share their date, so that its conversion is kept.
#[derive(Debug, Default)]
pub(super) struct Calendar<'a> {
    last: Option<(&'a [u8], i64)>,
}

impl<'a> Calendar<'a> {
    /// `date` as YYYY-MM-DD, with a midnight behind it or not; `time` as HHMM with leading zeros missing or not, as HH:MM, or as
    /// a number with a fraction of zero.
    ///
    /// # Errors
    /// `bad_time` for what is no day of the calendar or no time of day.
    pub(super) fn when(&mut self, date: &'a [u8], time: &[u8]) -> Result<When<'a>, Reject> {
        let bad = |name: &str, text: &[u8], rule: &str| {
            Reject::new(Reason::BadTime, format!("{name} {:?} is {rule}", shorten(text)))
        };
        let bad_date = || bad("acq_date", date, "not a date YYYY-MM-DD");
        let day = day(date).ok_or_else(bad_date)?;
        let midnight = match self.last {
            Some((known, seconds)) if known == day => seconds,
            _ => {
                let seconds = midnight(day).ok_or_else(bad_date)?;
                self.last = Some((day, seconds));
                seconds
            }
        };
        let minutes = minutes(time).ok_or_else(|| bad("acq_time", time, "not a time of day HHMM"))?;
        let at = Timestamp::from_second(midnight + i64::from(minutes) * 60).map_err(|_| bad_date())?;
        Ok(When { at, date: std::str::from_utf8(day).map_err(|_| bad_date())?, time: TimeOfDay(minutes) })
    }
}

/// The day of a date that may have a midnight behind it, as tables of moments have.
fn day(date: &[u8]) -> Option<&[u8]> {
    let (day, rest) = date.split_at_checked(10)?;
    let midnight = match rest {
        [] => true,
        [b' ' | b'T', time @ ..] => {
            let digits = time.iter().filter(|byte| byte.is_ascii_digit()).count();
            digits >= 4 && time.iter().all(|byte| matches!(byte, b'0' | b':' | b'.' | b'Z'))
        }
        _ => false,
    };
    midnight.then_some(day)
}

fn midnight(date: &[u8]) -> Option<i64> {
    let &[_, _, _, _, b'-', _, _, b'-', _, _] = date else { return None };
    let part = |range: Range<usize>| digits(&date[range]).and_then(|n| i16::try_from(n).ok());
    let (month, day) = (part(5..7)?, part(8..10)?);
    let date = Date::new(part(0..4)?, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()?;
    TimeZone::UTC.to_timestamp(date.to_datetime(Time::midnight())).ok().map(Timestamp::as_second)
}

fn minutes(time: &[u8]) -> Option<u32> {
    let (hour, minute) = match time.iter().position(|&byte| byte == b':') {
        Some(colon) => {
            let (hour, minute) = (&time[..colon], &time[colon + 1..]);
            // Seconds that are zero say nothing.
            let minute = minute.strip_suffix(b":00").unwrap_or(minute);
            (digits(hour).filter(|_| hour.len() <= 2)?, digits(minute).filter(|_| minute.len() == 2)?)
        }
        None => {
            let whole = match time.iter().position(|&byte| byte == b'.') {
                Some(point) if time[point + 1..].iter().all(|&byte| byte == b'0') => &time[..point],
                _ => time,
            };
            let number = digits(whole).filter(|_| whole.len() <= 4)?;
            (number / 100, number % 100)
        }
    };
    (hour < 24 && minute < 60).then_some(hour * 60 + minute)
}

fn digits(text: &[u8]) -> Option<u32> {
    let fits = (1..=9).contains(&text.len());
    (fits && text.iter().all(u8::is_ascii_digit)).then(|| text.iter().fold(0, |n, d| n * 10 + u32::from(d - b'0')))
}
