//! Polls whose descriptor is closed: the basis of poll-on-closed.
//!
//! No probe sees close(2), so the descriptor of a pending poll is looked at from time to time. It was closed if it
//! leads nowhere, or to another file than at an earlier look, provided that the poll was accepted before that look:
//! then it does not lead any more to the file of the poll. A second look, half a second later, must find the same,
//! and the poll must be in flight after that: so there is no finding if a program closes a descriptor and cancels its
//! poll right afterwards.
//!
//! Only an address space with one process is looked at, because another process has a table of descriptors of its
//! own.

use super::{
    ContextRef, Map, Model, Question, SECOND, Subject, TOLD_WITHIN, finding::Finding,
    findings::poll_on_closed::PollOnClosed, pace::Pace, requests::Request,
};
use crate::{any_order::AnyOrder as _, event::Open};

/// A poll that has been pending for this long is worth a look.
const QUIET: u64 = SECOND / 2;
/// Time from the look that finds the descriptor closed to the one that confirms it, at least.
const CONFIRMED_AFTER: u64 = SECOND / 2;
/// Time from the first look to the second.
const FIRST_INTERVAL: u64 = SECOND / 2;
/// Most descriptors looked at in one tick.
const MOST_LOOKS: usize = 16;
/// Most descriptors watched for an address space.
const MOST_WATCHED: usize = 1024;

/// The descriptors of an address space that have pending polls.
#[derive(Debug, Default)]
pub struct Polls(Map<u32, Watch>);

#[derive(Clone, Copy, Debug)]
struct Watch {
    /// When the last look began that found the descriptor open, and the file.
    last: Option<(u64, (u64, u64))>,
    closed: Option<Closed>,
    pace: Pace,
    /// Polls are pending, as the last tick saw.
    pends: bool,
    /// Among these are polls that were accepted before the descriptor was closed.
    has_old: bool,
}

/// A descriptor that does not lead any more to the file that it led to.
#[derive(Clone, Copy, Debug)]
struct Closed {
    /// Polls that were accepted before this time belong to the earlier file.
    before: u64,
    /// When the look was over that found this.
    since: u64,
    /// When a later look was over that confirmed it.
    confirmed: Option<u64>,
    /// The descriptor leads to another file.
    is_reused: bool,
}

impl Watch {
    fn new(due: u64) -> Self {
        let (last, closed) = (None, None);
        let pace = Pace::new(due, FIRST_INTERVAL);
        Self { last, closed, pace, pends: true, has_old: false }
    }

    fn looked(&mut self, open: Open, (from, until): (u64, u64)) {
        let (before, is_reused) = match (open, self.last) {
            (Open::Unknown, _) => return self.closed = None,
            (Open::As(id), None) => return self.last = Some((from, id)),
            (Open::As(id), Some((_, last))) if id == last => {
                return (self.last, self.closed) = (Some((from, id)), None);
            }
            (Open::As(_), Some((before, _))) => (before, true),
            (Open::No, _) => (from, false),
        };
        let new = Closed { before, since: until, confirmed: None, is_reused };
        let closed = self.closed.get_or_insert(new);
        closed.is_reused = is_reused;
        if until >= closed.since.saturating_add(CONFIRMED_AFTER) {
            closed.confirmed = Some(until);
        } else {
            self.pace.due = until.saturating_add(CONFIRMED_AFTER);
        }
    }
}

/// A poll in flight whose descriptor is closed.
struct Found {
    pid: u32,
    context: ContextRef,
    subject: Subject,
    entered: u64,
    is_reused: bool,
}

impl Model {
    /// Looks at the descriptors of pending polls, and reports those that are closed.
    pub(super) fn look_at_polls(&mut self) {
        let (now, exact) = (self.now, self.settings.exact_completions);
        let (mut due, mut found): (Vec<Question>, Vec<Found>) = (Vec::new(), Vec::new());
        for ((space, handle), context) in self.contexts.in_any_order() {
            let Some(space) = self.spaces.get_mut(space).filter(|it| it.users.len() <= 1) else {
                continue;
            };
            let pends = |it: &&Request| {
                it.is_poll() && it.entered != 0 && now.saturating_sub(it.entered) >= QUIET
            };
            let mut polls = context.requests.iter().filter(pends).peekable();
            if polls.peek().is_none() || context.doubt_of_requests().is_some() {
                continue;
            }
            let (pid, watched) = (context.pid, &mut space.polls.0);
            for poll in polls {
                if watched.len() >= MOST_WATCHED && !watched.contains_key(&poll.fd) {
                    continue;
                }
                let watch = watched.entry(poll.fd).or_insert_with(|| Watch::new(now));
                watch.pends = true;
                if due.len() < MOST_LOOKS && watch.pace.is_due(now) {
                    watch.pace.looks(now);
                    due.push(Question::Descriptor { pid, fd: poll.fd });
                }
                let Some(closed) = watch.closed.filter(|it| poll.returned <= it.before) else {
                    continue;
                };
                watch.has_old = true;
                let Some(confirmed) = closed.confirmed else { continue };
                // The poll may have completed without our knowing: a look at the ring shows whether it is still in
                // flight.
                if !exact && context.look.confirmed < confirmed {
                    let question = Question::Ring { pid, ctx: *handle };
                    if due.len() < MOST_LOOKS && !due.contains(&question) {
                        due.push(question);
                    }
                } else if now >= confirmed.saturating_add(TOLD_WITHIN)
                    && let Some(subject) = Subject::of(poll)
                {
                    let (entered, is_reused) = (poll.entered, closed.is_reused);
                    found.push(Found { pid, context: context.name, subject, entered, is_reused });
                }
            }
        }
        for (_, space) in self.spaces.in_any_order_mut().filter(|it| !it.1.polls.0.is_empty()) {
            space.polls.0.retain_in_any_order(|_, it| std::mem::take(&mut it.pends));
            for (_, watch) in space.polls.0.in_any_order_mut() {
                let has_old = std::mem::take(&mut watch.has_old);
                if watch.closed.is_some() && !has_old {
                    // The polls that pend by now belong to the file that the descriptor leads to now.
                    *watch = Watch { pends: false, ..Watch::new(now) };
                }
            }
        }
        for question in due {
            self.ask(question);
        }
        found.sort_by_key(|it| (it.context, it.entered, it.subject.iocb));
        for it in found {
            let evidence = PollOnClosed {
                request: it.subject,
                age: now.saturating_sub(it.entered),
                is_reused: it.is_reused,
            };
            let mut finding = Finding::new(evidence, now, it.pid);
            finding.context = Some(it.context);
            finding.request = Some(it.subject);
            self.find_once(finding, it.context.id.0, it.subject.fd.into());
        }
    }

    /// Takes the answer where a descriptor leads.
    pub(super) fn looked_at_descriptor(
        &mut self,
        pid: u32,
        fd: u32,
        open: Open,
        times: (u64, u64),
    ) {
        let space = self.space(pid);
        let watch = self.spaces.get_mut(&space).and_then(|it| it.polls.0.get_mut(&fd));
        if let Some(watch) = watch {
            watch.looked(open, times);
        }
    }
}
