//! One conclusion about the program, with its evidence.

use super::Doubt;
use crate::event::{Address, Handle, Holder, Stack};

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident $text:literal $severity:ident,)*) => {
        /// What was found. The names are stable; docs/reference/findings has a page for each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Name {
            $($(#[$doc])* $name,)*
        }

        impl Name {
            /// All there are, in the order of docs/reference/findings/README.md.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// As it is written.
            pub fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// How bad it is, unless the evidence says otherwise.
            pub fn severity(self) -> Severity {
                match self {
                    $(Self::$name => Severity::$severity,)*
                }
            }
        }
    };
}

names! {
    /// A live process lost a context.
    ContextLeak "context-leak" Error,
    /// Contexts grow in number while old ones stay idle.
    ContextGrowth "context-growth" Warning,
    /// Contexts alive at exit or exec.
    ReleasedAtExit "released-at-exit" Info,
    /// A file request in flight for long.
    RequestStuck "request-stuck" Warning,
    /// Completed, and not reaped for long.
    UnreapedCompletions "unreaped-completions" Warning,
    /// A context ended with requests in flight.
    DiscardedRequests "discarded-requests" Info,
    /// An iocb was submitted again before it completed.
    IocbReusedInFlight "iocb-reused-in-flight" Warning,
    /// The rest of a short submit was never submitted again.
    ShortSubmitDropped "short-submit-dropped" Error,
    /// io_submit says EAGAIN.
    SubmitEagain "submit-eagain" Warning,
    /// A request failed.
    FailedCompletion "failed-completion" Warning,
    /// A request did less than it was asked for.
    ShortIo "short-io" Info,
    /// io_submit took long.
    BlockingSubmit "blocking-submit" Warning,
    /// Requests complete inside of io_submit.
    InlineCompletion "inline-completion" Info,
    /// A call on a handle that was destroyed.
    UseAfterDestroy "use-after-destroy" Warning,
    /// io_setup says EAGAIN.
    SetupDenied "setup-denied" Error,
    /// A seccomp filter answers.
    SandboxDenied "sandbox-denied" Error,
    /// io_cancel of what cannot be cancelled.
    CancelRefused "cancel-refused" Info,
    /// No AIO call was made.
    NotKernelAio "not-kernel-aio" Info,
    /// Calls failed, and no other finding says why.
    RefusedCalls "refused-calls" Warning,
}

impl Name {
    /// The names of its numbers ([`Finding::numbers`]), all there can be; the page of the finding describes them.
    pub fn evidence(self) -> &'static [&'static str] {
        match self {
            Self::ContextLeak => &["charge"],
            Self::ContextGrowth => &["idle", "idle_charge", "young", "oldest_ns"],
            Self::ReleasedAtExit => &["contexts", "charge"],
            Self::RequestStuck => &["age_ns"],
            Self::UnreapedCompletions => &["unreaped", "age_ns", "capacity"],
            Self::DiscardedRequests => &["writes", "others", "blocked_ns"],
            Self::IocbReusedInFlight => &["before_ns"],
            Self::ShortSubmitDropped => &["given", "accepted", "dropped"],
            Self::SubmitEagain => &["in_flight", "unreaped", "capacity"],
            Self::FailedCompletion => &["res", "nowait", "submits_after"],
            Self::ShortIo => &["res"],
            Self::BlockingSubmit => &["took_ns", "accepted"],
            Self::InlineCompletion => &["fd", "calls", "inline", "extending"],
            Self::UseAfterDestroy => &["destroyed_ns_before"],
            Self::SetupDenied => &["asked", "used", "limit"],
            Self::SandboxDenied => &["ret"],
            Self::NotKernelAio => &["children"],
            Self::CancelRefused => &[],
            Self::RefusedCalls => &["ret"],
        }
    }
}

/// How bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// Good to know.
    Info,
    /// Probably not intended.
    Warning,
    /// Wrong.
    Error,
}

impl Severity {
    /// As it is written.
    pub fn text(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// A context: the number is ours and is never used again, the handle may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContextRef {
    /// Counted from 1 in the order in which contexts became known.
    pub id: u64,
    /// What the program knows it by.
    pub handle: Handle,
}

/// One conclusion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub name: Name,
    /// How bad.
    pub severity: Severity,
    /// Why it may be otherwise; `None`: it is certain.
    pub doubt: Option<Doubt>,
    /// When it was found first, nanoseconds of CLOCK_MONOTONIC.
    pub time: u64,
    /// When it was found last.
    pub last: u64,
    /// Process.
    pub pid: u32,
    /// Its name: any bytes.
    pub process: Vec<u8>,
    /// Thread, if one is to blame.
    pub tid: Option<u32>,
    /// Context, if it is about one.
    pub context: Option<ContextRef>,
    /// In words, with the numbers.
    pub message: String,
    /// The same numbers, by name.
    pub numbers: Vec<(&'static str, i64)>,
    /// The request it is about.
    pub request: Option<Subject>,
    /// Where the context (or the contexts) were made.
    pub stack: Option<Stack>,
    /// Who holds fs.aio-nr.
    pub holders: Vec<Holder>,
    /// How often so far.
    pub count: u64,
    /// How many io_submit calls its process had made when it was seen last.
    pub(super) submits: u64,
    /// The same when it was seen first.
    pub(super) submits_first: u64,
    /// Iovecs that belong to it: where, and how many.
    pub(super) iovecs: Option<(Address, u64)>,
}

/// The request that a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The iocb's address, if known.
    pub iocb: u64,
    /// `IOCB_CMD_*`.
    pub opcode: u16,
    /// Descriptor.
    pub fd: u32,
    /// As the program gave it.
    pub offset: i64,
    /// As the program gave it: bytes, or a number of iovecs.
    pub nbytes: u64,
}

impl Finding {
    /// With nothing but what it is and whom it is about.
    pub fn new(name: Name, time: u64, pid: u32, message: String) -> Self {
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
            message,
            numbers: Vec::new(),
            request: None,
            stack: None,
            holders: Vec::new(),
            count: 1,
            submits: 0,
            submits_first: 0,
            iovecs: None,
        }
    }
}

/// Findings so far: each is told once, and then counted, unless it is worse than before.
#[derive(Debug, Default)]
pub struct Findings {
    known: super::Map<Key, usize>,
    list: Vec<Finding>,
    new: std::collections::VecDeque<Finding>,
    /// How many of a name are told of a process, and which one stands for all others.
    alike: super::Map<(Name, u32), (usize, Option<usize>)>,
    /// Not kept one by one.
    more: u64,
}

/// What makes two findings the same.
pub type Key = (Name, u32, u64, u64);

/// Findings kept one by one, at most.
const MOST: usize = 1024;
/// Of one name and process. More of them are told as one.
const MOST_ALIKE: usize = 8;
/// Findings that are known to be told, or counted with others.
const MOST_KNOWN: usize = 65_536;

impl Findings {
    /// Tells it, or counts it if it is known and was as bad; `detail` and `more` set those apart that have
    /// the same name and process.
    pub fn add(&mut self, mut finding: Finding, detail: u64, more: u64) {
        debug_assert!(
            finding.numbers.iter().all(|(name, _)| finding.name.evidence().contains(name)),
            "{finding:?}"
        );
        let key = (finding.name, finding.pid, detail, more);
        if let Some(index) = self.known.get(&key) {
            let known = &mut self.list[*index];
            let count = known.count + finding.count;
            if finding.severity > known.severity {
                *known = Finding { count, ..finding };
                self.new.push_back(known.clone());
            } else {
                known.count = count;
                known.last = known.last.max(finding.last);
                known.submits = finding.submits;
            }
            return;
        }
        let place = self.list.len();
        let (told, others) = self.alike.entry((finding.name, finding.pid)).or_default();
        let is_one_of_many = *told >= MOST_ALIKE;
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
        if self.list.len() >= MOST {
            self.more += 1;
            return;
        }
        *told += 1;
        if is_one_of_many {
            *others = Some(place);
            let also = format!(
                "; {MOST_ALIKE} others like it were told, from here on they are counted as one"
            );
            finding.message.push_str(&also);
        }
        self.known.insert(key, place);
        self.list.push(finding.clone());
        self.new.push_back(finding);
    }

    /// Whether one like this is known.
    pub fn has(&self, key: &Key) -> bool {
        self.known.contains_key(key) || self.known.len() >= MOST_KNOWN
    }

    /// One that was not told yet.
    pub fn untold(&mut self) -> Option<Finding> {
        self.new.pop_front()
    }

    /// All, the worst first, then the one seen most.
    pub fn ranked(&self) -> Vec<Finding> {
        let mut list = self.list.clone();
        list.sort_by_key(|it| {
            (std::cmp::Reverse((it.severity, it.doubt.is_none(), it.count)), it.time)
        });
        list
    }

    /// How many were not kept one by one.
    pub fn more(&self) -> u64 {
        self.more
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_is_counted_and_what_is_worse_is_told_again() {
        let mut findings = Findings::default();
        let mut finding = Finding::new(Name::DiscardedRequests, 1, 7, String::new());
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
