//! One line per call, as strace writes them, with names for everything that has one:
//!
//! ```text
//!    0.104512 fio:4713 io_submit(0x7f2c5a3f0000, 1, [{0x55d0c8 pread fd=3 (now /tmp/x) buf=0x7f2c5a200000 nbytes=4096 offset=8192}]) = 1 <12.3us>
//! ```
//! The time is that of the return. Lists longer than [`SHORT`] are cut, unless asked otherwise.

use std::{
    collections::HashMap,
    io::{self, Write},
};

use anstyle::{AnsiColor, Style};
use jiff::tz::TimeZone;

use super::{
    Ended, Output, Start,
    clock::{self, Clock, Format, Stamps},
    escape::{escape, escaped},
    lines::Lines,
    paths::Paths,
    report,
};
use crate::{
    counted::Counted,
    errno,
    event::{
        Address, Adopted, Args, Body, Call, Change, Changed, Completion, Effect, Entry, Event,
        ExitStatus, Fault, Gone, How, IOCB_FLAGS, IoEvent, Iocb, Moved, POLL_EVENTS, Process,
        RW_FLAGS, Refused, Ring, Sigset, Stack, Timespec, Unfinished, Why, errno_name, opcode_name,
    },
    model::{Finding, Outcome, Report, Rules, Severity, Verdict, rules::Acts},
    stacks::{Named, Symbolizer, culprit},
};

/// Items shown of a list, unless verbose.
pub const SHORT: usize = 4;

/// How text is written.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// With colours.
    pub color: bool,
    /// Whole lists, completions, and what is in the ring.
    pub verbose: bool,
    /// How times are written.
    pub time: Format,
    /// Stacks below their calls; `verbose` shows them, too.
    pub stacks: bool,
}

/// Writes lines.
pub struct Text<W> {
    lines: Lines<W>,
    options: Options,
    zone: TimeZone,
    stamps: Stamps,
    paths: Paths,
    symbols: Symbolizer,
    names: HashMap<u32, Vec<u8>, foldhash::fast::RandomState>,
    rules: Rules,
}

const DIM: Style = Style::new().dimmed();
const NAME: Style = AnsiColor::Cyan.on_default();
const CALL: Style = Style::new().bold();
const ERROR: Style = AnsiColor::Red.on_default().bold();
const NOTE: Style = AnsiColor::Yellow.on_default();

impl<W: Write> Text<W> {
    /// Writes to `out`. Local times are those of `zone`.
    pub fn new(out: W, options: Options, paths: Paths, zone: TimeZone) -> Self {
        let unknown = Clock { start: 0, to_wall: 0 };
        let stamps = Stamps::new(options.time, unknown, zone.clone());
        let symbols = Symbolizer::none();
        let (lines, names) = (Lines::new(out), HashMap::default());
        let rules = Rules::default();
        Self { lines, options, zone, stamps, paths, symbols, names, rules }
    }

    /// Functions in stacks have the names that `symbols` finds.
    #[must_use]
    pub fn with_symbols(self, symbols: Symbolizer) -> Self {
        Self { symbols, ..self }
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

    /// Time, name, ids.
    fn begin(&mut self, event: &Event) {
        self.begin_at(event.time, event.pid, event.tid);
    }

    fn begin_at(&mut self, time: u64, pid: u32, tid: u32) {
        if self.options.color {
            let _ = write!(self.lines.line, "{}", DIM.render());
        }
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

    fn call(&mut self, event: &Event, call: &Call) {
        self.arguments(event, &call.args);
        self.result(call);
        if call.compat {
            self.lines.line.extend_from_slice(b" (32-bit)");
        }
        match call.entry {
            Entry::Seen => (),
            Entry::BeforeAttach => self.styled(NOTE, " (began before the attach)"),
            Entry::Denied => self.styled(NOTE, " (denied: seccomp answered, not the kernel's AIO)"),
            Entry::Missed => self.styled(NOTE, " (its beginning was missed)"),
        }
        if let Some(fault) = call.fault {
            let delays = self.rules.acts(fault.rule) == Some(Acts::Delay);
            let done = if delays { "DELAYED" } else { "INJECTED" };
            self.fault(fault, done);
        }
        if let Some(entered) = call.entered {
            self.lines.line.extend_from_slice(b" <");
            clock::duration(&mut self.lines.line, event.time.saturating_sub(entered));
            self.lines.line.push(b'>');
        }
        if self.options.verbose {
            self.rings(call);
        }
        if let Some(stack) =
            call.stack.as_ref().filter(|_| self.options.verbose || self.options.stacks)
        {
            self.stack(stack);
        }
    }

    /// ` (INJECTED: rule 1)`
    fn fault(&mut self, Fault { rule, effect }: Fault, done: &str) {
        let text = match effect {
            Effect::Done => format!(" ({done}: rule {rule})"),
            Effect::WouldBe => format!(" (would be {done}: rule {rule})"),
            Effect::Missed => format!(" (not {done}: rule {rule} cannot act here)"),
        };
        self.styled(NOTE, &text);
    }

    fn result(&mut self, call: &Call) {
        self.lines.line.extend_from_slice(b" = ");
        if call.ret >= 0 {
            number(&mut self.lines.line, call.ret);
            return;
        }
        // What the program sees through the raw system call: -1 and errno.
        match errno_name(call.ret) {
            Some(name) if call.ret <= -512 => {
                self.styled(NOTE, "? ");
                self.styled(NOTE, name);
                self.lines
                    .line
                    .extend_from_slice(b" (the program sees EINTR, or the call starts again)");
            }
            Some(name) => {
                self.styled_bytes(ERROR, |line| {
                    line.extend_from_slice(b"-1 ");
                    line.extend_from_slice(name.as_bytes());
                });
                let text = errno::text(-call.ret as i32).unwrap_or_default();
                let _ = write!(self.lines.line, " ({text})");
            }
            None => number(&mut self.lines.line, call.ret),
        }
    }

    fn arguments(&mut self, event: &Event, args: &Args) {
        self.styled(CALL, args.syscall().name());
        self.lines.line.push(b'(');
        match args {
            Args::Setup { nr_events, ctxp, stored } => {
                number(&mut self.lines.line, *nr_events);
                self.lines.line.extend_from_slice(b", ");
                match stored {
                    // Only a failed call leaves 0 there.
                    Some(handle) if handle.0 != 0 => {
                        self.lines.line.push(b'[');
                        hex(&mut self.lines.line, handle.0);
                        self.lines.line.push(b']');
                    }
                    _ => address(&mut self.lines.line, *ctxp),
                }
            }
            Args::Destroy { ctx } => hex(&mut self.lines.line, ctx.0),
            Args::Submit { ctx, nr, iocbpp, iocbs, truncated } => {
                hex(&mut self.lines.line, ctx.0);
                self.lines.line.extend_from_slice(b", ");
                number(&mut self.lines.line, *nr);
                self.lines.line.extend_from_slice(b", ");
                if iocbs.is_empty() {
                    address(&mut self.lines.line, *iocbpp);
                } else {
                    let fd_before = &mut None;
                    self.list(iocbs, *truncated, |text, iocb| text.iocb(event, iocb, fd_before));
                }
            }
            Args::Getevents {
                ctx,
                min_nr,
                nr,
                events,
                timeout,
                timeout_value,
                sigset,
                sigset_value,
                list,
                truncated,
                changed,
                ..
            } => {
                hex(&mut self.lines.line, ctx.0);
                for value in [min_nr, nr] {
                    self.lines.line.extend_from_slice(b", ");
                    number(&mut self.lines.line, *value);
                }
                self.lines.line.extend_from_slice(b", ");
                if list.is_empty() {
                    address(&mut self.lines.line, *events);
                } else {
                    let mut index = 0;
                    self.list(list, *truncated, |text, event| {
                        match event {
                            Some(event) => text.io_event(event, changed.contains(&index)),
                            None => text.lines.line.extend_from_slice(b"?"),
                        }
                        index += 1;
                    });
                }
                self.lines.line.extend_from_slice(b", ");
                timespec(&mut self.lines.line, *timeout, *timeout_value);
                if args.syscall() == crate::event::Syscall::Pgetevents {
                    self.lines.line.extend_from_slice(b", ");
                    signal_set(&mut self.lines.line, *sigset, *sigset_value);
                }
            }
            Args::Cancel { ctx, iocb, result, value } => {
                hex(&mut self.lines.line, ctx.0);
                self.lines.line.extend_from_slice(b", ");
                let iocb = Iocb { address: Some(*iocb), value: *value, read_late: false };
                self.iocb(event, &Some(iocb), &mut None);
                self.lines.line.extend_from_slice(b", ");
                address(&mut self.lines.line, *result);
            }
        }
        self.lines.line.push(b')');
    }

    fn list<T>(&mut self, items: &[T], truncated: u64, mut show: impl FnMut(&mut Self, &T)) {
        let shown = if self.options.verbose { items.len() } else { items.len().min(SHORT) };
        self.lines.line.push(b'[');
        for (index, item) in items[..shown].iter().enumerate() {
            if index > 0 {
                self.lines.line.extend_from_slice(b", ");
            }
            show(self, item);
        }
        let hidden = (items.len() - shown) as u64 + truncated;
        if hidden > 0 {
            let _ = write!(self.lines.line, ", ... {hidden} more");
        }
        self.lines.line.push(b']');
    }

    /// `fd_before`: the file of the iocb before this one, whose path need not be repeated.
    fn iocb(&mut self, event: &Event, iocb: &Option<Iocb>, fd_before: &mut Option<u32>) {
        let Some(iocb) = iocb else {
            self.lines.line.extend_from_slice(b"{lost}");
            return;
        };
        let Some(at) = iocb.address else {
            self.lines.line.extend_from_slice(b"{pointer unread}");
            return;
        };
        let Some(value) = iocb.value else {
            self.lines.line.push(b'{');
            address(&mut self.lines.line, at);
            self.lines.line.extend_from_slice(b" unread}");
            return;
        };
        self.lines.line.push(b'{');
        hex(&mut self.lines.line, at.0);
        self.lines.line.push(b' ');
        match opcode_name(value.opcode) {
            Some(name) => self.lines.line.extend_from_slice(name.as_bytes()),
            None => {
                let _ = write!(self.lines.line, "opcode={}", value.opcode);
            }
        }
        self.lines.line.extend_from_slice(b" fd=");
        number(&mut self.lines.line, value.fildes as i32);
        if *fd_before != Some(value.fildes) {
            *fd_before = Some(value.fildes);
            if let Some(path) = self.paths.now(event.pid, value.fildes, event.time) {
                self.lines.line.extend_from_slice(b" (now ");
                escape(&mut self.lines.line, path);
                self.lines.line.push(b')');
            }
        }
        let line = &mut self.lines.line;
        match value.opcode {
            5 => {
                line.extend_from_slice(b" events=");
                flags(line, value.buf, &POLL_EVENTS);
            }
            2 | 3 => (),
            7 | 8 => {
                field(line, "iov", value.buf);
                count(line, "iovcnt", value.nbytes);
                count(line, "offset", value.offset);
            }
            _ => {
                field(line, "buf", value.buf);
                count(line, "nbytes", value.nbytes);
                count(line, "offset", value.offset);
            }
        }
        if value.data != 0 {
            field(line, "data", value.data);
        }
        if value.rw_flags != 0 {
            line.extend_from_slice(b" rw_flags=");
            flags(line, u64::from(value.rw_flags), &RW_FLAGS);
        }
        if value.flags != 0 {
            line.extend_from_slice(b" flags=");
            flags(line, u64::from(value.flags), &IOCB_FLAGS);
        }
        if value.flags & 1 != 0 {
            count(line, "resfd", value.resfd as i32);
        }
        if value.reqprio != 0 {
            count(line, "reqprio", value.reqprio);
        }
        if value.reserved2 != 0 {
            field(line, "reserved2", value.reserved2);
        }
        if iocb.read_late {
            line.extend_from_slice(b" read_late");
        }
        line.push(b'}');
    }

    fn io_event(&mut self, event: &IoEvent, is_injected: bool) {
        self.lines.line.push(b'{');
        hex(&mut self.lines.line, event.obj);
        if event.data != 0 {
            field(&mut self.lines.line, "data", event.data);
        }
        self.res(event.res);
        if event.res2 != 0 {
            count(&mut self.lines.line, "res2", event.res2);
        }
        if is_injected {
            self.styled(NOTE, " INJECTED");
        }
        self.lines.line.push(b'}');
    }

    fn rings(&mut self, call: &Call) {
        let show = |line: &mut Vec<u8>, label: &str, ring: Option<Ring>| {
            if let Some(ring) = ring {
                let Ring { head, tail, nr } = ring;
                let unreaped = ring.unreaped();
                let _ =
                    write!(line, " {label}[head={head} tail={tail} nr={nr} unreaped={unreaped}]");
            }
        };
        show(&mut self.lines.line, "ring_before", call.ring_before);
        show(&mut self.lines.line, "ring", call.ring);
    }

    /// A line for each function, `at function (file:line)`.
    fn stack(&mut self, stack: &Stack) {
        for named in self.symbols.describe(stack) {
            self.lines.line.push(b'\n');
            self.styled_bytes(DIM, |line| {
                line.extend_from_slice(b"    at ");
                function(line, &named);
            });
        }
        if stack.truncated {
            self.lines.line.push(b'\n');
            self.styled(DIM, "    ... (its callers are not known)");
        }
    }

    /// `completion(ctx, {...})`; before its time, if that is not exact, stands an arrow.
    fn completion(&mut self, event: &Event, completion: &Completion) {
        self.styled(CALL, "completion");
        self.lines.line.push(b'(');
        hex(&mut self.lines.line, completion.ctx.0);
        self.lines.line.extend_from_slice(b", ");
        match &completion.event {
            Some(it) => self.io_event(it, false),
            None => self.lines.line.extend_from_slice(b"unread"),
        }
        self.lines.line.push(b')');
        match completion.since {
            None => (),
            Some(0) => self.lines.line.extend_from_slice(b" <some time before>"),
            Some(since) => {
                self.lines.line.extend_from_slice(b" <in the last ");
                clock::duration(&mut self.lines.line, event.time.saturating_sub(since));
                self.lines.line.push(b'>');
            }
        }
    }

    /// `completion of iocb 0x55d0c8: res=-5 EIO (INJECTED: rule 1), the kernel gave res=4096`
    fn changed(&mut self, changed: &Changed) {
        self.styled(CALL, "completion");
        self.lines.line.extend_from_slice(b" of iocb ");
        hex(&mut self.lines.line, changed.event.obj);
        self.lines.line.push(b':');
        self.res(changed.res);
        self.fault(changed.fault, "INJECTED");
        self.lines.line.extend_from_slice(b", the kernel gave");
        self.res(changed.event.res);
    }

    fn res(&mut self, res: i64) {
        count(&mut self.lines.line, "res", res);
        if let Some(name) = errno_name(res) {
            self.lines.line.push(b' ');
            self.styled(ERROR, name);
        }
    }

    fn refused(&mut self, refused: &Refused) {
        self.styled(NOTE, "+++ refused");
        let line = &mut self.lines.line;
        let _ = write!(line, " iocbs[{}]", refused.index);
        if let Some(at) = refused.iocb {
            line.push(b' ');
            address(line, at);
        }
        line.extend_from_slice(b": ");
        match errno_name(refused.ret) {
            Some(name) => {
                let text = errno::text(-refused.ret as i32).unwrap_or_default();
                let text = format!("{name} ({text})");
                self.styled(ERROR, &text);
            }
            None => number(line, refused.ret),
        }
        self.styled(NOTE, " +++");
    }

    fn gone(&mut self, gone: &Gone) {
        self.styled(NOTE, "+++ context ");
        hex(&mut self.lines.line, gone.ctx.0);
        let how = match gone.how {
            How::Destroy => " destroyed",
            How::Exit => " gone: the process exits",
            How::Exec => " gone: the process runs a new program",
        };
        self.styled(NOTE, how);
        match gone.in_flight {
            None => self.styled(NOTE, ", requests in flight unknown"),
            Some(0) => (),
            Some(1) => self.styled(NOTE, ", 1 request in flight"),
            Some(count) => {
                let text = format!(", {count} requests in flight");
                self.styled(NOTE, &text);
            }
        }
        self.styled(NOTE, " +++");
    }

    fn adopted(&mut self, adopted: &Adopted) {
        self.styled(NOTE, "+++ adopted context ");
        hex(&mut self.lines.line, adopted.ctx.0);
        let mut text = String::new();
        if let Some(charge) = adopted.charge {
            text.push_str(&format!(", {charge} of fs.aio-nr"));
        }
        match adopted.ring {
            Some(ring) => {
                let (room, unreaped) = (ring.nr.saturating_sub(1), ring.unreaped());
                text.push_str(&format!(", room for {room}, {unreaped} unreaped"));
            }
            None => text.push_str(", its ring cannot be read"),
        }
        self.styled(NOTE, &text);
        self.styled(NOTE, " +++");
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

    fn moved(&mut self, moved: &Moved) {
        self.styled(NOTE, "+++ context ");
        hex(&mut self.lines.line, moved.from.0);
        self.styled(NOTE, " is now ");
        hex(&mut self.lines.line, moved.to.0);
        self.styled(NOTE, " (its ring was moved) +++");
    }

    fn unfinished(&mut self, event: &Event, call: &Unfinished) {
        self.arguments(event, &call.args);
        self.lines.line.push(b' ');
        let why = match call.why {
            Why::BlockedAtAttach => "<unfinished: blocked since before the attach>",
            Why::TraceEnds => "<unfinished: still in the kernel",
        };
        self.styled(NOTE, why);
        if let Some(entered) = call.entered {
            self.lines.line.extend_from_slice(b" after ");
            clock::duration(&mut self.lines.line, event.time.saturating_sub(entered));
            self.lines.line.push(b'>');
        }
    }

    fn process(&mut self, event: &Event, process: &Process) -> bool {
        if process.change != Change::Attached || !self.names.contains_key(&event.pid) {
            // A thread may have a name of its own; the process has its leader's.
            self.names.insert(event.pid, process.name.clone());
        }
        let before = self.lines.line.len();
        self.begin(event);
        match &process.change {
            // Who makes calls is seen in the calls.
            Change::Seen => {
                self.lines.line.truncate(before);
                return false;
            }
            Change::Attached => self.styled(NOTE, "+++ attached +++"),
            Change::Fork { child, followed } => {
                if *followed {
                    self.names.insert(*child, process.name.clone());
                }
                let followed = if *followed { "traced" } else { "not traced" };
                let text = format!("+++ created process {child} ({followed}) +++");
                self.styled(NOTE, &text);
            }
            Change::Exec { path } => {
                self.paths.forget(event.pid);
                self.styled_bytes(NOTE, |line| {
                    line.extend_from_slice(b"+++ runs \"");
                    escape(line, path);
                    line.extend_from_slice(b"\" +++");
                });
            }
            Change::Exit { status } => {
                let text = match status {
                    ExitStatus::Code(code) => format!("+++ exited with {code} +++"),
                    ExitStatus::Signal(number) => format!("+++ killed by {} +++", signal(*number)),
                };
                self.styled(NOTE, &text);
                self.names.remove(&event.pid);
                self.paths.forget(event.pid);
            }
        }
        true
    }
}

impl<W: Write> Output for Text<W> {
    fn start(&mut self, start: &Start) -> io::Result<()> {
        self.stamps = Stamps::new(self.options.time, start.clock, self.zone.clone());
        self.rules = Rules::of(start.faults.as_ref());
        if !start.lacks.is_empty() {
            let lacks = start.lacks.join("; ");
            let probes = if start.probes == "ptrace" { "" } else { " probes" };
            let text = format!("--- {}{probes}; not seen: {lacks} ---", start.probes);
            self.styled(DIM, &text);
            self.lines.end()?;
        }
        let Some(faults) = &start.faults else { return Ok(()) };
        let rules = faults.rules.iter().enumerate();
        let rules = rules.map(|(index, it)| {
            let text = escaped(it.text.as_bytes());
            let would = if faults.dry_run { "would act " } else { "" };
            format!("; rule {} {text} {would}by {}", index + 1, it.mechanism)
        });
        let dry_run = if faults.dry_run { " (dry run)" } else { "" };
        let rules: String = rules.collect();
        let text = format!("--- faults{dry_run}: seed {}{rules} ---", faults.seed);
        self.styled(NOTE, &text);
        self.lines.end()
    }

    fn event(&mut self, event: &Event) -> io::Result<()> {
        match &event.body {
            Body::Call(call) => {
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
                // io_destroy tells it.
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
            // The model asked for it.
            Body::Looked(_) => return Ok(()),
            Body::Changed(changed) => {
                self.begin(event);
                self.changed(changed);
            }
            Body::Lost { records } => {
                self.begin(event);
                let text = match records {
                    0 => "+++ records were lost, it is not known whose +++".to_owned(),
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

    fn counted(&mut self, _: &Counted) -> io::Result<()> {
        // The report has it.
        Ok(())
    }

    fn thinned(&mut self, hidden: u64) -> io::Result<()> {
        let text = format!(
            "... {hidden} lines not shown (a terminal gets at most 200 a second; -o FILE gets all)"
        );
        self.styled(NOTE, &text);
        self.lines.end()
    }

    fn finding(&mut self, finding: &Finding) -> io::Result<()> {
        let text = report::in_words(finding, &self.paint());
        // The process may be gone.
        self.names.entry(finding.pid).or_insert_with(|| finding.process.clone());
        self.begin_at(finding.time, finding.pid, finding.tid.unwrap_or(finding.pid));
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
        self.lines.line.extend_from_slice(b" ***");
        if let Some(stack) = finding.stack.as_ref().filter(|_| self.options.verbose) {
            self.stack(stack);
        }
        self.lines.end()
    }

    fn verdict(&mut self, verdict: &Verdict) -> io::Result<()> {
        // The process may be gone.
        self.names.entry(verdict.pid).or_insert_with(|| verdict.process.clone());
        self.begin_at(verdict.time, verdict.pid, verdict.tid);
        let anew = if verdict.anew { "after all, " } else { "" };
        let text = format!("*** fault {}: {anew}{} ***", verdict.what(), verdict.message());
        let is_bad = matches!(
            verdict.outcome,
            Outcome::Lost | Outcome::Leaked | Outcome::Hung | Outcome::Died
        );
        self.styled(if is_bad { ERROR } else { NOTE }, &text);
        self.lines.end()
    }

    fn report(&mut self, end: &Ended, report: &Report) -> io::Result<()> {
        let paint = self.paint();
        let made_by = |finding: &Finding| made_by(&self.symbols, finding);
        let mut text = Vec::new();
        report::write(&mut text, end, report, &paint, &made_by, &mut self.paths);
        self.lines.line.extend_from_slice(&text);
        self.lines.line.pop_if(|last| *last == b'\n');
        self.lines.end()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.lines.flush()
    }
}

fn number(line: &mut Vec<u8>, value: impl itoa::Integer) {
    line.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn count(line: &mut Vec<u8>, name: &str, value: impl itoa::Integer) {
    line.push(b' ');
    line.extend_from_slice(name.as_bytes());
    line.push(b'=');
    number(line, value);
}

fn field(line: &mut Vec<u8>, name: &str, value: u64) {
    line.push(b' ');
    line.extend_from_slice(name.as_bytes());
    line.push(b'=');
    hex(line, value);
}

/// `0x` and the digits needed.
pub(super) fn hex(line: &mut Vec<u8>, value: u64) {
    line.extend_from_slice(b"0x");
    let digits = (16 - value.leading_zeros() as usize / 4).max(1);
    for index in (0..digits).rev() {
        line.push(b"0123456789abcdef"[(value >> (index * 4) & 15) as usize]);
    }
}

fn address(line: &mut Vec<u8>, value: Address) {
    if value.0 == 0 {
        line.extend_from_slice(b"NULL");
    } else {
        hex(line, value.0);
    }
}

/// `function (file:line)`, or what of it is known.
/// Functions told of who made a context: programs have functions of their own around system calls.
const MAKERS: usize = 4;

/// `, made by function (file:line) <- caller (file:line)`, or nothing if that is not known.
fn made_by(symbols: &Symbolizer, finding: &Finding) -> String {
    let Some(stack) = &finding.stack else { return String::new() };
    let named = symbols.describe(stack);
    let Some(first) = culprit(&named) else { return String::new() };
    let own = named.iter().skip_while(|it| !std::ptr::eq(*it, first)).take(MAKERS);
    let mut text = Vec::new();
    for (index, maker) in own.enumerate() {
        text.extend_from_slice(if index == 0 { b", made by " } else { b" <- " });
        function(&mut text, maker);
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn function(line: &mut Vec<u8>, named: &Named) {
    let place = |line: &mut Vec<u8>| match (&named.module, named.offset) {
        (Some(module), Some(offset)) => {
            escape(line, &module.path);
            line.push(b'+');
            hex(line, offset);
        }
        _ => hex(line, named.address),
    };
    let Some(name) = &named.function else {
        return place(line);
    };
    escape(line, name.as_bytes());
    line.extend_from_slice(b" (");
    match &named.file {
        Some(file) => {
            escape(line, file.as_bytes());
            if let Some(number) = named.line {
                let _ = write!(line, ":{number}");
            }
        }
        None => place(line),
    }
    line.push(b')');
}

fn timespec(line: &mut Vec<u8>, at: Address, value: Option<Timespec>) {
    match value {
        Some(Timespec { sec, nsec }) if at.0 != 0 => {
            let _ = write!(line, "{{tv_sec={sec}, tv_nsec={nsec}}}");
        }
        _ => address(line, at),
    }
}

fn signal_set(line: &mut Vec<u8>, at: Address, value: Option<Sigset>) {
    let Some(set) = value else {
        return address(line, at);
    };
    line.extend_from_slice(b"{sigmask=");
    match set.mask {
        Some(mask) => {
            line.push(b'[');
            for (index, number) in (1..=64).filter(|it| mask >> (it - 1) & 1 == 1).enumerate() {
                if index > 0 {
                    line.push(b' ');
                }
                line.extend_from_slice(signal(number).trim_start_matches("SIG").as_bytes());
            }
            line.push(b']');
        }
        None => address(line, set.address),
    }
    line.push(b',');
    count(line, "sigsetsize", set.size);
    line.push(b'}');
}

/// The name of a signal.
pub(crate) fn signal(number: i32) -> String {
    match nix::sys::signal::Signal::try_from(number) {
        Ok(signal) => signal.as_str().to_owned(),
        Err(_) if number >= 32 => format!("SIGRT_{}", number - 32),
        Err(_) => format!("signal {number}"),
    }
}

/// Names of the bits that are set, joined by `|`; the rest as a number.
fn flags(line: &mut Vec<u8>, value: u64, names: &[(u64, &str)]) {
    if value == 0 {
        line.push(b'0');
        return;
    }
    let mut rest = value;
    let mut separator = false;
    for (bit, name) in names {
        if value & bit != 0 {
            if separator {
                line.push(b'|');
            }
            separator = true;
            line.extend_from_slice(name.as_bytes());
            rest &= !bit;
        }
    }
    if rest != 0 {
        if separator {
            line.push(b'|');
        }
        hex(line, rest);
    }
}
