//! Which iocbs are polls: the result of a poll is a mask, which looks like any other number.

use std::collections::HashSet;

use crate::{
    event::{Args, Iocb},
    opcode::{Opcode, POLL},
};

/// Most iocbs remembered.
const MOST: usize = 4096;

/// Iocbs that were submitted as polls, by process and address.
#[derive(Default)]
pub(super) struct Polls(HashSet<(u32, u64), foldhash::fast::RandomState>);

impl Polls {
    /// Remembers the polls of an io_submit.
    pub fn submitted(&mut self, pid: u32, args: &Args) {
        let Args::Submit { iocbs, .. } = args else { return };
        for Iocb { address, value, .. } in iocbs.iter().flatten() {
            let Some(address) = address else { continue };
            let key = (pid, address.0);
            if value.is_some_and(|it| Opcode::of(&it) == POLL) {
                if self.0.len() >= MOST {
                    self.0.clear();
                }
                self.0.insert(key);
            } else if !self.0.is_empty() {
                self.0.remove(&key);
            }
        }
    }

    /// Forgets all polls: calls were not seen, so any of these iocbs may be another operation by now.
    pub fn forget(&mut self) {
        self.0.clear();
    }

    /// Whether the request with this iocb is a poll.
    pub fn has(&self, pid: u32, iocb: u64) -> bool {
        !self.0.is_empty() && self.0.contains(&(pid, iocb))
    }
}
