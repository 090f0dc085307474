//! For what aiotrace waits while a helper does an errand: for the target, or for the machine.
//!
//! Both look alike: the helper sleeps. What tells them apart is evidence that the target cannot
//! make by not answering:
//!
//! - The helper itself has had something read from a disk during this errand. A server of a FUSE
//!   file system reads for itself, and userfaultfd reads nothing.
//! - More threads want to run than there are processors, and the helper got its answer: a lock that
//!   it waited for was held by somebody who waited for a processor. A wait in vain is the target's
//!   all the same.
//!
//! A target can make such evidence in other ways (it reads from disks, or has many threads), so
//! what the evidence explains is a debt as well ([`super::debts`]).

use std::time::Duration;

use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike as _,
};
use serde::{Deserialize, Serialize};

use super::{FROM_DISK, How};

/// The time of an answer beyond this is a debt, even if the helper did not sleep.
pub const BUSY: Duration = Duration::from_millis(500);

/// What a helper has used up since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// Processor time.
    pub processor: Duration,
    /// Blocks of 512 bytes that it has had read from disks.
    pub blocks: u64,
}

impl Used {
    /// What this process has used up.
    pub fn now() -> Self {
        let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return Self::default() };
        let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
        let processor = Duration::from_micros(micros.try_into().unwrap_or(0));
        Self { processor, blocks: usage.block_reads().try_into().unwrap_or(0) }
    }

    /// What has been used up since then.
    pub fn since(self, before: Self) -> Self {
        Self {
            processor: self.processor.saturating_sub(before.processor),
            blocks: self.blocks.saturating_sub(before.blocks),
        }
    }
}

/// What explains that a helper sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It had something read from a disk.
    Disk,
    /// Somebody may wait for a processor.
    Processor,
    /// Nothing but the target.
    Target,
}

/// How long a helper has slept during an errand, and what explains it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wait {
    disk: Duration,
    processor: Duration,
    target: Duration,
}

/// What is owed for an errand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owed {
    /// What only the target explains.
    pub target: Duration,
    /// What a busy machine explains.
    pub machine: Duration,
}

impl Owed {
    /// Whether it is nothing.
    pub fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

impl Wait {
    /// The helper slept for so long.
    pub fn slept(&mut self, time: Duration, why: Why) {
        let sum = match why {
            Why::Disk => &mut self.disk,
            Why::Processor => &mut self.processor,
            Why::Target => &mut self.target,
        };
        *sum += time;
    }

    /// Whether the helper is not waited for any more. A disk has as much time as for a file, and where somebody may
    /// wait for a processor, there is twice the time.
    pub fn is_too_long(&self, how: How) -> bool {
        let others = self.processor / 2 + self.target;
        others >= how.asleep || others + self.disk >= how.asleep.max(FROM_DISK)
    }

    /// What is owed for an errand that took so long, in which the helper used up so much. `blocks` are known of one
    /// that got an answer, even where the live count may not be read.
    pub fn owed(mut self, elapsed: Duration, used: Used, is_answered: bool) -> Owed {
        if used.blocks > 0 && is_answered {
            self.disk += std::mem::take(&mut self.target);
        }
        if !is_answered {
            self.target += std::mem::take(&mut self.processor);
        }
        let target = self.target + used.processor.saturating_sub(BUSY);
        let machine = self.disk + self.processor;
        // The rest it waited for a processor.
        let rest = elapsed.saturating_sub(BUSY).saturating_sub(target + machine);
        Owed { target, machine: machine + rest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn used(processor: u32, blocks: u64) -> Used {
        Used { processor: processor * MS, blocks }
    }

    #[test]
    fn what_is_owed_for_depends_on_what_explains_the_wait() {
        use Why::{Disk, Processor, Target};
        // What explains the sleep, how long it was, the whole time, what the helper used, whether it answered: what
        // is owed for the target, and for the machine; milliseconds.
        let table = [
            // A page of FUSE or userfaultfd, a lock on an idle machine.
            (Target, 200, 200, used(1, 0), false, (200, 0)),
            (Target, 180, 180, used(1, 0), true, (180, 0)),
            // The same on a busy machine: only an answer is believed.
            (Processor, 200, 200, used(1, 0), false, (200, 0)),
            (Processor, 180, 180, used(1, 0), true, (0, 180)),
            // A disk, also where only the answer tells of it.
            (Disk, 300, 300, used(1, 8), true, (0, 300)),
            (Target, 180, 180, used(1, 8), true, (0, 180)),
            (Disk, 1000, 1000, used(1, 0), false, (0, 1000)),
            // It never slept: it waited for a processor, or it had much to do.
            (Target, 0, 400, used(1, 0), true, (0, 0)),
            (Target, 0, 3000, used(1, 0), true, (0, 2500)),
            (Target, 0, 3000, used(3000, 0), true, (2500, 0)),
            (Target, 100, 3000, used(1000, 0), true, (600, 1900)),
        ];
        for (why, slept, elapsed, used, is_answered, (target, machine)) in table {
            let mut wait = Wait::default();
            wait.slept(slept * MS, why);
            let owed = wait.owed(elapsed * MS, used, is_answered);
            let expected = Owed { target: target * MS, machine: machine * MS };
            assert_eq!(owed, expected, "{why:?} {slept} of {elapsed} ms, {used:?} {is_answered}");
            assert_eq!(owed.is_nothing(), target + machine == 0);
        }
    }

    #[test]
    fn nothing_that_was_waited_beyond_what_is_free_is_owed_by_nobody() {
        for why in [Why::Disk, Why::Processor, Why::Target] {
            for (slept, elapsed, processor, is_answered) in
                [(200, 200, 0, false), (60, 900, 900, true), (0, 10_000, 20, false)]
            {
                let mut wait = Wait::default();
                wait.slept(slept * MS, why);
                let owed = wait.owed(elapsed * MS, used(processor, 1), is_answered);
                let least = (slept * MS).max((elapsed * MS).saturating_sub(BUSY));
                assert!(owed.target + owed.machine >= least, "{why:?} {owed:?}");
            }
        }
    }

    #[test]
    fn a_disk_has_more_time_than_a_target() {
        let is_too_long = |how: How, sleeps: &[(u32, Why)]| {
            let mut wait = Wait::default();
            sleeps.iter().for_each(|(time, why)| wait.slept(*time * MS, *why));
            wait.is_too_long(how)
        };
        let usual = How::USUAL;
        let stop = How::USUAL.urgent();
        let file = How::USUAL.patience(FROM_DISK, super::super::USUAL);
        for (how, sleeps, expected) in [
            (usual, &[(180, Why::Target)][..], false),
            (usual, &[(200, Why::Target)], true),
            (usual, &[(380, Why::Processor)], false),
            (usual, &[(200, Why::Processor), (100, Why::Target)], true),
            (usual, &[(20, Why::Target), (900, Why::Disk)], false),
            (usual, &[(1000, Why::Disk)], true),
            (stop, &[(100, Why::Target)], true),
            (stop, &[(900, Why::Disk)], false),
            (file, &[(900, Why::Target)], false),
            (file, &[(500, Why::Target), (500, Why::Disk)], true),
        ] {
            assert_eq!(is_too_long(how, sleeps), expected, "{how:?} {sleeps:?}");
        }
    }

    #[test]
    fn what_we_use_up_grows() {
        let before = Used::now();
        while Used::now().since(before).processor < MS {
            std::hint::black_box(before);
        }
        assert_eq!(before.since(Used::now()), Used::default());
    }
}
