//! Calls that failed, and that no other finding explains: the basis of refused-calls.
//!
//! An io_getevents that waits while another thread destroys the context ends with EINVAL by design, before io_destroy
//! returns. So if a call on a context that seems to live gets EINVAL although its arguments make sense, it waits
//! until it is known whether the context was being destroyed.

use std::collections::BTreeMap;

use super::{
    ContextId, ContextRef, Doubt, Map, Model, Needs, Question, Subject,
    cause::{self, RingThen},
    finding::Finding,
    findings::{Evidence, refused_calls::RefusedCalls},
    requests::Request,
};
use crate::{
    errno::returned::{EAGAIN, EFAULT, EINPROGRESS, EINTR, EINVAL},
    event::{Address, Args, Call, Event, Handle, Iocb, SpaceId, Syscall},
    opcode::{self, Opcode},
};

/// From this errno on, errnos are the kernel's own: the call starts again, or gives EINTR.
const ERESTARTSYS: i64 = -512;

/// Most calls that wait.
const MOST_WAITING: usize = 256;
/// Most kinds of failed calls remembered where calls are counted.
const MOST_KINDS: usize = 1024;

/// Process, call and what the call returned.
type Kind = (u32, Syscall, i64);

/// Failed calls that may or may not be reported.
#[derive(Default)]
pub(super) struct Refusals {
    waiting: Vec<Waiting>,
    /// Where calls are counted: how many of a kind were counted so far.
    counted: BTreeMap<Kind, u64>,
    /// Where calls are counted: what the calls show that have events all the same.
    shown: Map<Kind, Shown>,
}

struct Waiting {
    key: (SpaceId, Handle),
    finding: Finding,
    syscall: Syscall,
    /// The ring could be read when it returned, so that its handle was valid.
    is_valid: bool,
    /// When its context went, by an io_destroy that has not returned yet.
    gone: Option<u64>,
}

enum Shown {
    /// Another finding explains it, or it is by design.
    Explained,
    /// It is an example for the finding.
    Example(Box<Finding>),
}

impl Refusals {
    /// Where calls are counted: takes a call of this kind that has an event. A call that nothing explains says more
    /// than one that failed by design.
    fn show(&mut self, kind: Kind, finding: Option<Finding>) {
        if self.shown.len() >= MOST_KINDS && !self.shown.contains_key(&kind) {
            return;
        }
        let shown = self.shown.entry(kind).or_insert(Shown::Explained);
        if let (Shown::Explained, Some(finding)) = (&shown, finding) {
            *shown = Shown::Example(Box::new(finding));
        }
    }
}

impl Model {
    /// Takes a failed call. `is_explained`: another finding explains it, or it is by design.
    pub(super) fn refused_call(&mut self, event: &Event, call: &Call, is_explained: bool) {
        let (syscall, ret) = (call.args.syscall(), call.ret);
        if is_success_or_signal(ret) {
            return;
        }
        let cause = cause::of(&call.args, ret);
        let handle = call.args.handle();
        let is_explained = is_explained || self.is_explained(event, call, cause.is_some());
        let finding = (!is_explained).then(|| self.refusal(event, call, cause.as_deref()));
        if !self.settings.every_call {
            return self.refusals.show((event.pid, syscall, ret), finding);
        }
        let Some(finding) = finding else { return };
        let key = (self.space(event.pid), handle);
        let may_be_ending =
            ret == EINVAL && cause.is_none() && syscall != Syscall::Setup && self.has(key);
        if may_be_ending && self.refusals.waiting.len() < MOST_WAITING {
            let is_valid = call.ring.is_some();
            self.refusals.waiting.push(Waiting { key, finding, syscall, is_valid, gone: None });
        } else {
            self.tell_refusal(finding, syscall);
        }
    }

    fn has(&self, key: (SpaceId, Handle)) -> bool {
        self.contexts.contains_key(&key)
    }

    /// Whether another finding explains the failure, or it is by design.
    fn is_explained(&self, event: &Event, call: &Call, has_cause: bool) -> bool {
        let ctx = call.args.handle();
        let space = self.space(event.pid);
        let is_known = || self.context_when((event.pid, ctx), call.began(event)).is_some();
        match (call.args.syscall(), call.ret) {
            (Syscall::Setup, EAGAIN) => true,
            (Syscall::Submit, EAGAIN) => self.settings.every_call && is_known(),
            (Syscall::Cancel, EINVAL | EAGAIN) => is_known(),
            // This happens after an io_setup that failed, for instance.
            (Syscall::Destroy, EINVAL) if ctx.0 == 0 => true,
            // The context was destroyed before, which is use-after-destroy, or during the call.
            (Syscall::Setup, EINVAL) => false,
            (_, EINVAL) if !has_cause => {
                let destroyed = self.spaces.get(&space).and_then(|it| it.when_destroyed(ctx));
                // This also holds if another context has the handle by now.
                (destroyed.is_some() || self.has((space, ctx))) && !is_known()
            }
            _ => false,
        }
    }

    fn refusal(&self, event: &Event, call: &Call, cause: Option<&str>) -> Finding {
        let handle = call.args.handle();
        let context = self.context_when((event.pid, handle), call.began(event)).map(|it| it.name);
        let subject = match &call.args {
            Args::Submit { iocbs, .. } => iocbs.first().and_then(|it| subject(it.as_ref()?)),
            _ => None,
        };
        let of_handle = || self.cause_of_handle(event, call, context.is_some());
        let evidence = RefusedCalls {
            syscall: call.args.syscall(),
            call: called(&call.args),
            ret: call.ret,
            request: subject,
            cause: cause.map(str::to_owned).or_else(of_handle),
            has_context: context.is_some() || matches!(call.args, Args::Setup { .. }),
            iovecs: None,
        };
        let mut finding = Finding::new(evidence, event.time, event.pid);
        finding.tid = Some(event.tid);
        finding.context = context
            .or_else(|| (handle.0 != 0).then_some(ContextRef { id: ContextId::UNKNOWN, handle }));
        finding.request = subject;
        finding.stack.clone_from(&call.stack);
        finding.iovecs = iovecs(call);
        // A lost event may have been the end of the context.
        let is_lossy = self.spaces.get(&self.space(event.pid)).and_then(|it| it.doubt());
        finding.doubt = is_lossy.filter(|_| call.ret == EINVAL && cause.is_none());
        finding
    }

    /// Why a call whose arguments make sense gave EINVAL, or may have.
    fn cause_of_handle(&self, event: &Event, call: &Call, is_known: bool) -> Option<String> {
        let handle = call.args.handle();
        let key = (self.space(event.pid), handle);
        if is_known {
            let known = self.contexts.get(&key).and_then(|it| it.ring);
            let ring = match (&call.args, call.ring, known) {
                // Its ring is looked at before it.
                (Args::Destroy { .. } | Args::Setup { .. }, ..) | (_, Some(_), _) => {
                    RingThen::Readable
                }
                (_, None, Some(_)) => RingThen::Gone,
                (_, None, None) => RingThen::Unread,
            };
            return cause::perhaps(&call.args, call.ret, ring);
        }
        if call.ret != EINVAL || self.has(key) {
            return None;
        }
        if self.is_lost(key) {
            return Some(cause::UNMAPPED.to_owned());
        }
        let space = self.spaces.get(&key.0)?;
        let of_parent = || {
            let (parent, pid, time) = space.parent?;
            let context = self.contexts.get(&(parent, handle)).filter(|it| it.since <= time)?;
            Some(cause::of_parent(pid, context.name.id))
        };
        space.moved_to(handle).map(cause::moved).or_else(of_parent)
    }

    /// Why the handle of these calls was not valid, if the ring could not be read when they returned.
    pub(super) fn explain_refusals(&mut self, key: (SpaceId, Handle), why: impl Fn() -> String) {
        for it in self.refusals.waiting.iter_mut().filter(|it| it.key == key && !it.is_valid) {
            if let Evidence::RefusedCalls(evidence) = &mut it.finding.evidence {
                evidence.cause = Some(why());
            }
        }
    }

    fn tell_refusal(&mut self, finding: Finding, syscall: Syscall) {
        let Evidence::RefusedCalls(RefusedCalls { ret, .. }) = finding.evidence else { return };
        // What one descriptor is refused for says nothing about another.
        let of =
            finding.request.map_or(0, |it| u64::from(it.fd) << 24 | u64::from(it.opcode.0) << 8);
        let which = of | syscall as u64;
        let iovecs = finding.iovecs.filter(|_| matches!(ret, EINVAL | EFAULT));
        match iovecs {
            Some((at, count)) => {
                let needs = Needs::Iovecs { at, count };
                self.find_if(needs, finding, which, ret as u64);
            }
            None => self.find(finding, which, ret as u64),
        }
    }

    /// An io_destroy that began at this time ends a context, or has ended it: calls that were in progress on it got
    /// EINVAL by design. Calls that had failed before are reported.
    pub(super) fn excuse_refusals(&mut self, key: (SpaceId, Handle), began: u64) {
        // A context that ended before it began was ended by another io_destroy, which returns later.
        let is_its = |it: &mut Waiting| it.key == key && it.gone.is_none_or(|gone| gone >= began);
        let its: Vec<Waiting> = self.refusals.waiting.extract_if(.., is_its).collect();
        for it in its.into_iter().filter(|it| it.finding.time < began) {
            self.tell_refusal(it.finding, it.syscall);
        }
    }

    /// A context ended by an io_destroy, whose beginning is known only when it returns. Until then, the context at
    /// the handle is another one.
    pub(super) fn refusals_of_gone(&mut self, key: (SpaceId, Handle), time: u64) {
        for it in self.refusals.waiting.iter_mut().filter(|it| it.key == key) {
            it.gone.get_or_insert(time);
        }
    }

    /// The ring is there at this time, and nobody destroys the context.
    pub(super) fn confirm_refusals(&mut self, key: (SpaceId, Handle), time: u64) {
        self.tell_refusals(|it| it.key == key && it.gone.is_none() && it.finding.time < time);
    }

    /// Nothing more can be learned about this address space; `None`: about any.
    pub(super) fn end_refusals(&mut self, space: Option<SpaceId>) {
        self.tell_refusals(|it| space.is_none_or(|space| it.key.0 == space));
    }

    fn tell_refusals(&mut self, is_meant: impl Fn(&Waiting) -> bool) {
        let meant: Vec<_> = self.refusals.waiting.extract_if(.., |it| is_meant(it)).collect();
        for Waiting { finding, syscall, .. } in meant {
            self.tell_refusal(finding, syscall);
        }
    }

    /// Asks whether the contexts of waiting calls still exist.
    pub(super) fn ask_for_refusals(&mut self) {
        let mut wanted: Vec<Question> = Vec::new();
        for it in self.refusals.waiting.iter().filter(|it| it.gone.is_none()) {
            let question = Question::Ring { pid: it.finding.pid, ctx: it.key.1 };
            if !wanted.contains(&question) {
                wanted.push(question);
            }
        }
        for question in wanted {
            self.ask(question);
        }
    }

    /// Takes new counts: the calls that have failed since the last ones.
    pub(super) fn count_refusals(&mut self) {
        let errors = &self.counted.errors;
        let all = errors.iter().flat_map(|((pid, syscall), errors)| {
            errors.iter().map(move |(ret, count)| ((*pid, *syscall, *ret), *count))
        });
        let all: Vec<(Kind, u64)> = all.collect();
        for (kind, count) in all {
            let before = self.refusals.counted.insert(kind, count).unwrap_or(0);
            let new = count.saturating_sub(before);
            if new > 0 && !is_success_or_signal(kind.2) {
                self.counted_refusals(kind, new);
            }
        }
    }

    fn counted_refusals(&mut self, kind: Kind, count: u64) {
        let (pid, syscall, ret) = kind;
        let is_elsewhere =
            matches!((syscall, ret), (Syscall::Setup, EAGAIN) | (Syscall::Cancel, EINVAL | EAGAIN));
        let mut finding = match self.refusals.shown.get(&kind) {
            _ if is_elsewhere => return,
            Some(Shown::Explained) => return,
            Some(Shown::Example(finding)) => (**finding).clone(),
            None => {
                let evidence = RefusedCalls {
                    syscall,
                    call: syscall.name().to_owned(),
                    ret,
                    request: None,
                    cause: None,
                    has_context: true,
                    iovecs: None,
                };
                Finding::new(evidence, self.counted.time, pid)
            }
        };
        // It is unknown for some of these calls which context they used, and whether somebody was destroying it.
        if ret == EINVAL && syscall != Syscall::Setup {
            finding.doubt.get_or_insert(Doubt::LeftOut);
        }
        finding.count = count;
        // Counts have no times.
        finding.last = 0;
        self.tell_refusal(finding, syscall);
    }
}

/// EINTR is no failure: a program that handles signals gets it.
fn is_success_or_signal(ret: i64) -> bool {
    ret >= 0 || ret <= ERESTARTSYS || matches!(ret, EINPROGRESS | EINTR)
}

fn subject(iocb: &Iocb) -> Option<Subject> {
    Subject::of(&Request::new(iocb, (0, 0), (0, 0))?)
}

/// The address and the number of the iovecs of the refused request. (Those of a 32-bit program have another form.)
fn iovecs(call: &Call) -> Option<(Address, u64)> {
    let Args::Submit { iocbs, .. } = &call.args else { return None };
    let iocb = iocbs.first()?.as_ref()?.value.filter(|_| !call.compat)?;
    opcode::is_vectored(Opcode::of(&iocb)).then_some((Address(iocb.buf), iocb.nbytes))
}

/// The call in words, with those arguments that are not in the request.
fn called(args: &Args) -> String {
    let name = args.syscall().name();
    match args {
        Args::Setup { nr_events, .. } => format!("{name}({nr_events})"),
        Args::Getevents { ctx, min_nr, nr, .. } => {
            format!("{name}({:#x}, min_nr={min_nr}, nr={nr})", ctx.0)
        }
        Args::Destroy { ctx } => format!("{name}({:#x})", ctx.0),
        Args::Cancel { ctx, iocb, .. } => format!("{name}({:#x}, {:#x})", ctx.0, iocb.0),
        Args::Submit { .. } => name.to_owned(),
    }
}
