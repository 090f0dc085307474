//! The command that makes one fault of a sweep again.

use std::time::Duration;

use super::{Settings, outcome::Outcome};

/// A line for a shell.
pub fn command(settings: &Settings, rule: &str, timeout: Duration, outcome: Outcome) -> String {
    let mut line = String::new();
    let words: Vec<String> =
        settings.command.iter().map(|it| quoted(&it.to_string_lossy())).collect();
    if words.iter().any(|it| it.contains("AIOTRACE_SWEEP_DIR")) {
        line.push_str("AIOTRACE_SWEEP_DIR=$(mktemp -d) ");
    }
    line.push_str("aiotrace run -f --source ptrace --inject ");
    line.push_str(&quoted(rule));
    if outcome == Outcome::Hung {
        line.push_str(&format!(" --timeout {}ms", timeout.as_millis()));
    }
    line.push_str(" -- ");
    line.push_str(&words.join(" "));
    line
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
}
