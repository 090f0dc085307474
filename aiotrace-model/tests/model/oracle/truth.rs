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
    /// When the first of these was entered.
    pub next_call: Option<u64>,
    /// When the program got the completion.
    pub known: Option<u64>,
    /// Its record reached the model.
    pub is_told: bool,
}

impl Fault {
    /// A fault of which nothing has followed yet.
    pub fn new(
        time: u64,
        (cause, ret): (Cause, i64),
        jobs: Vec<(Job, u64)>,
        is_told: bool,
    ) -> Self {
        Self { time, cause, ret, jobs, calls_after: 0, next_call: None, known: None, is_told }
    }
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
        let Work { opcode, fd, .. } = self.works[job];
        // Who has an fsync made has the data synced, too.
        for (work, deeds) in self.works.iter().zip(&mut self.deeds) {
            if opcode == FSYNC && (work.opcode, work.fd) == (FDSYNC, fd) {
                deeds.push((time, deed));
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

    /// The program has the completion of this iocb, which met a fault.
    pub fn is_given(&mut self, iocb: u64, time: u64) {
        let is_its = |it: &&mut Fault| {
            it.cause == Cause::Completion && it.known.is_none() && it.jobs[0].1 == iocb
        };
        if let Some(fault) = self.faults.iter_mut().find(is_its) {
            fault.known = Some(time);
        }
    }

    /// When it was tried again for the first time, with whatever success.
    pub fn next_try(&self, job: Job, after: u64) -> Option<u64> {
        let is_try =
            |it: &&(u64, Deed)| it.0 > after && matches!(it.1, Deed::Accepted | Deed::Refused(_));
        self.deeds[job].iter().find(is_try).map(|it| it.0)
    }

    /// What the program did with other requests than those of a fault, after this time and up to that one. `is_new`: that
    /// had met no fault before.
    pub fn does_other(&self, fault: &Fault, (after, until): (u64, u64), is_new: bool) -> bool {
        let is_of = |job: Job| {
            let of = |it: &Fault| it.time <= after && it.jobs.iter().any(|it| it.0 == job);
            of(fault) || is_new && self.faults.iter().any(of)
        };
        // A sync is about what was written meanwhile, too.
        let is_sync = fault.jobs.iter().any(|it| !self.moves_data(it.0));
        let is_one = |job: Job, (time, deed): &(u64, Deed)| {
            let is_deed = match deed {
                Deed::Accepted | Deed::Refused(_) => true,
                Deed::Done => is_sync && (self.is_write(job) || !is_new),
                _ => false,
            };
            is_deed && *time > after && (*time < until || !is_new && *time == until)
        };
        let is_other =
            |job: Job, deed: &(u64, Deed)| !is_of(job) || !is_new && deed.1 == Deed::Done;
        let mut all = self.deeds.iter().enumerate();
        all.any(|(job, deeds)| deeds.iter().any(|it| is_one(job, it) && is_other(job, it)))
    }

    /// Whether it was done after this time, by whatever means.
    pub fn is_done_after(&self, job: Job, after: u64) -> bool {
        self.deeds[job].iter().any(|it| it.0 > after && it.1 == Deed::Done)
    }

    /// How often it was accepted up to this time.
    pub fn uses(&self, job: Job, until: u64) -> usize {
        let is_one = |it: &&(u64, Deed)| it.1 == Deed::Accepted && it.0 <= until;
        self.deeds[job].iter().filter(is_one).count()
    }

    /// Whether something was submitted after this time and before that one.
    pub fn is_given_within(&self, after: u64, before: u64) -> bool {
        let is_one = |it: &(u64, Deed)| {
            matches!(it.1, Deed::Accepted | Deed::Refused(_)) && it.0 > after && it.0 < before
        };
        self.deeds.iter().flatten().any(is_one)
    }

    /// Whether it was tried again, with whatever success.
    pub fn is_tried(&self, job: Job, after: u64) -> bool {
        self.deeds[job]
            .iter()
            .any(|it| it.0 > after && matches!(it.1, Deed::Accepted | Deed::Refused(_)))
    }

    /// How often it was tried again, with whatever success.
    pub fn tries(&self, job: Job, after: u64) -> usize {
        let is_try =
            |it: &&(u64, Deed)| it.0 > after && matches!(it.1, Deed::Accepted | Deed::Refused(_));
        self.deeds[job].iter().filter(is_try).count()
    }

    /// Whether it moves data: a sync may be made at any time.
    pub fn moves_data(&self, job: Job) -> bool {
        !matches!(self.works[job].opcode, FSYNC | FDSYNC)
    }

    /// Whether only the data of a file were synced after this time, where all of it was to be.
    pub fn is_synced_in_part(&self, job: Job, after: u64) -> bool {
        let Work { opcode, fd, .. } = self.works[job];
        let all = self.works.iter().zip(&self.deeds);
        let mut data = all.filter(|it| (it.0.opcode, it.0.fd) == (FDSYNC, fd)).map(|it| it.1);
        opcode == FSYNC && data.any(|it| it.iter().any(|it| it.0 > after))
    }

    pub fn is_write(&self, job: Job) -> bool {
        matches!(self.works[job].opcode, 1 | 8)
    }

    pub fn is_poll(&self, job: Job) -> bool {
        self.works[job].opcode == 5
    }
}
