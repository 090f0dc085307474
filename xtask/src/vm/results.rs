//! Reads the result of a run of the kernel tests from a guest's console.

/// One run of the kernel tests.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Run {
    set: String,
    pub passed: u64,
    failed: u64,
    ignored: u64,
    /// Tests that passed only at the second attempt.
    pub unstable: u64,
    /// What the run said of these.
    pub why_unstable: String,
    /// What the run said of its failures.
    failures: String,
    /// The exit status, in words; empty if the run did not end.
    end: String,
    /// How long the run took.
    seconds: String,
}

/// The beginning of the line of a test that passed only at the second attempt
/// (aiotrace/tests/kernel/harness.rs).
const UNSTABLE: &str = "unstable: ";

/// How many tests passed only at the second attempt.
pub fn unstable_in(text: &str) -> u64 {
    text.lines().filter(|line| line.starts_with(UNSTABLE)).count() as u64
}

impl Run {
    /// Reads the run with this probe set from the console.
    pub fn of(set: &str, console: &str) -> Self {
        let begin = format!("guest | begin | {set}\n");
        let end = format!("guest | end | {set} | ");
        let mut run = Self { set: set.to_owned(), ..Self::default() };
        let Some((_, rest)) = console.split_once(&begin) else { return run };
        let (text, rest) = rest.split_once(&end).unwrap_or((rest, ""));
        run.end = rest.lines().next().unwrap_or_default().to_owned();
        let result = text.lines().rev().find_map(|it| it.strip_prefix("test result: "));
        let result = result.unwrap_or_default();
        let number = |word: &str| {
            let part = result.split([';', '.']).find(|it| it.trim().ends_with(word));
            part.and_then(|it| it.trim().split(' ').next()?.parse().ok()).unwrap_or(0)
        };
        (run.passed, run.failed) = (number(" passed"), number(" failed"));
        run.ignored = number(" ignored");
        run.seconds = result.rsplit("finished in ").next().unwrap_or_default().to_owned();
        run.unstable = unstable_in(text);
        let lines = text.lines().skip_while(|it| !it.starts_with(UNSTABLE));
        let told = lines.filter(|it| it.starts_with(UNSTABLE) || it.starts_with("    "));
        run.why_unstable = told.collect::<Vec<_>>().join("\n");
        if result.is_empty() {
            // The run was ended early, so its failures are not collected at the end of its output.
            let all: Vec<&str> = text.lines().collect();
            let failed = all.iter().filter(|it| it.ends_with("FAILED")).copied();
            let last = &all[all.len().saturating_sub(60)..];
            run.failures = failed.chain(last.iter().copied()).collect::<Vec<_>>().join("\n");
        } else if let Some((_, failures)) = text.split_once("\nfailures:\n") {
            run.failures = failures.split("\ntest result:").next().unwrap_or_default().to_owned();
        }
        run
    }

    /// Whether the run came to its end.
    pub fn has_ended(&self) -> bool {
        !self.end.is_empty()
    }

    /// The run in one line. `best`: the probe set that `auto` stands for in that guest.
    pub fn summary(&self, best: &str) -> String {
        let Self { set, passed, failed, ignored, unstable, seconds, .. } = self;
        let unstable = match unstable {
            0 => String::new(),
            count => format!(", {count} unstable"),
        };
        let set = if set == "auto" { format!("auto ({best})") } else { set.clone() };
        format!("{set}: {passed} passed, {failed} failed, {ignored} ignored{unstable}, {seconds}")
    }

    /// What is wrong with the run; `None` if it is good.
    pub fn wrong(&self, may_be_empty: bool) -> Option<String> {
        let Self { set, failures, end, .. } = self;
        if self.failed > 0 {
            return Some(format!("probe set {set}: {} failed\n{}", self.failed, failures.trim()));
        }
        if end != "exit status: 0" {
            let end = if end.is_empty() { "it did not end" } else { end };
            return Some(format!("probe set {set}: {end}\n{failures}"));
        }
        (self.passed == 0 && !may_be_empty).then(|| format!("probe set {set}: no test ran"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONSOLE: &str = "guest | up | 6.1\nguest | begin | auto\nrunning 3 tests\n\
        test a ... ok\ntest b ... FAILED\n\nfailures:\n\n---- b ----\non guest 6.1, probe set auto\nexpected\n1\nseen\n2\n\n\n\
        failures:\n    b\n\ntest result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 7 filtered out; finished in 2.50s\n\n\
        guest | end | auto | exit status: 101\nguest | begin | syscall\n\
        test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.50s\n\
        guest | end | syscall | exit status: 0\nguest | begin | kprobe\ntest a ... ";

    #[test]
    fn a_failure_is_told_with_the_probe_set() {
        let run = Run::of("auto", CONSOLE);
        assert_eq!(run.summary("kprobe"), "auto (kprobe): 1 passed, 1 failed, 1 ignored, 2.50s");
        let wrong = run.wrong(false).expect("something");
        assert!(wrong.starts_with("probe set auto: 1 failed\n---- b ----\n"), "{wrong}");
        assert!(wrong.contains("seen\n2"), "{wrong}");
    }

    #[test]
    fn what_passed_at_the_second_attempt_is_told() {
        let console = "guest | begin | auto\ntest a ... ok\n\ntest result: ok. 2 passed; 0 failed; 0 ignored; \
            0 measured; 0 filtered out; finished in 0.50s\n\nunstable: a\n    on guest 6.1\n    seen 1\n\
            guest | end | auto | exit status: 0\n";
        let run = Run::of("auto", console);
        assert_eq!(
            run.summary("kprobe"),
            "auto (kprobe): 2 passed, 0 failed, 0 ignored, 1 unstable, 0.50s"
        );
        assert_eq!(run.why_unstable, "unstable: a\n    on guest 6.1\n    seen 1");
        assert_eq!(run.wrong(false), None);
    }

    #[test]
    fn a_good_run_is_not_wrong_and_one_that_did_not_end_is() {
        let run = Run::of("syscall", CONSOLE);
        assert_eq!((run.passed, run.wrong(false)), (12, None));
        let hung = Run::of("kprobe", CONSOLE).wrong(true).expect("something");
        assert_eq!(
            hung,
            "probe set kprobe: it did not end
test a ... "
        );
        assert!(Run::of("trampoline", CONSOLE).wrong(true).is_some(), "it did not begin");
    }
}
