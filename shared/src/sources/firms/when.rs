//! A FIRMS row's date and time of day, in every spelling that its products and spreadsheets give them → one moment, one spelling.

use std::ops::Range;

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use serde::{Serialize, Serializer};

use super::table::{Last, shorten};
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
    last: Last<'a, Option<(&'a str, i64)>>,
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
        let (day, midnight) = self.last.of(date, day).ok_or_else(bad_date)?;
        let minutes = minutes(time).ok_or_else(|| bad("acq_time", time, "not a time of day HHMM"))?;
        let at = Timestamp::from_second(midnight + i64::from(minutes) * 60).map_err(|_| bad_date())?;
        Ok(When { at, date: day, time: TimeOfDay(minutes) })
    }
}

/// The day of a date that may have a midnight behind it, as tables of moments have, and the second in which it begins.
fn day(date: &[u8]) -> Option<(&str, i64)> {
    let (day, rest) = date.split_at_checked(10)?;
    let midnight = match rest {
        [] => true,
        [b' ' | b'T', time @ ..] => {
            let digits = time.iter().filter(|byte| byte.is_ascii_digit()).count();
            digits >= 4 && time.iter().all(|byte| matches!(byte, b'0' | b':' | b'.' | b'Z'))
        }
        _ => false,
    };
    Some((std::str::from_utf8(day).ok()?, begins(day).filter(|_| midnight)?))
}

fn begins(day: &[u8]) -> Option<i64> {
    let &[_, _, _, _, b'-', _, _, b'-', _, _] = day else { return None };
    let part = |range: Range<usize>| digits(&day[range]).and_then(|n| i16::try_from(n).ok());
    let (month, day) = (part(5..7)?, part(8..10)?);
    let date = Date::new(part(0..4)?, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()?;
    TimeZone::UTC.to_timestamp(date.to_datetime(Time::midnight())).ok().map(Timestamp::as_second)
}

fn minutes(time: &[u8]) -> Option<u32> {
    let (hour, minute) = match time.iter().position(|byte| !byte.is_ascii_digit()) {
        Some(colon) if time[colon] == b':' => {
            let (hour, minute) = (&time[..colon], &time[colon + 1..]);
            // Seconds that are zero say nothing.
            let minute = minute.strip_suffix(b":00").unwrap_or(minute);
            (digits(hour).filter(|_| hour.len() <= 2)?, digits(minute).filter(|_| minute.len() == 2)?)
        }
        end => {
            let (whole, rest) = time.split_at(end.unwrap_or(time.len()));
            let is_whole = rest
                .split_first()
                .is_none_or(|(point, zeros)| *point == b'.' && zeros.iter().all(|&byte| byte == b'0'));
            let number = digits(whole).filter(|_| is_whole && whole.len() <= 4)?;
            (number / 100, number % 100)
        }
    };
    (hour < 24 && minute < 60).then_some(hour * 60 + minute)
}

fn digits(text: &[u8]) -> Option<u32> {
    let digit = |n: u32, byte: &u8| byte.is_ascii_digit().then(|| n * 10 + u32::from(byte - b'0'));
    let fits = (1..=9).contains(&text.len());
    fits.then_some(text)?.iter().try_fold(0, digit)
}
