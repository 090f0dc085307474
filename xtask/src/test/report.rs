//! The result of `cargo xtask test`.

use std::time::Instant;

use anyhow::Result;

use super::run::{Run, Tally};
use crate::vm;

/// The results of all parts.
#[derive(Debug, Default)]
pub struct Report {
    pub sum: Tally,
    pub failures: Vec<String>,
    pub notes: Vec<String>,
    /// How long each part took.
    times: Vec<String>,
}

impl Report {
    /// Runs a part, and records how long it took.
    pub fn part(&mut self, name: &str, work: impl FnOnce(&mut Self)) {
        let start = Instant::now();
        work(self);
        self.times.push(format!("{name} {} s", start.elapsed().as_secs()));
    }

    /// Adds the results of the kernel tests in guests.
    pub fn guests(&mut self, what: &str, checked: Result<vm::Checked>) {
        match checked {
            Ok(vm::Checked { passed, unstable, failures }) => {
                self.sum.passed += passed;
                self.sum.unstable += unstable;
                failures.into_iter().for_each(|it| self.fail(format!("{what}: {it}")));
            }
            Err(error) => self.fail(format!("{what}: {error:#}")),
        }
    }

    /// Adds the result of a part that ran tests, or should have.
    pub fn add(&mut self, part: &str, run: Result<Run>, filter: Option<&str>) {
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
    pub fn check(&mut self, command: &str, result: Result<()>) {
        match result {
            Ok(()) => self.sum.passed += 1,
            Err(error) => self.fail(format!("{command}: {error:#}")),
        }
    }

    /// Adds a failure that does not come from a test.
    pub fn fail(&mut self, what: String) {
        self.sum.failed += 1;
        self.failures.push(what);
    }

    pub fn text(&self, no_kernel: bool) -> String {
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
