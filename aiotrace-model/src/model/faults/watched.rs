//! A fault whose sequel is watched.

use std::collections::BTreeMap;

use aiotrace_common::synchronous::{Call, Does};

use super::{NO_REQUEST, again::Since, placeless::NoPlace, synchronous::Like};
use crate::{
    event::{Args, Fault, Handle, SpaceId, Syscall},
    model::{
        Doubt,
        finding::{ContextRef, Subject},
        owed::{Owed, Place, does},
        requests::Request,
        unseen::Unseen,
        verdict::{Cause, Going, Half, Outcome, Verdict},
    },
    opcode,
};

/// Descriptors remembered of a fault.
const MOST_WRITTEN: usize = 8;
/// Places of requests remembered of a fault.
const MOST_PLACES: usize = 64;

/// What would be a retry, or tells of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Want {
    /// io_submit of this iocb to this context: it carries another request then, or it tells which one a
    /// completion belongs to.
    Iocb(Handle, u64),
    /// io_submit of a request that does the same.
    Request(Place),
    /// The completion of this iocb: it was submitted again.
    Completion(u64),
    /// io_setup of so many requests, whose handle is stored at this place.
    Setup(u32, u64),
    /// Another io_setup, which may be meant for the same.
    AnySetup,
    /// io_getevents or io_pgetevents of this context.
    Reap(Handle),
    /// io_cancel of this iocb in this context.
    Cancel(Handle, u64),
    /// io_destroy of this context: a retry, or the end of what is watched.
    Destroy(Handle),
}

/// What is at stake.
#[derive(Debug)]
pub enum Kind {
    /// Nothing is lost if it is not called again.
    Call,
    /// The context is.
    Destroy,
    /// The requests that io_submit did not take are.
    Submit {
        /// Those not submitted again and not done otherwise, by their place in the call.
        left: BTreeMap<u32, Owed>,
        /// Those of which it is not known what they were.
        unnamed: u64,
    },
    /// The request is, but for a poll.
    Completion {
        /// The request, if it is known.
        subject: Option<Subject>,
        /// Somebody has to do it: it is known, and no poll.
        is_owed: bool,
        /// What of it is not done, until somebody does it.
        owed: Option<Box<Owed>>,
        /// What the kernel had given.
        own: i64,
        /// io_getevents gave it to the program.
        is_delivered: bool,
        /// Submitted again: all of it in one request, or in several.
        pieces: Vec<Piece>,
        /// All completed without an error by this time; they are not reaped yet, as far as known.
        completed: Option<u64>,
    },
}

impl Kind {
    /// Goes through what is left.
    pub fn each_owed(&mut self, each: impl FnMut(&mut Owed)) {
        match self {
            Self::Submit { left, .. } => left.values_mut().for_each(each),
            Self::Completion { owed: Some(owed), .. } => [owed.as_mut()].into_iter().for_each(each),
            Self::Completion { .. } | Self::Call | Self::Destroy => (),
        }
    }

    /// Whether a sync is left to be done.
    pub fn syncs(&self) -> bool {
        self.owed().any(|it| does(&it.1.request) == Some(Does::Sync))
    }

    /// How many requests are left.
    pub fn count_owed(&self) -> usize {
        match self {
            Self::Submit { left, .. } => left.len(),
            Self::Completion { owed, .. } => usize::from(owed.is_some()),
            Self::Call | Self::Destroy => 0,
        }
    }

    /// The requests that are left, with their places in the call.
    pub fn owed(&self) -> impl Iterator<Item = (u32, &Owed)> {
        let (several, one) = match self {
            Self::Submit { left, .. } => (Some(left), None),
            Self::Completion { owed, .. } => (None, owed.as_deref()),
            Self::Call | Self::Destroy => (None, None),
        };
        let several = several.into_iter().flatten().map(|(place, it)| (*place, it));
        several.chain(one.map(|it| (NO_REQUEST, it)))
    }
}

/// A request that does what a completion with a fault left, or a part of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    pub iocb: u64,
    /// What of the file it is about; `None`: all that was left.
    pub range: Option<(u64, u64)>,
    /// It has vectors that are unknown, and tells what it has done when it completes.
    pub is_vague: bool,
    /// It completed without an error.
    pub is_done: bool,
    /// The program has got that.
    pub is_reaped: bool,
}

/// A fault whose sequel is watched.
#[derive(Debug)]
pub struct Watched {
    pub time: u64,
    pub pid: u32,
    pub tid: u32,
    pub space: SpaceId,
    pub fault: Fault,
    pub cause: Cause,
    pub ret: i64,
    pub context: Option<ContextRef>,
    /// Handle of the context; 0: none.
    pub handle: Handle,
    /// The handle that it has since its ring was moved.
    pub moved: Option<Handle>,
    pub kind: Kind,
    /// What is wanted besides the requests that are left.
    pub wants: Vec<Want>,
    /// Descriptors that it writes to, the first ones.
    pub written: Vec<u32>,
    /// Those of them whose places say nothing: what seems to be a retry may be the next write.
    pub placeless: Vec<NoPlace>,
    /// What may do its requests without being seen.
    pub unseen: Unseen,
    /// Descriptors through which they were done, which a look has shown to be of the file, and when that look was over.
    pub here: Vec<(u32, u64)>,
    /// What its first requests do.
    pub places: Vec<Place>,
    /// After what something has to come again, to be a retry.
    pub since: Since,
    /// What came again may be no retry: why.
    pub again: Option<Doubt>,
    /// Its context has requests that nobody has reaped, at this moment.
    pub is_unreaped: bool,
    /// Of an io_setup: how many requests a retry asked for, and how many this one, if it was fewer.
    pub fewer: Option<(u32, u32)>,
    /// Verdicts on faults before this one: what seemed to be a retry of theirs has met this one.
    pub before: Vec<Verdict>,
    /// AIO calls of the address space until then.
    pub calls: u64,
    pub retries: u64,
    pub after: Option<u64>,
    /// By which synchronous call requests were done, and how many.
    pub done: Option<(Call, u64)>,
    /// These calls, the first ones, but for syncs: a sync does what was left, whyever it is made.
    pub did: Vec<Like>,
    /// A retry was accepted, or completed without an error.
    pub succeeded: bool,
    /// A retry met a fault.
    pub next_fault: bool,
    /// Why what it did not do is not known.
    pub doubt: Option<Doubt>,
    /// Its context was destroyed then.
    pub over: Option<u64>,
    /// It is known what became of the requests.
    pub settled: Option<Half>,
    /// What was told of it; it may still be another.
    pub told: Option<Told>,
}

/// What was told of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    pub outcome: Outcome,
    pub half: Half,
    pub going: Option<Going>,
    pub lost: u64,
    /// It was retried, never with success.
    pub is_in_vain: bool,
    /// It was retried, and may still do something.
    pub is_tried: bool,
    /// It was retried, with success.
    pub is_well: bool,
    /// A retry met the next fault.
    pub next_fault: bool,
    /// AIO calls of the address space until then.
    pub calls: u64,
    /// Why it was unsure.
    pub doubt: Option<Doubt>,
}

/// The descriptors that are written to, the first ones.
pub fn written(kind: &Kind) -> Vec<u32> {
    let mut all: Vec<u32> = Vec::new();
    let requests = kind.owed().map(|(_, owed)| &owed.request);
    for request in requests.filter(|it| it.is_write()) {
        if all.len() < MOST_WRITTEN && !all.contains(&request.fd) {
            all.push(request.fd);
        }
    }
    all
}

/// What its first requests do.
pub fn places(kind: &Kind) -> Vec<Place> {
    let all = kind.owed().filter_map(|(_, owed)| Place::of(&owed.request));
    all.take(MOST_PLACES).collect()
}

impl Want {
    /// The same of a context that has another handle.
    pub fn moved(self, from: Handle, to: Handle) -> Self {
        let now = |ctx: Handle| if ctx == from { to } else { ctx };
        match self {
            Self::Iocb(ctx, iocb) => Self::Iocb(now(ctx), iocb),
            Self::Reap(ctx) => Self::Reap(now(ctx)),
            Self::Cancel(ctx, iocb) => Self::Cancel(now(ctx), iocb),
            Self::Destroy(ctx) => Self::Destroy(now(ctx)),
            Self::Request(_) | Self::Completion(_) | Self::Setup(..) | Self::AnySetup => self,
        }
    }
}

/// What a request is known again by, and its iocb.
pub fn wants_of(handle: Handle, request: &Request) -> [Option<Want>; 2] {
    [Some(Want::Iocb(handle, request.iocb)), Place::of(request).map(Want::Request)]
}

/// What is a retry of a request whose completion has this result: the same again, or the rest of it.
pub fn wants_of_completion(request: &Request, res: i64) -> Vec<Want> {
    let mut all = vec![request.clone()];
    if res > 0 && matches!(request.opcode, Some(opcode::PREAD | opcode::PWRITE)) {
        let (offset, nbytes) =
            (request.offset.saturating_add(res), request.nbytes.saturating_sub(res as u64));
        all.push(Request { offset, nbytes, ..request.clone() });
    }
    all.iter().filter_map(Place::of).map(Want::Request).collect()
}

/// What calls other than io_submit are retries of.
pub fn wants_of_call(args: &Args) -> Vec<Want> {
    match args {
        Args::Setup { nr_events, ctxp, .. } => {
            vec![Want::Setup(*nr_events, ctxp.0), Want::AnySetup]
        }
        Args::Destroy { ctx } => vec![Want::Destroy(*ctx)],
        Args::Submit { .. } => Vec::new(),
        Args::Getevents { ctx, .. } => vec![Want::Reap(*ctx)],
        Args::Cancel { ctx, iocb, .. } => vec![Want::Cancel(*ctx, iocb.0)],
    }
}

impl Watched {
    /// Requests that were not done, and the first.
    pub fn left(&self) -> (u64, Option<Subject>) {
        match &self.kind {
            Kind::Call | Kind::Destroy => (0, None),
            Kind::Submit { left, unnamed } => {
                let unnamed = if self.retries == 0 { *unnamed } else { 0 };
                (left.len() as u64 + unnamed, left.values().find_map(Owed::subject))
            }
            Kind::Completion { subject, is_owed, .. } => {
                let is_done = self.retries > 0 || self.settled.is_some() || self.is_under_way();
                (u64::from(*is_owed && !is_done), *subject)
            }
        }
    }

    /// Synchronous calls did the rest of a request of which other requests do a part: they were accepted, and have not
    /// completed.
    fn is_under_way(&self) -> bool {
        match &self.kind {
            Kind::Completion { owed: Some(owed), .. } => self.done.is_some() && !owed.is_left(),
            _ => false,
        }
    }

    /// Of those, how many are lost for sure, and the first.
    pub fn lost(&self) -> (u64, Option<Subject>) {
        match &self.kind {
            Kind::Submit { left, .. } => {
                let is_lost =
                    |it: &&Owed| it.why().is_none() && self.unseen.why(&it.request).is_none();
                let certain = || left.values().filter(is_lost);
                (certain().count() as u64, certain().find_map(Owed::subject))
            }
            _ => self.left(),
        }
    }

    /// A request that was submitted again has completed, and the program knows, as far as we do.
    pub fn has_completed(&self) -> Option<u64> {
        match &self.kind {
            Kind::Completion { completed, .. } => *completed,
            _ => None,
        }
    }

    /// Whether some of the requests that are left had iocbs that carry others now: nothing waits for them.
    pub fn is_replaced(&self) -> bool {
        matches!(&self.kind, Kind::Submit { left, .. } if left.values().any(|it| it.is_replaced))
    }

    /// Why what it did not do is not known. `watches`: synchronous calls are watched.
    pub fn doubt(&self, watches: bool) -> Option<Doubt> {
        let of_requests = match &self.kind {
            Kind::Call | Kind::Destroy => return self.doubt,
            // Where some are in doubt, the others are lost.
            Kind::Submit { left, .. } if left.values().any(|it| it.why().is_none()) => None,
            Kind::Submit { left, unnamed } => {
                let doubt = left.values().find_map(Owed::why);
                doubt.or_else(|| (*unnamed > 0).then_some(Doubt::Unread))
            }
            Kind::Completion { owed, subject, .. } => match (owed, subject) {
                (Some(owed), _) => owed.why(),
                (None, None) => Some(Doubt::Unread),
                (None, Some(_)) => None,
            },
        };
        let unwatched = (!watches).then_some(Doubt::NotWatched);
        self.doubt.or(of_requests).or(unwatched)
    }

    /// It was to wait for completions.
    pub fn waits(&self) -> bool {
        matches!(self.cause, Cause::Call(Syscall::Getevents | Syscall::Pgetevents))
    }

    /// What became of the requests if nothing follows any more.
    pub fn half(&self, watches: bool) -> (Half, Option<Doubt>) {
        match (self.half_by_place(watches), self.why_placeless().next()) {
            // What came again may have been a wait for one of those.
            ((Half::Retried, None), _) if self.waits() && self.is_unreaped => {
                (Half::Unsure, Some(self.again.unwrap_or(Doubt::Unreaped)))
            }
            ((Half::Retried | Half::Done, _), Some(why)) => (Half::Unsure, Some(why)),
            ((Half::Retried | Half::Done, _), _) if self.again.is_some() => {
                (Half::Unsure, self.again)
            }
            ((Half::Lost, _), _) if self.may_be_done().is_some() => {
                (Half::Unsure, self.may_be_done())
            }
            ((Half::Lost, _), _) if self.may_be_sent() => (Half::Unsure, Some(Doubt::Stream)),
            (half, _) => half,
        }
    }

    /// The handle that its context has now.
    pub fn current(&self) -> Handle {
        self.moved.unwrap_or(self.handle)
    }

    /// Why all that seems to be lost may have been done unseen.
    fn may_be_done(&self) -> Option<Doubt> {
        let owed = self.kind.owed().map(|it| it.1);
        let mut lost = owed.filter(|it| it.why().is_none()).map(|it| &it.request);
        let first = lost.next().and_then(|it| self.unseen.why(it))?;
        lost.all(|it| self.unseen.why(it).is_some()).then_some(first)
    }

    /// What it wrote to may be a socket: nobody looks at send(2).
    fn may_be_sent(&self) -> bool {
        self.why_placeless().any(|it| it == Doubt::Stream)
    }

    /// The same, if requests are told apart by their places.
    fn half_by_place(&self, watches: bool) -> (Half, Option<Doubt>) {
        if let Some(half) = self.settled {
            return (half, None);
        }
        if self.has_completed().is_some() {
            return (Half::Retried, None);
        }
        let (lost, _) = self.left();
        let is_certain = match &self.kind {
            // What was seen is certain.
            Kind::Call => self.retries > 0,
            Kind::Completion { subject, .. } => self.retries > 0 && subject.is_some(),
            Kind::Destroy | Kind::Submit { .. } => false,
        };
        let doubt = self.doubt(watches);
        match &self.kind {
            _ if is_certain => (Half::Retried, None),
            _ if doubt.is_some() => (Half::Unsure, doubt),
            _ if lost > 0 => (Half::Lost, None),
            Kind::Destroy => (Half::Leaked, None),
            _ if self.is_under_way() => (Half::Done, None),
            _ if self.retries > 0 => (Half::Retried, None),
            _ => (Half::GaveUp, None),
        }
    }

    /// What became of them when the trace ends, or the process is killed by somebody: it might have gone on.
    pub fn half_at_end(&self, watches: bool) -> (Half, Option<Doubt>) {
        let is_known = self.settled.is_some() || self.has_completed().is_some();
        let is_lost = self.over.is_some() && self.left().0 > 0;
        let (half, doubt) = self.half(watches);
        let is_open = matches!(doubt, Some(Doubt::NotWatched | Doubt::Unlooked));
        if is_known || is_lost || half == Half::Unsure && !is_open {
            return (half, doubt);
        }
        (Half::Open, None)
    }
}
