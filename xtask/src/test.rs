//! `cargo xtask test`: runs all checks and all tests on one machine, with one result. It also runs
//! what the README tells a new user to type.
//!
//! The last line is `N passed, M failed`. Each part runs even if an earlier one failed. A part that
//! fails without a failing test (setup, lint, a compile error) counts as one failed.

mod report;
mod run;

use std::{
    env,
    process::{Command, ExitCode},
};

use anyhow::Result;
use clap::Args;

use self::{
    report::Report,
    run::{Run, Tally, run_tests},
};
use crate::{
    bench, binaries,
    command::{self, REQUIRE_EBPF, cargo},
    demo, kernels, lint, setup, vm,
};

/// Prepare this machine, lint, and run all tests; needs root
#[derive(Debug, Args)]
pub struct Options {
    /// Run only the tests whose names contain this, without setup and lint (kernel tests take
    /// several such texts, with commas between them)
    filter: Option<String>,
    /// Leave out the tests that load probes into the kernel: then no root is needed
    #[arg(long)]
    no_kernel: bool,
    /// Fail if a kernel of aiotrace/tests/kernel/kernels.rs cannot be tested here. (Without it, that is said)
    #[arg(long, conflicts_with_all = ["filter", "no_kernel"])]
    every_kernel: bool,
    /// Also run what takes a minute by its nature, and the slowest kernel tests with each source of events
    #[arg(long)]
    long: bool,
}

/// Runs the command. It prints the failures itself, because the sum must be the last line.
pub fn run(options: &Options) -> ExitCode {
    let mut report = Report::default();
    if options.no_kernel || command::is_root() {
        run_parts(options, &mut report);
    } else {
        report.fail(format!(
            "kernel tests: they load programs into the kernel: {}; or leave them out with \
             --no-kernel",
            command::as_root("test")
        ));
    }
    print!("{}", report.text(options.no_kernel));
    if report.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_parts(options: &Options, report: &mut Report) {
    let filter = options.filter.as_deref();
    if filter.is_none() {
        report.part("setup and lint", |report| {
            if let Err(error) = setup::run(&setup::Options { build_only: false }) {
                report.fail(format!("setup: {error:#}"));
            }
            let failing = lint::failing();
            if !failing.is_empty() {
                report.fail(format!("lint: {}", failing.join(", ")));
            }
        });
    }
    report.part("tests", |report| {
        report.add("tests", run_tests(&mut test(filter)), filter);
    });
    if options.no_kernel {
        if filter.is_none() {
            report.part("other commands", |report| {
                report.check("cargo install --path aiotrace", install());
            });
        }
    } else if filter.is_some() {
        report.part("kernel tests", |report| run_all_kernel_tests(options, report));
    } else {
        run_with_guests(options, report);
    }
    if let Some(filter) = filter
        && report.sum == Tally::default()
    {
        report.fail(format!("no test that ran has {filter:?} in its name"));
    }
}

/// Runs the kernel tests on this machine, and then in guests: beside one another both fail, because a guest that gets no
/// processor for a while sees time pass all the same.
fn run_with_guests(options: &Options, report: &mut Report) {
    report.part("kernel tests", |report| run_all_kernel_tests(options, report));
    report.part("other commands", |report| other_commands(options, report));
    if env::var_os(kernels::DIRECTORY).is_none() {
        let reason = format!("other kernels: {} names no directory of them", kernels::DIRECTORY);
        return not_tested(&reason, options, report);
    }
    match vm::missing() {
        Ok(missing) => missing.into_iter().for_each(|it| not_tested(&it, options, report)),
        Err(error) => report.fail(format!("other kernels: {error:#}")),
    }
    report.part("other kernels", |report| {
        report.guests("other kernels", vm::check(&vm::Options::default()));
    });
    report.part("instructions in guests", |report| {
        report.guests("what the probes cost", vm::check(&vm::Options::of_cost()));
    });
}

/// Tells what was not tested.
fn not_tested(what: &str, options: &Options, report: &mut Report) {
    if options.every_kernel {
        report.fail(format!("not tested: {what}"));
    } else {
        report.notes.push(format!("NOT TESTED: {what}."));
    }
}

/// Runs the commands of the README, and others that users or developers type.
fn other_commands(options: &Options, report: &mut Report) {
    // Alone, aiotrace is built anew, as some of what it depends on has fewer features then: that takes minutes.
    if options.long {
        report.check("cargo install --path aiotrace", install());
    }
    report.check("cargo xtask demo", demo::run(&demo::Options {}));
    report.check("cargo xtask bench, in short", bench::smoke());
}

/// Builds what the kernel tests need, and runs them with each source of events.
fn run_all_kernel_tests(options: &Options, report: &mut Report) {
    match binaries::build() {
        Ok(binaries) => run_kernel_tests_of(&binaries, options, report),
        Err(error) => report.fail(format!("kernel tests: {error:#}")),
    }
}

fn run_kernel_tests_of(binaries: &binaries::Binaries, options: &Options, report: &mut Report) {
    let filter = options.filter.as_deref();
    let run = |filter, set| run_kernel_tests(binaries, filter, set, options.long);
    report.add("kernel tests", run(filter, "auto"), filter);
    if filter.is_none() {
        // Every source yields the same events.
        for (set, filter) in [("ptrace", vm::ABOUT_EVENTS), ("ptrace-no-seccomp", vm::EVENTS)] {
            // We chose the filter, so it is an error if no test runs.
            report.add(&format!("kernel tests, {set}"), run(Some(filter), set), None);
        }
    }
}

/// Runs the tests that a plain `cargo test` ignores because they need root. They run one at a time,
/// as each counts what happens on the whole machine. `set`: a probe set, or ptrace.
fn run_kernel_tests(
    binaries: &binaries::Binaries,
    filter: Option<&str>,
    set: &str,
    is_long: bool,
) -> Result<Run> {
    let mut kernel = Command::new(&binaries.kernel_tests);
    kernel
        .args(["--ignored", "--test-threads=1"])
        .args(filter)
        .env("AIOTRACE_PROBES", set)
        .env("AIOTRACE_EVERYWHERE", if is_long { "yes" } else { "" })
        .env("AIOTRACE_BINARY", &binaries.aiotrace)
        .env("AIOTRACE_PROGRAMS", &binaries.programs);
    // If they outlived us, they would disturb the next run.
    command::dies_with_us(&mut kernel);
    run_tests(&mut kernel)
}

/// Runs the README's command for installing, into a directory below the target directory. It is not optimized, which is
/// quicker.
fn install() -> Result<()> {
    let root = binaries::target_directory()?.join("install");
    let mut install = cargo(&["install", "--path", "aiotrace", "--locked", "--force"]);
    install.args(["--profile", "dev", "--root"]).arg(&root);
    command::run(install.env(REQUIRE_EBPF.0, REQUIRE_EBPF.1))?;
    command::run(Command::new(root.join("bin/aiotrace")).arg("--version"))
}

fn test(filter: Option<&str>) -> Command {
    // A debug build, so that what only debug assertions see fails here. Without the option, cargo would stop at the
    // first test program that fails.
    let mut test = cargo(&["test", "--no-fail-fast"]);
    test.args(binaries::TESTED).args(filter).env(REQUIRE_EBPF.0, REQUIRE_EBPF.1);
    test
}
