//! What a trace lost, and what its probes cost.

use aiotrace_common::record::Lost;
use serde::{Deserialize, Serialize};

/// The cost of the probes, as the kernel counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeRuns {
    /// How often they ran.
    pub count: u64,
    /// How long they ran, nanoseconds, on all processors together.
    pub time_ns: u64,
}

/// Records and looks that never reached us, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Losses {
    /// Losses that the probes counted, in the order of [`Lost::ALL`].
    pub probes: [u64; Lost::ALL.len()],
    /// Runs of a probe that the kernel skipped.
    pub skipped_runs: u64,
    /// Records dropped because our output was slower than the target.
    pub queue_full: u64,
    /// Records that could not be decoded.
    pub undecodable: u64,
    /// Completions with unknown results, because the ring could not be read. (A recording does not hold this number:
    /// the model counts it again.)
    #[serde(skip)]
    pub unread: u64,
    /// Looks at processes that did not answer in time.
    pub unanswered: u64,
}

impl Losses {
    /// For each cause its count, its stable name, and its description for people.
    pub fn by_cause(&self) -> impl Iterator<Item = (u64, &'static str, &'static str)> {
        let probes = Lost::ALL.into_iter().zip(self.probes).map(|(cause, count)| {
            let (name, text) = match cause {
                Lost::BufferFull => ("buffer_full", "records, ring buffer full"),
                Lost::NoThreadSlot => {
                    ("no_thread_slot", "calls, too many threads for 16,384 slots")
                }
                Lost::NoTargetSlot => {
                    ("no_target_slot", "processes not followed, more than 16,384 of them")
                }
                Lost::EnterMissed => ("enter_missed", "calls whose beginning was missed"),
                Lost::ExitMissed => ("exit_missed", "calls whose end was missed"),
                Lost::NoContextSlot => ("no_context_slot", "contexts that could not be remembered"),
            };
            (count, name, text)
        });
        probes.chain([
            (self.skipped_runs, "skipped_runs", "runs of a probe skipped by the kernel"),
            (self.queue_full, "queue_full", "records, output slower than the target"),
            (self.undecodable, "undecodable", "records that could not be decoded"),
            (self.unread, "unread_completions", "completions in rings that could not be read"),
            (self.unanswered, "unanswered", "looks at processes that did not answer"),
        ])
    }

    /// The losses that may belong to any process. (A completion that could not be read belongs to a known context,
    /// and a look without an answer makes unsure what it was asked for.)
    pub fn of_anybody(&self) -> u64 {
        self.total() - self.unread - self.unanswered
    }

    /// All causes together.
    pub fn total(&self) -> u64 {
        self.by_cause().map(|(count, ..)| count).sum()
    }
}
