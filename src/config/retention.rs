//! `[retention]`: how long backups are kept.

use chrono_tz::Tz;

use crate::config::reader::Section;
use crate::config::values::Wrong;

/// How many of each period are kept; 0 means that the period keeps nothing. At least one keeps something.
///
/// Without a section: 14 daily, 8 weekly, 12 monthly, in UTC. With one, a period that it does not name keeps nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// First backups of an hour.
    pub hourly: u32,
    /// First backups of a day.
    pub daily: u32,
    /// First backups of a week.
    pub weekly: u32,
    /// First backups of a month.
    pub monthly: u32,
    /// First backups of a year.
    pub yearly: u32,
    /// The newest backups of every vault that are kept whatever their age, at least 1.
    pub keep_last: u32,
    /// The zone in which periods begin and end.
    pub timezone: Tz,
}

/// No period reaches further back than a century.
const MAX_YEARS: u32 = 100;

impl Retention {
    /// What holds where the file has no such section.
    pub const WITHOUT_SECTION: Self =
        Self { hourly: 0, daily: 14, weekly: 8, monthly: 12, yearly: 0, keep_last: 3, timezone: Tz::UTC };

    pub(super) fn read(top: &Section<'_>) -> Option<Self> {
        let default = Self::WITHOUT_SECTION;
        if !top.has("retention") {
            let section = top.absent("retention");
            return Some(Self::read_keys(&section, default));
        }
        let section = top.section("retention")?;
        let silent = Self { daily: 0, weekly: 0, monthly: 0, ..default };
        let read = Self::read_keys(&section, silent);
        if !section.is_wrong() && [read.hourly, read.daily, read.weekly, read.monthly, read.yearly] == [0; 5] {
            let wrong =
                Wrong::new("the retention keeps nothing", "at least one of hourly, daily, weekly, monthly, yearly");
            section.complain_here(wrong);
        }
        section.finish();
        Some(read)
    }

    fn read_keys(section: &Section<'_>, default: Self) -> Self {
        Self {
            hourly: section.count("hourly", 0..=MAX_YEARS * 8760, default.hourly),
            daily: section.count("daily", 0..=MAX_YEARS * 365, default.daily),
            weekly: section.count("weekly", 0..=MAX_YEARS * 52, default.weekly),
            monthly: section.count("monthly", 0..=MAX_YEARS * 12, default.monthly),
            yearly: section.count("yearly", 0..=MAX_YEARS, default.yearly),
            keep_last: section.count("keep_last", 1..=10_000, default.keep_last),
            timezone: section.or("timezone", default.timezone),
        }
    }
}
