//! The model's questions, and the findings that wait for their answers.

use super::{
    Finding, Model, Name, SECOND, Severity, finding::Key, findings::direct_io_misaligned::Asked,
};
use crate::event::{Address, Handle};

/// How long an answer takes at most.
const PATIENCE: u64 = 2 * SECOND;
/// Most questions that wait for an answer.
const MOST_QUESTIONS: usize = 256;

/// A question about the running system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// The state of a ring: the answers are completions and [`Looked::Ring`].
    Ring {
        /// The process.
        pid: u32,
        /// The context.
        ctx: Handle,
    },
    /// What file is behind a descriptor: [`Looked::File`].
    File {
        /// The process.
        pid: u32,
        /// The descriptor.
        fd: u32,
    },
    /// Whether a descriptor is open: [`Looked::Descriptor`].
    Descriptor {
        /// The process.
        pid: u32,
        /// The descriptor.
        fd: u32,
    },
    /// Which processes hold fs.aio-nr: [`Looked::Limit`].
    Limit,
    /// The values of iovecs: [`Looked::Iovecs`].
    Iovecs {
        /// The process.
        pid: u32,
        /// The address of the array.
        at: Address,
        /// How many there are.
        count: u64,
    },
    /// What all threads of the process's address space do: [`Looked::Threads`]. It is answered only while all events
    /// have come.
    Threads {
        /// The process.
        pid: u32,
    },
    /// By what else the file of a descriptor may be read or written: [`Looked::Ways`].
    Ways {
        /// The process.
        pid: u32,
        /// The descriptor.
        fd: u32,
    },
    /// The processes below this one that have contexts: [`Looked::Below`].
    Below {
        /// The process.
        pid: u32,
    },
    /// Where a descriptor leads, of a request that a fault met: [`Looked::Path`].
    Path {
        /// The process.
        pid: u32,
        /// The descriptor.
        fd: u32,
    },
}

/// A finding that depends on an answer.
pub(super) struct Waiting {
    pub finding: Finding,
    pub key: Key,
    pub needs: Needs,
    pub since: u64,
}

/// The answer that a finding depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// The file behind the descriptor is storage; with `beyond`, it must be larger than that.
    Storage { fd: u32, beyond: Option<u64> },
    /// Which processes hold fs.aio-nr.
    Limit,
    /// The values of these iovecs.
    Iovecs { at: Address, count: u64 },
    /// The size of the file, for reads that gave nothing; `entered`: the io_submit of the first.
    End { fd: u32, entered: u64 },
    /// The alignment that the file of this request asks for, or the values of its iovecs.
    Alignment(Asked),
}

impl Needs {
    /// Whether the finding is reported even without an answer.
    pub(super) fn is_optional(self) -> bool {
        matches!(self, Self::Limit | Self::Iovecs { .. } | Self::Alignment(_))
    }

    /// What two findings of one kind need.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Storage { fd, beyond }, Self::Storage { beyond: other, .. }) => {
                Self::Storage { fd, beyond: beyond.max(other) }
            }
            _ => self,
        }
    }

    fn question(self, pid: u32) -> Question {
        match self {
            Self::Storage { fd, .. } | Self::End { fd, .. } => Question::File { pid, fd },
            Self::Limit => Question::Limit,
            Self::Iovecs { at, count } => Question::Iovecs { pid, at, count },
            Self::Alignment(asked) => asked.question(pid),
        }
    }
}

impl Waiting {
    /// The numbers that set the finding apart when it is reported.
    fn place(&self) -> (u64, u64) {
        match self.needs {
            Needs::Alignment(asked) => asked.place(),
            _ => (self.key.2, self.key.3),
        }
    }
}

impl Model {
    /// The next question about the running system.
    pub fn next_question(&mut self) -> Option<Question> {
        self.questions.pop_front()
    }

    pub(super) fn ask(&mut self, question: Question) -> bool {
        if self.questions.contains(&question) {
            return true;
        }
        let has_room = self.questions.len() < MOST_QUESTIONS;
        if has_room {
            self.questions.push_back(question);
        }
        has_room
    }

    /// Reports a finding, or counts it.
    pub(super) fn find(&mut self, mut finding: Finding, detail: u64, more: u64) {
        self.stamp(&mut finding);
        self.tell(finding, detail, more);
    }

    /// Notes in a finding how many io_submit calls of its process have gone well by now. Returns that number.
    pub(super) fn stamp(&mut self, finding: &mut Finding) -> u64 {
        let submits = self.submits.get_mut(&finding.pid);
        let count = submits.as_ref().map_or(0, |it| it.count);
        if let Some(it) = submits.filter(|_| finding.name == Name::FailedCompletion) {
            it.failed = it.failed.max(finding.last);
        }
        (finding.submits, finding.submits_first) = (count, count);
        count
    }

    /// As [`Self::find`], for a finding that has waited and keeps the time when it was made. A finding that is unsure
    /// is no error.
    pub(super) fn tell(&mut self, mut finding: Finding, detail: u64, more: u64) {
        if finding.doubt.is_some() {
            finding.severity = finding.severity.min(Severity::Warning);
        }
        self.name_finding(&mut finding);
        self.findings.add(finding, detail, more);
    }

    /// With the name that its process has now, if it has none.
    fn name_finding(&self, finding: &mut Finding) {
        if let Some(name) = self.names.get(&finding.pid).filter(|_| finding.process.is_empty()) {
            finding.process.clone_from(name);
        }
    }

    /// Reports a finding when the answer that it needs has come.
    pub(super) fn find_if(&mut self, needs: Needs, mut finding: Finding, detail: u64, more: u64) {
        let key = (finding.name, finding.pid, detail, more);
        // Each read may have reached the end of the file, whatever others did.
        let is_of_each = matches!(needs, Needs::Storage { beyond: Some(_), .. });
        if self.findings.has(&key) && !is_of_each {
            return self.find(finding, detail, more);
        }
        let submits = self.stamp(&mut finding);
        if let Some(known) = self.waiting.iter_mut().find(|it| it.key == key) {
            known.needs = known.needs.and(needs);
            known.finding.count += 1;
            known.finding.last = finding.last;
            known.finding.submits = submits;
            return;
        }
        self.wait(Waiting { finding, key, needs, since: self.now });
    }

    /// Asks for what it needs.
    pub(super) fn wait(&mut self, mut waiting: Waiting) {
        self.name_finding(&mut waiting.finding);
        let question = waiting.needs.question(waiting.key.1);
        if self.waiting.len() < MOST_QUESTIONS && self.ask(question) {
            self.waiting.push(waiting);
        } else if matches!(waiting.needs, Needs::Alignment(_)) {
            self.tell_unanswered(waiting);
        }
    }

    /// Reports a finding whose answer adds nothing.
    pub(super) fn tell_unanswered(&mut self, waiting: Waiting) {
        if waiting.needs.is_optional() {
            let (detail, more) = waiting.place();
            self.tell(waiting.finding, detail, more);
        }
    }

    /// Takes out the findings that waited for an answer; pid 0 stands for any process.
    pub(super) fn answered(
        &mut self,
        pid: u32,
        answers: impl Fn(&Waiting) -> bool,
    ) -> Vec<Waiting> {
        let of = |it: &Waiting| pid == 0 || it.finding.pid == pid;
        self.waiting.extract_if(.., |it| of(it) && answers(it)).collect()
    }

    /// Gives up questions that got no answer: nothing is guessed.
    pub(super) fn give_up_waiting(&mut self) {
        let now = self.now;
        let over: Vec<_> =
            self.waiting.extract_if(.., |it| it.since.saturating_add(PATIENCE) <= now).collect();
        over.into_iter().for_each(|it| self.tell_unanswered(it));
    }

    /// As [`Self::find`], for a state that lasts as long as nothing changes: it is not counted again.
    pub(super) fn find_once(&mut self, finding: Finding, detail: u64, more: u64) {
        if !self.findings.has(&(finding.name, finding.pid, detail, more)) {
            self.find(finding, detail, more);
        }
    }

    pub(super) fn find_once_if(&mut self, needs: Needs, finding: Finding, detail: u64, more: u64) {
        if !self.findings.has(&(finding.name, finding.pid, detail, more)) {
            self.find_if(needs, finding, detail, more);
        }
    }
}
