//! California's clocks, as its agencies write times without an offset. By the rule in force since 2007.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::time::Timestamp;

/// Where an hour comes twice, or never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// The clocks were set back within that hour: the first of its two is taken, which never lies ahead.
    Twice,
    /// The clocks were set forward over that hour.
    Never,
}

impl Doubt {
    /// As a clause that follows the field.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Doubt::Twice => "is an hour that came twice as the clocks were set back: the first one is taken",
            Doubt::Never => "is an hour that did not come as the clocks were set forward: the hour after it is taken",
        }
    }
}

fn zone() -> Option<TimeZone> {
    TimeZone::posix("PST8PDT,M3.2.0,M11.1.0").ok()
}

/// The moment at which clocks in California show this, and whether that is in doubt.
pub(crate) fn moment(shown: DateTime) -> Option<(Timestamp, Option<Doubt>)> {
    let moment = zone()?.to_ambiguous_timestamp(shown);
    let at = moment.compatible().ok()?;
    let doubt = moment.is_ambiguous().then(|| if shows(at, shown) { Doubt::Twice } else { Doubt::Never });
    Some((at, doubt))
}

/// Whether clocks in California show this at that moment.
pub(crate) fn shows(at: Timestamp, shown: DateTime) -> bool {
    zone().is_some_and(|zone| zone.to_datetime(at) == shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_that_comes_twice_or_never_is_told() {
        for (shown, at, doubt) in [
            ("2026-08-01T13:30", "2026-08-01T20:30:00Z", None),
            ("2026-12-01T13:30", "2026-12-01T21:30:00Z", None),
            ("2026-11-01T00:59", "2026-11-01T07:59:00Z", None),
            ("2026-11-01T01:00", "2026-11-01T08:00:00Z", Some(Doubt::Twice)),
            ("2026-11-01T01:59", "2026-11-01T08:59:00Z", Some(Doubt::Twice)),
            ("2026-11-01T02:00", "2026-11-01T10:00:00Z", None),
            ("2026-03-08T01:59", "2026-03-08T09:59:00Z", None),
            ("2026-03-08T02:30", "2026-03-08T10:30:00Z", Some(Doubt::Never)),
            ("2026-03-08T03:00", "2026-03-08T10:00:00Z", None),
        ] {
            let (shown, at) = (shown.parse().unwrap(), at.parse().unwrap());
            assert_eq!(moment(shown), Some((at, doubt)), "{shown}");
            assert_eq!(shows(at, shown), doubt != Some(Doubt::Never));
        }
        let second: Timestamp = "2026-11-01T09:30:00Z".parse().unwrap();
        assert!(shows(second, "2026-11-01T01:30".parse().unwrap()), "the second time that it comes");
    }
}
