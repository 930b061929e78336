//! Log lines: one event a line, on standard error, as text or as JSON.

use tracing_subscriber::EnvFilter;

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// A filter that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{filter:?} is no log filter")]
pub struct BadFilter {
    filter: String,
    #[source]
    source: tracing_subscriber::filter::ParseError,
}

/// Libraries that log what passes through them: statements with passwords and comments, requests with their signatures. No
/// filter wakes them below this.
const SILENT: [&str; 6] = [
    "tokio_postgres=warn",
    "postgres_protocol=warn",
    "hyper=info",
    "h2=info",
    "rustls=info",
    "aws_smithy_runtime=info",
];

/// Sends the process's log lines to standard error; to be called once, first.
///
/// `filter` is in the words of tracing: `warn,dbkeeper=debug`; libraries that would log secrets stay silent. A second call changes nothing.
pub fn install(format: Format, filter: &str) -> Result<(), BadFilter> {
    let mut filter =
        EnvFilter::builder().parse(filter).map_err(|source| BadFilter { filter: filter.to_owned(), source })?;
    for silent in SILENT {
        filter = filter.add_directive(silent.parse().expect("a constant that the filter's grammar allows"));
    }
    // A standard error that is gone must not end a backup: nothing is said about it.
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .log_internal_errors(false);
    // The error says that there is a subscriber already: it stays.
    let _ = match format {
        Format::Text => lines.compact().try_init(),
        Format::Json => lines.json().flatten_event(true).try_init(),
    };
    Ok(())
}
