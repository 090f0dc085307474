//! failed-completion: a request completed with an errno. With RWF_NOWAIT, EAGAIN counts only if it comes always, or
//! for long.

use super::Basis;
use crate::{
    words::number::thousands,
    errno::returned::{EAGAIN},
    event::{Call, Event, IoEvent, errno_name},
    model::{
        ContextRef, Finding, MOST_NAMES, Model, Name, SECOND, Severity, Subject,
        requests::Request,
    },
    opcode::Opcode,
};

const RWF_NOWAIT: u32 = 8;
/// From this many requests on it can be said that RWF_NOWAIT never works.
const ALWAYS: u64 = 16;
/// Or this many in a row, whatever came before, if that takes a while: a file that is busy for a moment gives EAGAIN,
/// too.
const IN_A_ROW: u64 = 64;
const FOR_A_WHILE: u64 = SECOND;

/// A request that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedCompletion {
    request: Subject,
    res: i64,
    what: What,
    /// What the program did afterwards, which is known only in the report.
    sequel: Option<Sequel>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Failed,
    /// `count` requests with RWF_NOWAIT out of `all` gave EAGAIN; `in_a_row`: the last ones.
    WouldBlock { count: u64, all: u64, in_a_row: bool },
}

/// How many io_submit calls came after the first and after the last of these requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sequel {
    is_one: bool,
    first: u64,
    after: u64,
}

impl FailedCompletion {
    /// A request had this result.
    pub(in crate::model) fn of(request: Subject, res: i64) -> Self {
        Self { request, res, what: What::Failed, sequel: None }
    }
}

impl Basis for FailedCompletion {
    const NAME: &'static str = "failed-completion";
    const SEVERITY: Severity = Severity::Warning;
    const NUMBERS: &'static [&'static str] = &["res", "nowait", "submits_after"];

    fn message(&self) -> String {
        let request = self.request.in_words();
        let mut text = match self.what {
            What::Failed => {
                let res = self.res;
                let errno = errno_name(res).map_or_else(|| res.to_string(), str::to_owned);
                format!("{request} completed with res={res} ({errno})")
            }
            What::WouldBlock { count, all, in_a_row } => {
                let last = if in_a_row { "the last " } else { "" };
                let [count, all] = [count, all].map(thousands);
                format!(
                    "{last}{count} of {all} requests with RWF_NOWAIT completed with res=-11 (EAGAIN), this one \
                     {request}: they would have waited inside of io_submit, so the program has to make each of them \
                     another way"
                )
            }
        };
        if let Some(Sequel { is_one, first, after }) = self.sequel {
            let (count, [first, after]) = (after, [first, after].map(thousands));
            text.push_str(&match count {
                _ if is_one && count == 0 => "; nothing was submitted after it".to_owned(),
                _ if is_one => format!("; the program went on ({after} io_submit after it)"),
                0 => format!("; {first} io_submit after it, none after the last of these"),
                _ => format!(
                    "; the program went on ({first} io_submit after it, {after} after the last of these)"
                ),
            });
        }
        text
    }

    fn numbers(&self) -> Vec<(&'static str, i64)> {
        let nowait = match self.what {
            What::Failed => None,
            What::WouldBlock { all, .. } => Some(("nowait", all as i64)),
        };
        let after = self.sequel.map(|it| ("submits_after", it.after as i64));
        [("res", self.res)].into_iter().chain(nowait).chain(after).collect()
    }

    fn kind(&self) -> i64 {
        self.res
    }
}

/// A number for a descriptor and an operation, by which findings are set apart.
pub(in crate::model) fn which(fd: u32, opcode: Opcode) -> u64 {
    u64::from(fd) << 16 | u64::from(opcode.0)
}

/// How a process goes on.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::model) struct Submits {
    /// Number of io_submit calls that accepted something, and did not begin before the last failure.
    pub count: u64,
    /// When the last request failed.
    pub failed: u64,
}

impl Model {
    /// An io_submit has returned.
    pub(in crate::model) fn went_on(&mut self, event: &Event, call: &Call) {
        let has_room = self.submits.len() < MOST_NAMES || self.submits.contains_key(&event.pid);
        if has_room && call.ret > 0 {
            let it = self.submits.entry(event.pid).or_default();
            it.count += u64::from(call.began(event) >= it.failed);
        }
    }

    /// Adds to a finding, for the report, whether the program went on after it.
    pub(in crate::model) fn with_sequel(&self, mut finding: Finding) -> Finding {
        let now = self.submits.get(&finding.pid).map_or(0, |it| it.count);
        let sequel = Sequel {
            is_one: finding.count == 1,
            first: now.saturating_sub(finding.submits_first),
            after: now.saturating_sub(finding.submits),
        };
        if let super::Evidence::FailedCompletion(it) = &mut finding.evidence {
            it.sequel = Some(sequel);
        }
        finding
    }

    /// A request with RWF_NOWAIT gave EAGAIN, as it asks for instead of waiting. If that comes always, nothing is
    /// done asynchronously.
    pub(in crate::model) fn would_block(
        &mut self,
        pid: u32,
        name: ContextRef,
        request: &Request,
        event: &IoEvent,
        time: u64,
    ) {
        let (Some(opcode), Some(subject)) = (request.opcode, Subject::of(request)) else { return };
        if event.res != EAGAIN || request.rw_flags & RWF_NOWAIT == 0 {
            return;
        }
        let Some(kind) = self.kind(pid, request.fd, opcode) else { return };
        let all = kind.nowait;
        let mostly = kind.would_block >= ALWAYS && kind.would_block * 10 >= all * 9;
        let since = kind.would_block_since;
        let in_a_row =
            since >= IN_A_ROW && time.saturating_sub(kind.would_block_from) >= FOR_A_WHILE;
        let count = if mostly { kind.would_block } else { since };
        let which = which(request.fd, opcode);
        let is_known = self.findings.has(&(Name::FailedCompletion, pid, which, EAGAIN as u64));
        if !is_known && !mostly && !in_a_row {
            return;
        }
        let what = What::WouldBlock { count, all, in_a_row: !mostly };
        let evidence = FailedCompletion { request: subject, res: EAGAIN, what, sequel: None };
        let mut finding = Finding::new(evidence, time, pid);
        finding.context = Some(name);
        finding.request = Some(subject);
        finding.count = if is_known { 1 } else { count };
        self.find(finding, which, EAGAIN as u64);
    }
}
