//! Sizes and durations as people write them: `16 MiB`, `90s`, `7d`. Parsing and printing are inverses.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// Why a size or duration could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct BadUnit {
    text: String,
    expected: &'static str,
}

const SIZES: [(&str, u64); 5] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
const SIZE_EXPECTED: &str = "a size such as 512 KiB, 16 MiB or 2 GiB";
const SPANS: [(&str, u64); 5] = [("w", 604_800), ("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
const SPAN_EXPECTED: &str = "a duration such as 30s, 15m, 12h, 7d or 1d12h";

impl FromStr for ByteSize {
    type Err = BadUnit;

    fn from_str(text: &str) -> Result<Self, BadUnit> {
        let bad = || BadUnit { text: text.to_owned(), expected: SIZE_EXPECTED };
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = text[..digits].parse().map_err(|_| bad())?;
        let unit = text[digits..].trim_start();
        let (_, factor) = SIZES.iter().find(|(name, _)| *name == unit).ok_or_else(bad)?;
        number.checked_mul(*factor).map(ByteSize).ok_or_else(bad)
    }
}

impl fmt::Display for ByteSize {
    /// The largest unit that prints the size exactly.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = SIZES.iter().find(|(_, factor)| *factor <= self.0 && self.0.is_multiple_of(*factor));
        let (unit, factor) = exact.copied().unwrap_or(("B", 1));
        write!(f, "{} {unit}", self.0 / factor)
    }
}

impl ByteSize {
    /// For people: three significant digits, `17.4 MiB`.
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    pub fn approximate(self) -> String {
        let (unit, factor) = SIZES.iter().find(|(_, factor)| *factor <= self.0).copied().unwrap_or(("B", 1));
        let value = self.0 as f64 / factor as f64;
        match value {
            _ if factor == 1 => format!("{} B", self.0),
            value if value < 10.0 => format!("{value:.2} {unit}"),
            value if value < 100.0 => format!("{value:.1} {unit}"),
            value => format!("{value:.0} {unit}"),
        }
    }
}

/// Reads a duration: whole numbers with `w d h m s`, largest first, `1d12h`.
pub fn parse_duration(text: &str) -> Result<Duration, BadUnit> {
    let bad = || BadUnit { text: text.to_owned(), expected: SPAN_EXPECTED };
    let mut rest = text;
    let mut seconds = 0_u64;
    let mut ceiling = u64::MAX;
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().map_err(|_| bad())?;
        let unit = rest[digits..].chars().next().ok_or_else(bad)?;
        let found = SPANS.iter().find(|(name, _)| name.starts_with(unit));
        let (_, factor) = found.filter(|(_, factor)| *factor < ceiling).ok_or_else(bad)?;
        ceiling = *factor;
        let span = number.checked_mul(*factor).ok_or_else(bad)?;
        seconds = seconds.checked_add(span).ok_or_else(bad)?;
        rest = &rest[digits + unit.len_utf8()..];
    }
    Ok(Duration::from_secs(seconds))
}

/// Prints a duration as [`parse_duration`] reads it; parts of a second are dropped.
pub fn print_duration(duration: Duration) -> String {
    let mut rest = duration.as_secs();
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, factor) in SPANS {
        if rest / factor > 0 {
            text.push_str(&format!("{}{unit}", rest / factor));
            rest %= factor;
        }
    }
    text
}

/// A part of many: more than nothing, at most all. `5%`, `0.5%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// In hundredths of a percent, 1 to 10,000.
    hundredths: u32,
}

const SHARE_EXPECTED: &str = "a share such as 5% or 0.5%, at least 0.01% and at most 100%";

impl Share {
    /// All of it.
    pub const ALL: Self = Self { hundredths: 10_000 };

    /// How many of `count`: at least one where there is any.
    pub fn of(self, count: usize) -> usize {
        let wide = count as u128 * u128::from(self.hundredths);
        usize::try_from(wide.div_ceil(10_000)).unwrap_or(count)
    }
}

impl FromStr for Share {
    type Err = BadUnit;

    fn from_str(text: &str) -> Result<Self, BadUnit> {
        let bad = || BadUnit { text: text.to_owned(), expected: SHARE_EXPECTED };
        let number = text.strip_suffix('%').ok_or_else(bad)?;
        let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(part) || part.len() > 2 {
            return Err(bad());
        }
        let whole: u32 = whole.parse().map_err(|_| bad())?;
        let part: u32 = format!("{part:0<2}").parse().map_err(|_| bad())?;
        let hundredths = whole.checked_mul(100).and_then(|sum| sum.checked_add(part)).ok_or_else(bad)?;
        if (1..=10_000).contains(&hundredths) { Ok(Self { hundredths }) } else { Err(bad()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_size(text: &str, expected: Option<u64>) {
        assert_eq!(text.parse::<ByteSize>().ok().map(|size| size.0), expected, "{text:?}");
    }

    #[test]
    fn sizes_are_read_with_their_unit_and_never_without() {
        check_size("16 MiB", Some(16 << 20));
        check_size("16MiB", Some(16 << 20));
        check_size("0 B", Some(0));
        for wrong in ["", "16", "16 MB", "MiB", "-1 B", "1.5 GiB", "99999999999 TiB", "16 MiB "] {
            check_size(wrong, None);
        }
    }

    #[test]
    fn durations_are_read_largest_unit_first() {
        let seconds = |text| parse_duration(text).ok().map(|d| d.as_secs());
        assert_eq!(seconds("1d12h"), Some(129_600));
        assert_eq!(seconds("0s"), Some(0));
        for wrong in ["", "7", "d", "12h1d", "1h1h", "-1s", "1.5h", "1d 2h", "99999999999999999999s", "1é"] {
            assert_eq!(seconds(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_share_of_anything_is_never_nothing() {
        let of = |text: &str, count| text.parse::<Share>().ok().map(|share| share.of(count));
        assert_eq!(of("5%", 100), Some(5));
        assert_eq!(of("5%", 1), Some(1));
        assert_eq!(of("0.01%", 3), Some(1));
        assert_eq!(of("33.5%", 1000), Some(335));
        assert_eq!(of("100%", usize::MAX), Some(usize::MAX));
        assert_eq!(of("5%", 0), Some(0));
        for wrong in ["", "5", "%", "0%", "101%", "-5%", "5.%", ".5%", "0.001%", "5 %", "99999999999%"] {
            assert_eq!(of(wrong, 1), None, "{wrong:?}");
        }
    }
}
