//! One trace, from the loading of the probes to the last line: what `attach` and `run` share.

use std::{
    fs::File,
    path::PathBuf,
    time::{Duration, Instant},
};

use aiotrace_common::settings::target;
use anyhow::{Context as _, Result};
use clap::Args;

use super::{
    Hint,
    cgroup::Cgroup,
    conclusions::{Conclusions, Thresholds},
    cost::{self, Meter},
    inject::{self, Chosen, Inject},
    patience::{Ending, Patience},
    recorder::{Known, Recorder},
    source::{self, Begun, Source, Way},
    view::{self, View},
    written,
};
use crate::{
    errand,
    event::{Body, Change, Event},
    fault::{Only, only_argument},
    output::{Ended, Start, clock, paths::Paths},
    process::Opened,
    source::{
        Losses,
        backlog::Message,
        bpf::{Wanted, machine},
        collector::{self, Counting, Reason, Stop},
        ptrace,
    },
    stacks::{OpenFiles, Symbolizer},
    trace,
    words::{self, number::thousands},
};

/// What is traced, and how it is told.
#[derive(Debug, Args)]
pub struct Show {
    #[command(flatten)]
    view: View,
    /// Look where io_submit is called, too: the functions in progress (for io_setup, -v shows them)
    #[arg(long)]
    pub(super) stacks: bool,
    /// Write down all that is seen, for `aiotrace report FILE`
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Where events come from
    #[arg(long, value_enum, default_value_t = source::Wanted::Auto, value_name = "SOURCE")]
    pub(super) source: source::Wanted,
    /// Which probes to use; `aiotrace doctor` tells what can be had
    #[arg(long, value_enum, default_value_t = Wanted::Auto, value_name = "SET")]
    pub(super) probes: Wanted,
    /// See calls that a seccomp filter answers, also with trampolines. (Without it they are looked for
    /// if a process of -p or --cgroup has a filter.) Costs every system call of the machine some 100 ns
    #[arg(long)]
    pub(super) denied: bool,
    /// Stop after this time (for instance 500ms, 10s, 2m)
    #[arg(short, long, allow_hyphen_values = true, value_parser = parse_duration, value_name = "TIME")]
    pub(super) duration: Option<Duration>,
    /// With -c: show what was counted each TIME
    #[arg(long, allow_hyphen_values = true, value_parser = parse_duration, requires = "summary", value_name = "TIME")]
    pub(super) interval: Option<Duration>,
    /// Show only some calls: op=NAME[|NAME] (pread, pwrite, ...), fd=N, error (the call fails or is short, or
    /// gives a result that is an error); with commas, all of it. Chosen in the kernel; what is not shown is
    /// counted, and findings about requests are not made
    #[arg(long, value_parser = only_argument, value_name = "WHAT", conflicts_with_all = CHOOSING_NEEDS_BPF)]
    pub(super) only: Option<Only>,
    /// Show one io_submit in N, one io_getevents and one io_pgetevents (of those that --only leaves), on each
    /// processor; otherwise as --only
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..), value_name = "N", conflicts_with_all = CHOOSING_NEEDS_BPF)]
    sample: Option<u32>,
    /// With -c: look into the requests, too: operations, bytes, results that are errors, and latencies, from
    /// io_submit until io_getevents gives the result
    #[arg(long, requires = "summary")]
    requests: bool,
    #[command(flatten)]
    pub(super) conclusions: Thresholds,
    #[command(flatten)]
    inject: Inject,
}

/// With which options calls cannot be left out.
const CHOOSING_NEEDS_BPF: [&str; 4] = ["summary", "quiet", "record", "rules"];

impl Show {
    /// Which calls are told although they are counted; 0: none, N: one in so many.
    pub(super) fn sample(&self) -> u32 {
        self.sample.unwrap_or(u32::from(self.only.is_some()))
    }

    /// How calls are counted in the kernel, if they are.
    pub(super) fn counting(&self) -> Option<Counting> {
        if self.sample() > 0 {
            return Some(Counting { requests: false, interval: None });
        }
        let needs_calls = self.record.is_some() || self.inject.is_wanted() || self.stacks;
        let counts = self.view.summary && !needs_calls && self.source != source::Wanted::Ptrace;
        counts.then_some(Counting { requests: self.requests, interval: self.interval })
    }
}

pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is not a time: write for instance 500ms, 10s or 2m");
    let duration = words::duration::parse(text, 1.0).ok_or_else(bad)?;
    if duration.is_zero() { Err(bad()) } else { Ok(duration) }
}

/// What is traced.
pub enum Scope {
    /// These processes.
    Processes(Vec<Opened>),
    /// Everything in a cgroup.
    Cgroup(Cgroup),
    /// Everything.
    All,
}

/// How it is traced.
pub struct Plan {
    /// What.
    pub scope: Scope,
    /// Children too.
    pub follow: bool,
    /// `run`: the process is ours and has not begun its program; it gets SIGINT too.
    pub launched: bool,
    /// With ptrace, a launched program stops at AIO calls only, by a seccomp filter.
    pub filtered: bool,
    /// The launched program is ended after this time.
    pub timeout: Option<Duration>,
}

/// How a trace ended.
pub struct Outcome {
    /// Why.
    pub reason: Reason,
    /// Which options say that this trace has failed, and why.
    pub failed: Option<String>,
    /// The program had to be ended: `--timeout`.
    pub timed_out: bool,
    /// Who has the status of the launched program, if it cannot be waited for.
    pub status: Option<ptrace::Status>,
}

/// A trace that is ready to begin.
pub struct Session<'a> {
    show: &'a Show,
    source: Source,
    plan: Plan,
    output: view::Opened,
    recording: Option<Recording>,
    faults: Option<Chosen>,
    files: OpenFiles,
}

/// `--record`, before anything is written.
struct Recording {
    file: File,
    known: Known,
    symbols: Symbolizer,
}

impl Recording {
    fn begin(self) -> Result<Recorder> {
        Recorder::begin(self.file, self.known, &self.symbols)
    }
}

impl<'a> Session<'a> {
    /// Prepares the source and opens the output, so that what can fail fails before anything runs. The files are made if
    /// they are not there, and else as they were until the source has begun.
    pub fn prepare(show: &'a Show, plan: Plan) -> Result<Self> {
        if show.sample() > 0 && show.source == source::Wanted::Ptrace {
            let error =
                anyhow::anyhow!("--only and --sample choose in the kernel, not with ptrace");
            return Err(error.context(Hint("leave out --source ptrace".into())));
        }
        if (show.requests || show.interval.is_some()) && show.counting().is_none() {
            let error =
                anyhow::anyhow!("--requests and --interval need calls counted in the kernel");
            let hint = "leave out --record, --inject, --stacks and --source ptrace";
            return Err(error.context(Hint(hint.into())));
        }
        let faults = choose_faults(&plan, show)?;
        let source = Source::prepare(&plan, show, faults.as_ref())?;
        let files = OpenFiles::default();
        let symbols = Symbolizer::in_child(files.clone());
        let recording = show.record.as_deref().map(|path| -> Result<Recording> {
            let (known, symbols) = (Known::default(), symbols.clone());
            Ok(Recording { file: written::open(path)?, known, symbols })
        });
        let recording = recording.transpose()?;
        let paths = recording.as_ref().map_or_else(Paths::of_proc, |it| it.known.paths());
        let mut output = show.view.open(paths, &symbols, show.stacks, show.sample() > 0)?;
        // Of little output, a recording is the slowest.
        if let (Some(path), Some(recording), None) = (&show.record, &recording, &output.spill)
            && show.view.says_little()
        {
            output.spill = view::spill_beside(&recording.file, path);
        }
        output.shown.only = show.only;
        Ok(Self { show, source, plan, output, recording, faults, files })
    }

    /// Attaches, calls `armed`, shows what happens until it is over. `armed` is told whether the launched
    /// program is to install a filter ([`crate::source::ptrace::seccomp`]).
    pub fn trace(self, armed: impl FnOnce(bool) -> Result<()>) -> Result<Outcome> {
        // Before any thread is made, so that all of them leave the signals to those that heed them.
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
        let begun = self.source.begin(self.plan, self.show, way)?;
        // Nothing can be refused any more.
        file.as_ref().map_or(Ok(()), written::begin)?;
        let recorder = self.recording.map(Recording::begin).transpose()?;
        let Begun { mut collector, mut decoder, initial, probes, lacks, .. } = begun;
        let status = begun.status;
        let mut events = 0;
        let mut conclusions = Conclusions::new(&self.show.conclusions, begun.sees, recorder);
        let faults = self.faults.as_ref().map(Chosen::told);
        let start = Start { clock: start, probes, lacks, faults };
        conclusions.start(&start, &mut shown);
        for event in &initial {
            conclusions.event(event, &mut shown);
        }
        // `cargo xtask bench` waits for this line.
        tracing::debug!("tracing begins");
        armed(filtered)?;
        patience.begin();
        if !spills {
            collector::go_first();
        }

        let mut undecodable = 0;
        let mut meter = Meter::start();
        let attached = Instant::now();
        let end = loop {
            if let Some(time) = conclusions.settled() {
                collector.settled(time);
            }
            let message = match collector.try_next() {
                Ok(None) => {
                    // Nothing waits: let it be seen.
                    conclusions.quiet(&mut decoder, &mut shown);
                    shown.pause();
                    collector.wait_next_for(conclusions.patience().min(patience.left()))
                }
                other => other,
            };
            match patience.end(Instant::now()) {
                Some(Ending::Over) => conclusions.timed_out(clock::monotonic(), &mut shown),
                Some(Ending::Hopeless) => collector.stop(),
                None => (),
            }
            match message.context("the collecting thread died")? {
                None => (),
                Some(Message::Records(batch)) => {
                    if shown.failed.is_none() {
                        for record in batch.records() {
                            meter.record(record);
                            let decoded = decoder.feed(record, |event| {
                                events += 1;
                                conclusions.event(event, &mut shown);
                            });
                            undecodable += u64::from(decoded.is_err());
                        }
                        conclusions.busy(&mut shown);
                    }
                    if shown.failed.is_some() || conclusions.recording_failed() {
                        collector.stop();
                    }
                    collector.give_back(batch);
                }
                Some(Message::Counted(counted)) => conclusions.counted(*counted, &mut shown),
                Some(Message::Behind(bytes)) => say_behind(bytes),
                Some(Message::Note(text)) => eprintln!("aiotrace: {text}"),
                Some(Message::Lost(_)) => conclusions.lost(&mut shown),
                Some(Message::Report(losses)) => {
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
        };
        let time = clock::monotonic();
        decoder.unfinished(time, &end.in_calls, |event| {
            events += 1;
            conclusions.event(event, &mut shown);
        });
        // Those that were in exit at the attach were told.
        let were: Vec<u32> = initial.iter().filter(|it| is_in_exit(it)).map(|it| it.pid).collect();
        let now = targets.into_iter().filter(|it| !were.contains(it));
        for event in now.filter_map(source::waiting_in_exit) {
            conclusions.event(&event, &mut shown);
        }
        if let Some(counted) = end.counted {
            conclusions.counted(*counted, &mut shown);
        }
        let losses = Losses { undecodable, unanswered: errand::unanswered(), ..end.losses };
        let losses = conclusions.with_unread(losses);
        let reason = told(end.reason);
        let cost = meter.cost(end.runs);
        let ended = Ended { time, events, losses, attached: end.attached, reason, cost };
        conclusions.finish(&mut decoder, &ended, &mut shown)?;
        shown.finish()?;
        say_end(&ended);
        // From here on nobody waits for signals.
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

/// The faults that are asked for, and by what they are made.
fn choose_faults(plan: &Plan, show: &Show) -> Result<Option<Chosen>> {
    if !show.inject.is_wanted() {
        return Ok(None);
    }
    inject::check_target(&plan.scope)?;
    let settings = match show.source {
        _ if show.inject.wants_ptrace() => Err("--mechanism ptrace".to_owned()),
        source::Wanted::Ptrace => Err("--source ptrace".to_owned()),
        _ => machine::settings(target::LISTED).map_err(|error| error.to_string()),
    };
    let chosen = show.inject.choose(settings)?;
    Ok(Some(chosen))
}

fn say_behind(bytes: u64) {
    let mebibytes = bytes.div_ceil(1 << 20);
    eprintln!(
        "aiotrace: the trace is over; writing {mebibytes} MiB of records that still wait (Ctrl-C \
         drops them)"
    );
}

/// Events seen, events lost and where, duration.
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
    // Nothing was lost by that: what was looked for is not known.
    if ended.losses.unanswered > 0 {
        let unanswered = thousands(ended.losses.unanswered);
        lost.push_str(&format!("; {unanswered} looks at processes had no answer"));
    }
    let cost =
        ended.cost.as_ref().map(|it| format!("; {}", cost::in_words(it))).unwrap_or_default();
    eprintln!("aiotrace: {events} events in {seconds:.1} s, {lost}{cost}");
}

/// As the trace tells it.
fn told(reason: Reason) -> trace::Reason {
    match reason {
        Reason::TargetsGone => trace::Reason::TargetsGone,
        Reason::TimeOver => trace::Reason::TimeOver,
        Reason::Signal(_) => trace::Reason::Signal,
        Reason::OutputClosed => trace::Reason::OutputClosed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_seconds_or_have_a_unit() {
        assert_eq!(parse_duration("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        for bad in ["", "-1", "0", "0s", "-5s", "soon", "nan", "1e40"] {
            let message = parse_duration(bad).unwrap_err();
            assert!(message.contains("write for instance"), "{bad}: {message}");
        }
    }
}
