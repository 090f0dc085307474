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
pub mod verdict;
mod waits;
mod watch;

use std::collections::{HashMap, VecDeque};

pub use context::{Context, Done};
pub use doubt::Doubt;
use faults::Faults;
pub use faults::MOST_FAULTS;
use finding::Findings;
pub use finding::{ContextRef, Finding, Severity, Subject};
pub use findings::{Evidence, Name};
use latency::Latency;
pub use peak::Peak;
use process::Space;
pub use questions::Question;
use questions::{Needs, Waiting};
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
    event::{self, Behind, Body, Event, Handle},
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

const SECOND: u64 = 1_000_000_000;
/// Events of different threads are out of order by less than this: what was done at a time is told by then; nanoseconds.
const TOLD_WITHIN: u64 = SECOND / 10;

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

/// Everything known.
pub struct Model {
    settings: Settings,
    /// Time of the newest event.
    now: u64,
    next_context: u64,
    contexts: Map<(u64, u64), Context>,
    /// Contexts whose handle was given to another one while io_destroy still waits.
    leaving: Vec<((u64, u64), Context)>,
    /// Contexts whose ring was unmapped, in the order in which that was found.
    lost: Vec<lost::Lost>,
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
    /// Threads that are to wait for their requests, and in which contexts.
    turns: Map<u32, (u64, u64)>,
    pollers: findings::busy_reaping::Pollers,
    suspects: findings::endless_wait::Suspects,
    /// Files whose way to complete is to be judged.
    unjudged: Vec<(u32, u32)>,
    /// Files with O_APPEND that were looked at twice, and are to be judged.
    appended: Vec<(u32, u32)>,
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
    /// The name that its process had before it ran another program, which has made no such request.
    process: Option<Vec<u8>>,
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

impl Model {
    /// Knows nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            now: 0,
            next_context: 1,
            contexts: Map::default(),
            leaving: Vec::new(),
            lost: Vec::new(),
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

    /// How bad the worst finding is, of those that were not withdrawn.
    pub fn worst_finding(&self) -> Option<Severity> {
        self.findings.worst()
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
