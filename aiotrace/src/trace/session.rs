//! One trace, from loading the probes to the last line: what `attach` and `run` share.

use std::{
    io::Write as _,
    time::{Duration, Instant},
};

use aiotrace_common::settings::target;

use super::{
    begin::{self, Begun, Source, Way},
    cgroup::Cgroup,
    conclusions::Conclusions,
    cost::{self, Meter},
    faults::{self, Chosen},
    files,
    patience::{Ending, Patience},
    recorder::{Known, Recorder},
    settings::{Junit, Settings, SourceKind},
    view,
};
use crate::{
    clock,
    errand::{self, Opened},
    event::{Body, Change, Event, Why},
    failure::{Context as _, Result},
    names::Names,
    output::{Ended, Start, junit, paths::Paths},
    proc::system::{go_first, machine as this_machine},
    source::{
        Losses,
        backlog::Message,
        bpf::machine,
        collector::{self, Reason, Stop},
        ptrace,
    },
    stacks::{Children, Debuginfod, OpenFiles, Symbolizer, Waits},
    trace,
    words::number::thousands,
};

/// How long the collecting thread has for an answer before it is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(5);

/// What is traced.
pub enum Scope {
    /// These processes.
    Processes(Vec<Opened>),
    /// All processes in a cgroup.
    Cgroup(Cgroup),
    /// All processes of the machine.
    All,
}

/// How it is traced.
pub struct Plan {
    /// The processes that are traced.
    pub scope: Scope,
    /// Whether their children are traced, too.
    pub follow: bool,
    /// `run`: whether the process is our child and has not executed its program yet. It also gets
    /// SIGINT when the user presses Ctrl-C.
    pub launched: bool,
    /// With ptrace: whether a launched program stops only at AIO calls, by a seccomp filter.
    pub filtered: bool,
    /// The time after which the launched program is ended.
    pub timeout: Option<Duration>,
}

/// How a trace ended.
pub struct Outcome {
    /// Why the trace ended.
    pub reason: Reason,
    /// Why the trace has failed, by `--fail-on` and `--fail-on-fault`; `None` if it has not.
    pub failed: Option<String>,
    /// Whether the program had to be ended because of `--timeout`.
    pub timed_out: bool,
    /// Has the status of the launched program, if aiotrace cannot wait for it itself.
    pub status: Option<ptrace::Status>,
}

/// A trace that is ready to begin.
pub struct Session<'a> {
    settings: &'a Settings,
    source: Source,
    plan: Plan,
    output: view::Opened,
    recording: Option<Recording>,
    faults: Option<Chosen>,
    files: OpenFiles,
    junit: Option<files::ToWrite>,
}

/// The parts of `--record`, before anything is written.
struct Recording {
    to: files::ToWrite,
    known: Known,
    symbols: Symbolizer,
}

impl Recording {
    fn begin(self) -> Result<Recorder> {
        Recorder::begin(self.to.file, self.known, &self.symbols)
    }
}

impl<'a> Session<'a> {
    /// Prepares the source and opens the output, so that what can fail fails before anything runs.
    /// Files are created if they do not exist; existing ones keep their content until the source
    /// has begun.
    pub fn prepare(settings: &'a Settings, plan: Plan) -> Result<Self> {
        let opens = |paths, symbols: &Symbolizer| {
            settings.view.open(paths, symbols, settings.stacks, settings.sample() > 0)
        };
        Self::showing(settings, plan, opens)
    }

    /// The same, with another output.
    pub fn showing(
        settings: &'a Settings,
        mut plan: Plan,
        opens: impl FnOnce(Paths, &Symbolizer) -> Result<view::Opened>,
    ) -> Result<Self> {
        settings.check()?;
        let fetch = settings.debuginfod.then(Debuginfod::new).transpose()?;
        let faults = choose_faults(&plan, settings)?;
        let source = Source::prepare(&mut plan, settings, faults.as_ref())?;
        let files = OpenFiles::default();
        let say = Box::new(|text| eprintln!("aiotrace: {text}"));
        let children = Children::new(files.clone(), fetch, Waits::TO_SHOW, say);
        let symbols = Symbolizer::in_children(children);
        let recording = settings.record.as_deref().map(|path| -> Result<Recording> {
            let (known, symbols) = (Known::default(), symbols.clone());
            Ok(Recording { to: files::write(path)?, known, symbols })
        });
        let recording = recording.transpose()?;
        let paths = recording.as_ref().map_or_else(Paths::of_proc, |it| it.known.paths());
        let mut output = opens(paths, &symbols)?;
        // Of little output, a recording is the slowest.
        if let (Some(Recording { to, .. }), None) = (&recording, &output.spill)
            && settings.view.says_little()
        {
            output.spill = view::spill_for(&to.file, || to.unnamed());
        }
        output.shown.only = settings.only;
        let junit = settings.junit.as_ref().map(|it| files::write(&it.path)).transpose()?;
        Ok(Self { settings, source, plan, output, recording, faults, files, junit })
    }

    /// Attaches, calls `armed`, and shows what happens until the trace is over. `armed` is passed
    /// whether the launched program must install a filter ([`crate::source::ptrace::seccomp`]).
    pub fn trace(self, armed: impl FnOnce(bool) -> Result<()>) -> Result<Outcome> {
        // Block the signals before any thread is made, so that all threads leave them to the ones
        // that handle them.
        self.source.signals().thread_block().context("cannot block signals")?;
        let stop = Stop::new().context("cannot wait for signals")?;
        stop.heed_signals(self.plan.launched).context("cannot start a thread")?;
        let start = clock::now();
        let filtered = self.source.is_filtered();
        let mut patience = Patience::of(&self.plan);
        let view::Opened { mut shown, spill, file } = self.output;
        let spills = spill.is_some();
        let targets: Vec<u32> = match &self.plan.scope {
            Scope::Processes(processes) => processes.iter().map(|it| it.pid).collect(),
            Scope::Cgroup(_) | Scope::All => Vec::new(),
        };
        let way = Way { stop, spill, start: start.start, files: self.files };
        let begun = self.source.begin(self.plan, self.settings, way)?;
        // Nothing can be refused any more, so the files may be emptied.
        file.as_ref().map_or(Ok(()), files::begin)?;
        self.junit.as_ref().map_or(Ok(()), |it| files::begin(&it.file))?;
        let recorder = self.recording.map(Recording::begin).transpose()?;
        let Begun { mut collector, mut decoder, initial, probes, lacks, .. } = begun;
        let status = begun.status;
        let mut events = 0;
        let mut conclusions = Conclusions::new(&self.settings.judged, begun.sees, recorder)
            .with_names(Names::below(&self.settings.host_root));
        let faults = self.faults.as_ref().map(Chosen::told);
        let machine = this_machine();
        let start = Start { clock: start, machine, probes, lacks, faults };
        conclusions.start(&start, &mut shown);
        for event in &initial {
            conclusions.event(event, &mut shown);
        }
        // `cargo xtask bench` waits for this line.
        tracing::debug!(target: "aiotrace::begin", "tracing begins");
        armed(filtered)?;
        patience.begin();
        if !spills {
            go_first();
        }

        let mut undecodable = 0;
        let mut meter = Meter::start();
        let attached = Instant::now();
        let end = loop {
            if let Some(time) = conclusions.settled() {
                collector.settled(time);
            }
            // Asked first: what happened until then is in the messages.
            let known = collector.known();
            let message = match collector.try_next() {
                Ok(None) => {
                    // No record waits, so this is the time to show everything.
                    if let Some(time) = patience.tells(known) {
                        conclusions.timed_out(time, &mut shown);
                    }
                    conclusions.quiet(known, &mut decoder, &mut shown);
                    shown.pause();
                    let due = conclusions.patience();
                    if due.is_zero() || patience.has_more_to_tell() {
                        collector.ask_what_is_known();
                    }
                    collector.wait_next_for(due.max(ASK_AGAIN).min(patience.left()))
                }
                other => other,
            };
            match patience.end(Instant::now()) {
                Some(Ending::Look) => collector.ask_for_report(),
                Some(Ending::Over) => patience.looks_no_longer(clock::monotonic()),
                Some(Ending::Hopeless) => collector.stop(),
                None => (),
            }
            match message.context("the collecting thread died")? {
                None => (),
                Some(Message::Records(batch)) => {
                    if shown.failed.is_none() {
                        let mut newest = 0;
                        for record in batch.records() {
                            meter.record(record);
                            let decoded = decoder.feed(record, |event| {
                                events += 1;
                                newest = newest.max(event.time);
                                if let Some(time) = patience.tells(event.time) {
                                    conclusions.timed_out(time, &mut shown);
                                }
                                conclusions.event(event, &mut shown);
                            });
                            undecodable += u64::from(decoded.is_err());
                        }
                        conclusions.busy(&mut shown);
                        collector.looked(newest);
                    }
                    collector.give_back(batch);
                }
                Some(Message::Counted(counted)) => conclusions.counted(*counted, &mut shown),
                Some(Message::Behind(bytes)) => say_behind(bytes),
                Some(Message::Note(text)) => eprintln!("aiotrace: {text}"),
                Some(Message::Lost(losses)) => {
                    shown.attempt(|output| output.lost(&losses));
                    conclusions.lost(&mut shown);
                }
                Some(Message::Report(losses, in_calls)) => {
                    let now = clock::monotonic();
                    let is_of_look = patience.looked(now);
                    decoder.in_progress(now, &in_calls, Why::Reported, |event| {
                        conclusions.event(event, &mut shown);
                    });
                    if is_of_look {
                        continue;
                    }
                    let unanswered = errand::unanswered();
                    let losses = Losses { undecodable, unanswered, ..losses };
                    let losses = conclusions.with_unread(losses);
                    conclusions.scan(&mut shown);
                    let (time, attached) = (clock::monotonic(), attached.elapsed());
                    let (reason, cost) = (trace::Reason::Asked, meter.cost(None));
                    let ended = Ended { time, events, losses, attached, reason, cost };
                    conclusions.report(&ended, &mut shown);
                }
                Some(Message::End(end)) => break *end,
            }
            if shown.failed.is_some() || conclusions.recording_failed() {
                collector.stop();
            }
        };
        if let Some(time) = patience.tells(u64::MAX) {
            conclusions.timed_out(time, &mut shown);
        }
        let time = clock::monotonic();
        decoder.unfinished(time, &end.in_calls, |event| {
            events += 1;
            conclusions.event(event, &mut shown);
        });
        // Processes that were already in exit at the attach were reported then.
        let were: Vec<u32> = initial.iter().filter(|it| is_in_exit(it)).map(|it| it.pid).collect();
        let now = targets.into_iter().filter(|it| !were.contains(it));
        for event in now.filter_map(begin::waiting_in_exit) {
            conclusions.event(&event, &mut shown);
        }
        if let Some(counted) = end.counted {
            conclusions.counted(*counted, &mut shown);
        }
        let losses = conclusions.with_unread(Losses { undecodable, ..end.losses });
        let reason = told(end.reason);
        let cost = meter.cost(end.runs);
        conclusions.look_again(&mut decoder, &losses, &mut shown);
        let losses = Losses { unanswered: errand::unanswered(), ..losses };
        let ended = Ended { time, events, losses, attached: end.attached, reason, cost };
        conclusions.finish(&ended, &mut shown)?;
        shown.finish()?;
        say_end(&ended);
        if let (Some(to), Some(Junit { path, program })) = (self.junit, &self.settings.junit) {
            let fails = self.settings.judged.fails();
            let document = junit::document(program, &conclusions.faults, &fails, end.attached)?;
            let written = (&to.file).write_all(&document);
            written.with_context(|| format!("cannot write {}", path.display()))?;
        }
        // From here on, no thread waits for signals, so unblock them.
        let _ = collector::all_signals().thread_unblock();
        let finding = conclusions.failed().then(|| "--fail-on asks".to_owned());
        let fault = conclusions.fault_failure().map(|why| format!("--fail-on-fault asks ({why})"));
        let failed =
            finding.into_iter().chain(fault).reduce(|one, other| format!("{one}, and {other}"));
        Ok(Outcome { reason: end.reason, failed, timed_out: patience.is_over(), status })
    }
}

fn is_in_exit(event: &Event) -> bool {
    matches!(&event.body, Body::Process(it) if it.change == Change::ExitWaits)
}

/// The faults that the user asked for, and how they are made.
fn choose_faults(plan: &Plan, settings: &Settings) -> Result<Option<Chosen>> {
    let Settings { injected, source, .. } = settings;
    if !injected.is_wanted() {
        return Ok(None);
    }
    faults::check_target(&plan.scope)?;
    let settings = match source {
        _ if injected.wants_ptrace() => Err("--mechanism ptrace".to_owned()),
        SourceKind::Ptrace => Err("--source ptrace".to_owned()),
        _ => machine::settings(target::LISTED).map_err(|error| error.to_string()),
    };
    let chosen = injected.choose(settings)?;
    Ok(Some(chosen))
}

fn say_behind(bytes: u64) {
    let mebibytes = bytes.div_ceil(1 << 20);
    eprintln!(
        "aiotrace: the trace is over; writing {mebibytes} MiB of records that still wait (Ctrl-C \
         drops them)"
    );
}

/// Prints how many events were seen, how many were lost and where, and how long the trace took.
fn say_end(ended: &Ended) {
    let seconds = ended.attached.as_secs_f64();
    let events = thousands(ended.events);
    let total = ended.losses.total() - ended.losses.unanswered;
    let mut lost = if total == 0 {
        "none lost".to_owned()
    } else {
        let causes: Vec<String> = ended
            .losses
            .by_cause()
            .filter(|(count, name, _)| *count > 0 && *name != "unanswered")
            .map(|(count, _, text)| format!("{} {text}", thousands(count)))
            .collect();
        format!("{} LOST: {}", thousands(total), causes.join("; "))
    };
    // A look without an answer is no loss of events: only the answer is unknown.
    if ended.losses.unanswered > 0 {
        let unanswered = thousands(ended.losses.unanswered);
        lost.push_str(&format!("; {unanswered} looks at processes had no answer"));
    }
    let cost =
        ended.cost.as_ref().map(|it| format!("; {}", cost::in_words(it))).unwrap_or_default();
    eprintln!("aiotrace: {events} events in {seconds:.1} s, {lost}{cost}");
}

/// The reason as outputs name it.
fn told(reason: Reason) -> trace::Reason {
    match reason {
        Reason::TargetsGone => trace::Reason::TargetsGone,
        Reason::TimeOver => trace::Reason::TimeOver,
        Reason::Signal(_) => trace::Reason::Signal,
        Reason::OutputClosed => trace::Reason::OutputClosed,
    }
}
