//! not-kernel-aio: the target made no AIO call.

use super::Basis;
use crate::model::{Doubt, Finding, Model, SECOND, Severity, Target};

/// A target that made no AIO call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotKernelAio {
    /// Child processes that it made, and that were not traced.
    children: u64,
}

impl Basis for NotKernelAio {
    const NAME: &'static str = "not-kernel-aio";
    const SEVERITY: Severity = Severity::Info;
    const NUMBERS: &'static [&'static str] = &["children"];

    fn message(&self) -> String {
        let others = match self.children {
            0 => String::new(),
            1 => "; it made a child process, which was not followed (-f follows it)".to_owned(),
            count => format!(
                "; it made {count} child processes, which were not followed (-f follows them)"
            ),
        };
        format!(
            "the target made no io_* call while it was traced: POSIX AIO and io_uring are not kernel AIO{others}"
        )
    }

    fn numbers(&self) -> Vec<(&'static str, i64)> {
        vec![("children", self.children as i64)]
    }
}

impl Model {
    /// The trace is over: finds out whether the target made no AIO call.
    pub(in crate::model) fn not_kernel_aio(&mut self) {
        let now = self.now;
        // A process that has contexts uses kernel AIO.
        let is_unused =
            self.calls + self.counted.total() == 0 && self.next_context == 1 && !self.inside.any;
        // A program that ended at once had no time for a call.
        let was_watched = |it: &Target| {
            !it.is_attached || it.ended.unwrap_or(now).saturating_sub(it.since) >= SECOND
        };
        let target = self.target.filter(|it| is_unused && was_watched(it));
        if let Some(Target { pid, untraced: children, .. }) = target {
            let mut finding = Finding::new(NotKernelAio { children }, now, pid);
            finding.doubt = self.unanswered.then_some(Doubt::Unanswered);
            self.find(finding, 0, 0);
        }
    }
}
