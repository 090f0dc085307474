//! Draws conclusions from a running trace: feeds the model, answers its questions, and shows what
//! it says.

use std::time::Duration;

use super::{answers, newcomers::Newcomers, recorder::Recorder, settings::Judged, shown::Shown};
use crate::{
    clock,
    counted::Counted,
    errand::{self, Descriptor, Entries, Errand as _, Headers, Iovecs, IsOpen, Missing},
    event::{Body, Event, Handle, Looked, Open, Ring, RingFound, User, Ways, Why},
    failure::{Context as _, Result},
    model::{Model, Outcome, Question, Report, Rules, Settings, Severity},
    names::Names,
    output::{Ended, Start, escape::escaped, junit::Faults, people::Person},
    source::{Losses, bpf::Decoder},
};

/// The model learns the time at least this often.
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// What `--fail-on-fault` and `--allow-unfired` ask for.
struct FaultLimits {
    outcomes: Vec<Outcome>,
    allow_unfired: bool,
}

impl FaultLimits {
    /// Why the trace has failed, for instance `1 lost, rule 2 never acted`.
    fn failure(&self, report: &Report) -> Option<String> {
        if self.outcomes.is_empty() {
            return None;
        }
        let count = |outcome: Outcome| -> u64 {
            let all = report.faults.iter().flat_map(|it| &it.outcomes);
            all.filter(|it| it.0 == outcome).map(|it| it.1).sum()
        };
        let bad = self.outcomes.iter().map(|it| (count(*it), it.text())).filter(|it| it.0 > 0);
        let unfired = report.rules.iter().filter(|it| it.acted == 0 && !self.allow_unfired);
        let reasons: Vec<String> = bad
            .map(|(count, name)| format!("{count} {name}"))
            .chain(unfired.map(|it| format!("rule {} never acted", it.rule)))
            .collect();
        (!reasons.is_empty()).then(|| reasons.join(", "))
    }
}

/// Says that a process below a target uses AIO, and is not traced.
fn say_untraced(it: &User, target: u32) {
    let (name, pid) = (escaped(&it.name), it.pid);
    let contexts = if it.contexts == 1 { "context" } else { "contexts" };
    eprintln!(
        "aiotrace: {name}:{pid}, a descendant of {target}, has {} {contexts} and is not traced: attach -p {pid}",
        it.contexts
    );
}

/// What the source of a trace sees.
#[derive(Clone, Copy, Debug)]
pub struct Sees {
    /// Whether it sees completions when they happen.
    pub exact_completions: bool,
    /// Whether it reports every call, and does not only count them.
    pub every_call: bool,
    /// Whether it sees synchronous calls after a fault or a short io_submit.
    pub synchronous: bool,
    /// Whether it stops a thread at the return of each call.
    pub stops: bool,
}

/// The model of a running trace.
pub struct Conclusions {
    model: Model,
    fail_on: Option<Severity>,
    fault_limits: FaultLimits,
    fault_failure: Option<String>,
    /// What became of the faults in the end.
    pub faults: Faults,
    scan: bool,
    settings: Settings,
    recorder: Option<Recorder>,
    /// Knows who processes are; `None`: a recording is shown, which has that.
    names: Option<Names>,
    /// Which processes are to be looked up.
    newcomers: Newcomers,
    /// The trace is over, so what a look finds now may be newer than the last event.
    is_over: bool,
}

impl Conclusions {
    /// Begins with a model that knows nothing.
    pub fn new(
        judged: &Judged,
        Sees { exact_completions, every_call, synchronous, stops }: Sees,
        recorder: Option<Recorder>,
    ) -> Self {
        let thresholds = judged.thresholds;
        let settings = Settings { thresholds, exact_completions, every_call, synchronous, stops };
        Self {
            model: Model::new(settings),
            fail_on: judged.fail_on,
            fault_limits: FaultLimits {
                outcomes: judged.fail_on_fault.clone(),
                allow_unfired: judged.allow_unfired,
            },
            fault_failure: None,
            faults: Faults::default(),
            scan: judged.scan,
            settings,
            recorder,
            names: None,
            newcomers: Newcomers::default(),
            is_over: false,
        }
    }

    /// Begins with the model's settings from a recording, to show it.
    pub fn again(settings: Settings, fail_on: Option<Severity>) -> Self {
        Self {
            model: Model::new(settings),
            fail_on,
            fault_limits: FaultLimits { outcomes: Vec::new(), allow_unfired: true },
            fault_failure: None,
            faults: Faults::default(),
            scan: false,
            settings,
            recorder: None,
            names: None,
            newcomers: Newcomers::default(),
            is_over: false,
        }
    }

    /// Looks up who processes are.
    #[must_use]
    pub fn with_names(self, names: Names) -> Self {
        Self { names: Some(names), ..self }
    }

    /// Passes on that the trace begins.
    pub fn start(&mut self, start: &Start, shown: &mut Shown) {
        if let Some(recorder) = &mut self.recorder {
            recorder.start(start, self.settings);
        }
        self.model.set_rules(Rules::of(start.faults.as_ref()));
        shown.attempt(|output| {
            output.start(start)?;
            output.flush()
        });
    }

    /// Passes on the counts of calls.
    pub fn counted(&mut self, counted: Counted, shown: &mut Shown) {
        shown.attempt(|output| output.counted(&counted));
        self.model.counted(counted);
        self.tell(shown);
    }

    /// Shows an event, and what the model concludes from it.
    pub fn event(&mut self, event: &Event, shown: &mut Shown) {
        self.look_up(event, shown);
        if let Some(recorder) = &mut self.recorder {
            recorder.event(event);
        }
        let is_shown = !matches!(&event.body, Body::Unfinished(it) if it.why == Why::Reported);
        if is_shown {
            shown.event(event);
        }
        self.model.handle_event(event);
        self.tell(shown);
    }

    /// Looks up who a process is, when it is new or executes another program.
    fn look_up(&mut self, event: &Event, shown: &mut Shown) {
        let Some(names) = &mut self.names else { return };
        let Some(process) = self.newcomers.of(event) else { return };
        let who = names.who(event.pid);
        let person = Person { pid: event.pid, process: process.name.clone(), who };
        if let Some(recorder) = &mut self.recorder {
            recorder.person(&person);
        }
        shown.attempt(|output| output.person(&person));
    }

    fn tell(&mut self, shown: &mut Shown) {
        while let Some(finding) = self.model.next_finding() {
            shown.finding(&finding);
        }
        // Verdicts do not count for --fail-on, which is about the program. --fail-on-fault is about
        // what the program makes of faults.
        while let Some(verdict) = self.model.next_verdict() {
            shown.verdict(&verdict);
        }
    }

    /// Tells the model the time, if it waits for that; 0 stands for the time of the last event.
    pub fn time(&mut self, now: u64, shown: &mut Shown) {
        if self.model.poll_timeout().is_some_and(|due| due <= now || now == 0) {
            if let Some(recorder) = &mut self.recorder {
                recorder.time(now);
            }
            self.model.handle_timeout(now);
            self.tell(shown);
        }
    }

    /// Drops the model's questions: a recording already has the answers.
    pub fn forget_questions(&mut self) {
        while self.model.next_question().is_some() {}
    }

    /// Records are waiting, so only the time of the last event is known: what has happened since is
    /// not.
    pub fn busy(&mut self, shown: &mut Shown) {
        self.time(0, shown);
        self.answer(None, shown);
    }

    /// No record waits: all that has happened up to this time is known.
    pub fn quiet(&mut self, known: u64, decoder: &mut Decoder, shown: &mut Shown) {
        self.time(known, shown);
        self.answer(Some(decoder), shown);
        if let Some(recorder) = &mut self.recorder {
            recorder.flush();
        }
    }

    /// Up to which time it is not necessary to watch synchronous calls; `None`: they must be
    /// watched further.
    pub fn settled(&self) -> Option<u64> {
        self.model.settled_up_to()
    }

    /// How long until the model wants to learn up to when all is known.
    pub fn patience(&self) -> Duration {
        let until = self.model.poll_timeout();
        until.map_or(LONGEST_WAIT, |until| {
            Duration::from_nanos(until.saturating_sub(clock::monotonic())).min(LONGEST_WAIT)
        })
    }

    /// Answers the model's questions. Rings are read only if all that has happened is known (there
    /// is a decoder), because their content is newer than records that wait.
    fn answer(&mut self, mut decoder: Option<&mut Decoder>, shown: &mut Shown) {
        while let Some(question) = self.model.next_question() {
            // Take the time before the look, because nobody knows how long the look takes.
            let time = clock::monotonic();
            let (pid, looked) = match question {
                Question::Ring { pid, ctx } => {
                    let Some(decoder) = &mut decoder else { continue };
                    let is_known = |handle| self.model.knows(pid, handle);
                    let (mut found, destroying, awaited) = answers::at_ring(pid, ctx, is_known);
                    if let RingFound::There(ring) = &mut found
                        && self.settings.every_call
                    {
                        let now = clock::monotonic();
                        // If the ring moves on while its entries are read, they may belong to its
                        // next round: then they are not used.
                        let seen = *ring;
                        let handle = ctx.0;
                        let is_still = || {
                            let handles = vec![handle];
                            let headers = Headers { pid, handles, all_pages: false }.ask();
                            let header = headers.and_then(|it| it.first().copied()).flatten();
                            header.map(Ring::from) == Some(seen)
                        };
                        let read = |first, count| {
                            let entries = Entries { pid, handle, first, count }.ask().flatten();
                            entries.filter(|_| is_still())
                        };
                        let mut completions = Vec::new();
                        decoder.look(pid, ctx.0, ring.tail, (time, now), read, |event| {
                            completions.push(event.clone());
                        });
                        let ours = if self.is_over {
                            self.model.known_of(pid, ctx, *ring, &completions)
                        } else {
                            completions.len()
                        };
                        completions[..ours].iter().for_each(|it| self.event(it, shown));
                        if ours < completions.len() || !is_still() {
                            *ring = self.model.as_told(pid, ctx, *ring, time);
                        }
                    }
                    (pid, Looked::Ring { ctx, found, destroying, awaited })
                }
                Question::File { pid, fd } => {
                    let file = Descriptor { pid, fd }.ask().flatten();
                    (pid, Looked::File { fd, file, until: clock::monotonic() })
                }
                Question::Descriptor { pid, fd } => {
                    let open = IsOpen { pid, fd }.ask().unwrap_or(Open::Unknown);
                    (pid, Looked::Descriptor { fd, open, until: clock::monotonic() })
                }
                Question::Ways { pid, fd } => {
                    let found = errand::Ways { pid, fd }.ask().flatten();
                    let ways = found.map(|(ways, below)| {
                        let below = below.into_iter().any(|it| !self.model.traces(it));
                        Ways { below, ..ways }
                    });
                    (pid, Looked::Ways { fd, ways })
                }
                Question::Iovecs { pid, at, count } => {
                    (pid, Looked::Iovecs { at, list: Iovecs { pid, at, count }.ask().flatten() })
                }
                Question::Threads { pid } => {
                    if decoder.is_none() {
                        continue;
                    }
                    (pid, Looked::Threads(errand::Threads { pid }.ask().flatten()))
                }
                Question::Below { pid } => {
                    let users = answers::below(pid, |it| self.model.traces(it));
                    if !self.is_over {
                        users.iter().for_each(|it| say_untraced(it, pid));
                    }
                    (pid, Looked::Below(users))
                }
                Question::Path { pid, fd } => {
                    (pid, Looked::Path { fd, path: errand::Path { pid, fd }.ask().flatten() })
                }
                Question::Limit => match answers::limit() {
                    Some(limit) => (0, Looked::Limit(limit)),
                    None => continue,
                },
            };
            // What is seen of a file is true when the look is over: a descriptor that was closed before may have led elsewhere.
            let time = match looked {
                Looked::Ways { .. } => clock::monotonic(),
                _ => time,
            };
            self.event(&Event { time, pid, tid: pid, body: Body::Looked(looked) }, shown);
        }
    }

    /// Before a report, searches the memory of processes for the handles of idle contexts
    /// (`--scan`).
    pub fn scan(&mut self, shown: &mut Shown) {
        let idle = if self.scan { self.model.idle_contexts() } else { Default::default() };
        for (pid, handles) in idle {
            let time = clock::monotonic();
            let handles: Vec<u64> = handles.iter().map(|it| it.0).collect();
            let missing = Missing { pid, handles }.ask().flatten().unwrap_or_default();
            let missing = missing.into_iter().map(Handle).collect();
            let body = Body::Looked(Looked::Unreferenced(missing));
            self.event(&Event { time, pid, tid: pid, body }, shown);
        }
    }

    /// Tells the model that something was lost, and that it is not known which process it was
    /// about.
    pub fn lost(&mut self, shown: &mut Shown) {
        self.event(&Event::lost_somewhere(clock::monotonic()), shown);
    }

    /// The losses, together with the completions whose entries could not be read so far.
    pub fn with_unread(&self, losses: Losses) -> Losses {
        let unread = self.model.unread(losses.of_anybody() == 0);
        Losses { unread, ..losses }
    }

    /// Shows a report of what is known now.
    pub fn report(&mut self, ended: &Ended, shown: &mut Shown) {
        if let Some(recorder) = &mut self.recorder {
            recorder.report(ended);
        }
        shown.report(ended, self.model.report());
    }

    /// When the trace is over, looks up for the last time what the model asks for.
    pub fn look_again(&mut self, decoder: &mut Decoder, losses: &Losses, shown: &mut Shown) {
        if losses.of_anybody() > 0 {
            self.lost(shown);
        }
        self.is_over = true;
        self.model.ask_who_uses_aio();
        self.quiet(clock::monotonic(), decoder, shown);
        self.scan(shown);
    }

    /// Shows the last report. Nothing is looked up any more.
    ///
    /// # Errors
    /// If the recording could not be written.
    pub fn finish(&mut self, ended: &Ended, shown: &mut Shown) -> Result<()> {
        self.end(ended, shown);
        let failure = self.recorder.as_mut().and_then(Recorder::failure);
        failure.map_or(Ok(()), |error| {
            Err(error).context("cannot write the recording; the trace was stopped")
        })
    }

    /// Shows the last report.
    pub fn end(&mut self, ended: &Ended, shown: &mut Shown) {
        if let Some(recorder) = &mut self.recorder {
            recorder.end(ended);
        }
        if ended.losses.unanswered > 0 {
            self.model.unanswered();
        }
        self.model.finish(ended.time);
        self.tell(shown);
        let report = self.model.report();
        self.fault_failure = self.fault_limits.failure(&report);
        self.faults = Faults { rows: report.faults.clone(), rules: report.rules.clone() };
        shown.report(ended, report);
    }

    /// Whether writing the recording has failed.
    pub fn recording_failed(&self) -> bool {
        self.recorder.as_ref().is_some_and(Recorder::has_failed)
    }

    /// Tells the model that the traced program is being ended, because `--timeout` is over.
    pub fn timed_out(&mut self, now: u64, shown: &mut Shown) {
        if let Some(recorder) = &mut self.recorder {
            recorder.timed_out(now);
        }
        self.model.timed_out(now);
        self.tell(shown);
    }

    /// What about the faults meets `--fail-on-fault`, in words; `None` if nothing does.
    pub fn fault_failure(&self) -> Option<&str> {
        self.fault_failure.as_deref()
    }

    /// Whether there was a finding at least as severe as `--fail-on` says.
    pub fn failed(&self) -> bool {
        let worst = self.model.worst_finding();
        self.fail_on.is_some_and(|least| worst.is_some_and(|it| it >= least))
    }
}
