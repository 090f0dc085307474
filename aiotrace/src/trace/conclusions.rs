//! What is concluded from a trace while it runs: the model, what it asks for, and what is told of it.

use std::time::Duration;

use super::{answers, recorder::Recorder, settings::Judged, shown::Shown};
use crate::{
    clock,
    counted::Counted,
    errand::{self, Descriptor, Entries, Errand as _, Headers, Iovecs, IsOpen, Missing},
    event::{Body, Event, Handle, Looked, Open, Ring, RingFound},
    failure::{Context as _, Result},
    model::{Model, Outcome, Question, Report, Rules, Settings, Severity},
    output::{Ended, Start},
    source::{Losses, bpf::Decoder},
};

/// The model's time goes on at least that often.
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// What `--fail-on-fault` asks for.
struct FaultLimits {
    outcomes: Vec<Outcome>,
    allow_unfired: bool,
}

impl FaultLimits {
    /// Why the trace has failed: `1 lost, rule 2 never acted`.
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

/// What the source of a trace sees.
#[derive(Clone, Copy, Debug)]
pub struct Sees {
    /// It tells of completions when they happen.
    pub exact_completions: bool,
    /// It tells every call, and does not only count them.
    pub every_call: bool,
    /// It tells of synchronous calls after a fault or a short io_submit.
    pub synchronous: bool,
}

/// The model of a running trace.
pub struct Conclusions {
    model: Model,
    fail_on: Option<Severity>,
    failed: bool,
    fault_limits: FaultLimits,
    fault_failure: Option<String>,
    scan: bool,
    settings: Settings,
    recorder: Option<Recorder>,
    /// Nothing is recorded any more.
    is_over: bool,
}

impl Conclusions {
    /// Nothing is known yet.
    pub fn new(
        judged: &Judged,
        Sees { exact_completions, every_call, synchronous }: Sees,
        recorder: Option<Recorder>,
    ) -> Self {
        let thresholds = judged.thresholds;
        let settings = Settings { thresholds, exact_completions, every_call, synchronous };
        Self {
            model: Model::new(settings),
            fail_on: judged.fail_on,
            failed: false,
            fault_limits: FaultLimits {
                outcomes: judged.fail_on_fault.clone(),
                allow_unfired: judged.allow_unfired,
            },
            fault_failure: None,
            scan: judged.scan,
            settings,
            recorder,
            is_over: false,
        }
    }

    /// As a recording says it was.
    pub fn again(settings: Settings, fail_on: Option<Severity>) -> Self {
        Self {
            model: Model::new(settings),
            fail_on,
            failed: false,
            fault_limits: FaultLimits { outcomes: Vec::new(), allow_unfired: true },
            fault_failure: None,
            scan: false,
            settings,
            recorder: None,
            is_over: false,
        }
    }

    /// The trace begins.
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

    /// Calls were counted.
    pub fn counted(&mut self, counted: Counted, shown: &mut Shown) {
        shown.attempt(|output| output.counted(&counted));
        self.model.counted(counted);
        self.tell(shown);
    }

    /// Shows an event, and what follows from it.
    pub fn event(&mut self, event: &Event, shown: &mut Shown) {
        if let Some(recorder) = &mut self.recorder {
            recorder.event(event);
        }
        shown.event(event);
        self.model.handle_event(event);
        self.tell(shown);
    }

    fn tell(&mut self, shown: &mut Shown) {
        while let Some(finding) = self.model.next_finding() {
            self.failed |= self.fail_on.is_some_and(|least| finding.severity >= least);
            shown.finding(&finding);
        }
        // --fail-on is about the program, --fail-on-fault about how it takes what was done to it.
        while let Some(verdict) = self.model.next_verdict() {
            shown.verdict(&verdict);
        }
    }

    /// It is this time.
    pub fn time(&mut self, now: u64, shown: &mut Shown) {
        if self.model.poll_timeout().is_some_and(|due| due <= now || now == 0) {
            if let Some(recorder) = &mut self.recorder {
                recorder.time(now);
            }
            self.model.handle_timeout(now);
            self.tell(shown);
        }
    }

    /// Nothing is looked up again.
    pub fn forget_questions(&mut self) {
        while self.model.next_question().is_some() {}
    }

    /// Records wait: the time is that of the events, for what happened since is not known.
    pub fn busy(&mut self, shown: &mut Shown) {
        self.time(0, shown);
        self.answer(None, shown);
    }

    /// All that happened is known.
    pub fn quiet(&mut self, decoder: &mut Decoder, shown: &mut Shown) {
        self.time(clock::monotonic(), shown);
        self.answer(Some(decoder), shown);
        if let Some(recorder) = &mut self.recorder {
            recorder.flush();
        }
    }

    /// Up to when synchronous calls need not be watched for what happened, if that is known.
    pub fn settled(&self) -> Option<u64> {
        self.model.settled_up_to()
    }

    /// How long it can be waited for events.
    pub fn patience(&self) -> Duration {
        let until = self.model.poll_timeout();
        until.map_or(LONGEST_WAIT, |until| {
            Duration::from_nanos(until.saturating_sub(clock::monotonic()))
                .clamp(Duration::from_millis(1), LONGEST_WAIT)
        })
    }

    /// Looks up what the model asks for. Rings only if all that happened is known: what is in them
    /// is newer.
    fn answer(&mut self, mut decoder: Option<&mut Decoder>, shown: &mut Shown) {
        while let Some(question) = self.model.next_question() {
            // Before the look: it is not known how long it takes.
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
                        // What is read while the ring moves on may be of its next round.
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
                Question::Iovecs { pid, at, count } => {
                    (pid, Looked::Iovecs { at, list: Iovecs { pid, at, count }.ask().flatten() })
                }
                Question::Path { pid, fd } => {
                    (pid, Looked::Path { fd, path: errand::Path { pid, fd }.ask().flatten() })
                }
                Question::Limit => match answers::limit() {
                    Some(limit) => (0, Looked::Limit(limit)),
                    None => continue,
                },
            };
            self.event(&Event { time, pid, tid: pid, body: Body::Looked(looked) }, shown);
        }
    }

    /// Before a report: what only a look at all the memory of a process tells.
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

    /// Something was lost, and it is not known of whom.
    pub fn lost(&mut self, shown: &mut Shown) {
        self.event(&Event::lost_somewhere(clock::monotonic()), shown);
    }

    /// What was lost, with the completions that could not be read so far.
    pub fn with_unread(&self, losses: Losses) -> Losses {
        let unread = self.model.unread(losses.of_anybody() == 0);
        Losses { unread, ..losses }
    }

    /// What is known now.
    pub fn report(&mut self, ended: &Ended, shown: &mut Shown) {
        if let Some(recorder) = &mut self.recorder {
            recorder.report(ended);
        }
        shown.report(ended, self.model.report());
    }

    /// The trace is over.
    ///
    /// # Errors
    /// If the recording could not be written.
    pub fn finish(
        &mut self,
        decoder: &mut Decoder,
        ended: &mut Ended,
        shown: &mut Shown,
    ) -> Result<()> {
        if ended.losses.of_anybody() > 0 {
            self.lost(shown);
        }
        self.is_over = true;
        self.quiet(decoder, shown);
        self.scan(shown);
        // The last looks are among them.
        ended.losses.unanswered = errand::unanswered();
        self.end(ended, shown);
        let failure = self.recorder.as_mut().and_then(Recorder::failure);
        failure.map_or(Ok(()), |error| {
            Err(error).context("cannot write the recording; the trace was stopped")
        })
    }

    /// The last report.
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
        shown.report(ended, report);
    }

    /// Whether the recording cannot be written.
    pub fn recording_failed(&self) -> bool {
        self.recorder.as_ref().is_some_and(Recorder::has_failed)
    }

    /// The traced program is ended now, because `--timeout` is over.
    pub fn timed_out(&mut self, now: u64, shown: &mut Shown) {
        if let Some(recorder) = &mut self.recorder {
            recorder.timed_out(now);
        }
        self.model.timed_out(now);
        self.tell(shown);
    }

    /// What of the faults is as bad as `--fail-on-fault` says.
    pub fn fault_failure(&self) -> Option<&str> {
        self.fault_failure.as_deref()
    }

    /// Whether there was a finding as bad as `--fail-on` says.
    pub fn failed(&self) -> bool {
        self.failed
    }
}
