//! Asks a person for a secret on the terminal, without showing it.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::base::secret::Secret;

/// Asks with these words; `None` where there is no terminal, or no answer.
pub(super) fn ask(words: &str) -> Option<Secret> {
    let mut terminal = File::options().read(true).write(true).open("/dev/tty").ok()?;
    let before = tcgetattr(&terminal).ok()?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&terminal, OptionalActions::Flush, &silent).ok()?;
    let mut line = Zeroizing::new(String::with_capacity(1 << 10));
    let asked = terminal.write_all(format!("{words}: ").as_bytes());
    let read = asked.and_then(|()| BufReader::new(&terminal).read_line(&mut line));
    // Whatever came of it, the terminal shows again what is typed.
    let _ = tcsetattr(&terminal, OptionalActions::Flush, &before);
    let _ = terminal.write_all(b"\n");
    let answer = line.trim_end_matches(['\r', '\n']);
    (read.is_ok() && !answer.is_empty()).then(|| Secret::new(answer.to_owned()))
}
