//! Values of flags that no lower layer knows: a shard, a moment in words, a file or standard output.

use std::path::PathBuf;
use std::str::FromStr;

use chrono::{DateTime, LocalResult, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Utc};
use chrono_tz::Tz;

/// Why a value cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct BadValue {
    text: String,
    expected: &'static str,
}

impl BadValue {
    fn new(text: &str, expected: &'static str) -> Self {
        Self { text: text.to_owned(), expected }
    }
}

/// Slice `index` of `count`, counted from 0 as `JOB_COMPLETION_INDEX` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Less than `count`.
    pub index: u32,
    /// At least 1.
    pub count: u32,
}

impl FromStr for Shard {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let bad = || BadValue::new(text, "a shard I/N with I from 0 to N - 1, such as 0/4");
        let (index, count) = text.split_once('/').ok_or_else(bad)?;
        let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        let (Some(index), Some(count)) = (number(index), number(count)) else { return Err(bad()) };
        if index < count { Ok(Self { index, count }) } else { Err(bad()) }
    }
}

/// A moment as a person types it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// With its offset from UTC.
    Exact(DateTime<Utc>),
    /// By the clock on the wall of some time zone.
    Local(NaiveDateTime),
}

const MOMENT: &str = "a time such as 2026-11-21T09:15:00Z or \"2026-11-21 09:15\"";

impl FromStr for Moment {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        if let Ok(exact) = DateTime::parse_from_rfc3339(text) {
            return Ok(Self::Exact(exact.to_utc()));
        }
        let local = ["%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M"]
            .iter()
            .find_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
        local.map(Self::Local).ok_or_else(|| BadValue::new(text, MOMENT))
    }
}

/// A moment, or a day, which means its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastDay(pub Moment);

impl FromStr for LastDay {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().and_then(|day| day.succ_opt());
        match day {
            Some(next) => Ok(Self(Moment::Local(next.and_time(NaiveTime::MIN)))),
            None => {
                let moment = text.parse().map_err(|_| BadValue::new(text, "a day such as 2027-03-31, or a time"));
                moment.map(Self)
            }
        }
    }
}

impl Moment {
    /// The moment on the clocks of `zone`; `None` where they skip it.
    ///
    /// Where they show it twice, the later one: whoever asks for the state at a time means all that was done by then.
    pub fn in_zone(self, zone: Tz) -> Option<DateTime<Utc>> {
        match self {
            Self::Exact(time) => Some(time),
            Self::Local(time) => match zone.from_local_datetime(&time) {
                LocalResult::Single(time) | LocalResult::Ambiguous(_, time) => Some(time.to_utc()),
                LocalResult::None => None,
            },
        }
    }
}

/// Where an export goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Standard output.
    Stdout,
    /// A new file.
    File(PathBuf),
}

impl FromStr for Destination {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(if text == "-" { Self::Stdout } else { Self::File(text.into()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_counts_from_zero() {
        assert_eq!("0/4".parse(), Ok(Shard { index: 0, count: 4 }));
        assert_eq!("3/4".parse(), Ok(Shard { index: 3, count: 4 }));
        for wrong in ["4/4", "0/0", "1", "/", "-1/4", "+1/4", "1/4/2", "1/99999999999"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong:?}");
        }
    }

    #[track_caller]
    fn check_moment(text: &str, zone: Tz, expected: Option<&str>) {
        let time = text.parse::<Moment>().ok().and_then(|moment| moment.in_zone(zone));
        assert_eq!(time.map(|time| time.to_rfc3339()).as_deref(), expected, "{text:?}");
    }

    #[test]
    fn a_moment_is_exact_or_by_the_clock_of_a_zone() {
        check_moment("2026-11-21T09:15:00Z", Tz::Europe__Paris, Some("2026-11-21T09:15:00+00:00"));
        check_moment("2026-11-21T09:15:00+02:00", Tz::UTC, Some("2026-11-21T07:15:00+00:00"));
        check_moment("2026-07-01 09:15", Tz::Europe__Paris, Some("2026-07-01T07:15:00+00:00"));
        check_moment("2026-10-25 02:30", Tz::Europe__Paris, Some("2026-10-25T01:30:00+00:00"));
        check_moment("2026-03-29 02:30", Tz::Europe__Paris, None);
        for wrong in ["yesterday", "2026-11-21", "2026-13-01 00:00", ""] {
            assert!(wrong.parse::<Moment>().is_err(), "{wrong:?}");
        }
    }
}
