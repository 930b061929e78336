//! A signal stops the program cleanly, and its exit code says which.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Pid, Signal, kill_process};

use super::with_config;

/// Sends `signal` while a secret's command runs, which would run for an hour.
#[track_caller]
fn check_stop(signal: Signal, code: i32) {
    let sandbox = with_config("identity = { command = \"echo > running; exec sleep 3600\" }\n");
    let mut command = sandbox.command(&["config", "check"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("run dbkeeper");
    wait_for(&sandbox.path("running"));
    kill_process(Pid::from_child(&child), signal).expect("send a signal");
    let ended = sandbox.finish(child.wait_with_output().expect("its end")).expect(code);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", "error: stopped by a signal\n"));
}

#[test]
fn a_signal_ends_the_wait_for_a_pipe_that_nobody_writes_to() {
    let sandbox = with_config("identity = { file = \"pipe\" }\n");
    let made = std::process::Command::new("mkfifo").arg(sandbox.path("pipe")).status();
    assert!(made.expect("run mkfifo").success());
    let mut command = sandbox.command(&["config", "check"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("run dbkeeper");
    let silent = open_for_reader(&sandbox.path("pipe"));
    kill_process(Pid::from_child(&child), Signal::TERM).expect("send a signal");
    sandbox.finish(child.wait_with_output().expect("its end")).expect(143);
    drop(silent);
}

/// Opens the writing end of a pipe as soon as somebody reads from it: the system refuses until then.
fn open_for_reader(pipe: &Path) -> OwnedFd {
    for _ in 0..3000 {
        if let Ok(end) = open(pipe, OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()) {
            return end;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("nobody read from {}", pipe.display());
}

fn wait_for(file: &Path) {
    for _ in 0..3000 {
        if file.exists() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{} never came", file.display());
}

#[test]
fn sigterm_ends_with_143() {
    check_stop(Signal::TERM, 143);
}

#[test]
fn sigint_ends_with_130() {
    check_stop(Signal::INT, 130);
}
