//! The terminal is as it was before, however `aiotrace top` ends.

use std::process::Command;

use aiotrace::{
    source::collector::Pace,
    top::{app::App, choice::Choice, gather::Sink as _, screen::Screen},
};
use nix::{
    sys::{
        signal::{Signal, kill},
        stat::Mode,
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

use super::{fixture::snapshot, pty::Pty};

/// Needs neither root nor BPF.
fn top() -> Pty {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aiotrace"));
    command.args(["top", "--proc", "--color", "never"]);
    let pty = Pty::start(command, (80, 24));
    pty.await_text("fs.aio-nr");
    assert!(!pty.is_restored(), "it is raw");
    pty
}

fn pid(pty: &Pty) -> Pid {
    Pid::from_raw(pty.child.id() as i32)
}

#[test]
fn after_q() {
    let mut pty = top();
    pty.type_keys("?");
    pty.await_text("all keys: Esc closes");
    pty.type_keys("q");
    assert!(pty.end().success());
}

#[test]
fn after_sigterm() {
    let pty = top();
    kill(pid(&pty), Signal::SIGTERM).unwrap();
    assert!(pty.end().success());
}

#[test]
fn while_it_is_stopped_and_after_it_goes_on() {
    let mut pty = top();
    pty.type_keys("\x1a");
    let stopped = waitpid(pid(&pty), Some(WaitPidFlag::WUNTRACED)).unwrap();
    assert!(matches!(stopped, WaitStatus::Stopped(..)), "{stopped:?}");
    assert!(pty.is_restored());
    pty.await_screen("the usual screen", |it| !it.alternate_screen());
    kill(pid(&pty), Signal::SIGCONT).unwrap();
    pty.await_screen("its screen", |it| it.alternate_screen());
    pty.await_text("fs.aio-nr");
    pty.type_keys("q");
    assert!(pty.end().success());
}

#[test]
fn after_a_panic() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "--nocapture", "terminal::a_screen_that_panics"]);
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("now");
    nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    command.env("NOW", &fifo);
    let pty = Pty::start(command, (80, 24));
    pty.await_text("fs.aio-nr");
    assert!(!pty.is_restored(), "it is raw");
    std::fs::write(&fifo, "now").unwrap();
    pty.await_text("it is time to panic");
    assert!(!pty.end().success());
}

/// Not a test: the program of [`after_a_panic`].
#[test]
#[ignore = "a program for another test"]
fn a_screen_that_panics() {
    let app = App::new(Choice::default(), false, true);
    let mut screen = Screen::open(app, Pace::every(std::time::Duration::from_secs(1))).unwrap();
    screen.take(snapshot(1)).unwrap();
    let now = std::fs::read(std::env::var_os("NOW").unwrap()).unwrap();
    assert!(now.is_empty(), "it is time to panic");
}
