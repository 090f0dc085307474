//! One line per call, as strace writes them, with names for everything that has one:
//!
//! ```text
//!    0.104512 fio:4713 io_submit(0x7f2c5a3f0000, 1, [{0x55d0c8 pread fd=3 (now /tmp/x) buf=0x7f2c5a200000 nbytes=4096 offset=8192}]) = 1 <12.3us>
//! ```
//! The time is when the call returned. Lists longer than [`SHORT`] are cut, unless `verbose` is set.

mod again;
mod calls;
mod gathered;
mod notes;
mod polls;
mod words;

use std::{
    collections::HashMap,
    io::{self, Write},
};

use anstyle::{AnsiColor, Style};
use jiff::tz::TimeZone;

pub(crate) use self::words::{hex, signal};
use self::words::{made_by, number};
use super::{
    Ended, Output, Rows, Start,
    clock::{Clock, Format, Stamps},
    escape::{escape, escaped},
    lines::Lines,
    paths::Paths,
    people::{People, Person},
    report,
};
use crate::{
    event::{Body, Event, How},
    model::{Finding, Outcome, Report, Rules, Severity, Verdict},
    stacks::Symbolizer,
};
use aiotrace_model::trace::Probes;

/// Items shown of a list without `verbose`.
pub const SHORT: usize = 4;

/// Most processes whose names are remembered.
const MOST_NAMES: usize = 65_536;

/// How text is written.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Use colours.
    pub color: bool,
    /// Show whole lists, completions, and the state of rings.
    pub verbose: bool,
    /// How times are written.
    pub time: Format,
    /// Show stacks below their calls; `verbose` shows them, too.
    pub stacks: bool,
    /// Some calls are left out of the output.
    pub in_part: bool,
}

/// Shows a trace as lines of text.
pub struct Text<W> {
    lines: Lines<W>,
    options: Options,
    zone: TimeZone,
    stamps: Stamps,
    paths: Paths,
    symbols: Symbolizer,
    names: HashMap<u32, Vec<u8>, foldhash::fast::RandomState>,
    rules: Rules,
    gathered: Option<gathered::Gathered>,
    again: again::Again,
    polls: polls::Polls,
    people: People,
    /// The latest time that a line has.
    latest: u64,
}

const DIM: Style = Style::new().dimmed();
const NAME: Style = AnsiColor::Cyan.on_default();
const CALL: Style = Style::new().bold();
const ERROR: Style = AnsiColor::Red.on_default().bold();
/// If an event is older than this when its line is written, the line says when it happened (nanoseconds).
const LATE: u64 = 1_000_000;
const NOTE: Style = AnsiColor::Yellow.on_default();

impl<W: Write> Text<W> {
    /// Writes to `out`. Local times are those of `zone`.
    pub fn new(out: W, options: Options, paths: Paths, zone: TimeZone) -> Self {
        let unknown = Clock { start: 0, to_wall: 0, to_boot: 0 };
        let stamps = Stamps::new(options.time, unknown, zone.clone());
        let symbols = Symbolizer::none();
        let (lines, names) = (Lines::new(out), HashMap::default());
        let rules = Rules::default();
        let polls = polls::Polls::default();
        Self {
            lines,
            options,
            zone,
            stamps,
            paths,
            symbols,
            names,
            rules,
            gathered: None,
            again: again::Again::default(),
            polls,
            people: People::default(),
            latest: 0,
        }
    }

    /// Takes the names of functions in stacks from `symbols`.
    #[must_use]
    pub fn with_symbols(self, symbols: Symbolizer) -> Self {
        Self { symbols, ..self }
    }

    /// Remembers the name of a process. The number of names is bounded, because the event of a process's end may be
    /// lost.
    fn name(&mut self, pid: u32, name: &[u8]) {
        if self.names.len() < MOST_NAMES || self.names.contains_key(&pid) {
            self.names.insert(pid, name.to_vec());
        }
    }

    fn name_if_unknown(&mut self, pid: u32, name: &[u8]) {
        if !self.names.contains_key(&pid) {
            self.name(pid, name);
        }
    }

    fn styled(&mut self, style: Style, text: &str) {
        self.styled_bytes(style, |line| line.extend_from_slice(text.as_bytes()));
    }

    fn styled_bytes(&mut self, style: Style, write: impl FnOnce(&mut Vec<u8>)) {
        if self.options.color {
            let _ = write!(self.lines.line, "{}", style.render());
            write(&mut self.lines.line);
            let _ = write!(self.lines.line, "{}", style.render_reset());
        } else {
            write(&mut self.lines.line);
        }
    }

    /// Writes the time, the name of the process, and the ids.
    fn begin(&mut self, event: &Event) {
        self.begin_at(event.time, event.pid, event.tid);
    }

    fn begin_at(&mut self, time: u64, pid: u32, tid: u32) {
        if self.options.color {
            let _ = write!(self.lines.line, "{}", DIM.render());
        }
        self.latest = self.latest.max(time);
        self.stamps.write(&mut self.lines.line, time);
        if self.options.color {
            let _ = write!(self.lines.line, "{}", DIM.render_reset());
        }
        self.lines.line.push(b' ');
        let mut line = std::mem::take(&mut self.lines.line);
        let name = self.names.get(&pid);
        if self.options.color {
            let _ = write!(line, "{}", NAME.render());
        }
        if let Some(name) = name {
            escape(&mut line, name);
            line.push(b':');
        }
        number(&mut line, pid);
        if tid != pid {
            line.push(b'/');
            number(&mut line, tid);
        }
        if self.options.color {
            let _ = write!(line, "{}", NAME.render_reset());
        }
        line.push(b' ');
        self.lines.line = line;
    }

    /// Begins a line about something that was found out late. Lines are in the order of time, so the line has the
    /// time of the latest one. Returns `; at 0.104512 s` if the event was some time before that.
    fn begin_late(&mut self, time: u64, pid: u32, tid: u32) -> String {
        let shown = time.max(self.latest);
        self.begin_at(shown, pid, tid);
        match shown - time < LATE {
            true => String::new(),
            false => format!("; at {}", self.stamps.in_words(time, 6)),
        }
    }

    /// Puts a severity into its colour.
    fn paint(&self) -> impl Fn(Severity, &str) -> String + use<W> {
        let color = self.options.color;
        move |severity, text| {
            let style = match severity {
                Severity::Error => ERROR,
                Severity::Warning => NOTE,
                Severity::Info => DIM,
            };
            if color {
                format!("{}{text}{}", style.render(), style.render_reset())
            } else {
                text.to_owned()
            }
        }
    }
}

impl<W: Write> Output for Text<W> {
    fn start(&mut self, start: &Start) -> io::Result<()> {
        self.stamps = Stamps::new(self.options.time, start.clock, self.zone.clone());
        self.rules = Rules::of(start.faults.as_ref());
        if !start.lacks.is_empty() {
            let lacks = escaped(start.lacks.join("; ").as_bytes());
            let probes = if start.probes == Probes::Ptrace { "" } else { " probes" };
            let name = escaped(start.probes.text().as_bytes());
            let text = format!("--- {name}{probes}; not seen: {lacks} ---");
            self.styled(DIM, &text);
            self.lines.end()?;
        }
        let Some(faults) = &start.faults else { return Ok(()) };
        let rules = faults.rules.iter().enumerate();
        let rules = rules.map(|(index, it)| {
            let text = escaped(it.text.as_bytes());
            let would = if faults.dry_run { "would act " } else { "" };
            let mechanism = escaped(it.mechanism.as_bytes());
            format!("; rule {} {text} {would}by {mechanism}", index + 1)
        });
        let dry_run = if faults.dry_run { " (dry run)" } else { "" };
        let rules: String = rules.collect();
        let text = format!("--- faults{dry_run}: seed {}{rules} ---", faults.seed);
        self.styled(NOTE, &text);
        self.lines.end()
    }

    fn event(&mut self, event: &Event) -> io::Result<()> {
        if self.gathers(event)? {
            return Ok(());
        }
        self.tell_gathered()?;
        match &event.body {
            Body::Call(call) => {
                if !self.options.in_part {
                    self.polls.submitted(event.pid, &call.args);
                }
                self.begin(event);
                self.call(event, call);
            }
            Body::Unfinished(call) => {
                self.begin(event);
                self.unfinished(event, call);
            }
            Body::Completion(completion) => {
                if !self.options.verbose {
                    return Ok(());
                }
                self.begin(event);
                self.completion(event, completion);
            }
            Body::Refused(refused) => {
                self.begin(event);
                self.refused(refused);
            }
            Body::ContextGone(gone) => {
                // The line of io_destroy itself says this.
                if gone.how == How::Destroy && gone.in_flight == Some(0) && !self.options.verbose {
                    return Ok(());
                }
                self.begin(event);
                self.gone(gone);
            }
            Body::ContextMoved(moved) => {
                self.begin(event);
                self.moved(moved);
            }
            Body::ContextAdopted(adopted) => {
                self.begin(event);
                self.adopted(adopted);
            }
            // These are answers to questions of the model, or announce completions that come later.
            Body::Looked(_) | Body::Behind(_) => return Ok(()),
            Body::Changed(changed) => {
                self.begin(event);
                self.changed(changed);
            }
            Body::Synchronous(call) => {
                self.begin(event);
                self.synchronous(event, call);
            }
            Body::Lost { records } => {
                self.polls.forget();
                self.begin(event);
                let text = match records {
                    0 => "+++ records were lost; it is unknown whose they were +++".to_owned(),
                    _ => format!("+++ {records} records of this thread were lost +++"),
                };
                self.styled(ERROR, &text);
            }
            Body::Process(process) => {
                if !self.process(event, process) {
                    return Ok(());
                }
            }
        }
        self.lines.end()
    }

    fn thinned(&mut self, hidden: u64) -> io::Result<()> {
        self.tell_gathered()?;
        self.polls.forget();
        let text = format!(
            "... {hidden} lines not shown (a terminal gets at most 200 a second; -o FILE gets all)"
        );
        self.styled(NOTE, &text);
        self.lines.end()
    }

    fn person(&mut self, person: &Person) -> io::Result<()> {
        self.people.add(person);
        Ok(())
    }

    fn finding(&mut self, finding: &Finding) -> io::Result<()> {
        self.tell_gathered()?;
        let text = report::in_words(finding, &self.paint());
        // The process may be gone, so that its name cannot be looked up any more.
        self.name_if_unknown(finding.pid, &finding.process);
        let tid = finding.tid.unwrap_or(finding.pid);
        // It may run another program by now.
        let name = self.names.get_mut(&finding.pid).filter(|_| !finding.process.is_empty());
        let now = name.map(|it| std::mem::replace(it, finding.process.clone()));
        let late = self.begin_late(finding.time, finding.pid, tid);
        if let (Some(name), Some(now)) = (self.names.get_mut(&finding.pid), now) {
            *name = now;
        }
        self.lines.line.extend_from_slice(b"*** ");
        self.lines.line.extend_from_slice(text.as_bytes());
        if let Some(fd) = finding.request.map(|it| it.fd)
            && let Some(path) = self.paths.now(finding.pid, fd, finding.time)
        {
            self.lines.line.extend_from_slice(b" (fd now ");
            escape(&mut self.lines.line, path);
            self.lines.line.push(b')');
        }
        self.lines.line.extend_from_slice(made_by(&self.symbols, finding).as_bytes());
        self.lines.line.extend_from_slice(late.as_bytes());
        self.lines.line.extend_from_slice(b" ***");
        let shows_stacks = self.options.verbose || self.options.stacks;
        if let Some(stack) = finding.stack.as_ref().filter(|_| shows_stacks) {
            self.stack(finding.pid, stack);
        }
        self.lines.end()
    }

    fn verdict(&mut self, verdict: &Verdict) -> io::Result<()> {
        // The process may be gone, so that its name cannot be looked up any more.
        self.name_if_unknown(verdict.pid, &verdict.process);
        if !self.options.verbose && self.again.is_one_more(verdict) {
            return Ok(());
        }
        self.tell_gathered()?;
        self.latest = self.latest.max(verdict.told);
        let late = self.begin_late(verdict.time, verdict.pid, verdict.tid);
        let anew = if verdict.anew { "after all, " } else { "" };
        let path = verdict.path.clone().or_else(|| {
            let first = verdict.first?;
            self.paths.now(verdict.pid, first.fd, verdict.time).map(<[u8]>::to_vec)
        });
        let path = path.map(|it| escaped(&it));
        let message = verdict.message_with(path.as_deref());
        let text = format!("*** fault {}: {anew}{message}{late} ***", verdict.what());
        let is_bad = matches!(
            verdict.outcome,
            Outcome::Lost | Outcome::Reported | Outcome::Leaked | Outcome::Hung | Outcome::Died
        );
        self.styled(if is_bad { ERROR } else { NOTE }, &text);
        self.lines.end()
    }

    fn report(&mut self, end: &Ended, report: &Report, _: Option<&Rows>) -> io::Result<()> {
        self.tell_gathered()?;
        self.tell_again()?;
        let paint = self.paint();
        let made_by = |finding: &Finding| made_by(&self.symbols, finding);
        let mut text = Vec::new();
        let people = &self.people;
        let stamps = &self.stamps;
        let style = report::Style { stamps, paint: &paint, made_by: &made_by, people };
        report::write(&mut text, end, report, &style, &mut self.paths);
        self.lines.line.extend_from_slice(&text);
        self.lines.line.pop_if(|last| *last == b'\n');
        self.lines.end()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tell_gathered()?;
        self.lines.flush()
    }
}
