//! The command that makes one fault of a sweep again, with the same outcome.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _, time::Duration};

use super::{Settings, outcome::Outcome, plan::Point};

/// A fault to be made again.
#[derive(Clone, Copy)]
pub struct Reproduced<'a> {
    /// Of the sweep.
    pub settings: &'a Settings,
    /// The program puts files into AIOTRACE_SWEEP_DIR.
    pub uses_directory: bool,
    /// The point.
    pub point: &'a Point,
    /// How long a run may take.
    pub timeout: Duration,
}

impl Reproduced<'_> {
    /// A line for a shell, in the directory of the sweep.
    pub fn line(self, outcome: Outcome) -> String {
        let Self { settings, point, .. } = self;
        let words: Vec<String> = settings.command.iter().map(|it| quoted(it)).collect();
        // Only the check knows that the data is wrong.
        let check = settings.check.as_ref().filter(|_| outcome == Outcome::Corrupt);
        let has_scripts = settings.reset.is_some() || check.is_some();
        let texts = || words.iter().chain(&settings.reset).chain(check);
        let names = |name: &str| texts().any(|it| it.contains(name));
        let mut variables = Vec::new();
        if self.uses_directory || names("AIOTRACE_SWEEP_DIR") {
            variables.push("AIOTRACE_SWEEP_DIR=$(mktemp -d)".to_owned());
        }
        if has_scripts || names("AIOTRACE_SWEEP_RUN") || names("AIOTRACE_SWEEP_FAULT") {
            variables.push(format!("AIOTRACE_SWEEP_RUN={:03}", point.number));
            variables.push(format!("AIOTRACE_SWEEP_FAULT={}", text(&point.rule)));
        }
        let variables = variables.join(" ");
        let timeout = match outcome {
            // A flaky one may have hung the other time.
            Outcome::Hung | Outcome::Flaky => {
                format!(" --timeout {}ms", self.timeout.as_millis())
            }
            _ => String::new(),
        };
        let run = format!(
            "aiotrace run -q -f --source ptrace --inject {}{timeout} -- {} </dev/null",
            text(&point.rule),
            words.join(" ")
        );
        if !has_scripts {
            return if variables.is_empty() { run } else { format!("{variables} {run}") };
        }
        let variables = (!variables.is_empty()).then(|| format!("export {variables}"));
        let script = |it: &String| format!("sh -c {} </dev/null", text(it));
        let reset = settings.reset.as_ref().map(script);
        let check = check.map(|it| format!("AIOTRACE_SWEEP_STATUS=$? {}", script(it)));
        let parts: Vec<String> =
            variables.into_iter().chain(reset).chain([run]).chain(check).collect();
        // In a shell of its own, so that nothing of it stays in the one that it is pasted into.
        format!("({})", parts.join("; "))
    }
}

/// The same line for whoever is somewhere else.
pub fn from_anywhere(directory: &str, line: &str) -> String {
    format!("cd {} && {line}", text(directory))
}

fn text(text: &str) -> String {
    quoted(OsStr::new(text))
}

/// A word, so that a shell takes it as it is.
fn quoted(word: &OsStr) -> String {
    let Some(text) = word.to_str() else {
        let byte = |it: &u8| match it {
            b'\'' | b'\\' => format!("\\{}", char::from(*it)),
            b' '..=b'~' => char::from(*it).to_string(),
            other => format!("\\{other:03o}"),
        };
        return format!("$'{}'", word.as_bytes().iter().map(byte).collect::<String>());
    };
    let is_plain = |it: char| it.is_ascii_alphanumeric() || "_-./=:,+@%".contains(it);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::Mode;

    #[test]
    fn a_shell_takes_words_as_they_are() {
        assert_eq!(text("io_submit:accept=1:site=0000000a"), "io_submit:accept=1:site=0000000a");
        assert_eq!(text("op=read|write"), "'op=read|write'");
        assert_eq!(text("it's"), r"'it'\''s'");
        assert_eq!(text(""), "''");
        // Bash says what a shell makes of it.
        let name = OsStr::from_bytes(b"a\xff7'\\ \n\xc3");
        let line = format!("printf %s {}", quoted(name));
        if let Ok(said) = std::process::Command::new("bash").args(["-c", &line]).output() {
            assert_eq!(said.stdout, name.as_bytes(), "{line}");
        }
    }

    #[test]
    fn a_line_does_all_that_the_run_of_the_sweep_did() {
        let plain = Settings { command: vec!["db".into(), "a b".into()], ..Settings::default() };
        let (site, fault) = (String::new(), String::new());
        let rule = "io_setup:error=EAGAIN".to_owned();
        let point = Point { number: 7, site, fault, mode: Mode::Once, rule };
        let of = |settings: &Settings, uses_directory, outcome| {
            let timeout = Duration::from_secs(5);
            Reproduced { settings, uses_directory, point: &point, timeout }.line(outcome)
        };
        let run = |timeout| {
            format!(
                "aiotrace run -q -f --source ptrace --inject io_setup:error=EAGAIN{timeout} -- db 'a b' </dev/null"
            )
        };
        let told = "AIOTRACE_SWEEP_RUN=007 AIOTRACE_SWEEP_FAULT=io_setup:error=EAGAIN";
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
            format!(
                "(export {told}; {}; AIOTRACE_SWEEP_STATUS=$? sh -c 'test -e it' </dev/null)",
                run("")
            )
        );
        let reset = "cp x $AIOTRACE_SWEEP_DIR".to_owned();
        let reset = Settings { reset: Some(reset), ..plain };
        assert_eq!(
            of(&reset, false, Outcome::Lost),
            format!(
                "(export AIOTRACE_SWEEP_DIR=$(mktemp -d) {told}; \
                 sh -c 'cp x $AIOTRACE_SWEEP_DIR' </dev/null; {})",
                run("")
            )
        );
        assert_eq!(from_anywhere("/a b", "x"), "cd '/a b' && x");
    }
}
