//! From events to conclusions. The model is pure: it has no clock and does no I/O; its time is that of the events.
//! For what has to be looked up in the running system, the model asks questions ([`Model::next_question`]), and the
//! answers come as events like all others.
//!
//! ```text
//!  events  -> calls, completions, endings -> contexts, requests -> findings, report
//!  timeout -> watch                       -> questions          -> events
//!  faults  -> what the program makes of them                    -> verdicts
//! ```
//!
//! The state is bounded: [`MOST_CONTEXTS`] contexts, [`MOST_REQUESTS`] requests in flight, [`MOST_FAULTS`] faults.
//! Further ones are not followed, but counted, and make conclusions *unsure*.

mod answers;
mod appends;
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
mod handles;
mod inline;
pub mod latency;
mod lost;
mod owed;
mod pace;
mod peak;
mod polls;
mod process;
mod questions;
mod ranges;
mod refused;
pub mod report;
mod request;
mod requests;
pub mod rules;
mod spaces;
pub mod sums;
mod timeout;
mod trend;
mod unseen;
pub mod usage;
pub mod verdict;
mod waits;
mod watch;

use std::collections::{HashMap, VecDeque};

pub use context::{Context, Done};
pub use doubt::Doubt;
use faults::Faults;
pub use faults::MOST_FAULTS;
use finding::Findings;
pub use finding::{ContextId, ContextRef, Finding, Severity, Subject};
pub use findings::{Evidence, Name};
use latency::Latency;
pub use peak::{Bound, Peak};
use process::Space;
pub use questions::Question;
use questions::{Needs, Waiting};
use report::Ends;
pub use report::Report;
pub use rules::Rules;
use serde::{Deserialize, Serialize};
pub use waits::Wait;

pub use verdict::{Cause, FaultRow, Going, Half, Outcome, RuleRow, Verdict};

use crate::{
    any_order::AnyOrder as _,
    bounded,
    counted::Counted,
    event::{self, Behind, Body, Event, Handle, SpaceId},
    opcode::Opcode,
};

/// Most contexts followed at a time; each takes some 500 bytes, and 5 KiB once it has latencies.
pub const MOST_CONTEXTS: usize = bounded::CONTEXTS;
/// Most requests in flight followed one by one; each takes some 150 bytes.
pub const MOST_REQUESTS: u64 = 262_144;
/// Most kinds of requests (process, descriptor, operation) with latencies of their own.
const MOST_KINDS: usize = 1024;
/// Most processes whose names are remembered.
const MOST_NAMES: usize = 16_384;
/// Most processes whose address spaces are remembered.
const MOST_SPACES: usize = 65_536;

const SECOND: u64 = 1_000_000_000;
/// Events of different threads are out of order by less than this: after this time, all events of a moment have come.
/// Nanoseconds.
const TOLD_WITHIN: u64 = SECOND / 10;

/// A map with the same hash in each run, so that a recording gives its findings in the order of the trace.
type Map<K, V> = HashMap<K, V, foldhash::fast::FixedState>;

/// The thresholds of findings; times in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thresholds {
    /// How long a request to a file is in flight.
    pub stuck: u64,
    /// How long a completion is not reaped.
    pub unreaped: u64,
    /// How long an io_submit takes.
    pub slow_submit: u64,
    /// How long a context is not used.
    pub idle: u64,
    /// How many contexts are idle while new ones are made.
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

/// What the model knows about the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The thresholds of findings.
    pub thresholds: Thresholds,
    /// The source sees completions when they happen. Otherwise it sees them at the next call, and what happened
    /// between the last call and the end of a process is unknown.
    pub exact_completions: bool,
    /// Every call has an event. Otherwise calls are counted in the kernel ([`Model::counted`]) and few have events:
    /// then nothing is concluded about requests. (A recording has every call.)
    #[serde(skip, default = "every_call")]
    pub every_call: bool,
    /// Synchronous calls have events, too, after a fault or a short io_submit, so that the model knows which requests
    /// nobody did.
    pub synchronous: bool,
    /// The source stops a thread at the return of each call, as ptrace does, so that a disk has time to complete what
    /// io_submit has just submitted. (A recording has it by the name of its source.)
    #[serde(skip)]
    pub stops: bool,
}

fn every_call() -> bool {
    true
}

/// The state of the model.
pub struct Model {
    settings: Settings,
    /// Time of the newest event.
    now: u64,
    /// Of which time it is told: that of the event that came last, which may be older; or `now`, if time has passed.
    moment: u64,
    next_context: u64,
    contexts: Map<(SpaceId, Handle), Context>,
    /// Contexts whose handle was given to another context while io_destroy still waits.
    leaving: Vec<((SpaceId, Handle), Context)>,
    /// Contexts whose ring was unmapped, in the order in which that was found.
    lost: Vec<lost::Lost>,
    spaces: Map<SpaceId, Space>,
    space_of: Map<u32, SpaceId>,
    names: Map<u32, Vec<u8>>,
    /// How processes go on after failed completions.
    submits: Map<u32, findings::failed_completion::Submits>,
    kinds: Map<(u32, u32, Opcode), Kind>,
    /// Completions that a fault made fail before it was known whose they are: by address space, iocb and data.
    unnamed: Map<(SpaceId, u64, u64), ()>,
    findings: Findings,
    /// Findings that wait for an answer.
    waiting: Vec<Waiting>,
    questions: VecDeque<Question>,
    next_tick: u64,
    ends: Ends,
    calls: u64,
    /// The process that is traced by name: we saw its program begin, or attached to it.
    target: Option<Target>,
    /// Number of requests in flight that are followed one by one.
    followed: u64,
    /// Number of contexts and requests that were too many to follow.
    evicted: u64,
    faults: Faults,
    refusals: refused::Refusals,
    usages: usage::Usages,
    inside: waits::Inside,
    /// What threads waited for when `--timeout` ended the program.
    waited: Option<Vec<Wait>>,
    /// What files with O_DIRECT ask for, as it was looked up last.
    alignments: findings::direct_io_misaligned::Alignments,
    /// Looks at who else may write to the file of a request that met a fault.
    looks_at_ways: pace::Budget,
    /// Looks at what that file is.
    looks_at_files: pace::Budget,
    /// Requests that are compared with what other processes left.
    comparisons: pace::Budget,
    /// Threads that are to wait for their requests, with the contexts of these.
    turns: Map<u32, (SpaceId, Handle)>,
    pollers: findings::busy_reaping::Pollers,
    suspects: findings::endless_wait::Suspects,
    /// Files that wait until it can be judged how their requests complete, as process and descriptor.
    unjudged: Vec<(u32, u32)>,
    /// Files with O_APPEND that were looked at twice and wait to be judged, as process and descriptor.
    appended: Vec<(u32, u32)>,
    /// Processes that live, as far as known.
    alive: Map<u32, Alive>,
    /// The threads for which an iocb was refused with EAGAIN, which is told before their call is, each with the
    /// context.
    eagains: Map<u32, Handle>,
    /// Calls that were counted, whether they have events or not.
    counted: Counted,
    /// Some uses of contexts were counted without their contexts.
    uses_unknown: bool,
    /// A look at a process got no answer.
    unanswered: bool,
    /// The last call after which synchronous calls are watched: see [`Self::settled_up_to`].
    provoked: u64,
}

/// A living process.
#[derive(Clone, Copy, Debug)]
struct Alive {
    /// When we attached to it, or when it ran its program.
    since: u64,
    /// It existed before the attach, and is a target.
    is_attached: bool,
    /// When its last AIO call returned.
    last_call: Option<u64>,
}

/// A process that is traced by name.
#[derive(Clone, Debug)]
struct Target {
    pid: u32,
    /// When its trace began.
    since: u64,
    /// It existed before the attach.
    is_attached: bool,
    /// When it ended.
    ended: Option<u64>,
    /// How many child processes it made that are not traced.
    untraced: u64,
    /// Processes below it that have contexts, and are not traced.
    users: Vec<event::User>,
}

/// Requests of one kind: process, descriptor and operation.
#[derive(Debug, Default)]
struct Kind {
    /// The name that its process had before it ran another program, which has made no such request.
    process: Option<Vec<u8>>,
    latency: Latency,
    done: Done,
    /// How many of them io_submit did not accept.
    refused: u64,
    /// How many have RWF_NOWAIT, how many of these gave EAGAIN, and how many did so since the last one that did not.
    nowait: u64,
    would_block: u64,
    would_block_since: u64,
    /// When the first of the last EAGAINs came.
    would_block_from: u64,
}

impl Model {
    /// A model that knows nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            now: 0,
            moment: 0,
            next_context: 1,
            contexts: Map::default(),
            leaving: Vec::new(),
            lost: Vec::new(),
            spaces: Map::default(),
            space_of: Map::default(),
            names: Map::default(),
            submits: Map::default(),
            kinds: Map::default(),
            unnamed: Map::default(),
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
            usages: usage::Usages::default(),
            inside: waits::Inside::default(),
            waited: None,
            alignments: findings::direct_io_misaligned::Alignments::default(),
            looks_at_ways: pace::Budget::default(),
            looks_at_files: pace::Budget::default(),
            comparisons: pace::Budget::default(),
            turns: Map::default(),
            pollers: findings::busy_reaping::Pollers::default(),
            suspects: findings::endless_wait::Suspects::default(),
            unjudged: Vec::new(),
            appended: Vec::new(),
            alive: Map::default(),
            eagains: Map::default(),
            counted: Counted::default(),
            uses_unknown: false,
            unanswered: false,
            provoked: 0,
        }
    }

    /// Takes the counts of calls that have no events: their numbers, and which contexts were used when.
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
        // Nobody knows which contexts these were.
        self.uses_unknown = counted.contexts.contains_key(&(0, Handle(0)));
        self.counted = counted;
        self.count_refusals();
    }

    /// Takes an event.
    pub fn handle_event(&mut self, event: &Event) {
        self.now = self.now.max(event.time);
        self.faults.now = self.now;
        // A look may see what the program has done since.
        if !matches!(event.body, Body::Looked(_)) {
            self.faults.heard = self.faults.heard.max(event.time);
        }
        self.moment = event.time;
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

    /// A look at a process got no answer: what was not found there may exist.
    pub fn unanswered(&mut self) {
        self.unanswered = true;
    }

    /// The next finding that was not reported yet.
    pub fn next_finding(&mut self) -> Option<Finding> {
        self.findings.untold()
    }

    /// How bad the worst finding is, of those that were not withdrawn.
    pub fn worst_finding(&self) -> Option<Severity> {
        self.findings.worst()
    }

    /// Whether a process has a context with this handle, as far as known.
    pub fn knows(&self, pid: u32, handle: Handle) -> bool {
        self.contexts.contains_key(&(self.space(pid), handle))
    }

    /// Takes a ring and its completions as they were found after the trace. If somebody has reaped since the last
    /// record, the program goes on, and the completions may belong to requests that nobody recorded. Returns how many
    /// of them, from the first one on, belong to requests that were in flight.
    pub fn known_of(&self, pid: u32, ctx: Handle, ring: event::Ring, found: &[Event]) -> usize {
        let context = self.contexts.get(&(self.space(pid), ctx));
        let goes_on = context.filter(|it| it.ring.is_none_or(|last| last.head != ring.head));
        goes_on.map_or(found.len(), |context| {
            context.requests.of_in_flight(found.iter().filter_map(|it| match &it.body {
                Body::Completion(completion) => completion.event.as_ref(),
                _ => None,
            }))
        })
    }

    /// The ring of a context as it would be without the completions that have no events.
    pub fn as_told(&self, pid: u32, ctx: Handle, ring: event::Ring, time: u64) -> event::Ring {
        let context = self.contexts.get(&(self.space(pid), ctx));
        context.map_or(ring, |it| it.requests.as_told(ring, time))
    }

    /// The time at which [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<u64> {
        let waits = !self.contexts.is_empty()
            || !self.waiting.is_empty()
            || !self.unjudged.is_empty()
            || !self.appended.is_empty();
        (waits || self.has_released() || self.faults.is_waiting())
            .then_some(self.next_tick.max(self.now))
    }

    fn has_released(&self) -> bool {
        self.spaces.in_any_order().any(|it| it.1.released.is_some())
    }
}
