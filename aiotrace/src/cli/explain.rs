//! `aiotrace explain`: what an errno of an AIO call means.

use std::io::{self, Write as _};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use super::Hint;
use crate::{errno, event::Syscall, explain};

/// Tell what an errno of a call means: what the manual pages say, what the kernel does, how libaio
/// reports it, and what to do
#[derive(Debug, Args)]
pub struct Options {
    /// io_setup, io_submit, io_getevents, io_pgetevents, io_cancel or io_destroy
    #[arg(value_name = "SYSCALL")]
    call: String,
    /// EAGAIN, for instance; or 11, or -11. Without it, all that the call returns
    #[arg(value_name = "ERRNO", allow_negative_numbers = true)]
    errno: Option<String>,
}

/// Runs the command.
pub fn run(options: Options) -> Result<u8> {
    let syscall = call(&options.call)?;
    let text = match &options.errno {
        Some(name) => one(syscall, number(name)?)?,
        None => all(syscall),
    };
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write the output")
        }
        _ => Ok(0),
    }
}

fn call(name: &str) -> Result<Syscall> {
    let found = Syscall::ALL.into_iter().find(|it| it.name() == name);
    found.with_context(|| format!("{name:?} is no AIO call")).map_err(|error| {
        let names = Syscall::ALL.map(Syscall::name).join(", ");
        error.context(Hint(format!("the calls are {names}")))
    })
}

fn number(name: &str) -> Result<i32> {
    if let Ok(number) = name.parse::<i32>() {
        return Ok(number.saturating_abs());
    }
    let found = (1..4096)
        .find(|number| errno::name(*number).is_some_and(|known| known.eq_ignore_ascii_case(name)));
    found.with_context(|| format!("{name:?} is no errno")).map_err(|error| {
        error.context(Hint("write a name as in errno(3), EAGAIN for instance, or a number".into()))
    })
}

fn all(syscall: Syscall) -> String {
    let mut text = part(syscall.name(), explain::summary(syscall));
    for entry in explain::of(syscall) {
        text.push('\n');
        text.push_str(&shown(entry));
    }
    text
}

fn one(syscall: Syscall, number: i32) -> Result<String> {
    if let Some(entry) = explain::of(syscall).find(|entry| entry.errno == number) {
        return Ok(shown(entry) + &part("  libaio", &explain::libaio(syscall, number)));
    }
    let name = errno::name(number).map_or_else(|| number.to_string(), str::to_owned);
    let known: Vec<_> = explain::of(syscall).filter_map(|entry| errno::name(entry.errno)).collect();
    bail!("{} is not known to return {name}; it returns {}", syscall.name(), known.join(", "))
}

fn shown(entry: &explain::Entry) -> String {
    let name = errno::name(entry.errno).unwrap_or("?");
    let text = errno::text(entry.errno).unwrap_or_default();
    [
        format!("{} {name} ({text})\n", entry.syscall.name()),
        part("  manual", entry.manual.unwrap_or("(not named there)")),
        part("  kernel", entry.kernel),
        part("  do", entry.remedy),
    ]
    .concat()
}

/// A label, and text beside it in lines of at most this many characters.
fn part(label: &str, text: &str) -> String {
    const WIDTH: usize = 88;
    let indent = 10.max(label.len() + 1);
    let mut lines = vec![format!("{label:indent$}")];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + word.len() <= WIDTH => {
                line.push_str(word);
                line.push(' ');
            }
            _ => lines.push(format!("{:indent$}{word} ", "")),
        }
    }
    lines.iter().map(|line| format!("{}\n", line.trim_end())).collect()
}
