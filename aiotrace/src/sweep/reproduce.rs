//! The command that makes one fault of a sweep again, with the same outcome.

use std::time::Duration;

use super::{Settings, outcome::Outcome};

/// A line for a shell. `uses_directory`: the program puts files into AIOTRACE_SWEEP_DIR.
pub fn command(
    settings: &Settings,
    uses_directory: bool,
    rule: &str,
    timeout: Duration,
    outcome: Outcome,
) -> String {
    let words: Vec<String> =
        settings.command.iter().map(|it| quoted(&it.to_string_lossy())).collect();
    // Only the check knows that the data is wrong.
    let check = settings.check.as_ref().filter(|_| outcome == Outcome::Corrupt);
    let scripts = || settings.reset.iter().chain(check);
    let names = |it: &str| it.contains("AIOTRACE_SWEEP_DIR");
    let needs_directory =
        uses_directory || words.iter().any(|it| names(it)) || scripts().any(|it| names(it));
    let timeout = match outcome {
        // A flaky one may have hung the other time.
        Outcome::Hung | Outcome::Flaky => format!(" --timeout {}ms", timeout.as_millis()),
        _ => String::new(),
    };
    let run = format!(
        "aiotrace run -q -f --source ptrace --inject {}{timeout} -- {}",
        quoted(rule),
        words.join(" ")
    );
    const DIRECTORY: &str = "AIOTRACE_SWEEP_DIR=$(mktemp -d)";
    if scripts().next().is_none() {
        return if needs_directory { format!("{DIRECTORY} {run}") } else { run };
    }
    let directory = needs_directory.then(|| format!("export {DIRECTORY}"));
    let reset = settings.reset.as_ref().map(|it| format!("sh -c {}", quoted(it)));
    let check = check.map(|it| format!("AIOTRACE_SWEEP_STATUS=$? sh -c {}", quoted(it)));
    let parts: Vec<String> = directory.into_iter().chain(reset).chain([run]).chain(check).collect();
    // In a shell of its own, so that nothing of it stays in the one that it is pasted into.
    format!("({})", parts.join("; "))
}

/// A word, so that a shell takes it as it is.
fn quoted(word: &str) -> String {
    let is_plain = |it: char| it.is_ascii_alphanumeric() || "_-./=:,+@%".contains(it);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_takes_words_as_they_are() {
        assert_eq!(quoted("io_submit:accept=1:site=0000000a"), "io_submit:accept=1:site=0000000a");
        assert_eq!(quoted("op=read|write"), "'op=read|write'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn a_line_does_all_that_the_run_of_the_sweep_did() {
        let plain = Settings { command: vec!["db".into(), "a b".into()], ..Settings::default() };
        let of = |settings: &Settings, uses, outcome| {
            command(settings, uses, "io_setup:error=EAGAIN", Duration::from_secs(5), outcome)
        };
        let run = |timeout| {
            format!(
                "aiotrace run -q -f --source ptrace --inject io_setup:error=EAGAIN{timeout} -- db 'a b'"
            )
        };
        assert_eq!(of(&plain, false, Outcome::Lost), run(""));
        for outcome in [Outcome::Hung, Outcome::Flaky] {
            assert_eq!(of(&plain, false, outcome), run(" --timeout 5000ms"));
        }
        assert_eq!(
            of(&plain, true, Outcome::Lost),
            format!("AIOTRACE_SWEEP_DIR=$(mktemp -d) {}", run(""))
        );
        let checked = Settings { check: Some("test -e it".into()), ..plain.clone() };
        assert_eq!(of(&checked, false, Outcome::Lost), run(""));
        assert_eq!(
            of(&checked, false, Outcome::Corrupt),
            format!("({}; AIOTRACE_SWEEP_STATUS=$? sh -c 'test -e it')", run(""))
        );
        let reset = "cp x $AIOTRACE_SWEEP_DIR".to_owned();
        let reset = Settings { reset: Some(reset), ..plain };
        assert_eq!(
            of(&reset, false, Outcome::Lost),
            format!(
                "(export AIOTRACE_SWEEP_DIR=$(mktemp -d); sh -c 'cp x $AIOTRACE_SWEEP_DIR'; {})",
                run("")
            )
        );
    }
}
