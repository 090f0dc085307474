//! `aiotrace explain`: what an errno of an AIO call means, and what a finding means.

use std::io::{self, Write as _};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use super::Hint;
use crate::{
    errno,
    event::Syscall,
    explain::{
        calls,
        findings::{self, Paragraph},
    },
    model::Name,
};

/// Tell what a finding means, why it matters and what to do about it; or what an errno of a call means:
/// what the manual pages say, what the kernel does, how libaio reports it, and what to do
#[derive(Debug, Args)]
pub struct Options {
    /// A finding (context-leak, for instance), or a call (io_submit). Without it, a list of all
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Of a call: EAGAIN, for instance; or 11, or -11. Without it, all that the call returns
    #[arg(value_name = "ERRNO", allow_negative_numbers = true)]
    errno: Option<String>,
}

/// What can be explained.
enum Subject {
    Call(Syscall),
    Finding(Name),
}

/// Runs the command.
pub fn run(options: Options) -> Result<u8> {
    let subject = options.name.as_deref().map(subject).transpose()?;
    let text = match (subject, &options.errno) {
        (Some(Subject::Call(syscall)), Some(name)) => one(syscall, number(name)?)?,
        (Some(Subject::Call(syscall)), None) => all(syscall),
        (Some(Subject::Finding(name)), None) => finding(name),
        (Some(Subject::Finding(name)), Some(_)) => {
            return Err(anyhow::anyhow!("{} is a finding and has no errno", name.text())
                .context(Hint(format!("`aiotrace explain {}` tells of it", name.text()))));
        }
        (None, _) => list(),
    };
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write the output")
        }
        _ => Ok(0),
    }
}

fn subject(name: &str) -> Result<Subject> {
    let call = Syscall::ALL.into_iter().find(|it| it.name() == name).map(Subject::Call);
    let finding = || Name::ALL.iter().copied().find(|it| it.text() == name).map(Subject::Finding);
    let found = call.or_else(finding);
    found.with_context(|| format!("{name:?} is neither an AIO call nor a finding")).map_err(
        |error| {
            let calls = Syscall::ALL.map(Syscall::name).join(", ");
            let findings: Vec<_> = Name::ALL.iter().map(|it| it.text()).collect();
            let findings = findings.join(", ");
            error.context(Hint(format!("the calls are {calls}; the findings are {findings}")))
        },
    )
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
    let mut text = part(syscall.name(), CALLS, calls::summary(syscall));
    for entry in calls::of(syscall) {
        text.push('\n');
        text.push_str(&shown(entry));
    }
    text
}

fn one(syscall: Syscall, number: i32) -> Result<String> {
    if let Some(entry) = calls::of(syscall).find(|entry| entry.errno == number) {
        return Ok(shown(entry) + &part("  libaio", CALLS, &calls::libaio(syscall, number)));
    }
    let name = errno::name(number).map_or_else(|| number.to_string(), str::to_owned);
    let known: Vec<_> = calls::of(syscall).filter_map(|entry| errno::name(entry.errno)).collect();
    bail!("{} is not known to return {name}; it returns {}", syscall.name(), known.join(", "))
}

fn shown(entry: &calls::Entry) -> String {
    let name = errno::name(entry.errno).unwrap_or("?");
    let text = errno::text(entry.errno).unwrap_or_default();
    [
        format!("{} {name} ({text})\n", entry.syscall.name()),
        part("  manual", CALLS, entry.manual.unwrap_or("(not named there)")),
        part("  kernel", CALLS, entry.kernel),
        part("  do", CALLS, entry.remedy),
    ]
    .concat()
}

fn finding(name: Name) -> String {
    let mut text = format!("{}\n", name.text());
    for findings::Part { label, paragraphs } in findings::of(name) {
        let mut label = format!("  {}", label.to_lowercase());
        for paragraph in paragraphs {
            text.push_str(&match paragraph {
                Paragraph::Text(it) => part(&label, FINDINGS, &it),
                Paragraph::Item(it) => part(&format!("{:FINDINGS$}-", ""), FINDINGS + 2, &it),
            });
            label.clear();
        }
    }
    text
}

/// All names.
fn list() -> String {
    let mut text = "findings: aiotrace explain NAME\n".to_owned();
    let width = 2 + Name::ALL.iter().map(|it| it.text().len()).max().unwrap_or(0) + 2;
    for name in Name::ALL {
        text.push_str(&part(&format!("  {}", name.text()), width, &findings::summary(*name)));
    }
    text.push_str("\ncalls: aiotrace explain NAME [ERRNO]\n");
    for syscall in Syscall::ALL {
        text.push_str(&part(&format!("  {}", syscall.name()), width, calls::summary(syscall)));
    }
    text
}

/// Where the text begins that is beside a label.
const CALLS: usize = 10;
const FINDINGS: usize = 12;

/// A label, and from a column on text beside it, in lines of at most this many characters.
fn part(label: &str, column: usize, text: &str) -> String {
    const WIDTH: usize = 88;
    let indent = column.max(label.chars().count() + 1);
    let mut lines = vec![format!("{label:indent$}")];
    let mut length = indent;
    for word in text.split_whitespace() {
        let needed = word.chars().count();
        if length + needed > WIDTH && length > indent {
            lines.push(" ".repeat(indent));
            length = indent;
        }
        if let Some(line) = lines.last_mut() {
            line.push_str(word);
            line.push(' ');
        }
        length += needed + 1;
    }
    lines.iter().map(|line| format!("{}\n", line.trim_end())).collect()
}
