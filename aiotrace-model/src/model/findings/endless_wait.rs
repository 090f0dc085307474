//! endless-wait: a thread waits in io_getevents for what cannot come, and nobody is left who could submit it.
//!
//! ```text
//!  a look at a ring: a thread waits for more than can come
//!     -> what do all threads of the address space do?        looked up
//!     -> all of them wait so. Nobody can change that, if it was so at one moment
//!     -> the same again 5 s later, and no call returned meanwhile: it was so at one moment
//! ```
//! A look goes from thread to thread. A thread that was seen to wait may have been woken by another one, which waits
//! by the time that it is looked at. But then the first one's call returned, and there is an event of that. And a
//! thread that did not exist at the first look was made by a thread that ran.

use super::{Basis, plural};
use crate::{
    event::{Event, Handle, SpaceId, Thread, Waits},
    model::{
        Context, ContextId, Doubt, Finding, Model, Name, Question, SECOND, Severity,
        context::Submitter, timeout::Until,
    },
    words::duration::in_words,
};

/// How long the wait must last.
const LONG: u64 = 5 * SECOND;
/// How long an answer takes at most.
const PATIENCE: u64 = 2 * SECOND;
/// Most address spaces looked at.
const MOST: usize = 64;
/// If one thread and no other made at least so many io_submit calls, it is the only one that submits.
const ENOUGH: u64 = 16;

/// Threads that wait for completions that cannot come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndlessWait {
    threads: u64,
    /// How many completions they wait for.
    wanted: i64,
    in_flight: u64,
    unreaped: u64,
    /// How long they have waited at least, nanoseconds.
    age: u64,
    /// The timeout is negative.
    is_negative: bool,
    /// Other threads live.
    has_others: bool,
}

impl Basis for EndlessWait {
    const NAME: &'static str = "endless-wait";
    const SEVERITY: Severity = Severity::Warning;
    const NUMBERS: &'static [&'static str] =
        &["threads", "wanted", "in_flight", "unreaped", "age_ns"];

    fn message(&self) -> String {
        let Self { threads, wanted, in_flight, unreaped, age, is_negative, has_others } = *self;
        let (who, each) = match threads {
            1 => ("the thread waits".to_owned(), ""),
            _ => (format!("{threads} threads wait"), " each"),
        };
        let negative = if is_negative { " (it is negative)" } else { "" };
        let rest = match has_others {
            true => "no other thread ever submitted to this context",
            false => "no thread is left that could submit",
        };
        let (some, completions) = (in_flight + unreaped, plural(wanted as u64));
        let comes = match some {
            0 => "none is in flight or in the ring".to_owned(),
            some => format!("only {some} can come"),
        };
        format!(
            "{who} in io_getevents for {wanted} completion{completions}{each} without a timeout{negative}, for {} at least: \
             {comes}, and {rest}",
            in_words(age)
        )
    }

    fn numbers(&self) -> Vec<(&'static str, i64)> {
        vec![
            ("threads", self.threads as i64),
            ("wanted", self.wanted),
            ("in_flight", self.in_flight as i64),
            ("unreaped", self.unreaped as i64),
            ("age_ns", self.age as i64),
        ]
    }
}

/// Address spaces whose threads may all wait for ever.
#[derive(Debug, Default)]
pub struct Suspects(Vec<Suspect>);

#[derive(Debug)]
struct Suspect {
    space: SpaceId,
    pid: u32,
    /// When to ask again what the threads do.
    due: u64,
    /// The time of the first look, and what the threads did then.
    first: Option<(u64, Vec<Thread>)>,
}

/// A thread that waits for completions that cannot come.
struct Endless<'a> {
    thread: &'a Thread,
    waits: Waits,
    context: &'a Context,
    /// The most completions that can come: requests in flight, and completions in the ring.
    comes: (u64, u64),
}

impl Model {
    /// A look at a ring found a thread that waits for `min_nr` completions.
    pub(in crate::model) fn suspect_wait(&mut self, pid: u32, ctx: Handle, min_nr: i64) {
        let space = self.space(pid);
        let is_new = self.suspects.0.iter().all(|it| it.space != space);
        let Some(context) = self.contexts.get(&(space, ctx)) else { return };
        let is_told = self.findings.has(&(Name::EndlessWait, pid, context.name.id.0, 0));
        let is_meant = is_new && !is_told && self.suspects.0.len() < MOST;
        if is_meant && self.what_can_come(context, min_nr).is_some() {
            self.suspects.0.push(Suspect { space, pid, due: self.now, first: None });
        }
    }

    /// A thread of this process went on, or the process has changed: no wait in it is endless.
    pub(in crate::model) fn no_wait_is_endless(&mut self, pid: u32) {
        if !self.suspects.0.is_empty() {
            let space = self.space(pid);
            self.suspects.0.retain(|it| it.space != space);
        }
    }

    /// Asks what the threads do, for the first time or again.
    pub(in crate::model) fn ask_for_threads(&mut self) {
        let now = self.now;
        let due = self.suspects.0.iter_mut().filter(|it| it.due <= now);
        let pids: Vec<u32> = due
            .map(|it| {
                it.due = now.saturating_add(PATIENCE);
                it.pid
            })
            .collect();
        for pid in pids {
            self.ask(Question::Threads { pid });
        }
    }

    /// Takes the answer what the threads do.
    pub(in crate::model) fn looked_at_threads(&mut self, event: &Event, threads: Option<&[Thread]>) {
        let space = self.space(event.pid);
        let Some(place) = self.suspects.0.iter().position(|it| it.space == space) else { return };
        let found = threads.map(|it| self.endless(space, it)).unwrap_or_default();
        let Some(threads) = threads.filter(|_| !found.is_empty()) else {
            self.suspects.0.swap_remove(place);
            return;
        };
        let first = self.suspects.0[place].first.as_ref();
        let since = first.filter(|it| it.1 == threads).map(|it| it.0);
        match since {
            Some(since) if event.time >= since.saturating_add(LONG) => {
                let has_others = found.len() < threads.len();
                let findings = told(&found, (event.time, since), has_others);
                self.suspects.0.swap_remove(place);
                for finding in findings {
                    let id = finding.context.map_or(0, |it| it.id.0);
                    self.find_once(finding, id, 0);
                }
            }
            Some(since) => self.suspects.0[place].due = since.saturating_add(LONG),
            None => {
                let it = &mut self.suspects.0[place];
                it.first = Some((event.time, threads.to_vec()));
                it.due = event.time.saturating_add(LONG);
            }
        }
    }

    /// The threads that wait for ever: all of them, or those that wait for requests that only they have submitted so
    /// far.
    fn endless<'a>(&'a self, space: SpaceId, threads: &'a [Thread]) -> Vec<Endless<'a>> {
        // What an untraced process does is unknown.
        if threads.iter().any(|it| self.space(it.pid) != space) {
            return Vec::new();
        }
        let endless = |thread: &'a Thread| {
            let waits = thread.waits?;
            let until = Until::of(waits.min_nr, waits.timeout, waits.timeout_value);
            let context = self.contexts.get(&(space, waits.ctx))?;
            let comes = self.what_can_come(context, waits.min_nr)?;
            (until == Until::Ever).then_some(Endless { thread, waits, context, comes })
        };
        let mut found: Vec<Endless> = threads.iter().filter_map(endless).collect();
        if found.len() < threads.len() {
            found.retain(|it| {
                let is_its = it.context.submitter == Submitter::One(it.thread.tid);
                is_its && !it.context.adopted && it.context.submits >= ENOUGH
            });
        }
        found
    }

    /// How many requests are in flight and how many completions in the ring, if that is known and too few for a
    /// thread that waits for `min_nr`.
    fn what_can_come(&self, context: &Context, min_nr: i64) -> Option<(u64, u64)> {
        if !self.settings.every_call || context.is_left {
            return None;
        }
        let wanted = u64::try_from(min_nr).ok().filter(|it| *it > 0)?;
        let in_flight = context.in_flight()?;
        let unreaped = context.requests.unreaped().max(context.ring?.unreaped().into());
        if in_flight + unreaped == 0 {
            return Some((0, 0));
        }
        // The thread may have taken some completions already. (How many it took before the attach is unknown.)
        let taken = context.requests.reaped().saturating_sub(context.given);
        let is_too_little = !context.adopted && in_flight + unreaped + taken < wanted;
        is_too_little.then_some((in_flight, unreaped))
    }
}

/// Makes a finding for each context.
fn told(found: &[Endless<'_>], (time, since): (u64, u64), has_others: bool) -> Vec<Finding> {
    let mut contexts: Vec<ContextId> = found.iter().map(|it| it.context.name.id).collect();
    contexts.sort_unstable();
    contexts.dedup();
    let of = |id: ContextId| {
        let all = || found.iter().filter(move |it| it.context.name.id == id);
        // If the threads wait for different numbers, the smallest counts.
        let first = all().min_by_key(|it| it.waits.min_nr)?;
        let is_negative = all().any(|it| it.waits.timeout.0 != 0);
        let is_handled = found.iter().any(|it| it.thread.signals != 0);
        let evidence = EndlessWait {
            threads: all().count() as u64,
            wanted: first.waits.min_nr,
            in_flight: first.comes.0,
            unreaped: first.comes.1,
            age: time.saturating_sub(since),
            is_negative,
            has_others,
        };
        let mut finding = Finding::new(evidence, time, first.thread.pid);
        (finding.tid, finding.context) = (Some(first.thread.tid), Some(first.context.name));
        finding.doubt = has_others
            .then_some(Doubt::OtherThread)
            .or(is_handled.then_some(Doubt::Signal))
            .or(is_negative.then_some(Doubt::ReadLater));
        Some(finding)
    };
    contexts.into_iter().filter_map(of).collect()
}
