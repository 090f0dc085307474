//! not-kernel-aio: the target made no AIO call.

use super::Basis;
use crate::{
    event::User,
    model::{Doubt, Finding, Model, Question, SECOND, Severity, Target},
    words::escape::escaped,
};

/// A target that made no AIO call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotKernelAio {
    /// Child processes that it made, and that were not traced.
    children: u64,
    /// Processes below it that have contexts, and were not traced.
    users: Vec<User>,
}

impl Basis for NotKernelAio {
    const NAME: &'static str = "not-kernel-aio";
    const SEVERITY: Severity = Severity::Info;
    const NUMBERS: &'static [&'static str] = &["children"];

    fn message(&self) -> String {
        if let Some(first) = self.users.first() {
            let name = escaped(&first.name);
            let contexts = if first.contexts == 1 { "context" } else { "contexts" };
            let more = match self.users.len() {
                1 => String::new(),
                2 => ", and another descendant has some".to_owned(),
                count => format!(", and {} other descendants have some", count - 1),
            };
            return format!(
                "the target itself made no io_* call while it was traced, but its descendant {name}:{pid} has {} {contexts}{more}: \
                 attach -p {pid} traces it (-f follows only children that are made later)",
                first.contexts,
                pid = first.pid
            );
        }
        let others = match self.children {
            0 => String::new(),
            1 => "; it made a child process, which was not followed (-f follows it)".to_owned(),
            count => format!(
                "; it made {count} child processes, which were not followed (-f follows them)"
            ),
        };
        format!(
            "the target made no io_* call that reached the kernel while it was traced: POSIX AIO and io_uring are not kernel AIO{others}"
        )
    }

    fn numbers(&self) -> Vec<(&'static str, i64)> {
        vec![("children", self.children as i64)]
    }
}

impl Model {
    /// Asks who else uses kernel AIO, if the target does not: when the trace begins, and when it ends.
    pub fn ask_who_uses_aio(&mut self) {
        let is_unused = self.calls == 0 && self.next_context == 1;
        let target = self.target.as_ref().filter(|it| is_unused && it.is_attached);
        if let Some(pid) = target.map(|it| it.pid) {
            self.ask(Question::Below { pid });
        }
    }

    /// Whether a process is traced, as far as known.
    pub fn traces(&self, pid: u32) -> bool {
        self.alive.contains_key(&pid) || self.space_of.contains_key(&pid)
    }

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
        let target = self.target.as_ref().filter(|it| is_unused && was_watched(it));
        if let Some(Target { pid, untraced: children, users, .. }) = target.cloned() {
            let mut finding = Finding::new(NotKernelAio { children, users }, now, pid);
            finding.doubt = self.unanswered.then_some(Doubt::Unanswered);
            self.find(finding, 0, 0);
        }
    }
}
