//! The real program: what it prints where, and how it ends.

mod config;
mod doctor;
mod doctor_store;
mod export;
mod help;
mod keygen;
mod output;
mod signals;

use crate::support::cli::Sandbox;

/// A small good configuration, `dbkeeper.toml`, with these lines behind it.
fn with_config(lines: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("dbkeeper.toml", &good_config(lines));
    sandbox
}

fn good_config(lines: &str) -> String {
    format!(
        "[repository]\nurl = \"file:///srv/backups\"\n[encryption]\n\
         recipients = [\"age1d2t7g2am2ru98wl9rrcxccmv3y0kwfr5yeag49znpy7fc9cdts6qsz3mvp\"]\n{lines}"
    )
}
