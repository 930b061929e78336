//! Which server answers: its version, and whether it is a standby.

use std::fmt;

use tokio_postgres::Client;

/// The oldest major version that dbkeeper speaks to; older ones lack what a consistent parallel dump needs.
pub const OLDEST_MAJOR: u32 = 13;

/// The newest major version that dbkeeper is tested with.
pub const NEWEST_MAJOR: u32 = 18;

/// The version of a server, such as 15.20.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version {
    /// The major version; for servers before 10, the first of its two numbers.
    pub major: u32,
    /// The minor release; 0 for a development or beta version.
    pub minor: u32,
}

impl Version {
    /// Reads the parameter `server_version`: `15.20 (Debian 15.20-0+deb12u1)`, `18beta1`, `16devel`.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let (major, rest) = text.split_at(digits(text));
        let minor = rest.strip_prefix('.').map_or("", |rest| rest.split_at(digits(rest)).0);
        Some(Self { major: major.parse().ok()?, minor: minor.parse().unwrap_or(0) })
    }

    /// True where the server is too old to be backed up or restored.
    pub fn is_too_old(self) -> bool {
        self.major < OLDEST_MAJOR
    }

    /// True where the server is newer than any that dbkeeper was tested with.
    pub fn is_untested(self) -> bool {
        NEWEST_MAJOR < self.major
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// True where the server is a standby, which is read-only and may cancel long reads.
pub async fn in_recovery(client: &Client) -> Result<bool, tokio_postgres::Error> {
    client.query_one("select pg_catalog.pg_is_in_recovery()", &[]).await?.try_get(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_version(text: &str, expected: Option<(u32, u32)>) {
        assert_eq!(Version::parse(text), expected.map(|(major, minor)| Version { major, minor }), "{text:?}");
    }

    #[test]
    fn versions_are_read_as_servers_and_distributions_print_them() {
        check_version("15.20 (Debian 15.20-0+deb12u1)", Some((15, 20)));
        check_version("18beta1", Some((18, 0)));
        check_version("16devel", Some((16, 0)));
        check_version("9.6.24", Some((9, 6)));
        check_version("1.18.0/bouncer", Some((1, 18)));
        check_version("", None);
        check_version("fifteen", None);
    }

    #[test]
    fn the_oldest_supported_server_is_13() {
        let version = |major| Version { major, minor: 3 };
        assert!(version(12).is_too_old() && !version(13).is_too_old());
        assert!(version(19).is_untested() && !version(18).is_untested());
    }
}
