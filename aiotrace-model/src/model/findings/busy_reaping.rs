//! busy-reaping: io_getevents returns nothing, again and again, and does not wait.
//!
//! The finding is about a thread, on one context or several. The thread's calls are looked at second by second: a
//! program that polls between pieces of work does so less often, or gets completions.

use super::Basis;
use crate::{
    any_order::AnyOrder as _,
    event::{Args, Call, Event},
    model::{ContextRef, Finding, Map, Model, SECOND, Severity, timeout::Until},
    words::{duration::in_words, number::thousands},
};

/// A thread with no longer timeout than this does not rest: the kernel takes longer to let it sleep and to wake it
/// (with 50 us of slack, which is the default).
const SHORT: u64 = 100_000;
/// Calls in each second that return nothing. Fewer cost little, and may be made between pieces of work.
const MANY: u64 = 1000;
/// Percentage of the io_getevents calls that return nothing; with fewer, the thread does get completions.
const EMPTY: u64 = 90;
/// Most threads looked at.
const MOST_THREADS: usize = 4096;

/// What a thread did in a second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BusyReaping {
    /// Calls of io_getevents that returned 0.
    calls: u64,
    within: u64,
    /// Time from entry to return of these calls.
    took: u64,
    /// Their longest timeout, nanoseconds; 0: none of them waited.
    timeout: u64,
    /// After how many of these calls requests were in flight; `None`: that is unknown for some.
    in_flight: Option<u64>,
}

impl Basis for BusyReaping {
    const NAME: &'static str = "busy-reaping";
    const SEVERITY: Severity = Severity::Info;
    const NUMBERS: &'static [&'static str] = &["calls", "within_ns", "took_ns", "in_flight"];

    fn message(&self) -> String {
        let Self { calls, within, took, timeout, in_flight } = *self;
        let whether = match in_flight {
            None => "whether requests were in flight is not known".to_owned(),
            Some(0) => "no request was in flight".to_owned(),
            Some(some) if some == calls => "requests were in flight".to_owned(),
            Some(some) => format!("requests were in flight after {} of them", thousands(some)),
        };
        let waited = match timeout {
            0 => "did not wait".to_owned(),
            _ => format!("waited for {} at most", in_words(timeout)),
        };
        format!(
            "{} calls of io_getevents in {} {waited} and returned nothing: the thread spent {} in them; {whether}",
            thousands(calls),
            in_words(within),
            in_words(took),
        )
    }

    fn numbers(&self) -> Vec<(&'static str, i64)> {
        let mut numbers = vec![
            ("calls", self.calls as i64),
            ("within_ns", self.within as i64),
            ("took_ns", self.took as i64),
        ];
        numbers.extend(self.in_flight.map(|it| ("in_flight", it as i64)));
        numbers
    }
}

/// The threads that call io_getevents.
#[derive(Debug, Default)]
pub struct Pollers(Map<u32, Poller>);

/// What a thread did since `since`.
#[derive(Clone, Copy, Debug)]
struct Poller {
    pid: u32,
    since: u64,
    /// Its calls of io_getevents.
    all: u64,
    /// Those of them that did not wait and returned nothing.
    empty: u64,
    took: u64,
    timeout: u64,
    /// After how many of these requests were in flight; and for how many of them that is unknown.
    in_flight: u64,
    unknown: u64,
    /// The context, if there is only one.
    context: Option<ContextRef>,
}

impl Pollers {
    /// Forgets threads that make no calls any more, so that there is room for others.
    pub fn forget_before(&mut self, time: u64) {
        self.0.retain_in_any_order(|_, it| it.since >= time);
    }
}

impl Poller {
    /// What the thread did up to now, if that is a finding.
    fn busy(&self, now: u64) -> Option<BusyReaping> {
        let Self { all, empty, took, timeout, .. } = *self;
        let within = now.saturating_sub(self.since);
        let is_often = empty.saturating_mul(SECOND) >= within.saturating_mul(MANY);
        let is_empty = empty * 100 >= all * EMPTY;
        (is_often && is_empty).then(|| BusyReaping {
            calls: empty,
            within,
            took,
            timeout,
            in_flight: (self.unknown == 0).then_some(self.in_flight),
        })
    }
}

impl Model {
    /// An io_getevents returned.
    pub(in crate::model) fn polled(&mut self, event: &Event, call: &Call) {
        let Args::Getevents { ctx, min_nr, timeout, timeout_value, .. } = &call.args else { return };
        let longest = match Until::of(*min_nr, *timeout, *timeout_value) {
            Until::AtOnce => Some(0),
            Until::Within(nanos) => Some(nanos).filter(|it| *it <= SHORT),
            Until::Ever | Until::Unknown => None,
        };
        let is_empty = longest.is_some() && call.ret == 0 && call.fault.is_none();
        let context = self.contexts.get(&(self.space(event.pid), *ctx));
        let (name, in_flight) = (context.map(|it| it.name), context.and_then(|it| it.in_flight()));
        let known = &mut self.pollers.0;
        let has_room = known.len() < MOST_THREADS;
        let new = Poller {
            pid: event.pid,
            since: call.began(event),
            all: 0,
            empty: 0,
            took: 0,
            timeout: 0,
            in_flight: 0,
            unknown: 0,
            context: name,
        };
        let poll = match known.get_mut(&event.tid) {
            Some(it) if it.pid == event.pid => it,
            // (A thread of another process with this id is another thread.)
            Some(it) => {
                *it = new;
                it
            }
            None if is_empty && has_room => known.entry(event.tid).or_insert(new),
            None => return,
        };
        poll.all += 1;
        if is_empty {
            poll.empty += 1;
            poll.timeout = poll.timeout.max(longest.unwrap_or(0));
            poll.took += event.time.saturating_sub(call.began(event));
            poll.in_flight += u64::from(in_flight.is_some_and(|it| it > 0));
            poll.unknown += u64::from(in_flight.is_none());
            poll.context = poll.context.filter(|it| Some(*it) == name);
        }
        if event.time.saturating_sub(poll.since) < SECOND {
            return;
        }
        let poll = *poll;
        self.pollers.0.remove(&event.tid);
        let Some(busy) = poll.busy(event.time) else { return };
        let space = self.space(event.pid);
        let mut finding = Finding::new(busy, event.time, event.pid);
        finding.tid = Some(event.tid);
        finding.context = poll.context;
        finding.doubt = self.spaces.get(&space).and_then(|it| it.doubt());
        self.find(finding, poll.context.map_or(0, |it| it.id.0), 0);
    }
}
