//! `aiotrace explain`: what an errno of an AIO call or of a completion means, and what a finding or a verdict means.

use clap::Args;

use super::{complete, print};
use crate::{
    errno,
    event::Syscall,
    explain::{
        calls,
        findings::{self, Paragraph},
        results, verdicts,
    },
    failure::{Context as _, Failure, Hint as _, Result, bail},
    model::Name,
};

/// Explain a finding, a verdict, or an errno of a call or a completion
///
/// What a finding or a verdict means, why it matters and what to do about it; or what an errno
/// means: what the manual pages say, what the kernel does, how libaio reports it, and what to do.
#[derive(Debug, Args)]
pub struct Options {
    /// A finding (context-leak), a verdict (lost), a call (io_submit), `completion`, or an errno (EBADF)
    ///
    /// Without it, a list of all.
    #[arg(value_name = "NAME", add = complete::subject())]
    name: Option<String>,
    /// The errno of a call or a completion: EAGAIN, for instance; or 11, or -11
    ///
    /// Without it, all known ones.
    #[arg(value_name = "ERRNO", allow_negative_numbers = true, add = complete::errno())]
    errno: Option<String>,
}

/// What can be explained.
enum Subject {
    Call(Syscall),
    Completion,
    Finding(Name),
    Verdict(Vec<String>),
    Errno(i32),
}

/// Runs the command.
pub fn run(options: Options) -> Result<u8> {
    let given = options.name.as_deref();
    let subject = given.map(subject).transpose()?;
    let text = match (subject, &options.errno) {
        (Some(Subject::Call(syscall)), Some(name)) => one(syscall, number(name)?)?,
        (Some(Subject::Call(syscall)), None) => all(syscall),
        (Some(Subject::Completion), Some(name)) => result(number(name)?)?,
        (Some(Subject::Completion), None) => results(),
        (Some(Subject::Finding(name)), None) => finding(name),
        (Some(Subject::Verdict(means)), None) => verdict(given.unwrap_or_default(), &means),
        (Some(Subject::Errno(errno)), None) => everywhere(errno)?,
        (Some(Subject::Finding(_) | Subject::Verdict(_) | Subject::Errno(_)), Some(_)) => {
            let name = given.unwrap_or_default();
            let text = format!("{name} stands alone: only a call and a completion have errnos");
            let hint = format!("`aiotrace explain {name}` explains it");
            return Err(Failure::new(text).with_hint(hint));
        }
        (None, _) => list(),
    };
    print(&text)?;
    Ok(0)
}

fn subject(name: &str) -> Result<Subject> {
    let call = Syscall::ALL.into_iter().find(|it| it.name() == name).map(Subject::Call);
    let completion =
        || matches!(name, "completion" | "complete" | "io_event").then_some(Subject::Completion);
    let finding = || Name::ALL.iter().copied().find(|it| it.text() == name).map(Subject::Finding);
    let verdict = || Some(verdicts::of(name)).filter(|it| !it.is_empty()).map(Subject::Verdict);
    let errno = || named(name).map(Subject::Errno);
    let found = call.or_else(completion).or_else(finding).or_else(verdict).or_else(errno);
    found.ok_or_else(|| {
        let calls = Syscall::ALL.map(Syscall::name).join(", ");
        let findings: Vec<_> = Name::ALL.iter().map(|it| it.text()).collect();
        let findings = findings.join(", ");
        let mut verdicts: Vec<_> = verdicts::all().map(|it| it.0).collect();
        verdicts.sort_unstable();
        verdicts.dedup();
        let verdicts = verdicts.join(", ");
        let text = format!("{name:?} is no AIO call, no finding, no verdict and no errno");
        Failure::new(text).with_hint(format!(
            "the calls are {calls}; the findings are {findings}; the verdicts on faults are {verdicts}; errnos \
             are written as in errno(3)"
        ))
    })
}

/// The number of an errno with this name.
fn named(name: &str) -> Option<i32> {
    (1..4096)
        .find(|number| errno::name(*number).is_some_and(|known| known.eq_ignore_ascii_case(name)))
}

fn number(name: &str) -> Result<i32> {
    if let Ok(number) = name.parse::<i32>() {
        return Ok(number.saturating_abs());
    }
    named(name)
        .with_context(|| format!("{name:?} is no errno"))
        .hint("write a name as in errno(3), EAGAIN for instance, or a number")
}

/// Explains an errno, from whichever call or completion it can come.
fn everywhere(errno: i32) -> Result<String> {
    let calls = Syscall::ALL.into_iter().flat_map(calls::of).filter(|it| it.errno == errno);
    let mut texts: Vec<String> = calls.map(shown).collect();
    texts.extend(results::of(errno).map(shown_result));
    if texts.is_empty() {
        let name = errno::name(errno).unwrap_or("?");
        bail!("{name} is not known to come from an AIO call, nor in a completion");
    }
    Ok(texts.join("\n"))
}

fn results() -> String {
    let mut text = part("completion", CALLS, COMPLETION);
    for entry in results::ALL {
        text.push('\n');
        text.push_str(&shown_result(entry));
    }
    text
}

fn result(errno: i32) -> Result<String> {
    let name = errno::name(errno).map_or_else(|| errno.to_string(), str::to_owned);
    let known: Vec<_> = results::ALL.iter().filter_map(|it| errno::name(it.errno)).collect();
    let known = known.join(", ");
    let found = results::of(errno);
    found.map(shown_result).with_context(|| {
        format!("{name} in a completion is the file's own: look into its manual; known are {known}")
    })
}

fn shown_result(entry: &results::Entry) -> String {
    let name = errno::name(entry.errno).unwrap_or("?");
    let text = errno::text(entry.errno).unwrap_or_default();
    [
        format!("completion res=-{} {name} ({text})\n", entry.errno),
        part("  means", CALLS, entry.means),
        part("  do", CALLS, entry.remedy),
    ]
    .concat()
}

fn verdict(name: &str, means: &[String]) -> String {
    let means: String = means.iter().map(|it| part("  means", CALLS, it)).collect();
    let faults = "a verdict on a fault that was made on purpose (--inject): aiotrace-faults(7)";
    format!("{name}\n{means}{}", part("  is", CALLS, faults))
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

/// All names that can be explained.
fn list() -> String {
    let mut text = "findings: aiotrace explain NAME\n".to_owned();
    let width = 2 + Name::ALL.iter().map(|it| it.text().len()).max().unwrap_or(0) + 2;
    for name in Name::ALL {
        text.push_str(&part(&format!("  {}", name.text()), width, &findings::summary(*name)));
    }
    text.push_str("\nverdicts on faults: aiotrace explain NAME\n");
    for (name, means) in verdicts::all() {
        let first = means.split_once(": ").map_or(means.as_str(), |it| it.0);
        text.push_str(&part(&format!("  {name}"), width, first));
    }
    text.push_str("\ncalls, and what comes of requests: aiotrace explain NAME [ERRNO], or ERRNO\n");
    text.push_str(&part("  completion", width, COMPLETION));
    for syscall in Syscall::ALL {
        text.push_str(&part(&format!("  {}", syscall.name()), width, calls::summary(syscall)));
    }
    text
}

const COMPLETION: &str = "what became of a request: io_event.res is a count, the events of a poll, or a negative errno. \
                          It comes from the file, after io_submit has accepted the request";

/// The columns at which the text beside a label begins.
const CALLS: usize = 10;
const FINDINGS: usize = 12;

/// A label, and the text beside it from this column on, in lines of at most `WIDTH` characters.
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
