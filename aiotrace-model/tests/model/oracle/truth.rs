//! What became of each request. A request is known by what it does, not by the address of its iocb.

use aiotrace_model::model::verdict::Cause;

const FSYNC: u16 = 2;
const FDSYNC: u16 = 3;

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    pub opcode: u16,
    pub fd: u32,
    pub offset: i64,
    pub nbytes: u64,
}

/// The number of a work.
pub type Job = usize;
/// The number of a fault.
pub type Number = usize;

/// What happened to a work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// io_submit did not accept it, because of that fault, or on the kernel's own account.
    Refused(Option<Number>),
    /// io_submit accepted it.
    Accepted,
    /// It completed with the kernel's own result, and the source reported that.
    Completed(i64),
    /// It completed, and the program gets the result of that fault.
    Changed(Number),
    /// A synchronous call did all of it.
    Done,
    /// A synchronous call may have done it: nobody can see that.
    Perhaps,
}

/// What became of a work after a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was submitted again and accepted; for a failed completion: `is_done` if it completed without an error.
    Again { is_done: bool },
    /// It was submitted again, and got the next fault.
    Next,
    /// Synchronous calls did it.
    Done,
    /// Synchronous calls may have done it.
    Perhaps,
    /// None of these.
    Never,
}

/// A fault that was made, and reported.
#[derive(Clone, Debug)]
pub struct Fault {
    pub time: u64,
    pub cause: Cause,
    pub ret: i64,
    /// The works that it was about, with their iocbs; none for an io_getevents.
    pub jobs: Vec<(Job, u64)>,
    /// How many io_getevents calls were entered after it.
    pub calls_after: u64,
    /// Its record reached the model.
    pub is_told: bool,
}

/// A short io_submit on the kernel's own account.
#[derive(Clone, Debug)]
pub struct Short {
    pub time: u64,
    pub jobs: Vec<Job>,
}

#[derive(Debug, Default)]
pub struct Truth {
    pub works: Vec<Work>,
    /// For each work, what happened to it, and when.
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

    /// A file was synced: all works that wanted only that are done.
    pub fn synced(&mut self, time: u64, by: Work) {
        for (work, deeds) in self.works.iter().zip(&mut self.deeds) {
            if work.fd == by.fd && work.opcode == FDSYNC && by.opcode == FSYNC {
                deeds.push((time, Deed::Done));
            }
        }
    }

    /// What became of a work after this time; synchronous calls count up to the verdict, because they are not watched
    /// any longer.
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
                // These are completions of what was submitted before.
                Deed::Refused(None) | Deed::Changed(_) | Deed::Completed(_) => (),
            }
        }
        fate
    }

    /// Whether a work was tried again, successfully or not.
    pub fn is_tried(&self, job: Job, after: u64) -> bool {
        self.deeds[job]
            .iter()
            .any(|it| it.0 > after && matches!(it.1, Deed::Accepted | Deed::Refused(_)))
    }

    pub fn is_write(&self, job: Job) -> bool {
        matches!(self.works[job].opcode, 1 | 8)
    }
}
