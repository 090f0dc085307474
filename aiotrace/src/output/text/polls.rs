//! The result of a poll is a mask, and looks like any number: which iocbs are polls.

use std::collections::HashSet;

use crate::event::{Args, Iocb};

/// Iocbs remembered, at most.
const MOST: usize = 4096;

/// Iocbs that were submitted as polls, by process and address.
#[derive(Default)]
pub(super) struct Polls(HashSet<(u32, u64), foldhash::fast::RandomState>);

impl Polls {
    /// An io_submit was seen.
    pub fn submitted(&mut self, pid: u32, args: &Args) {
        let Args::Submit { iocbs, .. } = args else { return };
        for Iocb { address, value, .. } in iocbs.iter().flatten() {
            let Some(address) = address else { continue };
            let key = (pid, address.0);
            if value.is_some_and(|it| it.opcode == 5) {
                if self.0.len() >= MOST {
                    self.0.clear();
                }
                self.0.insert(key);
            } else if !self.0.is_empty() {
                self.0.remove(&key);
            }
        }
    }

    /// Calls were not seen: any of them may be something else by now.
    pub fn forget(&mut self) {
        self.0.clear();
    }

    /// Whether the request of this iocb is a poll.
    pub fn has(&self, pid: u32, iocb: u64) -> bool {
        !self.0.is_empty() && self.0.contains(&(pid, iocb))
    }
}
