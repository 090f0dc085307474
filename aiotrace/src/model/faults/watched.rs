//! A fault whose sequel is watched.

use std::collections::BTreeMap;

use crate::{
    event::{Args, ExitStatus, Fault},
    model::{
        finding::{ContextRef, Subject},
        process::{Place, place},
        requests::Request,
        verdict::{Cause, Outcome},
    },
};

/// A process that ends after so many more AIO calls, or fewer, ended because of the fault.
const DIRECTLY: u64 = 8;

/// What would be a retry, or tells of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Want {
    /// io_submit of this iocb to this context.
    Iocb(u64, u64),
    /// io_submit of a request that does the same.
    Request(Place),
    /// The completion of this iocb: it was submitted again.
    Completion(u64),
    /// io_setup by this thread.
    SetupBy(u32),
    /// io_setup to the same place.
    SetupAt(u64),
    /// io_getevents or io_pgetevents of this context.
    Reap(u64),
    /// io_cancel of this iocb in this context.
    Cancel(u64, u64),
    /// io_destroy of this context: a retry, or the end of what is watched.
    Destroy(u64),
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
        /// Those not submitted again, by their place in the call, and how often that was tried.
        left: BTreeMap<u32, (Request, u64)>,
        /// Those of which it is not known what they were.
        unnamed: u64,
    },
    /// A write is; a read is not.
    Completion {
        /// The request, if it is known.
        subject: Option<Subject>,
        /// It changes a file.
        is_write: bool,
        /// Submitted again, as this iocb.
        retry: Option<u64>,
        /// That one completed without an error at this time; it is not reaped yet, as far as known.
        completed: Option<u64>,
    },
}

/// A fault whose sequel is watched.
#[derive(Debug)]
pub struct Watched {
    pub time: u64,
    pub pid: u32,
    pub tid: u32,
    pub space: u64,
    pub fault: Fault,
    pub cause: Cause,
    pub ret: i64,
    pub context: Option<ContextRef>,
    /// Handle of the context; 0: none.
    pub handle: u64,
    pub kind: Kind,
    /// What is wanted besides the requests that are left.
    pub wants: Vec<Want>,
    /// AIO calls of the address space until then.
    pub calls: u64,
    pub retries: u64,
    pub after: Option<u64>,
    /// A retry was accepted, or completed without an error.
    pub succeeded: bool,
    /// A retry met a fault.
    pub next_fault: bool,
    /// Something was lost since.
    pub unsure: bool,
    /// Its context was destroyed then.
    pub over: Option<u64>,
    /// What was told of it, with how many requests lost; it may still be another.
    pub told: Option<(Outcome, u64)>,
}

/// By what a request that was refused is known again.
pub fn wants_of(handle: u64, request: &Request) -> [Option<Want>; 2] {
    let known = request.opcode.is_some();
    [Some(Want::Iocb(handle, request.iocb)), known.then(|| Want::Request(place(request)))]
}

/// What is a retry of a request whose completion has this result: the same again, or the rest of it.
pub fn wants_of_completion(request: &Request, res: i64) -> Vec<Want> {
    let mut wants = vec![Want::Request(place(request))];
    if res > 0 && matches!(request.opcode, Some(0 | 1)) {
        wants.push(Want::Request((
            request.opcode,
            request.fd,
            request.offset.saturating_add(res),
            request.nbytes.saturating_sub(res as u64),
        )));
    }
    wants
}

/// What calls other than io_submit are retries of.
pub fn wants_of_call(tid: u32, args: &Args) -> Vec<Want> {
    match args {
        Args::Setup { ctxp, .. } => vec![Want::SetupBy(tid), Want::SetupAt(ctxp.0)],
        Args::Destroy { ctx } => vec![Want::Destroy(ctx.0)],
        Args::Submit { .. } => Vec::new(),
        Args::Getevents { ctx, .. } => vec![Want::Reap(ctx.0)],
        Args::Cancel { ctx, iocb, .. } => vec![Want::Cancel(ctx.0, iocb.0)],
    }
}

impl Watched {
    /// Requests that were not submitted again, and the first.
    pub fn left(&self) -> (u64, Option<Subject>) {
        match &self.kind {
            Kind::Call | Kind::Destroy => (0, None),
            Kind::Submit { left, unnamed } => {
                let unnamed = if self.retries == 0 { *unnamed } else { 0 };
                (left.len() as u64 + unnamed, left.values().find_map(|it| Subject::of(&it.0)))
            }
            Kind::Completion { subject, is_write, .. } => {
                (u64::from(*is_write && self.retries == 0), *subject)
            }
        }
    }

    /// A request that was submitted again has completed, and the program knows, as far as we do.
    pub fn has_completed(&self) -> Option<u64> {
        match &self.kind {
            Kind::Completion { completed, .. } => *completed,
            _ => None,
        }
    }

    /// Whether what it did not do is not known for sure.
    fn is_unsure(&self) -> bool {
        let is_unread =
            matches!(&self.kind, Kind::Submit { left, unnamed } if left.is_empty() && *unnamed > 0);
        self.unsure || is_unread
    }

    /// Its outcome if nothing follows. `calls`: the address space's AIO calls so far.
    pub fn without_sequel(&self, exit: Option<ExitStatus>, calls: u64) -> Outcome {
        if self.has_completed().is_some() {
            return Outcome::Retried;
        }
        if self.is_unsure() {
            return Outcome::Unsure;
        }
        let is_direct = calls.saturating_sub(self.calls) <= DIRECTLY;
        let (lost, _) = self.left();
        match exit.filter(|_| is_direct) {
            Some(ExitStatus::Signal(_)) => Outcome::Died,
            _ if lost > 0 => Outcome::Lost,
            _ if matches!(self.kind, Kind::Destroy) => Outcome::Leaked,
            _ if self.retries > 0 => Outcome::Retried,
            Some(ExitStatus::Code(_)) => Outcome::Exited,
            None => Outcome::GaveUp,
        }
    }

    /// Its outcome when the trace ends.
    pub fn at_end(&self) -> Outcome {
        match self.over {
            _ if self.has_completed().is_some() => Outcome::Retried,
            _ if self.is_unsure() => Outcome::Unsure,
            Some(_) if self.left().0 > 0 => Outcome::Lost,
            _ => Outcome::Undecided,
        }
    }
}
