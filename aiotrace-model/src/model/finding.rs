//! One conclusion about the program, with its evidence.

use std::fmt;

use super::{
    Doubt,
    findings::{Evidence, Name, refused_calls::Iovecs},
};
use crate::{
    event::{Address, Handle, Holder, Limit, Stack},
    opcode::Opcode,
};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// Good to know.
    Info,
    /// It was probably not intended.
    Warning,
    /// It is wrong.
    Error,
}

impl Severity {
    /// The word for it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Our number of a context, counted from 1 in the order in which contexts became known. It is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContextId(pub u64);

impl ContextId {
    /// Only the handle is known.
    pub const UNKNOWN: Self = Self(0);
}

impl fmt::Display for ContextId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A context: the number is ours and is never used again, the handle may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContextRef {
    /// Its number.
    pub id: ContextId,
    /// The number by which the program knows it.
    pub handle: Handle,
}

/// One conclusion about the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The name.
    pub name: Name,
    /// How bad it is.
    pub severity: Severity,
    /// Why it may be wrong; `None`: it is certain.
    pub doubt: Option<Doubt>,
    /// When it was found first, nanoseconds of CLOCK_MONOTONIC.
    pub time: u64,
    /// When it was found last.
    pub last: u64,
    /// The process.
    pub pid: u32,
    /// The name of the process: any bytes.
    pub process: Vec<u8>,
    /// The thread, if one is to blame.
    pub tid: Option<u32>,
    /// The context, if it is about one.
    pub context: Option<ContextRef>,
    /// The facts that it rests on.
    pub evidence: Evidence,
    /// The request that it is about, if it is about one.
    pub request: Option<Subject>,
    /// Where the contexts were made.
    pub stack: Option<Stack>,
    /// The processes that hold fs.aio-nr.
    pub holders: Vec<Holder>,
    /// How often it was found so far.
    pub count: u64,
    /// How many io_submit calls the process had made when it was found last.
    pub(super) submits: u64,
    /// How many io_submit calls the process had made when it was found first.
    pub(super) submits_first: u64,
    /// It also stands for other findings with its name and process.
    pub(super) is_sum: bool,
    /// The iovecs that belong to it: their address and their number.
    pub(super) iovecs: Option<(Address, u64)>,
}

/// The request that a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The iocb's address, if known.
    pub iocb: u64,
    /// `IOCB_CMD_*`.
    pub opcode: Opcode,
    /// The descriptor.
    pub fd: u32,
    /// The offset, as the program gave it.
    pub offset: i64,
    /// Bytes or number of iovecs, as the program gave it.
    pub nbytes: u64,
}

impl Finding {
    /// A finding with its evidence, time and process, and nothing else.
    pub fn new(evidence: impl Into<Evidence>, time: u64, pid: u32) -> Self {
        let evidence = evidence.into();
        let name = evidence.name();
        Self {
            name,
            severity: name.severity(),
            doubt: None,
            time,
            last: time,
            pid,
            process: Vec::new(),
            tid: None,
            context: None,
            evidence,
            request: None,
            stack: None,
            holders: Vec::new(),
            count: 1,
            submits: 0,
            submits_first: 0,
            is_sum: false,
            iovecs: None,
        }
    }

    /// The finding in words, with its numbers.
    pub fn message(&self) -> String {
        let message = self.evidence.message();
        match self.is_sum {
            true => format!(
                "{message}; {MOST_ALIKE} others of this kind were told before: this one and all later ones are \
                 counted as one"
            ),
            false => message,
        }
    }

    /// Its numbers by name.
    pub fn numbers(&self) -> Vec<(&'static str, i64)> {
        self.evidence.numbers()
    }

    /// Takes the answer who holds fs.aio-nr at this time.
    pub(super) fn answer_limit(&mut self, limit: &Limit, time: u64) {
        self.holders.clone_from(&limit.holders);
        let later = time.saturating_sub(self.time);
        if let Evidence::SetupDenied(it) = &mut self.evidence {
            it.answered(later, limit.clone());
        }
    }

    /// Takes the answer what its iovecs are; `count`: how many there are.
    pub(super) fn answer_iovecs(&mut self, first: Option<&[(Address, u64)]>, count: u64) {
        if let Evidence::RefusedCalls(it) = &mut self.evidence {
            it.iovecs = Some(Iovecs { first: first.map(<[_]>::to_vec), count });
        }
    }
}

/// The findings so far. Each is reported once and then counted, unless it gets worse or certain.
#[derive(Debug, Default)]
pub struct Findings {
    known: super::Map<Key, usize>,
    list: Vec<Finding>,
    new: std::collections::VecDeque<Finding>,
    /// How many findings of a kind are reported, and which of them stands for all others.
    alike: super::Map<Kind, (usize, Option<usize>)>,
    /// How many kinds with a name are reported for a process.
    kinds: super::Map<(Name, u32), usize>,
    /// How many findings are not kept one by one.
    more: u64,
}

/// The key by which two findings are the same.
pub type Key = (Name, u32, u64, u64);

/// Name, process, and [`Evidence::kind`], which sets findings apart that say something else.
type Kind = (Name, u32, i64);

/// Most findings kept one by one.
const MOST: usize = 1024;
/// Most findings of one kind; further ones are reported as one.
const MOST_ALIKE: usize = 8;
/// Most kinds with one name and process. Findings of further kinds are only counted.
const MOST_KINDS: usize = 16;
/// Most keys of findings remembered.
const MOST_KNOWN: usize = 65_536;

impl Findings {
    /// Reports a finding; or counts it, if it is known and was as bad and as certain. `detail` and `more` set
    /// findings apart that have the same name and process.
    pub fn add(&mut self, mut finding: Finding, detail: u64, more: u64) {
        debug_assert!(
            finding.numbers().iter().all(|(name, _)| finding.name.evidence().contains(name)),
            "{finding:?}"
        );
        let key = (finding.name, finding.pid, detail, more);
        if let Some(index) = self.known.get(&key) {
            let known = &mut self.list[*index];
            if known.count == 0 {
                *known = finding;
                return self.new.push_back(known.clone());
            }
            let count = known.count + finding.count;
            let is_certain_now = known.doubt.is_some() && finding.doubt.is_none();
            if finding.severity > known.severity
                || (finding.severity == known.severity && is_certain_now)
            {
                *known = Finding { count, ..finding };
                self.new.push_back(known.clone());
            } else {
                known.count = count;
                known.last = known.last.max(finding.last);
                known.submits = finding.submits;
            }
            return;
        }
        let kind: Kind = (finding.name, finding.pid, finding.evidence.kind());
        let (told, others) = self.alike.get(&kind).copied().unwrap_or_default();
        let is_one_of_many = told >= MOST_ALIKE;
        if let Some(others) = others.filter(|_| is_one_of_many) {
            let sum = &mut self.list[others];
            sum.count += finding.count;
            sum.last = sum.last.max(finding.last);
            sum.submits = finding.submits;
            if finding.severity > sum.severity {
                (sum.severity, sum.doubt) = (finding.severity, finding.doubt);
                self.new.push_back(sum.clone());
            }
            if self.known.len() < MOST_KNOWN {
                self.known.insert(key, others);
            }
            return;
        }
        let kinds = self.kinds.get(&(finding.name, finding.pid)).copied().unwrap_or(0);
        if self.list.len() >= MOST || (told == 0 && kinds >= MOST_KINDS) {
            self.more += 1;
            return;
        }
        if told == 0 {
            self.kinds.insert((finding.name, finding.pid), kinds + 1);
        }
        let place = self.list.len();
        finding.is_sum = is_one_of_many;
        self.alike.insert(kind, (told + 1, is_one_of_many.then_some(place)));
        self.known.insert(key, place);
        self.list.push(finding.clone());
        self.new.push_back(finding);
    }

    /// Whether a finding with this key is known.
    pub fn has(&self, key: &Key) -> bool {
        self.known.contains_key(key) || self.known.len() >= MOST_KNOWN
    }

    /// What was found of this context is not so.
    pub fn withdraw(&mut self, key: &Key, context: ContextRef) {
        let Some(known) = self.known.get(key).and_then(|index| self.list.get_mut(*index)) else {
            return;
        };
        known.count = known.count.saturating_sub(1);
        let is_it =
            |it: &Finding| it.name == key.0 && it.context.map(|it| it.id) == Some(context.id);
        if is_it(known) {
            // It stands for others.
            known.doubt.get_or_insert(Doubt::Covered);
            known.severity = known.severity.min(Severity::Warning);
        }
        self.new.retain(|it| !is_it(it));
    }

    /// One that was not told yet.
    pub fn untold(&mut self) -> Option<Finding> {
        self.new.pop_front()
    }

    /// All findings, the worst first, and then the most frequent.
    pub fn ranked(&self) -> Vec<Finding> {
        let is_so = |it: &&Finding| it.count > 0;
        let mut list: Vec<Finding> = self.list.iter().filter(is_so).cloned().collect();
        list.sort_by_key(|it| {
            (std::cmp::Reverse((it.severity, it.doubt.is_none(), it.count)), it.time)
        });
        list
    }

    /// How bad the worst of them is.
    pub fn worst(&self) -> Option<Severity> {
        self.list.iter().filter(|it| it.count > 0).map(|it| it.severity).max()
    }

    /// How many were not kept one by one.
    pub fn more(&self) -> u64 {
        self.more
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::Syscall,
        model::findings::{refused_calls::RefusedCalls, short_io::ShortIo},
        opcode::PREAD,
    };

    fn refused(syscall: Syscall, errno: i64) -> Finding {
        let call = syscall.name().to_owned();
        let (request, cause, iovecs) = (None, None, None);
        let refused =
            RefusedCalls { syscall, call, ret: -errno, request, cause, has_context: true, iovecs };
        Finding::new(refused, 1, 7)
    }

    #[test]
    fn what_is_counted_as_one_is_of_one_kind() {
        let mut findings = Findings::default();
        for fd in 0..40 {
            for (syscall, errno) in
                [(Syscall::Submit, 9), (Syscall::Submit, 22), (Syscall::Cancel, 22)]
            {
                findings.add(refused(syscall, errno), fd, errno as u64 | (syscall as u64) << 32);
            }
        }
        let mut rows: Vec<_> =
            findings.ranked().iter().map(|it| (it.is_sum, it.count, it.message())).collect();
        assert_eq!(rows.len(), 3 * (MOST_ALIKE + 1));
        rows.retain(|it| it.0);
        let sums: Vec<(u64, &str)> =
            rows.iter().map(|it| (it.1, it.2.split(" (").next().unwrap())).collect();
        assert_eq!(
            sums,
            [(32, "io_submit = EBADF"), (32, "io_submit = EINVAL"), (32, "io_cancel = EINVAL")]
        );
        // The number of kinds is bounded, and a finding of a further kind has no message.
        for errno in 100..200 {
            findings.add(refused(Syscall::Submit, errno), 0, errno as u64);
        }
        let kinds = MOST_KINDS - 3;
        assert_eq!(findings.ranked().len(), 3 * (MOST_ALIKE + 1) + kinds);
        assert_eq!(findings.more(), 100 - kinds as u64);
    }

    #[test]
    fn what_was_told_is_counted_and_what_is_worse_is_told_again() {
        let mut findings = Findings::default();
        let short = ShortIo {
            request: Subject { iocb: 1, opcode: PREAD, fd: 3, offset: 0, nbytes: 8 },
            res: 4,
        };
        let mut finding = Finding::new(short, 1, 7);
        findings.add(finding.clone(), 0, 0);
        findings.add(finding.clone(), 0, 0);
        finding.severity = Severity::Error;
        findings.add(finding.clone(), 0, 0);
        findings.add(finding, 0, 0);
        let told: Vec<_> = std::iter::from_fn(|| findings.untold()).map(|it| it.severity).collect();
        assert_eq!(told, [Severity::Info, Severity::Error]);
        let ranked: Vec<_> = findings.ranked().iter().map(|it| (it.severity, it.count)).collect();
        assert_eq!(ranked, [(Severity::Error, 4)]);
    }
}
