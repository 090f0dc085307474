//! From events to conclusions. Pure: no clock, no I/O; the time is that of the events. What has to be
//! looked up in the running system is asked for ([`Model::next_question`]), and the answer comes as an
//! event like all others.
//!
//! ```text
//!  events  -> calls, completions, endings -> contexts, requests -> findings, report
//!  timeout -> watch                       -> questions          -> events
//!  faults  -> what the program makes of them                    -> verdicts
//! ```
//!
//! State is bounded: [`MOST_CONTEXTS`] contexts, [`MOST_REQUESTS`] requests in flight, [`MOST_FAULTS`] faults. What is beyond is
//! not followed, is counted, and makes conclusions *unsure*.

mod calls;
mod cause;
mod completions;
mod context;
mod doubt;
mod early;
mod endings;
mod faults;
pub mod finding;
pub mod findings;
mod inline;
pub mod latency;
mod owed;
mod process;
mod ranges;
mod refused;
pub mod report;
mod requests;
pub mod rules;
pub mod sums;
mod trend;
pub mod verdict;
mod waits;
mod watch;

use std::collections::{HashMap, VecDeque};

pub use context::{Context, Done};
pub use doubt::Doubt;
use faults::Faults;
pub use faults::MOST_FAULTS;
pub use finding::{ContextRef, Finding, Severity, Subject};
use finding::{Findings, Key};
pub use findings::{Evidence, Name};
use latency::Latency;
use process::Space;
use report::Ends;
pub use report::Report;
pub use rules::Rules;
use serde::{Deserialize, Serialize};
pub use waits::Wait;

pub use verdict::{FaultRow, Going, Half, Outcome, Verdict};

use crate::{
    any_order::AnyOrder as _,
    bounded,
    counted::Counted,
    event::{
        self, Address, Adopted, Behind, Body, Change, Event, File, FileKind, Handle, Looked, Moved,
        Process, RingFound,
    },
};

/// Contexts followed at a time; each takes some 500 bytes, and 5 KiB once it has latencies.
pub const MOST_CONTEXTS: usize = bounded::CONTEXTS;
/// Requests in flight followed one by one; each takes some 150 bytes.
pub const MOST_REQUESTS: u64 = 262_144;
/// Kinds of requests (process, descriptor, operation) whose latency is kept apart.
const MOST_KINDS: usize = 1024;
/// Processes whose names are remembered.
const MOST_NAMES: usize = 16_384;
/// Processes whose address space is known.
const MOST_SPACES: usize = 65_536;
/// Questions that wait for an answer.
const MOST_QUESTIONS: usize = 256;

const SECOND: u64 = 1_000_000_000;

/// With the same hash in each run, so that a recording is told as the trace was.
type Map<K, V> = HashMap<K, V, foldhash::fast::FixedState>;

/// From when on something is worth a finding. Times in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thresholds {
    /// A file request is in flight for this long.
    pub stuck: u64,
    /// A completion is not reaped for this long.
    pub unreaped: u64,
    /// io_submit takes this long.
    pub slow_submit: u64,
    /// A context is not used for this long.
    pub idle: u64,
    /// So many contexts are idle while new ones are made.
    pub growth: u64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            stuck: 30 * SECOND,
            unreaped: 10 * SECOND,
            slow_submit: SECOND / 20,
            idle: 10 * SECOND,
            growth: 16,
        }
    }
}

/// What the model knows of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// From when on something is worth a finding.
    pub thresholds: Thresholds,
    /// Completions are told when they happen. Else they are seen at the next call, and what happened
    /// between the last call and the end of a process is not known.
    pub exact_completions: bool,
    /// Every call is told. Else they are counted in the kernel ([`Model::counted`]) and few are told: nothing
    /// is concluded about requests. (A recording has every call.)
    #[serde(skip, default = "every_call")]
    pub every_call: bool,
    /// After a fault or a short io_submit, synchronous calls are told, too, so that what was not done is known.
    pub synchronous: bool,
}

fn every_call() -> bool {
    true
}

/// What has to be looked up in the running system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// What is in a ring, and where it is: answered by completions and [`Looked::Ring`].
    Ring {
        /// The process.
        pid: u32,
        /// The context.
        ctx: Handle,
    },
    /// What a descriptor is: [`Looked::File`].
    File {
        /// The process.
        pid: u32,
        /// The descriptor.
        fd: u32,
    },
    /// Who holds fs.aio-nr: [`Looked::Limit`].
    Limit,
    /// What iovecs are: [`Looked::Iovecs`].
    Iovecs {
        /// The process.
        pid: u32,
        /// Where they are.
        at: Address,
        /// How many there are.
        count: u64,
    },
    /// Where a descriptor leads, of a request that a fault met: [`Looked::Path`].
    Path {
        /// The process.
        pid: u32,
        /// The descriptor.
        fd: u32,
    },
}

/// Everything known.
pub struct Model {
    settings: Settings,
    /// Time of the newest event.
    now: u64,
    next_context: u64,
    contexts: Map<(u64, u64), Context>,
    /// Contexts whose handle was given to another one while io_destroy still waits.
    leaving: Vec<((u64, u64), Context)>,
    spaces: Map<u64, Space>,
    space_of: Map<u32, u64>,
    names: Map<u32, Vec<u8>>,
    /// io_submit calls by process.
    submits: Map<u32, u64>,
    kinds: Map<(u32, u32, u16), Kind>,
    findings: Findings,
    /// Findings that wait for an answer.
    waiting: Vec<Waiting>,
    questions: VecDeque<Question>,
    next_tick: u64,
    ends: Ends,
    calls: u64,
    /// A process whose program we saw from its beginning, or attached to.
    target: Option<Target>,
    /// Requests in flight that are followed one by one.
    followed: u64,
    /// Contexts and requests that were too many to follow.
    evicted: u64,
    faults: Faults,
    refusals: refused::Refusals,
    inside: waits::Inside,
    /// Files whose way to complete is to be judged.
    unjudged: Vec<(u32, u32)>,
    /// Processes that live, as far as known.
    alive: Map<u32, Alive>,
    /// EAGAIN of an iocb, told before the call that it belongs to, by thread: when, and the context.
    eagains: Map<u32, (u64, Handle)>,
    /// Calls that were counted, told or not.
    counted: Counted,
    /// Some uses of contexts were counted without it being known which.
    uses_unknown: bool,
    /// Some process did not answer when it was looked at.
    unanswered: bool,
    /// The last call after which synchronous calls are watched: see [`Self::settled_up_to`].
    provoked: u64,
}

/// A process that lives.
#[derive(Clone, Copy, Debug)]
struct Alive {
    /// We attached to it, or it ran its program, at this time.
    since: u64,
    /// It was there, and is a target.
    is_attached: bool,
    /// When its last AIO call returned.
    last_call: Option<u64>,
}

/// What is traced by name.
#[derive(Clone, Copy, Debug)]
struct Target {
    pid: u32,
    /// From when on.
    since: u64,
    /// It was not seen from its beginning on.
    is_attached: bool,
    /// When it ended.
    ended: Option<u64>,
    /// Child processes that it made, and that are not traced.
    untraced: u64,
}

/// What is known of the requests of one kind.
#[derive(Debug, Default)]
struct Kind {
    latency: Latency,
    done: Done,
    /// io_submit did not accept them.
    refused: u64,
    /// With RWF_NOWAIT, how many of these gave EAGAIN, and how many since the last one that did not.
    nowait: u64,
    would_block: u64,
    would_block_since: u64,
    /// When the first of these completed.
    would_block_from: u64,
}

/// A finding that depends on what is looked up.
struct Waiting {
    finding: Finding,
    key: Key,
    needs: Needs,
    since: u64,
}

/// On what it depends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    /// The descriptor is storage; with this, that there is more of it than up to here.
    Storage { fd: u32, beyond: Option<u64> },
    /// Who holds fs.aio-nr.
    Limit,
    /// What these iovecs are.
    Iovecs { at: Address, count: u64 },
}

impl Needs {
    /// It is told in any case, with the answer or without.
    fn is_optional(self) -> bool {
        matches!(self, Self::Limit | Self::Iovecs { .. })
    }
}

impl Model {
    /// Knows nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            now: 0,
            next_context: 1,
            contexts: Map::default(),
            leaving: Vec::new(),
            spaces: Map::default(),
            space_of: Map::default(),
            names: Map::default(),
            submits: Map::default(),
            kinds: Map::default(),
            findings: Findings::default(),
            waiting: Vec::new(),
            questions: VecDeque::new(),
            next_tick: 0,
            ends: Ends::default(),
            calls: 0,
            target: None,
            followed: 0,
            evicted: 0,
            faults: Faults::new(settings.synchronous),
            refusals: refused::Refusals::default(),
            inside: waits::Inside::default(),
            unjudged: Vec::new(),
            alive: Map::default(),
            eagains: Map::default(),
            counted: Counted::default(),
            uses_unknown: false,
            unanswered: false,
            provoked: 0,
        }
    }

    /// Calls that were counted and not told: so many in all, and which contexts were used, and when.
    pub fn counted(&mut self, counted: Counted) {
        self.now = self.now.max(counted.time);
        for ((pid, handle), counts) in &counted.contexts {
            if *pid != 0 && counts.used > 0 {
                self.called(*pid, counts.used);
            }
            if let Some(context) = self.context_mut(*pid, *handle) {
                context.used = context.used.max(counts.used);
            }
        }
        // Of these it is not known which.
        self.uses_unknown = counted.contexts.contains_key(&(0, Handle(0)));
        self.counted = counted;
        self.count_refusals();
    }

    /// Something happened.
    pub fn handle_event(&mut self, event: &Event) {
        self.now = self.now.max(event.time);
        let is_of_request = matches!(
            event.body,
            Body::Completion(_) | Body::Refused(_) | Body::Changed(_) | Body::Behind(_)
        );
        if is_of_request && !self.settings.every_call {
            return;
        }
        match &event.body {
            Body::Call(call) => self.call(event, call),
            Body::Completion(completion) => self.completion(event, completion),
            Body::Refused(refused) => self.refused(event, refused),
            Body::ContextGone(gone) => self.context_gone(event, gone),
            Body::ContextMoved(moved) => self.moved(event, *moved),
            Body::ContextAdopted(adopted) => self.adopted(event, *adopted),
            Body::Looked(looked) => self.looked(event, looked),
            Body::Process(process) => self.process(event, process),
            Body::Lost { .. } => self.lost(event.pid),
            Body::Unfinished(call) => {
                self.in_call(event, call);
                self.unfinished(event, call.entered, &call.args);
            }
            Body::Changed(changed) => self.changed(event, changed),
            Body::Synchronous(call) => self.synchronous(event, call),
            Body::Behind(Behind { ctx, completions }) => {
                if let Some(context) = self.context_mut(event.pid, *ctx) {
                    context.requests.behind(*completions);
                }
            }
        }
    }

    /// Some process did not answer when it was looked at: what was not found there may be there.
    pub fn unanswered(&mut self) {
        self.unanswered = true;
    }

    /// A finding that was not told yet.
    pub fn next_finding(&mut self) -> Option<Finding> {
        self.findings.untold()
    }

    /// Something to be looked up.
    pub fn next_question(&mut self) -> Option<Question> {
        self.questions.pop_front()
    }

    /// Whether a process has a context with this handle, as far as known.
    pub fn knows(&self, pid: u32, handle: Handle) -> bool {
        self.contexts.contains_key(&(self.space(pid), handle.0))
    }

    /// After the trace a ring was found so, and these completions in it. If somebody has reaped since the last
    /// record, the program goes on, and they may be of requests that nobody recorded: how many of them, from the
    /// first one on, are of requests that were in flight.
    pub fn known_of(&self, pid: u32, ctx: Handle, ring: event::Ring, found: &[Event]) -> usize {
        let context = self.contexts.get(&(self.space(pid), ctx.0));
        let goes_on = context.filter(|it| it.ring.is_none_or(|last| last.head != ring.head));
        goes_on.map_or(found.len(), |context| {
            context.requests.of_in_flight(found.iter().filter_map(|it| match &it.body {
                Body::Completion(completion) => completion.event.as_ref(),
                _ => None,
            }))
        })
    }

    /// The ring of a context as it would be without the completions that were not told.
    pub fn as_told(&self, pid: u32, ctx: Handle, ring: event::Ring, time: u64) -> event::Ring {
        let context = self.contexts.get(&(self.space(pid), ctx.0));
        context.map_or(ring, |it| it.requests.as_told(ring, time))
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<u64> {
        let waits =
            !self.contexts.is_empty() || !self.waiting.is_empty() || !self.unjudged.is_empty();
        (waits || self.has_released() || self.faults.is_waiting())
            .then_some(self.next_tick.max(self.now))
    }

    fn has_released(&self) -> bool {
        self.spaces.in_any_order().any(|it| it.1.released.is_some())
    }

    /// The address space of a process. Until it is known, one that stands for the process.
    fn space(&self, pid: u32) -> u64 {
        self.space_of.get(&pid).copied().unwrap_or(u64::from(pid))
    }

    fn ask(&mut self, question: Question) -> bool {
        if self.questions.contains(&question) {
            return true;
        }
        let has_room = self.questions.len() < MOST_QUESTIONS;
        if has_room {
            self.questions.push_back(question);
        }
        has_room
    }

    /// Tells a finding, or counts it. One that is not certain is no error.
    fn find(&mut self, mut finding: Finding, detail: u64, more: u64) {
        if finding.doubt.is_some() {
            finding.severity = finding.severity.min(Severity::Warning);
        }
        if let Some(name) = self.names.get(&finding.pid) {
            finding.process.clone_from(name);
        }
        finding.submits = self.submits.get(&finding.pid).copied().unwrap_or(0);
        finding.submits_first = finding.submits;
        self.findings.add(finding, detail, more);
    }

    /// Tells it once it is known what is needed.
    fn find_if(&mut self, needs: Needs, finding: Finding, detail: u64, more: u64) {
        let key = (finding.name, finding.pid, detail, more);
        if self.findings.has(&key) {
            return self.find(finding, detail, more);
        }
        if let Some(known) = self.waiting.iter_mut().find(|it| it.key == key) {
            known.finding.count += 1;
            known.finding.last = finding.last;
            return;
        }
        let question = match needs {
            Needs::Storage { fd, .. } => Question::File { pid: finding.pid, fd },
            Needs::Limit => Question::Limit,
            Needs::Iovecs { at, count } => Question::Iovecs { pid: finding.pid, at, count },
        };
        if self.waiting.len() < MOST_QUESTIONS && self.ask(question) {
            self.waiting.push(Waiting { finding, key, needs, since: self.now });
        }
    }

    fn context_mut(&mut self, pid: u32, handle: Handle) -> Option<&mut Context> {
        self.contexts.get_mut(&(self.space(pid), handle.0))
    }

    /// The context that had the handle when a call on it began: when the call returns, another one may have it.
    /// `None`: it was not known, or has ended meanwhile.
    fn context_when(&self, (pid, handle): (u32, Handle), began: u64) -> Option<&Context> {
        let key = (self.space(pid), handle.0);
        let it = self.contexts.get(&key)?;
        match self.left_when(key, began) {
            None => (it.held <= began).then_some(it),
            Some(place) => self.leaving.get(place).map(|it| &it.1),
        }
    }

    fn context_when_mut(
        &mut self,
        (pid, handle): (u32, Handle),
        began: u64,
    ) -> Option<&mut Context> {
        let key = (self.space(pid), handle.0);
        match self.left_when(key, began) {
            None => self.contexts.get_mut(&key).filter(|it| it.held <= began),
            Some(place) => self.leaving.get_mut(place).map(|it| &mut it.1),
        }
    }

    /// Where the context is that had this handle then, if another one has it by now.
    fn left_when(&self, key: (u64, u64), began: u64) -> Option<usize> {
        let is_late = self.contexts.get(&key).is_some_and(|it| began < it.held);
        let is_it = |(of, it): &((u64, u64), Context)| *of == key && it.held <= began;
        is_late.then(|| self.leaving.iter().rposition(is_it)).flatten()
    }

    /// One more context; `None` if there are too many.
    fn add_context(&mut self, pid: u32, handle: Handle, time: u64) -> Option<&mut Context> {
        let more = self.leaving.len() + self.ends.destroying.len();
        if self.contexts.len() + more >= MOST_CONTEXTS {
            self.evicted += 1;
            return None;
        }
        let space = self.space(pid);
        let name = ContextRef { id: self.next_context, handle };
        self.next_context += 1;
        let mut context = Context::new(name, pid, time);
        context.doubt = self.spaces.entry(space).or_default().doubt();
        self.give(space, context, time);
        self.contexts.get_mut(&(space, handle.0))
    }

    /// The context has its handle from now on.
    fn give(&mut self, space: u64, mut context: Context, time: u64) {
        let key = (space, context.handle().0);
        let destroyed = self.spaces.entry(space).or_default().given_again(key.1);
        context.held = destroyed.unwrap_or(0);
        if let Some(mut old) = self.contexts.remove(&key) {
            context.held = time;
            old.is_left = true;
            // io_destroy has unmapped its ring and still waits; or the ring was unmapped otherwise.
            self.leaving.push((key, old));
        }
        self.contexts.insert(key, context);
    }

    /// Takes out the context that has the handle. It is the older one's again: perhaps that one's ring was
    /// unmapped, which is still to be found.
    fn release(&mut self, key: (u64, u64)) -> Option<Context> {
        let context = self.contexts.remove(&key)?;
        let older = self.leaving.iter().rposition(|(of, _)| *of == key);
        self.contexts.extend(older.map(|place| self.leaving.remove(place)));
        Some(context)
    }

    fn adopted(&mut self, event: &Event, adopted: Adopted) {
        let every_call = self.settings.every_call;
        let Some(context) = self.add_context(event.pid, adopted.ctx, event.time) else { return };
        context.adopted = true;
        context.charge = adopted.charge;
        // Without its ring it is not known from where on completions count.
        context.in_flight_at_attach = adopted.in_flight.filter(|_| adopted.ring.is_some());
        context.ring = adopted.ring;
        if every_call {
            context.requests = requests::Requests::adopted(adopted.ring, event.time);
        }
    }

    fn moved(&mut self, event: &Event, Moved { from, to }: Moved) {
        let space = self.space(event.pid);
        if let Some(mut context) = self.release((space, from.0)) {
            context.name.handle = to;
            (context.look.unmapped, context.look.is_missing) = (None, false);
            self.give(space, context, event.time);
            self.faults.ring_moved(space, from.0, to.0);
        }
    }

    /// Something of this process was lost; 0: of any.
    fn lost(&mut self, pid: u32) {
        let meant = (pid != 0).then(|| self.space(pid));
        self.faults.unsure(meant, Doubt::Lost);
        if let Some(space) = meant {
            self.spaces.entry(space).or_default();
        }
        let is_meant = |space: u64| meant.is_none_or(|it| it == space);
        for (_, space) in self.spaces.in_any_order_mut().filter(|(space, _)| is_meant(**space)) {
            space.lost = true;
        }
        let live = self.contexts.in_any_order_mut().map(|((space, _), context)| (*space, context));
        let leaving = self.leaving.iter_mut().map(|((space, _), context)| (*space, context));
        for (_, context) in live.chain(leaving).filter(|(space, _)| is_meant(*space)) {
            context.doubts(Doubt::Lost);
        }
    }

    fn process(&mut self, event: &Event, process: &Process) {
        self.name(event.pid, &process.name);
        match process.change {
            Change::Attached => {
                self.lives(event, true);
                self.uses(event.pid, process.space);
            }
            Change::Seen => self.uses(event.pid, process.space),
            Change::Fork { child, followed } if followed => {
                self.name(child, &process.name);
                let parent = self.space(event.pid);
                self.uses(child, process.space);
                self.forked(parent, Some(self.space(child)), event.time);
            }
            // It may share the address space, and what it makes there is not seen.
            Change::Fork { .. } => {
                if let Some(it) = self.target.as_mut().filter(|it| it.pid == event.pid) {
                    it.untraced += 1;
                }
                let space = self.space(event.pid);
                if let Some(space) = self.spaces.get_mut(&space) {
                    space.is_whole = false;
                }
                self.forked(space, None, event.time);
            }
            Change::Exec { .. } => {
                self.lives(event, false);
                self.left_calls(event.pid);
                self.leave(event, None);
                self.uses(event.pid, process.space);
                let space = self.space(event.pid);
                self.spaces.entry(space).or_default().is_whole = process.space.is_some();
            }
            Change::ExitWaits => self.in_exit(event),
            Change::Exit { status } => {
                self.alive.remove(&event.pid);
                if let Some(it) = self.target.as_mut().filter(|it| it.pid == event.pid) {
                    it.ended = Some(event.time);
                }
                self.left_calls(event.pid);
                self.leave(event, Some(status));
            }
        }
    }

    /// A process that is traced by name: it was there, or begins its program.
    fn lives(&mut self, event: &Event, is_attached: bool) {
        let Event { pid, time: since, .. } = *event;
        let new = Target { pid, since, is_attached, ended: None, untraced: 0 };
        self.target.get_or_insert(new);
        if self.alive.len() < MOST_NAMES {
            self.alive.entry(pid).or_insert(Alive { since, is_attached, last_call: None });
        }
    }

    /// It made an AIO call.
    fn called(&mut self, pid: u32, time: u64) {
        if self.alive.len() >= MOST_NAMES && !self.alive.contains_key(&pid) {
            return;
        }
        let new = Alive { since: time, is_attached: false, last_call: None };
        let it = self.alive.entry(pid).or_insert(new);
        it.last_call = it.last_call.max(Some(time));
    }

    fn name(&mut self, pid: u32, name: &[u8]) {
        if self.names.len() < MOST_NAMES || self.names.contains_key(&pid) {
            self.names.insert(pid, name.to_vec());
        }
    }

    fn uses(&mut self, pid: u32, space: Option<u64>) {
        let Some(space) = space else { return };
        // Else it is one of its own.
        if self.space_of.len() >= MOST_SPACES && !self.space_of.contains_key(&pid) {
            return;
        }
        if self.spaces.get(&space).is_some_and(|it| it.ended.is_some()) {
            self.close(space);
        }
        let before = self.space_of.insert(pid, space);
        if before == Some(space) {
            return;
        }
        // What was known before the address space was.
        let provisional = u64::from(pid);
        let is_over = self.spaces.get(&provisional).is_none_or(|it| it.ended.is_some());
        if let Some(old) =
            (before.is_none() && !is_over).then(|| self.spaces.remove(&provisional)).flatten()
        {
            let contexts: Vec<_> =
                self.contexts.extract_in_any_order(|(of, _), _| *of == provisional).collect();
            self.contexts.extend(contexts.into_iter().map(|((_, it), of)| ((space, it), of)));
            let leaving = self.leaving.iter_mut().filter(|((of, _), _)| *of == provisional);
            leaving.for_each(|((of, _), _)| *of = space);
            let lost = old.lost;
            self.faults.moved(provisional, space);
            self.spaces.entry(space).or_insert(old).lost |= lost;
        }
        self.spaces.entry(space).or_default().users.push(pid);
    }

    fn looked(&mut self, event: &Event, looked: &Looked) {
        match looked {
            Looked::Ring { ctx, found, destroying, awaited } => {
                self.looked_at_ring(event, *ctx, *found, (*destroying, *awaited));
            }
            Looked::File { fd, file } => self.looked_at_file(event, *fd, *file),
            Looked::Limit(limit) => {
                for mut waiting in self.answered(0, |it| it.needs == Needs::Limit) {
                    waiting.finding.answer_limit(limit, event.time);
                    self.find(waiting.finding, waiting.key.2, waiting.key.3);
                }
            }
            Looked::Unreferenced(handles) => self.unreferenced(event, handles),
            Looked::Iovecs { at, list } => {
                let answers =
                    |it: &Waiting| matches!(it.needs, Needs::Iovecs { at: of, .. } if of == *at);
                for mut waiting in self.answered(event.pid, answers) {
                    let Needs::Iovecs { count, .. } = waiting.needs else { continue };
                    waiting.finding.answer_iovecs(list.as_deref(), count);
                    self.find(waiting.finding, waiting.key.2, waiting.key.3);
                }
            }
            Looked::Path { fd, path } => {
                let space = self.space(event.pid);
                self.faults.leads_to(space, *fd, event.time, path.as_deref());
            }
        }
    }

    fn looked_at_file(&mut self, event: &Event, fd: u32, file: Option<File>) {
        let space = self.space(event.pid);
        if let Some(file) = file {
            self.faults.placeless(space, fd, inline::placeless(file));
        }
        let mut first = None;
        if let Some(space) = self.spaces.get_mut(&space) {
            first = space.files.first(fd);
            space.files.answered(fd, file, event.time);
        }
        let is_storage = |it: Option<File>| it.is_some_and(|it| it.kind == FileKind::Storage);
        let is_longer = |place: u64| file.and_then(|it| it.size).is_some_and(|it| it > place);
        let is_another = first.zip(file).is_some_and(|(first, now)| first.id != now.id);
        let answers =
            |it: &Waiting| matches!(it.needs, Needs::Storage { fd: needed, .. } if needed == fd);
        for mut waiting in self.answered(event.pid, answers) {
            let Needs::Storage { beyond, .. } = waiting.needs else { continue };
            // What is in flight holds its file, whatever becomes of the descriptor.
            let is_stuck = waiting.finding.name == Name::RequestStuck;
            let is_closed = file.is_none() && is_stuck && is_storage(first);
            if is_closed {
                waiting.finding.doubt.get_or_insert(Doubt::Closed);
            }
            if is_another {
                waiting.finding.doubt.get_or_insert(Doubt::Closed);
            }
            // Whoever reads to the end of a file that grows is never wrong.
            if beyond.is_some() {
                waiting.finding.doubt.get_or_insert(Doubt::Grown);
            }
            if is_closed || (is_storage(file) && beyond.is_none_or(is_longer)) {
                self.find(waiting.finding, waiting.key.2, waiting.key.3);
            }
        }
    }

    /// Takes out what waited for that answer; pid 0 is any.
    fn answered(&mut self, pid: u32, answers: impl Fn(&Waiting) -> bool) -> Vec<Waiting> {
        let of = |it: &Waiting| pid == 0 || it.finding.pid == pid;
        self.waiting.extract_if(.., |it| of(it) && answers(it)).collect()
    }

    fn looked_at_ring(
        &mut self,
        event: &Event,
        ctx: Handle,
        found: RingFound,
        (destroying, awaited): (bool, Option<i64>),
    ) {
        let time = event.time;
        let key = (self.space(event.pid), ctx.0);
        // The handle is another context's by now, and nobody destroys this one: so its ring was unmapped.
        let heir = self.contexts.get(&key).map(|it| it.since);
        let strayed = self.spaces.get(&key.0).and_then(|it| it.strayed);
        let left = self.leaving.iter().find(|(of, _)| *of == key);
        let is_left = left.is_some_and(|(_, it)| !it.may_have_moved(strayed));
        if is_left
            && !destroying
            && heir.is_some_and(|since| time >= since.saturating_add(SECOND / 2))
        {
            self.leaked(event, ctx);
        }
        let Some(context) = self.contexts.get_mut(&key) else { return };
        context.look.is_missing = !matches!(found, RingFound::There(_));
        match found {
            RingFound::There(ring) => {
                context.look.unmapped = None;
                context.look.confirmed = time;
                context.look.awaited = awaited;
                if self.settings.every_call {
                    context.looked(ring, time);
                    self.reaped_by_hand(key);
                }
                if !destroying {
                    self.confirm_refusals(key, time);
                }
            }
            // Perhaps it is the one that was moved to a handle of which it is not known where it comes from.
            RingFound::Unmapped if context.may_have_moved(strayed) => context.look.unmapped = None,
            RingFound::Unmapped if !destroying => match context.look.unmapped {
                // io_destroy may have been on its way when the first look was taken.
                Some(first) if time >= first + SECOND / 2 => self.leaked(event, ctx),
                Some(_) => (),
                None => {
                    context.look.unmapped = Some(time);
                    context.look.due = time.saturating_add(SECOND / 2);
                }
            },
            RingFound::Unmapped | RingFound::Unknown => context.look.unmapped = None,
        }
    }
}
