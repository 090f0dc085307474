//! Runs a test program, and counts its tests.

use std::{
    io::{self, Write as _},
    process::{Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::{command, vm};

/// Runs a test program, and passes its output on as it comes.
pub fn run_tests(command: &mut Command) -> Result<Run> {
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
pub struct Run {
    pub is_success: bool,
    pub tally: Tally,
}

/// How many tests passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub passed: u64,
    pub failed: u64,
    /// Tests that passed only at the second attempt; they are also in `passed`.
    pub unstable: u64,
}

impl Tally {
    /// Adds up the lines "test result: ok. 12 passed; 0 failed; 1 ignored; ..." in the output of
    /// `cargo test`: it has one for each test program, and one for the examples in the
    /// documentation.
    pub fn of(output: &str) -> Self {
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
