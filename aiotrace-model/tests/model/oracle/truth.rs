//! What became of each request: what was done is known by what it is about, not by where its iocb was.

use aiotrace_model::model::verdict::Cause;

const FSYNC: u16 = 2;
const FDSYNC: u16 = 3;

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    pub opcode: u16,
    pub fd: u32,
    pub offset: i64,
    pub nbytes: u64,
}

/// A work, by its number.
pub type Job = usize;
/// A fault, by its number.
pub type Number = usize;

/// What happened to a work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// io_submit did not take it; by that fault, or the kernel's own doing.
    Refused(Option<Number>),
    /// It did.
    Accepted,
    /// Its completion was told: the kernel's own result.
    Completed(i64),
    /// The program gets that of a fault.
    Changed(Number),
    /// A synchronous call did it, all of it.
    Done,
    /// One may have: nobody can see it.
    Perhaps,
}

/// What became of a work after a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Submitted again, and accepted; after a completion: whether it completed without an error.
    Again { is_done: bool },
    /// Submitted again, and it met the next fault.
    Next,
    /// Done by synchronous calls.
    Done,
    /// Perhaps.
    Perhaps,
    /// Neither.
    Never,
}

/// A fault that was made, and told.
#[derive(Clone, Debug)]
pub struct Fault {
    pub time: u64,
    pub cause: Cause,
    pub ret: i64,
    /// What it was about, with its iocb; of an io_getevents: nothing.
    pub jobs: Vec<(Job, u64)>,
    /// io_getevents calls entered after it.
    pub calls_after: u64,
    /// When the first of these was entered.
    pub next_call: Option<u64>,
    /// Its record reached the model.
    pub is_told: bool,
}

/// A short io_submit by the kernel's own doing.
#[derive(Clone, Debug)]
pub struct Short {
    pub time: u64,
    pub jobs: Vec<Job>,
}

#[derive(Debug, Default)]
pub struct Truth {
    pub works: Vec<Work>,
    /// Of each work, what happened, and when.
    deeds: Vec<Vec<(u64, Deed)>>,
    pub faults: Vec<Fault>,
    pub shorts: Vec<Short>,
    /// When the last call returned.
    pub last: u64,
}

impl Truth {
    pub fn job(&mut self, work: Work) -> Job {
        let known = self.works.iter().position(|it| *it == work);
        known.unwrap_or_else(|| {
            self.works.push(work);
            self.deeds.push(Vec::new());
            self.works.len() - 1
        })
    }

    pub fn happens(&mut self, time: u64, job: Job, deed: Deed) {
        self.deeds[job].push((time, deed));
    }

    /// A file was synced: whatever wanted no more than that is done.
    pub fn synced(&mut self, time: u64, by: Work) {
        for (work, deeds) in self.works.iter().zip(&mut self.deeds) {
            if work.fd == by.fd && work.opcode == FDSYNC && by.opcode == FSYNC {
                deeds.push((time, Deed::Done));
            }
        }
    }

    /// What became of it after this time; synchronous calls count until the verdict, as they are not watched on.
    pub fn fate(&self, job: Job, after: u64, verdict: u64, of_completion: bool) -> Fate {
        let is_seen = |(time, deed): &&(u64, Deed)| {
            *time > after && (*time <= verdict || !matches!(deed, Deed::Done | Deed::Perhaps))
        };
        let mut later = self.deeds[job].iter().filter(is_seen).map(|it| it.1);
        let mut fate = Fate::Never;
        while let Some(deed) = later.next() {
            match deed {
                Deed::Refused(Some(_)) => return Fate::Next,
                Deed::Accepted => {
                    let is_done = !of_completion
                        || later.any(|it| matches!(it, Deed::Completed(res) if res >= 0));
                    return Fate::Again { is_done };
                }
                Deed::Done => return Fate::Done,
                Deed::Perhaps => fate = Fate::Perhaps,
                // Completions of what was submitted before.
                Deed::Refused(None) | Deed::Changed(_) | Deed::Completed(_) => (),
            }
        }
        fate
    }

    /// Whether something was accepted after this time and before that one.
    pub fn is_accepted_within(&self, after: u64, before: u64) -> bool {
        let is_one = |it: &(u64, Deed)| it.1 == Deed::Accepted && it.0 > after && it.0 < before;
        self.deeds.iter().flatten().any(is_one)
    }

    /// Whether it was tried again, with whatever success.
    pub fn is_tried(&self, job: Job, after: u64) -> bool {
        self.deeds[job]
            .iter()
            .any(|it| it.0 > after && matches!(it.1, Deed::Accepted | Deed::Refused(_)))
    }

    pub fn is_write(&self, job: Job) -> bool {
        matches!(self.works[job].opcode, 1 | 8)
    }
}
