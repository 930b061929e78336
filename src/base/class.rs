//! What an error means to the caller: whether to try again, and how the process must end.
//!
//! Every error enum of the crate answers `class()`, and an error that wraps another gives the class of its source
//! unless it knows better. The exit codes of the command line are a function of the class and of nothing else.

/// The meaning of an error, apart from its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// A passing fault (connection reset, 503, deadlock): the same call may succeed later.
    Transient,
    /// The other side is there and asks for patience (503 SlowDown, 429): the same call will succeed when it has caught up.
    Busy,
    /// The other side gave no sign of life for the stated time.
    Stalled,
    /// A stop was asked for (signal, cancelled run).
    Cancelled,
    /// The operator's words are wrong: arguments, configuration, a name that does not exist.
    Usage,
    /// Nothing matches the selection.
    Empty,
    /// The repository is not there, or the store cannot be reached or refuses us.
    Store,
    /// A key or identity is missing or is the wrong one.
    Key,
    /// The database server cannot be reached or refuses the login.
    Database,
    /// The database answered and refused: missing right, failing statement, unusable state.
    Refused,
    /// A client program is missing or too old.
    Client,
    /// Stored or transported data is not what it should be.
    Corrupt,
    /// Stored data is well-formed but not authentic: it looks like tampering.
    Tampered,
    /// Something this program did not foresee.
    Unexpected,
}

impl Class {
    /// True where the same call may succeed if it is made again.
    pub fn is_transient(self) -> bool {
        matches!(self, Class::Transient | Class::Busy)
    }
}
