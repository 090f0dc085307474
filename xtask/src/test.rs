//! `cargo xtask test`: runs all checks and all tests on one machine, with one result. It also runs
//! what the README tells a new user to type.
//!
//! The last line is `N passed, M failed`. Each part runs even if an earlier one failed. A part that
//! fails without a failing test (setup, lint, a compile error) counts as one failed.

use std::{
    env,
    io::{self, Write as _},
    process::{Command, ExitCode, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::{
    bench,
    command::{self, REQUIRE_EBPF, cargo},
    demo, kernels, lint, release, setup, vm,
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
        let all = ["--workspace", "--exclude", "aiotrace-ebpf", "--exclude", "aio-programs-32"];
        report.add("tests", run_tests(&mut test(&all, filter)), filter);
    });
    if !options.no_kernel {
        report.part("kernel tests", |report| run_all_kernel_tests(options, report));
    }
    if filter.is_none() {
        report.part("other commands", |report| {
            report.check("cargo install --path aiotrace", install());
            if !options.no_kernel {
                report.check("cargo run -- doctor", debug_doctor());
                report.check("cargo xtask demo", demo::run(&demo::Options {}));
                report.check("cargo xtask bench, in short", bench::smoke());
            }
        });
        if env::var_os(kernels::DIRECTORY).is_some() {
            report.part("other kernels", |report| {
                let missing = vm::missing().unwrap_or_default();
                if !missing.is_empty() {
                    let all = missing.join(", ");
                    report.notes.push(format!(
                        "NOT TESTED: {all}: {} has no file of it.",
                        kernels::DIRECTORY
                    ));
                }
                report.guests("other kernels", &vm::Options::default());
            });
            report.notes.push(
                "NOT TESTED: kernels of arm64: `cargo xtask vm --arch aarch64` does that."
                    .to_owned(),
            );
            report.part("instructions in guests", |report| {
                report.guests("what the probes cost", &vm::Options::of_cost());
            });
        } else {
            report.notes.push(format!(
                "Other kernels were not tested: {} names no directory of vmlinuz files.",
                kernels::DIRECTORY
            ));
        }
    }
    if let Some(filter) = filter
        && report.sum == Tally::default()
    {
        report.fail(format!("no test that ran has {filter:?} in its name"));
    }
}

fn run_all_kernel_tests(options: &Options, report: &mut Report) {
    let filter = options.filter.as_deref();
    let binaries = match release::build() {
        Ok(binaries) => binaries,
        Err(error) => return report.fail(format!("kernel tests: {error:#}")),
    };
    let run = |filter, set| run_kernel_tests(&binaries, filter, set, options.long);
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
    binaries: &release::Binaries,
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

/// Runs the README's command for installing, into a directory below the target directory.
fn install() -> Result<()> {
    let root = release::target_directory()?.join("install");
    let mut install = cargo(&["install", "--path", "aiotrace", "--locked", "--force", "--root"]);
    command::run(install.arg(&root).env(REQUIRE_EBPF.0, REQUIRE_EBPF.1))?;
    command::run(Command::new(root.join("bin/aiotrace")).arg("--version"))
}

/// In a debug build, in which the library that loads the probes asserts more.
fn debug_doctor() -> Result<()> {
    let mut doctor = cargo(&["run", "--package", "aiotrace", "--", "doctor"]);
    command::run(doctor.env(REQUIRE_EBPF.0, REQUIRE_EBPF.1))
}

fn test(selection: &[&str], filter: Option<&str>) -> Command {
    // A debug build, so that what only debug assertions see fails here. Without the option, cargo would stop at the
    // first test program that fails.
    let mut test = cargo(&["test", "--no-fail-fast"]);
    test.args(selection).args(filter).env(REQUIRE_EBPF.0, REQUIRE_EBPF.1);
    test
}

/// Runs a test program, and passes its output on as it comes.
fn run_tests(command: &mut Command) -> Result<Run> {
    run_within(PATIENCE, command)
}

fn run_within(patience: Duration, command: &mut Command) -> Result<Run> {
    let line = command::line(command);
    eprintln!("$ {line}");
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot run `{line}`"))?;
    let mut output = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        // Read pieces, not lines: a half line "test NAME ... " shows which test hangs.
        let pieces = pieces_of(stdout);
        loop {
            let piece = match pieces.recv_timeout(patience) {
                Ok(piece) => piece.context("cannot read what it says")?,
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    // Even SIGKILL may not end it in some states, so we do not wait for it.
                    let _ = child.kill();
                    bail!("`{line}` said nothing for {} s", patience.as_secs());
                }
            };
            output.extend_from_slice(&piece);
            let mut ours = io::stdout().lock();
            ours.write_all(&piece).and_then(|()| ours.flush()).context("cannot write to stdout")?;
        }
    }
    let status = child.wait().with_context(|| format!("cannot wait for `{line}`"))?;
    Ok(Run { is_success: status.success(), tally: Tally::of(&String::from_utf8_lossy(&output)) })
}

/// A command that writes nothing for this long hangs. Tests that hang are ended sooner
/// (aiotrace/tests/kernel/harness.rs), and compilers write what they compile.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// What the command writes, piece by piece as it comes.
fn pieces_of(mut from: impl io::Read + Send + 'static) -> Receiver<io::Result<Vec<u8>>> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        loop {
            let piece = match from.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => Ok(buffer[..count].to_vec()),
                Err(error) => Err(error),
            };
            let is_over = piece.is_err();
            if tell.send(piece).is_err() || is_over {
                return;
            }
        }
    });
    told
}

/// The result of one test run.
#[derive(Clone, Copy, Debug)]
struct Run {
    is_success: bool,
    tally: Tally,
}

/// How many tests passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    /// Tests that passed only at the second attempt; they are also in `passed`.
    unstable: u64,
}

impl Tally {
    /// Adds up the lines "test result: ok. 12 passed; 0 failed; 1 ignored; ..." in the output of
    /// `cargo test`: it has one for each test program, and one for the examples in the
    /// documentation.
    fn of(output: &str) -> Self {
        let results = output.lines().filter_map(|line| line.strip_prefix("test result: "));
        let none = Self { unstable: vm::unstable_in(output), ..Self::default() };
        results.fold(none, |sum, result| Self {
            passed: sum.passed + number(result, "passed"),
            failed: sum.failed + number(result, "failed"),
            ..sum
        })
    }
}

/// The number before a word, for instance 12 in "ok. 12 passed; 0 failed".
fn number(result: &str, word: &str) -> u64 {
    let words: Vec<&str> = result.split([' ', ';']).collect();
    let pair = words.windows(2).find(|pair| pair[1] == word);
    pair.and_then(|pair| pair[0].parse().ok()).unwrap_or(0)
}

/// The results of all parts.
#[derive(Debug, Default)]
struct Report {
    sum: Tally,
    failures: Vec<String>,
    notes: Vec<String>,
    /// How long each part took.
    times: Vec<String>,
}

impl Report {
    /// Runs a part, and records how long it took.
    fn part(&mut self, name: &str, work: impl FnOnce(&mut Self)) {
        let start = Instant::now();
        work(self);
        self.times.push(format!("{name} {} s", start.elapsed().as_secs()));
    }

    /// Runs the kernel tests in guests, and adds their results.
    fn guests(&mut self, what: &str, options: &vm::Options) {
        match vm::check(options) {
            Ok(vm::Checked { passed, unstable, failures }) => {
                self.sum.passed += passed;
                self.sum.unstable += unstable;
                failures.into_iter().for_each(|it| self.fail(format!("{what}: {it}")));
            }
            Err(error) => self.fail(format!("{what}: {error:#}")),
        }
    }

    /// Adds the result of a part that ran tests, or should have.
    fn add(&mut self, part: &str, run: Result<Run>, filter: Option<&str>) {
        let Run { is_success, tally } = match run {
            Ok(run) => run,
            Err(error) => return self.fail(format!("{part}: {error:#}")),
        };
        self.sum.passed += tally.passed;
        self.sum.failed += tally.failed;
        self.sum.unstable += tally.unstable;
        if tally.failed > 0 {
            self.failures.push(format!("{part}: {} failed", tally.failed));
        } else if !is_success {
            self.fail(format!("{part}: it ended with an error, and no test failed: see above"));
        } else if tally == Tally::default() && filter.is_none() {
            self.fail(format!("{part}: no test ran"));
        }
    }

    /// Adds a command that is a test by itself.
    fn check(&mut self, command: &str, result: Result<()>) {
        match result {
            Ok(()) => self.sum.passed += 1,
            Err(error) => self.fail(format!("{command}: {error:#}")),
        }
    }

    /// Adds a failure that does not come from a test.
    fn fail(&mut self, what: String) {
        self.sum.failed += 1;
        self.failures.push(what);
    }

    fn text(&self, no_kernel: bool) -> String {
        let mut lines: Vec<String> = vec![String::new()];
        lines.extend(self.failures.iter().map(|it| format!("FAILED: {it}")));
        lines.extend(self.notes.iter().cloned());
        if !self.times.is_empty() {
            lines.push(format!("It took: {}.", self.times.join(", ")));
        }
        if no_kernel {
            lines.push("The kernel tests did not run (--no-kernel).".to_owned());
        }
        let Tally { passed, failed, unstable } = self.sum;
        if unstable > 0 {
            lines.push(format!(
                "UNSTABLE: {unstable} of the tests that passed failed at the first attempt: see above"
            ));
        }
        lines.push(format!("{passed} passed, {failed} failed\n"));
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    fn ended(is_success: bool, passed: u64, failed: u64) -> Result<Run> {
        Ok(Run { is_success, tally: Tally { passed, failed, unstable: 0 } })
    }

    #[test]
    fn results_of_all_test_programs_are_summed() {
        let output = "\n\
            running 13 tests\n\
            test one ... ok\n\
            \n\
            test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.00s\n\
            \n\
            test two ... FAILED\n\
            test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.20s\n";
        assert_eq!(Tally::of(output), Tally { passed: 15, failed: 2, unstable: 0 });
    }

    #[test]
    fn what_says_nothing_any_more_is_ended() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo 'test a ... '; exec sleep 1000"]);
        let run = run_within(Duration::from_secs(1), &mut command);
        let said = format!("{:#}", run.expect_err("it hangs"));
        assert!(said.ends_with("said nothing for 1 s"), "{said}");
    }

    #[test]
    fn colored_results_count() {
        let output = "test result: \x1b[31mFAILED\x1b[0m. 1 passed; 2 failed; 0 ignored\n";
        assert_eq!(Tally::of(output), Tally { passed: 1, failed: 2, unstable: 0 });
    }

    #[test]
    fn other_lines_do_not_count() {
        let output = "error: could not compile `aiotrace`\nsaid: test result: ok. 9 passed\n";
        assert_eq!(Tally::of(output), Tally::default());
        assert_eq!(Tally::of("test result: ok.\n"), Tally::default());
    }

    #[test]
    fn the_sum_is_the_last_line() {
        let mut report = Report::default();
        report.add("tests", ended(true, 12, 0), None);
        assert_eq!(report.text(false), "\n12 passed, 0 failed\n");
        assert_eq!(
            report.text(true),
            "\nThe kernel tests did not run (--no-kernel).\n12 passed, 0 failed\n"
        );
    }

    #[test]
    fn tests_that_passed_at_the_second_attempt_are_said_before_the_sum() {
        let output =
            "test result: ok. 2 passed; 0 failed; 0 ignored\n\nunstable: a::b\n    seen 1\n";
        let mut report = Report::default();
        report.add("tests", Ok(Run { is_success: true, tally: Tally::of(output) }), None);
        let text = report.text(false);
        assert!(text.contains("UNSTABLE: 1 of the tests"), "{text}");
        assert!(text.ends_with("\n2 passed, 0 failed\n"), "{text}");
    }

    #[test]
    fn failed_tests_count_once() {
        let mut report = Report::default();
        report.add("tests", ended(false, 12, 2), None);
        assert_eq!(report.text(false), "\nFAILED: tests: 2 failed\n12 passed, 2 failed\n");
    }

    #[test]
    fn a_part_that_fails_without_a_failed_test_counts_as_one() {
        let mut report = Report::default();
        report.fail("lint: format".to_owned());
        report.add("tests", ended(false, 3, 0), None);
        report.add("kernel tests", Err(anyhow!("cannot build")), None);
        assert_eq!(
            report.text(false),
            "\nFAILED: lint: format\n\
             FAILED: tests: it ended with an error, and no test failed: see above\n\
             FAILED: kernel tests: cannot build\n\
             3 passed, 3 failed\n"
        );
    }

    #[test]
    fn no_test_at_all_is_a_failure_unless_filtered() {
        let mut report = Report::default();
        report.add("tests", ended(true, 0, 0), Some("leak"));
        assert!(report.failures.is_empty());
        report.add("kernel tests", ended(true, 0, 0), None);
        assert_eq!(report.failures, ["kernel tests: no test ran"]);
    }
}
