//! What became of each request. A request is known by what it does, not by the address of its iocb.

use std::collections::BTreeMap;

use aiotrace_model::model::verdict::Cause;

use super::fate::{Act, Does};

const FSYNC: u16 = 2;
const FDSYNC: u16 = 3;

/// What a request does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    pub opcode: u16,
    pub fd: u32,
    pub offset: i64,
    pub nbytes: u64,
    /// The file that the descriptor led to.
    pub file: u32,
    /// It went to the end of the file, because of O_APPEND.
    pub append: bool,
    /// Which data its memory had.
    pub data: u32,
}

impl Work {
    /// What another request would do that looks the same.
    pub fn place(&self) -> (u16, u32, i64, u64) {
        (self.opcode, self.fd, self.offset, self.nbytes)
    }

    pub fn is_write(&self) -> bool {
        matches!(self.opcode, 1 | 8)
    }

    /// Up to where in the file it goes. (Two vectors make a page together.)
    pub fn end(&self) -> i64 {
        self.offset + if self.opcode == 8 { super::play::PAGE } else { self.nbytes as i64 }
    }

    pub fn does(&self) -> Does {
        match self.opcode {
            FSYNC => Does::Sync,
            FDSYNC => Does::SyncData,
            1 | 8 => Does::Write,
            _ => Does::Read,
        }
    }
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
    pub(super) deeds: Vec<Vec<(u64, Deed)>>,
    /// What was done to files.
    pub acts: Vec<Act>,
    /// Files that end there.
    pub sizes: BTreeMap<u32, u64>,
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
        let work = self.works[job];
        // Who has an fsync made has the data synced, too.
        for (other, deeds) in self.works.iter().zip(&mut self.deeds) {
            let is_same = (other.opcode, other.fd, other.file) == (FDSYNC, work.fd, work.file);
            if work.opcode == FSYNC && is_same {
                deeds.push((time, deed));
            }
        }
        if matches!(deed, Deed::Accepted | Deed::Refused(Some(_))) {
            self.acts.push(Act::of(time, job, work, deed == Deed::Accepted));
        }
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

    /// The same, also as a part of a request that does more.
    pub fn next_like(&self, job: Job, after: u64) -> Option<u64> {
        let work = &self.works[job];
        let is_like = |it: &&Act| {
            it.time > after
                && it.job.is_some_and(|it| self.works[it].fd == work.fd)
                && it.does_all(work)
        };
        let like = self.acts.iter().filter(is_like).map(|it| it.time).min();
        self.next_try(job, after).into_iter().chain(like).min()
    }

    /// Whether one is a sync of the data of a file, and the other one of all of it.
    fn is_lesser(&self, one: Job, other: Job) -> bool {
        let of = |job: Job| (self.works[job].fd, self.works[job].file);
        let opcodes = (self.works[one].opcode, self.works[other].opcode);
        opcodes == (FDSYNC, FSYNC) && of(one) == of(other)
    }

    /// Whether a sync of data is told of because all of the file was to be synced.
    fn is_echo(&self, job: Job, deed: &(u64, Deed)) -> bool {
        let Work { opcode, fd, file, .. } = self.works[job];
        let mut all = self.works.iter().zip(&self.deeds);
        let is_source = |it: &Work| (it.opcode, it.fd, it.file) == (FSYNC, fd, file);
        opcode == FDSYNC && all.any(|it| is_source(it.0) && it.1.contains(deed))
    }

    /// What the program did with other requests than those of a fault, after this time and up to that one. `is_new`: that
    /// had met no fault before.
    pub fn does_other(&self, fault: &Fault, (after, until): (u64, u64), is_new: bool) -> bool {
        let is_of = |job: Job| {
            let is_it = |of: Job| of == job || self.is_lesser(of, job);
            let of = |it: &Fault| it.time <= after && it.jobs.iter().any(|it| is_it(it.0));
            of(fault) || is_new && self.faults.iter().any(of)
        };
        // A sync is about what was written meanwhile, too.
        let is_sync = fault.jobs.iter().any(|it| !self.moves_data(it.0));
        let is_one = |(time, deed): &(u64, Deed)| {
            let is_deed = matches!(deed, Deed::Accepted | Deed::Refused(_));
            is_deed && *time > after && (*time < until || !is_new && *time == until)
        };
        let is_act = |it: &Act| it.job.is_none() && it.time > after && it.time <= until;
        let mut all = self.deeds.iter().enumerate();
        let is_written = is_sync && !is_new && self.acts.iter().any(is_act);
        let is_other = |job: Job, it: &(u64, Deed)| is_one(it) && !self.is_echo(job, it);
        is_written
            || all.any(|(job, deeds)| !is_of(job) && deeds.iter().any(|it| is_other(job, it)))
    }

    /// Whether it was done after this time, by whatever means.
    pub fn is_done_after(&self, job: Job, after: u64) -> bool {
        let is_one =
            |it: &Act| it.job.is_none() && it.time > after && it.is_about(&self.works[job]);
        self.acts.iter().any(is_one)
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
        let Work { opcode, fd, file, .. } = self.works[job];
        let all = self.works.iter().zip(&self.deeds);
        let mut data = all.filter(|it| (it.0.opcode, it.0.fd) == (FDSYNC, fd)).map(|it| it.1);
        let is_act = |it: &Act| it.does == Does::SyncData && it.file == file && it.time > after;
        opcode == FSYNC
            && (data.any(|it| it.iter().any(|it| it.0 > after)) || self.acts.iter().any(is_act))
    }

    /// Whether a sync was done through another descriptor, which may be of the same file for all that is seen.
    pub fn is_synced_elsewhere(&self, job: Job, after: u64) -> bool {
        let is_sync = |it: &Work| [FSYNC, FDSYNC].contains(&it.opcode);
        let work = &self.works[job];
        let mut all = self.works.iter().zip(&self.deeds);
        is_sync(work)
            && all.any(|(it, deeds)| {
                is_sync(it) && it.fd != work.fd && deeds.iter().any(|it| it.0 > after)
            })
    }

    pub fn is_poll(&self, job: Job) -> bool {
        self.works[job].opcode == 5
    }
}
