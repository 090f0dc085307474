//! What the model asks to be looked up, and the findings that wait for an answer.

use super::{
    Finding, Model, SECOND, Severity, finding::Key, findings::direct_io_misaligned::Asked,
};
use crate::event::{Address, Handle};

/// An answer takes no longer.
const PATIENCE: u64 = 2 * SECOND;
/// Questions that wait for an answer.
const MOST_QUESTIONS: usize = 256;

/// What has to be looked up in the running system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// What is in a ring, and where it is: answered by completions and [`Looked::Ring`].
    Ring {
        /// The process.
        pid: u32,
        /// The context.
        ctx: Handle,
    },
    /// What a descriptor is: [`Looked::File`].
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
    /// Who holds fs.aio-nr: [`Looked::Limit`].
    Limit,
    /// What iovecs are: [`Looked::Iovecs`].
    Iovecs {
        /// The process.
        pid: u32,
        /// Where they are.
        at: Address,
        /// How many there are.
        count: u64,
    },
    /// What all threads of its address space do: [`Looked::Threads`]. Only answered while all that happened is known.
    Threads {
        /// The process.
        pid: u32,
    },
    /// Whether the process has mapped the file of a descriptor, writable and shared: [`Looked::Mapped`].
    Mapped {
        /// The process.
        pid: u32,
        /// The descriptor.
        fd: u32,
    },
    /// Where a descriptor leads, of a request that a fault met: [`Looked::Path`].
    Path {
        /// The process.
        pid: u32,
        /// The descriptor.
        fd: u32,
    },
}

/// A finding that depends on what is looked up.
pub(super) struct Waiting {
    pub finding: Finding,
    pub key: Key,
    pub needs: Needs,
    pub since: u64,
}

/// On what it depends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// The descriptor is storage; with this, that there is more of it than up to here.
    Storage { fd: u32, beyond: Option<u64> },
    /// Who holds fs.aio-nr.
    Limit,
    /// What these iovecs are.
    Iovecs { at: Address, count: u64 },
    /// Where the file ends, of reads that gave nothing, the first of which was made then.
    End { fd: u32, entered: u64 },
    /// How the file of this request must be aligned, or how its iovecs are.
    Alignment(Asked),
}

impl Needs {
    /// It is told in any case, with the answer or without.
    pub(super) fn is_optional(self) -> bool {
        matches!(self, Self::Limit | Self::Iovecs { .. } | Self::Alignment(_))
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
    /// What sets it apart once it is told.
    fn place(&self) -> (u64, u64) {
        match self.needs {
            Needs::Alignment(asked) => asked.place(),
            _ => (self.key.2, self.key.3),
        }
    }
}

impl Model {
    /// Something to be looked up.
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

    /// Tells a finding, or counts it.
    pub(super) fn find(&mut self, mut finding: Finding, detail: u64, more: u64) {
        finding.submits = self.submits.get(&finding.pid).copied().unwrap_or(0);
        finding.submits_first = finding.submits;
        self.tell(finding, detail, more);
    }

    /// The same of one that has waited, and is of the time when it began to. One that is not certain is no error.
    pub(super) fn tell(&mut self, mut finding: Finding, detail: u64, more: u64) {
        if finding.doubt.is_some() {
            finding.severity = finding.severity.min(Severity::Warning);
        }
        if let Some(name) = self.names.get(&finding.pid) {
            finding.process.clone_from(name);
        }
        self.findings.add(finding, detail, more);
    }

    /// Tells it once it is known what is needed.
    pub(super) fn find_if(&mut self, needs: Needs, mut finding: Finding, detail: u64, more: u64) {
        let key = (finding.name, finding.pid, detail, more);
        if self.findings.has(&key) {
            return self.find(finding, detail, more);
        }
        let submits = self.submits.get(&finding.pid).copied().unwrap_or(0);
        if let Some(known) = self.waiting.iter_mut().find(|it| it.key == key) {
            known.finding.count += 1;
            known.finding.last = finding.last;
            known.finding.submits = submits;
            return;
        }
        (finding.submits, finding.submits_first) = (submits, submits);
        self.wait(Waiting { finding, key, needs, since: self.now });
    }

    /// Asks for what it needs.
    pub(super) fn wait(&mut self, waiting: Waiting) {
        let question = waiting.needs.question(waiting.key.1);
        if self.waiting.len() < MOST_QUESTIONS && self.ask(question) {
            self.waiting.push(waiting);
        } else if matches!(waiting.needs, Needs::Alignment(_)) {
            self.tell_unanswered(waiting);
        }
    }

    /// Nothing was found that says more.
    pub(super) fn tell_unanswered(&mut self, waiting: Waiting) {
        if waiting.needs.is_optional() {
            let (detail, more) = waiting.place();
            self.tell(waiting.finding, detail, more);
        }
    }

    /// Takes out what waited for that answer; pid 0 is any.
    pub(super) fn answered(
        &mut self,
        pid: u32,
        answers: impl Fn(&Waiting) -> bool,
    ) -> Vec<Waiting> {
        let of = |it: &Waiting| pid == 0 || it.finding.pid == pid;
        self.waiting.extract_if(.., |it| of(it) && answers(it)).collect()
    }

    /// What was not answered is not known: nothing is guessed.
    pub(super) fn give_up_waiting(&mut self) {
        let now = self.now;
        let over: Vec<_> =
            self.waiting.extract_if(.., |it| it.since.saturating_add(PATIENCE) <= now).collect();
        over.into_iter().for_each(|it| self.tell_unanswered(it));
    }

    /// As [`Self::find`], for what stands as long as nothing changes: it is not counted again.
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
