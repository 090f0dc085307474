//! Workloads: tiny real programs that use Linux native AIO, one per behaviour. The kernel tests of
//! aiotrace run them, natively and in virtual machines; `leak` is the workload of `cargo xtask
//! demo`.
//!
//! `aio-programs NAME [ARGUMENT]`. Some programs write `ready` and wait for a line on their
//! standard input, so that a test can attach to them. [`alarms`] has harmless programs that a naive
//! tool misreports (`alarm-NAME`), [`faults`] a bad and a good program for each finding
//! (`bad-NAME`, `good-NAME`), and [`cases`] public reports and cases from practice. `each` runs
//! others one after the other.

mod aio;
mod alarms;
mod arch;
mod attacks;
mod basic;
mod bench;
mod busy;
mod callers;
mod cases;
mod contexts;
mod each;
mod errnos;
mod faults;
mod files;
mod forget;
mod fuse;
mod holding;
mod interruptible;
mod libaio;
mod memory;
mod overlay;
mod persistent;
mod planted;
mod processes;
mod processors;
mod reaping;
mod receive;
mod ring;
mod tasks;
mod threads;
mod unanswered;
mod varied;

use std::io::{Write as _, stdin, stdout};

fn main() {
    let mut args = std::env::args().skip(1);
    let name = args.next().unwrap_or_default();
    let argument = args.next();
    let number =
        |default: u64| argument.as_deref().map_or(default, |it| it.parse().expect("a number"));
    match name.as_str() {
        "submit" => basic::submit(number(1)),
        "pairs" => basic::pairs(number(1000)),
        "storm" => basic::storm(),
        "leak" => basic::leak(),
        "wait" => {
            wait();
            basic::pairs(number(10));
        }
        "wait-blocked" => {
            wait();
            reaping::blocked(number(2000));
        }
        "wait-submit-blocked" => {
            wait();
            basic::submit_blocked();
        }
        "wait-hostile" => {
            wait();
            basic::hostile();
        }
        "wait-threads" => threads::waiting(number(2)),
        "errnos" => errnos::all(),
        "spin" => busy::spin(),
        "locked" => busy::locked(number(100)),
        "libaio" => libaio::all(),
        "unreadable" => memory::unreadable(),
        "late" => memory::late(),
        "hostile" => basic::hostile(),
        "threads" => threads::many(number(64)),
        "one-call-each" => threads::one_call_each(number(64)),
        "same-place" => threads::same_place(),
        "reuse" => threads::reuse(number(1000)),
        "reap-ring" => reaping::from_the_ring(number(500)),
        "batches" => {
            reaping::batches(&argument.into_iter().chain(args).collect::<Vec<_>>());
        }
        "large-ring-waits" => {
            reaping::large_ring_waits(&argument.into_iter().chain(args).collect::<Vec<_>>());
        }
        "blocked" => reaping::blocked(number(2000)),
        "blocked-on-stdin" => {
            reaping::blocked_on_stdin(argument.and_then(|it| it.parse().ok()));
        }
        "fork" => processes::fork_many(number(200)),
        "exec" => processes::exec(),
        "seccomp" => processes::seccomp(),
        "each" => each::each(),
        "receive" => argument.map_or_else(receive::raw, |path| receive::of(&path)),
        "receive-poll" => receive::poll_and_read(),
        "receive-libaio" => receive::by_libaio(),
        "receive-on-overlayfs" => {
            overlay::with_a_file(|path| receive::of(path.to_str().expect("a path in UTF-8")));
        }
        "receive-in-child" => processes::in_child(receive::raw),
        "receive-threads" => receive::threads(number(16)),
        "interruptible" => interruptible::all(),
        "interrupted" => persistent::interrupted(),
        "partly" => persistent::partly(),
        "blocked-write" => persistent::blocked_write(),
        "heartbeat" => persistent::heartbeat(),
        "planted" => planted::run(&argument.into_iter().chain(args).collect::<Vec<_>>()),
        "planted-check" => planted::check(),
        "submits" => persistent::submits(),
        "signals" => persistent::signals(),
        "flood" => persistent::flood(number(1000)),
        "until-accepted" => persistent::until_accepted(number(0)),
        "varied" => varied::all(),
        "receive-ring" => receive::from_the_ring(),
        "completions" => contexts::completions(),
        "short" => contexts::short(),
        "destroy-in-flight" => contexts::destroy_in_flight(),
        "exit-in-flight" => contexts::exit_in_flight(),
        "exec-in-flight" => contexts::exec_in_flight(),
        "unmap-ring" => contexts::unmap_ring(),
        "move-ring" => contexts::move_ring(),
        "forked-handle" => contexts::forked_handle(),
        "vfork" => contexts::vfork(),
        "hold" => holding::hold(number(1)),
        "hold-unmapped" => holding::unmapped(),
        "hold-leaderless" => holding::leaderless(),
        "hold-forked" => holding::forked(),
        "hold-vforked" => holding::vforked(),
        "hold-unreaped" => holding::unreaped(),
        "compat" => processes::compat(),
        "untraced" => processes::untraced(),
        "asks-for-a-tracer" => processes::asks_for_a_tracer(),
        "short-threads" => processes::short_threads(number(5000)),
        "wait-callers" => {
            wait();
            callers::by_turns(number(2));
        }
        "callers" => callers::named(number(1)),
        "signed" => callers::signed(),
        "attack" => attacks::run(&argument.into_iter().chain(args).collect::<Vec<_>>()),
        "unanswered" => unanswered::run(&argument.into_iter().chain(args).collect::<Vec<_>>()),
        "bench-pair" => bench::pair(number(100_000)),
        "bench-batch" => bench::batch::<32>(number(10_000)),
        "bench-getppid" => bench::getppid(number(1_000_000)),
        "bench-all" => bench::all(number(1000)),
        "bench-becomes" => bench::becomes(argument.into_iter().chain(args)),
        "exit-status" => processes::exit_with(number(0)),
        _ => match alarms::PROGRAMS.iter().chain(faults::PROGRAMS).find(|it| it.0 == name) {
            Some((_, program)) => program(),
            None => match cases::PROGRAMS.iter().find(|it| it.0 == name) {
                Some((_, program)) => {
                    program(&argument.into_iter().chain(args).collect::<Vec<_>>())
                }
                None => {
                    eprintln!("no such program: {name:?}");
                    std::process::exit(2);
                }
            },
        },
    }
}

/// Writes `ready` and waits for a line.
pub fn wait() {
    say("ready");
    wait_for_a_line();
}

/// Waits for a line.
pub fn wait_for_a_line() {
    let mut line = String::new();
    stdin().read_line(&mut line).expect("standard input");
}

/// Writes a line, and flushes it.
pub fn say(line: &str) {
    let mut out = stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("standard output");
}
