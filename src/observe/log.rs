//! Log lines: one event a line, on standard error, as text or as JSON.

use tracing::Metadata;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{FilterFn, LevelFilter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

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

/// Libraries that log what passes through them: statements with passwords and comments, requests with their signatures, logins
/// that were found in a profile. Nothing of them is said below this level.
const SILENT: [(&str, LevelFilter); 6] = [
    ("tokio_postgres", LevelFilter::WARN),
    ("postgres_protocol", LevelFilter::WARN),
    ("hyper", LevelFilter::INFO),
    ("h2", LevelFilter::INFO),
    ("rustls", LevelFilter::INFO),
    ("aws_", LevelFilter::INFO),
];

/// False for what no filter may wake. Beside the filter and not in it: there, the longer of two paths would win.
fn may_be_said(event: &Metadata<'_>) -> bool {
    let silent = SILENT.iter().find(|(library, _)| event.target().starts_with(library));
    silent.is_none_or(|(_, least)| event.level() <= least)
}

/// Sends the process's log lines to standard error; to be called once, first.
///
/// `filter` is in the words of tracing: `warn,dbkeeper=debug`; libraries that would log secrets stay silent. A second call changes nothing.
pub fn install(format: Format, filter: &str) -> Result<(), BadFilter> {
    let filter =
        EnvFilter::builder().parse(filter).map_err(|source| BadFilter { filter: filter.to_owned(), source })?;
    // A standard error that is gone must not end a backup: nothing is said about it.
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .log_internal_errors(false);
    let heard = tracing_subscriber::registry().with(filter).with(FilterFn::new(may_be_said));
    // The error says that there is a subscriber already: it stays.
    let _ = match format {
        Format::Text => heard.with(lines.compact()).try_init(),
        Format::Json => heard.with(lines.json().flatten_event(true)).try_init(),
    };
    Ok(())
}
