//! Takes stops from the kernel.

use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::Tracer;
use crate::source::ptrace::{
    requests::{self, Status, What},
    tracee::{State, Tracee},
};

/// How long stops are taken before some are handled.
const TAKING: Duration = Duration::from_millis(20);

impl Tracer {
    /// The next stop to be handled.
    ///
    /// # Errors
    /// There is no tracee left.
    pub(super) fn next_stop(&mut self) -> Result<Option<(u32, Status)>, Errno> {
        let now = Instant::now();
        if self.turns.want_more(now) {
            let asked = self.take_stops();
            self.turns.have_asked(now, Instant::now());
            // The error counts only if no stop waits here: threads whose stops wait have ended since.
            if self.turns.are_over() {
                asked?;
            }
        }
        Ok(self.turns.next())
    }

    /// Takes the stops from the kernel that there are, for a while: others wait for their turn meanwhile, and so does
    /// whoever asks for the end.
    fn take_stops(&mut self) -> Result<(), Errno> {
        let begun = Instant::now();
        while let Some((tid, status)) = requests::wait()? {
            self.takes_turn(tid, status);
            if self.is_alone() {
                break;
            }
            self.ask_each();
            if begun.elapsed() >= TAKING {
                break;
            }
        }
        Ok(())
    }

    pub(super) fn is_alone(&self) -> bool {
        self.tracees.len() + self.early.len() == 1
    }

    /// One of many threads has stopped, so others may have, too: asks each of them.
    fn ask_each(&mut self) {
        if !self.crowd.is_to_be_asked(self.tracees.len()) {
            return;
        }
        let runs = |it: &&Tracee| it.state == State::Running;
        let tids: Vec<u32> = self.tracees.values().filter(runs).map(|it| it.tid).collect();
        let mut stopped = 0;
        for tid in &tids {
            if let Ok(Some(status)) = requests::wait_for(*tid) {
                stopped += 1;
                self.takes_turn(*tid, status);
            }
        }
        self.crowd.had(stopped, tids.len());
    }

    /// A tracee stopped, or ended: its stop waits for the turn of its process.
    fn takes_turn(&mut self, tid: u32, status: Status) {
        // The end of a process that no stop has announced is not worth waiting for.
        if self.is_known(tid) || (status.what() != What::Ended && self.becomes_known(tid)) {
            let pid = self.tracees.get(&tid).map_or(tid, |it| it.pid);
            self.turns.add(pid, tid, status);
        } else if status.what() == What::Ended {
            self.ended(tid, status);
        }
    }
}
