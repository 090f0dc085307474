//! What became of a work: what was done to its file, by whatever means, tells.

use super::truth::{Deed, Fault, Job, Truth, Work};

/// What is done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Does {
    Read,
    Write,
    Sync,
    SyncData,
}

/// Something was done to a part of a file.
#[derive(Clone, Copy, Debug)]
pub struct Act {
    pub began: u64,
    pub time: u64,
    pub does: Does,
    pub file: u32,
    pub range: (u64, u64),
    /// Which data were moved; `None`: others, or by somebody who is not seen.
    pub data: Option<u32>,
    /// It went to the end of the file.
    pub append: bool,
    /// The request that did it.
    pub job: Option<Job>,
    /// A fault kept it from being done.
    pub is_refused: bool,
}

impl Act {
    /// io_submit was given a request.
    pub fn of(time: u64, job: Job, work: Work, is_accepted: bool) -> Self {
        Self {
            began: time,
            time,
            does: work.does(),
            file: work.file,
            range: (work.offset as u64, work.end() as u64),
            data: Some(work.data),
            append: work.append,
            job: Some(job),
            is_refused: !is_accepted,
        }
    }

    /// A call has done this.
    pub fn by_call(time: u64, work: Work) -> Self {
        Self { job: None, data: Some(work.data), ..Self::of(time, 0, work, true) }
    }

    /// Whether it has moved the data of a work to where they belong.
    fn is_same(&self, work: &Work) -> bool {
        self.data == Some(work.data) && self.append == work.append
    }

    /// Whether it was to move all the data of a work to where they belong.
    pub fn does_all(&self, work: &Work) -> bool {
        let (from, to) = (work.offset as u64, work.end() as u64);
        let is_all = self.range.0 <= from && to <= self.range.1;
        self.is_same(work) && self.is_about(work) && is_all
    }

    /// Whether it is the same as what a work is to do, or a part of that.
    pub fn is_about(&self, work: &Work) -> bool {
        let is_of_file = self.file == work.file;
        let (from, to) = (work.offset as u64, work.end() as u64);
        match work.does() {
            Does::Sync => self.does == Does::Sync && is_of_file,
            Does::SyncData => matches!(self.does, Does::Sync | Does::SyncData) && is_of_file,
            does => self.does == does && is_of_file && self.range.0 < to && from < self.range.1,
        }
    }
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
    /// It was done, or other data were put there, and nobody who looks from outside can know which.
    Perhaps,
    /// None of these.
    Never,
}

/// What happened to a work, or to its file.
enum What<'a> {
    Deed(Deed),
    Act(&'a Act),
}

impl Truth {
    /// What became of a work after this time; synchronous calls count up to the verdict, because they are not watched
    /// any longer. `moved`: so much of it was done before.
    pub fn fate_after(
        &self,
        job: Job,
        (after, verdict): (u64, u64),
        of_completion: bool,
        moved: u64,
    ) -> Fate {
        let work = self.works[job];
        let deeds = self.deeds[job].iter().filter(|it| it.0 > after);
        let mut all: Vec<(u64, What<'_>)> = deeds.map(|it| (it.0, What::Deed(it.1))).collect();
        let is_seen = |it: &&Act| {
            it.began > after
                && it.is_about(&work)
                && it.job != Some(job)
                && (it.time <= verdict || it.job.is_some())
        };
        all.extend(self.acts.iter().filter(is_seen).map(|it| (it.time, What::Act(it))));
        all.sort_by_key(|it| it.0);
        let mut left = Left::new(self, work, moved);
        let (mut perhaps_left, mut fate) = (left.clone(), Fate::Never);
        let mut later = all.iter();
        while let Some((time, what)) = later.next() {
            match what {
                What::Deed(Deed::Refused(Some(_))) => return Fate::Next,
                What::Deed(Deed::Accepted) => {
                    let is_end = |it: &(u64, What<'_>)| matches!(it.1, What::Deed(Deed::Completed(res)) if res >= 0);
                    let is_done = !of_completion || later.any(is_end);
                    return Fate::Again { is_done };
                }
                // These are completions of what was submitted before.
                What::Deed(_) => (),
                What::Act(act) if act.is_refused => {
                    // What is tried through another descriptor, and refused, is not done.
                    let is_its = act.job.is_some_and(|it| self.works[it].fd == work.fd);
                    if is_its && act.is_same(&work) && left.clone().take(act) {
                        return Fate::Next;
                    }
                }
                // What fails has done nothing.
                What::Act(act)
                    if of_completion && act.job.is_some_and(|it| self.fails(it, *time)) => {}
                What::Act(act) => {
                    if perhaps_left.take(act) {
                        fate = Fate::Perhaps;
                    }
                    if act.is_same(&work) && left.take(act) {
                        return match act.job {
                            Some(it) => {
                                let is_done = !of_completion || self.completes(it, *time);
                                Fate::Again { is_done }
                            }
                            None => Fate::Done,
                        };
                    }
                }
            }
        }
        fate
    }

    /// The same after a fault.
    pub fn fate(&self, fault: &Fault, job: Job, verdict: u64, of_completion: bool) -> Fate {
        let moved = if of_completion { fault.ret.max(0) as u64 } else { 0 };
        self.fate_after(job, (fault.time, verdict), of_completion, moved)
    }

    /// What it completes with first, after this time.
    fn first_end(&self, job: Job, after: u64) -> Option<Deed> {
        let is_end = |it: &&(u64, Deed)| {
            it.0 > after && matches!(it.1, Deed::Completed(_) | Deed::Changed(_))
        };
        // A completion is changed after it was seen.
        let mut all = self.deeds[job].iter().filter(is_end).map(|it| it.1);
        let first = all.next()?;
        Some(all.next().filter(|it| matches!(it, Deed::Changed(_))).unwrap_or(first))
    }

    fn fails(&self, job: Job, after: u64) -> bool {
        matches!(self.first_end(job, after), Some(Deed::Changed(_)))
    }

    fn completes(&self, job: Job, after: u64) -> bool {
        matches!(self.first_end(job, after), Some(Deed::Completed(res)) if res >= 0)
    }
}

/// What of a work is left.
#[derive(Clone)]
struct Left {
    work: Work,
    missing: Vec<(u64, u64)>,
    /// Where its file ends.
    size: u64,
}

impl Left {
    fn new(truth: &Truth, work: Work, moved: u64) -> Self {
        let missing = vec![(work.offset as u64 + moved, work.end() as u64)];
        let size = truth.sizes.get(&work.file).copied().unwrap_or(u64::MAX);
        Self { work, missing, size }
    }

    /// Takes what was done. Returns whether nothing is left.
    fn take(&mut self, act: &Act) -> bool {
        if matches!(self.work.does(), Does::Sync | Does::SyncData) {
            return true;
        }
        let (from, to) = act.range;
        let outside =
            self.missing.iter().flat_map(|it| [(it.0, it.1.min(from)), (it.0.max(to), it.1)]);
        self.missing = outside.filter(|it| it.0 < it.1).collect();
        // Nothing is beyond the end of a file that is read.
        self.missing.iter().all(|it| it.0 >= self.size)
    }
}
