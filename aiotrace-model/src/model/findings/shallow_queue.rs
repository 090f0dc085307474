//! shallow-queue: a context for many requests never has more than one in flight, because the thread waits for each
//! request before it submits the next one.
//!
//! It is found when the context ends, or the trace: until then the program may still submit more. One request in
//! flight at a time is not enough for it: a program that reads ahead has one in flight, too, and works in the
//! meantime; one that waits in epoll_wait(2) does other things, too; and one that submits ten requests, each of which
//! is complete at once, would have ten in flight with another file. So the finding is only about a thread that calls
//! io_getevents after each io_submit, and spends most of its time there.

use super::Basis;
use crate::{
    opcode::{Opcode, POLL},
    any_order::AnyOrder as _,
    errno::returned::{EINTR},
    event::{Args, Call, Event, Handle, Iocb},
    model::{
        Context, Doubt, Finding, Model, Severity, rules::delivered, timeout::Until,
    },
    words::{duration::in_words, number::thousands},
};

/// The kernel makes the call again: ERESTARTNOHAND of io_pgetevents.
const RESTART: i64 = -514;
/// A program that asks io_setup for fewer does not expect many requests.
const MANY: u32 = 8;
/// With fewer requests the program may only be at its beginning.
const ENOUGH: u64 = 1000;
/// Most contexts whose thread is waiting for its request.
const MOST_OPEN: usize = 4096;

/// A context that could hold many requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShallowQueue {
    /// What io_setup was asked for.
    asked: u32,
    requests: u64,
    /// Time spent in io_getevents, nanoseconds.
    waited: u64,
    /// Time from io_submit to io_getevents, nanoseconds.
    between: u64,
    /// The context existed before the attach, so not all of its life was seen.
    is_adopted: bool,
}

impl Basis for ShallowQueue {
    const NAME: &'static str = "shallow-queue";
    const SEVERITY: Severity = Severity::Info;
    const NUMBERS: &'static [&'static str] =
        &["asked", "reached", "requests", "waited_ns", "between_ns"];

    fn message(&self) -> String {
        let since = if self.is_adopted { " since the attach" } else { "" };
        format!(
            "this context was made for {} requests, and never had more than 1 in flight{since}: {} requests were \
             submitted one by one, each followed by an io_getevents that waited for it, {} in all",
            thousands(self.asked.into()),
            thousands(self.requests),
            in_words(self.waited),
        )
    }

    fn numbers(&self) -> Vec<(&'static str, i64)> {
        vec![
            ("asked", i64::from(self.asked)),
            ("reached", 1),
            ("requests", self.requests as i64),
            ("waited_ns", self.waited as i64),
            ("between_ns", self.between as i64),
        ]
    }
}

/// How the requests of a context take turns: each is submitted, waited for, and only then comes the next one.
#[derive(Debug, Default)]
pub struct Turns {
    /// The requests did not take turns, once.
    is_over: bool,
    open: Option<Turn>,
    /// When the last io_submit returned.
    returned: u64,
    /// Requests that were not complete when io_submit returned.
    requests: u64,
    /// Requests that were complete when io_submit returned.
    inline: u64,
    /// As in [`ShallowQueue`], for the requests that were not complete at once.
    waited: u64,
    between: u64,
}

/// A request for which the thread is to wait.
#[derive(Clone, Copy, Debug)]
struct Turn {
    tid: u32,
    is_inline: bool,
    /// When the thread began to wait for it, and how long it has waited in calls that returned nothing.
    began: Option<u64>,
    waited: u64,
}

impl Turns {
    /// An io_submit of one iocb returned, which was entered at `entered`.
    fn submitted(&mut self, event: &Event, entered: u64, is_inline: bool) {
        self.is_over |= self.open.is_some() || entered < self.returned;
        self.returned = event.time;
        self.open = Some(Turn { tid: event.tid, is_inline, began: None, waited: 0 });
    }

    /// An io_getevents returned, which was entered at `entered`.
    fn waited(&mut self, event: &Event, entered: u64, ret: i64) {
        let Some(turn) = self.open.as_mut().filter(|it| it.tid == event.tid) else { return };
        let began = *turn.began.get_or_insert(entered);
        turn.waited += event.time.saturating_sub(entered);
        match ret {
            // The thread goes on waiting.
            0 | EINTR | RESTART => (),
            1 => {
                if turn.is_inline {
                    self.inline += 1;
                } else {
                    self.requests += 1;
                    self.waited += turn.waited;
                    self.between += began.saturating_sub(self.returned);
                }
                self.open = None;
            }
            _ => self.is_over = true,
        }
    }

    fn is_shallow(&self) -> bool {
        // inline-completion is the finding for a file whose requests are complete at once.
        let is_enough = self.requests >= ENOUGH && self.inline <= self.requests;
        !self.is_over && is_enough && self.waited >= self.between
    }
}

impl Model {
    /// A thread returned from a call: it has waited for its request, or goes on without waiting.
    pub(in crate::model) fn turn_of(&mut self, event: &Event, call: &Call) {
        if self.turns.is_empty() {
            return;
        }
        let Some(key) = self.turns.get(&event.tid).copied() else { return };
        let space = self.space(event.pid);
        let turns = self.contexts.get_mut(&key).map(|it| &mut it.turns);
        let is_wait = match &call.args {
            Args::Getevents { ctx, min_nr, timeout, timeout_value, .. } => {
                let until = Until::of(*min_nr, *timeout, *timeout_value);
                key == (space, *ctx) && until != Until::AtOnce && delivered(call.fault).is_none()
            }
            _ => false,
        };
        let is_open = turns.is_some_and(|it| {
            match call.entered.filter(|_| is_wait) {
                Some(entered) => it.waited(event, entered, call.ret),
                None => it.is_over = true,
            }
            !it.is_over && it.open.is_some()
        });
        if !is_open {
            self.turns.remove(&event.tid);
        }
    }

    /// An io_submit of `nr` iocbs returned. `first`: its iocb, if it was accepted; `is_inline`: its request was
    /// complete by then.
    pub(in crate::model) fn turn_begins(
        &mut self,
        event: &Event,
        call: &Call,
        ctx: Handle,
        (nr, first, is_inline): (i64, Option<Iocb>, bool),
    ) {
        let key = (self.space(event.pid), ctx);
        let Some(context) = self.contexts.get_mut(&key) else { return };
        let is_meant = context.charge.is_some_and(|it| it >= MANY);
        if !is_meant || context.turns.is_over {
            return;
        }
        // A poll pends by design, and a program that waits for one could wait for others, too.
        let is_one = nr == 1 && first.and_then(|it| it.value).is_some_and(|it| Opcode::of(&it) != POLL);
        let has_room = self.turns.len() < MOST_OPEN;
        match call.entered.filter(|_| is_one && has_room && delivered(call.fault).is_none()) {
            Some(entered) => context.turns.submitted(event, entered, is_inline),
            None => context.turns.is_over = true,
        }
        if !context.turns.is_over {
            self.turns.insert(event.tid, key);
        }
    }

    /// Forgets the turns of a process whose threads do not go on.
    pub(in crate::model) fn forget_turns(&mut self, pid: u32) {
        let space = self.space(pid);
        self.turns.retain_in_any_order(|_, key| key.0 != space);
    }

    /// The context has ended, or the trace is over.
    pub(in crate::model) fn turns_end(&mut self, context: &Context, time: u64) {
        if let Some(finding) = shallow(context, time) {
            self.find_once(finding, context.name.id.0, 0);
        }
    }

    /// The trace is over: the turns of all contexts end.
    pub(in crate::model) fn all_turns_end(&mut self) {
        let now = self.now;
        let live = self.contexts.in_any_order().map(|it| it.1);
        let all = live.chain(self.leaving.iter().map(|it| &it.1));
        let mut found: Vec<(u64, Finding)> =
            all.filter_map(|it| Some((it.name.id.0, shallow(it, now)?))).collect();
        found.sort_by_key(|it| it.0);
        for (id, finding) in found {
            self.find_once(finding, id, 0);
        }
    }
}

fn shallow(context: &Context, time: u64) -> Option<Finding> {
    let turns = &context.turns;
    let is_certain = context.doubt_of_requests().is_none() && context.peak.at_most() <= 1;
    let asked = context.charge.filter(|_| turns.is_shallow() && is_certain)?;
    let evidence = ShallowQueue {
        asked,
        requests: turns.requests + turns.inline,
        waited: turns.waited,
        between: turns.between,
        is_adopted: context.adopted,
    };
    let mut finding = Finding::new(evidence, time, context.pid);
    finding.context = Some(context.name);
    finding.doubt = context.adopted.then_some(Doubt::BeforeAttach);
    Some(finding)
}
