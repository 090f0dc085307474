//! Runs other programs of this crate as children, one after the other, as the standard input says:
//!
//! ```text
//! < run submit 65      its standard input is empty
//! > 1234               its process id
//! > 0                  its wait status, when it has ended
//! < hold bad-short-io  its standard input stays open
//! > 1235
//! < release            closes it
//! > 0
//! ```
//!
//! A tracer that is attached to this process sees all of them, so one start of the tracer is enough
//! for many programs. After each program this process makes one io_destroy(0), which fails:
//! whatever the tracer writes before that call is about the program.

use std::{
    io::{BufRead as _, stdin},
    os::unix::process::ExitStatusExt as _,
    process::{Command, Stdio},
};

use crate::aio;

pub fn each() {
    let mut lines = stdin().lock().lines().map(|it| it.expect("standard input"));
    while let Some(line) = lines.next() {
        let mut words = line.split(' ');
        let held = match words.next() {
            Some("run") => false,
            Some("hold") => true,
            other => panic!("{other:?} is neither run nor hold"),
        };
        let mut command = program(words.next().expect("the name of a program"));
        command.args(words).stdout(Stdio::null());
        command.stdin(if held { Stdio::piped() } else { Stdio::null() });
        let mut child = command.spawn().expect("the program can be started");
        crate::say(&child.id().to_string());
        if held {
            assert_eq!(lines.next().as_deref(), Some("release"));
        }
        drop(child.stdin.take());
        let status = child.wait().expect("its status");
        assert_eq!(aio::destroy(0), aio::error(libc::EINVAL), "io_destroy of no context");
        crate::say(&status.into_raw().to_string());
    }
}

/// The command of a program. `32-bit` is a binary of its own, beside this one.
fn program(name: &str) -> Command {
    let us = std::env::current_exe().expect("our path");
    if name == "32-bit" {
        return Command::new(us.with_file_name("aio-programs-32"));
    }
    let mut command = Command::new(us);
    command.arg(name);
    command
}
