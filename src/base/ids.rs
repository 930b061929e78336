//! Names of things: validated once, printed and parsed as inverses, safe in an object key by construction.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest key form of a target name, in bytes: file systems allow 255 for one name.
pub const MAX_NAME_KEY_BYTES: usize = 240;

/// The form of times in keys and ids: sorts as text, needs no escaping.
const KEY_TIME: &str = "%Y%m%dT%H%M%SZ";

/// Why a text is no id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct BadId {
    text: String,
    expected: &'static str,
}

impl BadId {
    fn new(text: &str, expected: &'static str) -> Self {
        Self { text: text.to_owned(), expected }
    }
}

/// What kind of thing is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TargetKind {
    /// The central database.
    Central,
    /// One tenant's database.
    Tenant,
    /// One volume of files.
    Volume,
}

impl TargetKind {
    /// All kinds, in the order of listings.
    pub const ALL: [Self; 3] = [Self::Central, Self::Tenant, Self::Volume];

    /// The word in keys, messages and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Central => "central",
            Self::Tenant => "tenant",
            Self::Volume => "volume",
        }
    }
}

impl fmt::Display for TargetKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for TargetKind {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let found = Self::ALL.into_iter().find(|kind| kind.word() == text);
        found.ok_or_else(|| BadId::new(text, "a kind of target: central, tenant or volume"))
    }
}

/// The name of a target as the operator knows it: a tenant's key in the registry, a volume's name.
///
/// Any UTF-8 text without control characters whose key form has 1 to [`MAX_NAME_KEY_BYTES`] bytes. The key form keeps
/// `[a-z0-9_-]` and writes every other byte as `~` and two hexadecimal digits: it is injective, never `.` or `..`,
/// needs no URL encoding, and names that differ only in case stay apart on file systems that fold it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TargetName(String);

impl TargetName {
    /// Takes a name, if it can be kept.
    pub fn new(text: &str) -> Result<Self, BadId> {
        if text.is_empty() || text.chars().any(char::is_control) {
            return Err(BadId::new(text, "a target name: not empty, no control characters"));
        }
        let name = Self(text.to_owned());
        if name.key_form().len() > MAX_NAME_KEY_BYTES {
            return Err(BadId::new(
                text,
                "a target name: too long for an object key (240 bytes, three for each byte outside a-z 0-9 _ -)",
            ));
        }
        Ok(name)
    }

    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as one segment of an object key.
    pub fn key_form(&self) -> String {
        let mut key = String::with_capacity(self.0.len());
        for byte in self.0.bytes() {
            match byte {
                b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' => key.push(char::from(byte)),
                _ => key.push_str(&format!("~{byte:02x}")),
            }
        }
        key
    }

    /// The name behind one segment of an object key; inverse of [`key_form`](Self::key_form).
    pub fn from_key_form(segment: &str) -> Result<Self, BadId> {
        let bad = || BadId::new(segment, "the key form of a target name");
        let mut bytes = Vec::with_capacity(segment.len());
        let mut rest = segment.as_bytes();
        while let Some((&first, tail)) = rest.split_first() {
            if first == b'~' {
                let digits = tail.get(..2).ok_or_else(bad)?;
                bytes.extend(hex::decode(digits).map_err(|_| bad())?);
                rest = &tail[2..];
            } else {
                bytes.push(first);
                rest = tail;
            }
        }
        let name = Self::new(&String::from_utf8(bytes).map_err(|_| bad())?).map_err(|_| bad())?;
        if name.key_form() == segment { Ok(name) } else { Err(bad()) }
    }
}

impl fmt::Display for TargetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is protected: kind and name. Its key form is the vault's place in the repository.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TargetId {
    /// The kind.
    pub kind: TargetKind,
    /// The name; `central` for the central database unless the operator runs several.
    pub name: TargetName,
}

impl TargetId {
    /// The central database.
    pub fn central() -> Self {
        Self { kind: TargetKind::Central, name: TargetName("central".to_owned()) }
    }

    /// The tenant `name`.
    pub fn tenant(name: &str) -> Result<Self, BadId> {
        Ok(Self { kind: TargetKind::Tenant, name: TargetName::new(name)? })
    }

    /// The volume `name`.
    pub fn volume(name: &str) -> Result<Self, BadId> {
        Ok(Self { kind: TargetKind::Volume, name: TargetName::new(name)? })
    }

    /// `<kind>/<key form of the name>`.
    pub fn key_form(&self) -> String {
        format!("{}/{}", self.kind, self.name.key_form())
    }
}

impl fmt::Display for TargetId {
    /// `tenant acme`, `volume media`, and plain `central`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TargetKind::Central => f.write_str("central"),
            kind => write!(f, "{kind} {}", self.name),
        }
    }
}

impl Serialize for TargetId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        TargetJson { kind: self.kind, name: self.name.0.clone() }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for TargetId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = TargetJson::deserialize(deserializer)?;
        let name = TargetName::new(&json.name).map_err(serde::de::Error::custom)?;
        Ok(Self { kind: json.kind, name })
    }
}

#[derive(Serialize, Deserialize)]
struct TargetJson {
    kind: TargetKind,
    name: String,
}

/// The retention class of a backup: which period it was the first of, or that a person chose its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RetentionClass {
    /// No rule keeps it: it lives for the shortest configured period.
    Extra,
    /// First of its hour.
    Hourly,
    /// First of its day.
    Daily,
    /// First of its week.
    Weekly,
    /// First of its month.
    Monthly,
    /// First of its year.
    Yearly,
    /// Its life was given by hand (`--keep`).
    Kept,
}

impl RetentionClass {
    const LETTERS: [(Self, char, &'static str); 7] = [
        (Self::Extra, 'x', "extra"),
        (Self::Hourly, 'h', "hourly"),
        (Self::Daily, 'd', "daily"),
        (Self::Weekly, 'w', "weekly"),
        (Self::Monthly, 'm', "monthly"),
        (Self::Yearly, 'y', "yearly"),
        (Self::Kept, 'k', "kept"),
    ];

    /// The word in messages and JSON.
    pub fn word(self) -> &'static str {
        Self::LETTERS.iter().find(|(class, ..)| *class == self).map_or("extra", |(.., word)| word)
    }

    fn letter(self) -> char {
        Self::LETTERS.iter().find(|(class, ..)| *class == self).map_or('x', |(_, letter, _)| *letter)
    }
}

/// One backup of one target: `20261121T091500Z-d336h-3fa9c2d1`.
///
/// Start time, class and keep time in hours, four random bytes. Sorts by time as text, and says by itself when the
/// backup expires, so that a listing is enough to decide about retention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackupId {
    created_at: DateTime<Utc>,
    class: RetentionClass,
    keep_hours: u32,
    tail: [u8; 4],
}

const BACKUP_ID: &str = "a backup id such as 20261121T091500Z-d336h-3fa9c2d1";

impl BackupId {
    /// The id of a backup that starts at `created_at`; parts of a second are dropped.
    pub fn new(created_at: DateTime<Utc>, class: RetentionClass, keep_hours: u32, tail: [u8; 4]) -> Self {
        Self { created_at: whole_seconds(created_at), class, keep_hours, tail }
    }

    /// When the backup began.
    pub fn created_at(&self) -> DateTime<Utc> {
        self.created_at
    }

    /// Its retention class.
    pub fn class(&self) -> RetentionClass {
        self.class
    }

    /// When it expires.
    pub fn expires_at(&self) -> DateTime<Utc> {
        self.created_at + TimeDelta::hours(i64::from(self.keep_hours))
    }

    /// For how many hours it is kept.
    pub fn keep_hours(&self) -> u32 {
        self.keep_hours
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (time, letter) = (key_time(self.created_at), self.class.letter());
        write!(f, "{time}-{letter}{}h-{}", self.keep_hours, hex::encode(self.tail))
    }
}

impl FromStr for BackupId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let bad = || BadId::new(text, BACKUP_ID);
        let mut pieces = text.split('-');
        let (Some(time), Some(life), Some(tail), None) = (pieces.next(), pieces.next(), pieces.next(), pieces.next())
        else {
            return Err(bad());
        };
        let created_at = parse_key_time(time).ok_or_else(bad)?;
        let letter = life.chars().next().ok_or_else(bad)?;
        let class = RetentionClass::LETTERS.iter().find(|(_, known, _)| *known == letter).ok_or_else(bad)?.0;
        let hours = life[letter.len_utf8()..].strip_suffix('h').ok_or_else(bad)?;
        let keep_hours = hours.parse().map_err(|_| bad())?;
        created_at.checked_add_signed(TimeDelta::hours(i64::from(keep_hours))).ok_or_else(bad)?;
        let id = Self { created_at, class, keep_hours, tail: parse_tail(tail).ok_or_else(bad)? };
        if id.to_string() == text { Ok(id) } else { Err(bad()) }
    }
}

/// One execution over many targets: `20261121T091500Z-3fa9c2d1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId {
    started_at: DateTime<Utc>,
    tail: [u8; 4],
}

impl RunId {
    /// The id of a run that starts at `started_at`; parts of a second are dropped.
    pub fn new(started_at: DateTime<Utc>, tail: [u8; 4]) -> Self {
        Self { started_at: whole_seconds(started_at), tail }
    }

    /// When the run began.
    pub fn started_at(&self) -> DateTime<Utc> {
        self.started_at
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", key_time(self.started_at), hex::encode(self.tail))
    }
}

impl FromStr for RunId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let bad = || BadId::new(text, "a run id such as 20261121T091500Z-3fa9c2d1");
        let (time, tail) = text.split_once('-').ok_or_else(bad)?;
        let started_at = parse_key_time(time).ok_or_else(bad)?;
        Ok(Self { started_at, tail: parse_tail(tail).ok_or_else(bad)? })
    }
}

/// One generation of a vault's own key pair; sorts by time as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EpochId(RunId);

impl EpochId {
    /// The id of an epoch that begins at `created_at`.
    pub fn new(created_at: DateTime<Utc>, tail: [u8; 4]) -> Self {
        Self(RunId::new(created_at, tail))
    }

    /// When the epoch began.
    pub fn created_at(&self) -> DateTime<Utc> {
        self.0.started_at()
    }
}

impl fmt::Display for EpochId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for EpochId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        text.parse().map(Self).map_err(|_| BadId::new(text, "an epoch id such as 20261121T091500Z-3fa9c2d1"))
    }
}

/// Thirty-two bytes that identify content: a SHA-256, or a keyed HMAC-SHA256.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hash32(pub [u8; 32]);

impl fmt::Debug for Hash32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Hash32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for Hash32 {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let bad = || BadId::new(text, "64 lower-case hexadecimal digits");
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(bad());
        }
        let bytes: [u8; 32] = hex::decode(text).ok().and_then(|bytes| bytes.try_into().ok()).ok_or_else(bad)?;
        Ok(Self(bytes))
    }
}

macro_rules! serde_as_text {
    ($($id:ty),*) => {$(
        impl Serialize for $id {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $id {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
serde_as_text!(BackupId, RunId, EpochId, Hash32);

/// A time as it stands in keys: `20261121T091500Z`.
pub fn key_time(time: DateTime<Utc>) -> String {
    time.format(KEY_TIME).to_string()
}

/// The time behind [`key_time`]; `None` for anything that would not print the same again.
pub fn parse_key_time(text: &str) -> Option<DateTime<Utc>> {
    let time = NaiveDateTime::parse_from_str(text, KEY_TIME).ok()?.and_utc();
    (key_time(time) == text).then_some(time)
}

fn whole_seconds(time: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp(time.timestamp(), 0).expect("a time without its nanoseconds is a time")
}

fn parse_tail(text: &str) -> Option<[u8; 4]> {
    let lower = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    hex::decode(text).ok().filter(|_| lower)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_name(text: &str, key: Option<&str>) {
        let name = TargetName::new(text);
        assert_eq!(name.as_ref().ok().map(TargetName::key_form).as_deref(), key, "{text:?}");
        if let Ok(name) = name {
            assert_eq!(TargetName::from_key_form(&name.key_form()), Ok(name));
        }
    }

    #[test]
    fn hostile_names_are_refused_or_escaped_injectively() {
        check_name("acme-2_x", Some("acme-2_x"));
        check_name("Acme", Some("~41cme"));
        check_name("..", Some("~2e~2e"));
        check_name("a/b", Some("a~2fb"));
        check_name("~41cme", Some("~7e41cme"));
        check_name("é", Some("~c3~a9"));
        check_name(&"x".repeat(240), Some(&"x".repeat(240)));
        for wrong in ["", "a\nb", "a\0b", &"x".repeat(241), &"X".repeat(81)] {
            check_name(wrong, None);
        }
    }

    #[test]
    fn a_key_segment_that_no_name_prints_is_refused() {
        for wrong in ["~61cme", "~4", "A", "~C3~A9", "", "a.b"] {
            assert!(TargetName::from_key_form(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_backup_id_prints_and_parses_and_knows_its_expiry() {
        let text = "20261121T091500Z-d336h-3fa9c2d1";
        let id: BackupId = text.parse().expect("a good id");
        assert_eq!(id.to_string(), text);
        assert_eq!(key_time(id.expires_at()), "20261205T091500Z");
        for wrong in [
            "20261121T091500Z-d336-3fa9c2d1",
            "20261121T091500Z-q1h-3fa9c2d1",
            "20261121T091500Z-d0336h-3fa9c2d1",
            "20261121T091500Z-d4294967295h-3fa9c2d1",
            "20261121T091500Z-d336h-3FA9C2D1",
            "20261121T091500Z-d336h-3fa9c2",
            "20261321T091500Z-d336h-3fa9c2d1",
            "x",
            "",
        ] {
            assert!(wrong.parse::<BackupId>().is_err(), "{wrong:?}");
        }
    }
}
