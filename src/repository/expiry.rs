//! Born with an expiry: which class a new backup gets, and how long it lives. Pure.
//!
//! The longest period (year, month, week, day, hour) that has no backup of its length or longer yet gives the class.

use chrono::{DateTime, Datelike, TimeDelta, Timelike, Utc};
use chrono_tz::Tz;

use crate::base::ids::{BackupId, RetentionClass};

/// How many periods of each kind are kept. Zero leaves a kind out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionPolicy {
    /// Backups of the last hours.
    pub hourly: u32,
    /// Backups of the last days.
    pub daily: u32,
    /// Backups of the last weeks (ISO 8601: from Monday).
    pub weekly: u32,
    /// Backups of the last months.
    pub monthly: u32,
    /// Backups of the last years.
    pub yearly: u32,
    /// Where days begin and end.
    pub timezone: Tz,
}

/// What a new backup gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// Its class.
    pub class: RetentionClass,
    /// How long it is kept, in hours; at least 1.
    pub keep_hours: u32,
}

/// How long a backup lives that no rule keeps, where nothing is configured at all: a day.
const FALLBACK_HOURS: u32 = 24;

/// A pack outlives the backup that made it by this part of its life, so that later backups can reuse it.
const REUSE_WINDOW_DIVISOR: i64 = 4;

const PERIODS: [(RetentionClass, u32); 5] = [
    (RetentionClass::Yearly, 366 * 24),
    (RetentionClass::Monthly, 31 * 24),
    (RetentionClass::Weekly, 7 * 24),
    (RetentionClass::Daily, 24),
    (RetentionClass::Hourly, 1),
];

impl RetentionPolicy {
    fn keeps(&self, class: RetentionClass) -> u32 {
        match class {
            RetentionClass::Hourly => self.hourly,
            RetentionClass::Daily => self.daily,
            RetentionClass::Weekly => self.weekly,
            RetentionClass::Monthly => self.monthly,
            RetentionClass::Yearly => self.yearly,
            RetentionClass::Extra | RetentionClass::Kept => 0,
        }
    }

    /// The life of a backup that begins at `now`, given the committed backups of its vault.
    ///
    /// A period is served by a backup in it whose class is as long or longer: one that was kept by hand serves none, so a
    /// short-lived backup before a migration never takes the place of the month's.
    pub fn life_at(&self, now: DateTime<Utc>, committed: impl Iterator<Item = BackupId> + Clone) -> Life {
        for (class, hours) in PERIODS {
            let count = self.keeps(class);
            if count > 0 && !committed.clone().any(|id| self.serves(class, now, id)) {
                return Life { class, keep_hours: hours.saturating_mul(count).min(MAX_KEEP_HOURS) };
            }
        }
        let shortest = PERIODS.iter().rev().find(|(class, _)| self.keeps(*class) > 0);
        let keep_hours = shortest.map_or(FALLBACK_HOURS, |(class, hours)| hours.saturating_mul(self.keeps(*class)));
        Life { class: RetentionClass::Extra, keep_hours: keep_hours.min(MAX_KEEP_HOURS) }
    }

    /// The classes of which any backup is kept, the longest first.
    pub(crate) fn classes(&self) -> impl Iterator<Item = RetentionClass> {
        PERIODS.into_iter().map(|(class, _)| class).filter(|class| self.keeps(*class) > 0)
    }

    /// True if `id` serves the period of `class` that `now` is in.
    pub(crate) fn serves(&self, class: RetentionClass, now: DateTime<Utc>, id: BackupId) -> bool {
        let periodic = !matches!(id.class(), RetentionClass::Kept | RetentionClass::Extra);
        periodic && id.class() >= class && self.slot(class, id.created_at()) == self.slot(class, now)
    }

    /// The number of the period that `time` is in; equal for two times of one period and for no others of its kind.
    fn slot(&self, class: RetentionClass, time: DateTime<Utc>) -> (i32, u32) {
        let local = time.with_timezone(&self.timezone);
        match class {
            RetentionClass::Yearly => (local.year(), 0),
            RetentionClass::Monthly => (local.year(), local.month()),
            RetentionClass::Weekly => (local.iso_week().year(), local.iso_week().week()),
            RetentionClass::Daily => (local.year(), local.ordinal()),
            // By UTC: the hour that a time change repeats is two hours.
            _ => (time.year(), time.ordinal() * 24 + time.hour()),
        }
    }
}

/// A life chosen by hand; parts of an hour count as an hour.
pub fn kept_for(duration: std::time::Duration) -> Life {
    let hours = u32::try_from(duration.as_secs().div_ceil(3600)).unwrap_or(u32::MAX);
    Life { class: RetentionClass::Kept, keep_hours: hours.clamp(1, MAX_KEEP_HOURS) }
}

/// No backup is kept longer than a century.
pub const MAX_KEEP_HOURS: u32 = 100 * 366 * 24;

/// When the packs of a new backup expire.
pub fn pack_expiry(backup: &BackupId) -> DateTime<Utc> {
    let window = i64::from(backup.keep_hours()).max(1) * 3600 / REUSE_WINDOW_DIVISOR;
    backup.expires_at() + TimeDelta::seconds(window)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RetentionPolicy = RetentionPolicy {
        hourly: 24,
        daily: 14,
        weekly: 8,
        monthly: 12,
        yearly: 0,
        timezone: chrono_tz::Europe::Paris,
    };

    /// Takes backups at the given times and returns their class letters.
    fn classes(policy: &RetentionPolicy, times: &[&str]) -> String {
        let mut taken: Vec<BackupId> = Vec::new();
        for time in times {
            let now = crate::base::ids::parse_key_time(&format!("{time}00Z")).expect("a time");
            let life = policy.life_at(now, taken.iter().copied());
            taken.push(BackupId::new(now, life.class, life.keep_hours, [0; 4]));
        }
        taken.iter().map(|id| id.class().word().chars().next().unwrap_or('?')).collect()
    }

    #[test]
    fn the_longest_period_without_a_backup_gives_the_class() {
        // 2026-11-21 is a Saturday; the week changes on Monday the 23rd, the month on Tuesday the 1st.
        let times =
            ["20261121T0915", "20261121T0930", "20261121T1001", "20261122T1001", "20261123T1001", "20261201T1001"];
        assert_eq!(classes(&POLICY, &times), "mehdwm");
    }

    #[test]
    fn days_begin_at_local_midnight() {
        // 23:30 in Paris, then 00:30 of the next day, both on the same day in UTC.
        assert_eq!(classes(&POLICY, &["20261118T2230", "20261118T2330"]), "md");
        let utc = RetentionPolicy { timezone: chrono_tz::UTC, ..POLICY };
        assert_eq!(classes(&utc, &["20261118T2230", "20261118T2330"]), "mh");
    }

    #[test]
    fn the_hour_that_a_time_change_repeats_is_two_hours() {
        // 02:30 summer time and 02:30 winter time in Paris.
        assert_eq!(classes(&POLICY, &["20261024T0030", "20261025T0030", "20261025T0130"]), "mdh");
    }

    #[test]
    fn a_backup_kept_by_hand_takes_nobodys_place() {
        let now = crate::base::ids::parse_key_time("20261121T091500Z").expect("a time");
        let kept = BackupId::new(now, RetentionClass::Kept, 1, [0; 4]);
        assert_eq!(POLICY.life_at(now, [kept].into_iter()).class, RetentionClass::Monthly);
    }

    #[test]
    fn a_new_rule_takes_effect_in_the_running_period() {
        let now = crate::base::ids::parse_key_time("20261121T091500Z").expect("a time");
        let daily = BackupId::new(now, RetentionClass::Daily, 336, [0; 4]);
        assert_eq!(POLICY.life_at(now, [daily].into_iter()).class, RetentionClass::Monthly);
    }

    #[test]
    fn nothing_configured_still_keeps_a_day_and_packs_outlive_their_backup() {
        let none = RetentionPolicy { hourly: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0, timezone: chrono_tz::UTC };
        let now = crate::base::ids::parse_key_time("20261121T091500Z").expect("a time");
        let life = none.life_at(now, std::iter::empty());
        assert_eq!(life, Life { class: RetentionClass::Extra, keep_hours: 24 });
        let id = BackupId::new(now, life.class, life.keep_hours, [0; 4]);
        assert_eq!(pack_expiry(&id) - id.expires_at(), TimeDelta::hours(6));
    }
}
