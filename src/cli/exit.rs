//! Exit codes: a contract that Kubernetes' `podFailurePolicy` and scripts depend on. None of them ever changes its meaning.

use crate::base::class::Class;
use crate::cli::signals::Signal;

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit(u8);

impl Exit {
    /// All good.
    pub const GOOD: Self = Self(0);
    /// Something this program did not foresee, or that its other codes do not say.
    pub const UNEXPECTED: Self = Self(1);
    /// Wrong arguments or configuration.
    pub const USAGE: Self = Self(2);
    /// Some targets failed; the report says which.
    pub const SOME_FAILED: Self = Self(3);
    /// Nothing was selected.
    pub const EMPTY: Self = Self(4);
    /// Verification failed: stored data is damaged, missing or not authentic.
    pub const DAMAGED: Self = Self(5);
    /// A client program is missing or too old.
    pub const CLIENT: Self = Self(6);
    /// The repository does not exist or the store cannot be reached.
    pub const STORE: Self = Self(10);
    /// A key or identity is missing or is the wrong one.
    pub const KEY: Self = Self(12);
    /// A database server cannot be reached or refuses the login.
    pub const DATABASE: Self = Self(13);
    /// Stopped by a failure threshold.
    pub const THRESHOLD: Self = Self(15);
    /// Nothing moved for the stated time.
    pub const STALLED: Self = Self(124);
    /// Stopped by SIGINT.
    pub const INTERRUPTED: Self = Self(130);
    /// Stopped by SIGTERM.
    pub const TERMINATED: Self = Self(143);

    /// The code of an error of this class; `signal` is what stopped the process, if anything did.
    pub fn of(class: Class, signal: Option<Signal>) -> Self {
        match class {
            Class::Usage => Self::USAGE,
            Class::Empty => Self::EMPTY,
            Class::Corrupt | Class::Tampered => Self::DAMAGED,
            Class::Client => Self::CLIENT,
            Class::Store => Self::STORE,
            Class::Key => Self::KEY,
            Class::Database => Self::DATABASE,
            Class::Stalled => Self::STALLED,
            Class::Cancelled => signal.map_or(Self::INTERRUPTED, Signal::exit),
            Class::Transient | Class::Busy | Class::Refused | Class::Unexpected => Self::UNEXPECTED,
        }
    }

    /// The number.
    pub fn code(self) -> u8 {
        self.0
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.0)
    }
}

/// The codes as `--help` prints them.
pub const HELP: &str = "\
Exit codes:
    0  all good                                  10  repository absent or store unreachable
    1  unexpected                                12  key missing or wrong
    2  usage or configuration                    13  database unreachable
    3  some targets failed                       15  stopped by a failure threshold
    4  nothing selected                         124  no progress
    5  verification or drill failed (damage)     130  stopped by SIGINT
    6  client program missing or too old        143  stopped by SIGTERM";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_the_code_of_the_contract() {
        for (class, code) in [
            (Class::Transient, 1),
            (Class::Stalled, 124),
            (Class::Usage, 2),
            (Class::Empty, 4),
            (Class::Store, 10),
            (Class::Key, 12),
            (Class::Database, 13),
            (Class::Refused, 1),
            (Class::Client, 6),
            (Class::Corrupt, 5),
            (Class::Tampered, 5),
            (Class::Unexpected, 1),
        ] {
            assert_eq!(Exit::of(class, None).code(), code, "{class:?}");
        }
        assert_eq!(Exit::of(Class::Cancelled, Some(Signal::Terminate)).code(), 143);
        assert_eq!(Exit::of(Class::Cancelled, Some(Signal::Interrupt)).code(), 130);
    }
}
