//! Tests on a real kernel with real programs, one suite for this machine and for the virtual machines of
//! `cargo xtask vm`. They need root, and natively the programs that `cargo xtask setup` installs;
//! `cargo xtask test` runs them. tests/README.md says how to run one by hand.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

#[macro_use]
mod harness;

mod attach;
mod bombs;
mod calls;
mod cases;
mod cost;
mod counting;
mod debuginfod;
mod errands;
mod events;
mod faults;
mod faults_in_programs;
mod findings;
mod full_speed;
mod held;
mod hostile;
mod hostile_files;
#[expect(dead_code, reason = "xtask reads the rest")]
mod kernels;
mod lifecycle;
mod ls;
mod machine;
mod mounts;
mod names;
mod oracle;
mod processes;
mod ptrace;
#[path = "../shared/pty.rs"]
mod pty;
mod readme;
mod real_programs;
mod received;
mod recording;
mod reports;
mod rings;
mod run;
#[path = "../shared/schema.rs"]
mod schema;
mod serve;
mod session;
mod stacks;
mod strace;
mod support;
mod sweep;
mod top;
mod twins;
mod verdicts;

use std::process::ExitCode;

fn main() -> ExitCode {
    harness::main(&[
        attach::TESTS,
        calls::TESTS,
        cases::faults::TESTS,
        cases::refused::TESTS,
        cases::results::TESTS,
        cases::rings::TESTS,
        cases::scale::TESTS,
        cases::waiting::TESTS,
        cost::TESTS,
        counting::TESTS,
        debuginfod::TESTS,
        errands::TESTS,
        events::TESTS,
        faults::TESTS,
        faults_in_programs::TESTS,
        findings::TESTS,
        full_speed::TESTS,
        held::TESTS,
        hostile::TESTS,
        hostile_files::TESTS,
        lifecycle::TESTS,
        ls::TESTS,
        names::TESTS,
        oracle::TESTS,
        ptrace::TESTS,
        readme::TESTS,
        real_programs::TESTS,
        received::TESTS,
        recording::TESTS,
        reports::TESTS,
        rings::TESTS,
        run::TESTS,
        serve::bounds::TESTS,
        serve::prometheus::TESTS,
        serve::scrapes::TESTS,
        serve::unit::TESTS,
        stacks::TESTS,
        sweep::going::TESTS,
        sweep::planted::TESTS,
        sweep::programs::TESTS,
        sweep::small::TESTS,
        top::TESTS,
        twins::TESTS,
        verdicts::TESTS,
    ])
}
