//! What is counted for one label set, added up from what the kernel counted in each interval: these counts only grow.

use std::{borrow::Cow, collections::BTreeMap};

use aiotrace_common::counts::{OPS, OTHER_OP, UNREAD_OP};

use crate::{
    counted::{CallCounts, ContextCounts, OTHER_ERROR, histogram::Histogram},
    errno,
    event::{Syscall, opcode_name},
    model::Severity,
    opcode::Opcode,
};

/// How many pairs of call and errno one label set has; the errnos beyond that are `errno="other"`. A program chooses
/// which errors it makes.
const MOST_ERRORS: usize = 32;

/// The counts of one label set.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Calls by name.
    pub calls: BTreeMap<&'static str, u64>,
    /// Failed calls, by name and errno.
    pub call_errors: BTreeMap<(&'static str, Cow<'static, str>), u64>,
    /// Accepted requests, by operation.
    pub requests: BTreeMap<Cow<'static, str>, u64>,
    /// The bytes that these asked for, where that is known.
    pub bytes: BTreeMap<Cow<'static, str>, u64>,
    /// Requests that resulted in an error, by errno.
    pub request_errors: BTreeMap<Cow<'static, str>, u64>,
    /// Findings by name and severity.
    pub findings: BTreeMap<(&'static str, &'static str), u64>,
    /// How long calls took, by name.
    pub call_durations: BTreeMap<&'static str, Histogram>,
    /// How long requests took until they were reaped, by operation.
    pub request_durations: BTreeMap<Cow<'static, str>, Histogram>,
}

/// The name of an operation, by its index in [`ContextCounts::ops`].
fn operation(index: usize) -> Cow<'static, str> {
    match index {
        OTHER_OP => "other".into(),
        UNREAD_OP => "unread".into(),
        _ => opcode_name(Opcode(index as u16)).map_or_else(|| index.to_string().into(), Cow::from),
    }
}

/// The name of an errno, of the kernel's negative value.
fn errno(ret: i64) -> Cow<'static, str> {
    if ret == OTHER_ERROR {
        return "other".into();
    }
    let number = i32::try_from(ret.unsigned_abs()).unwrap_or(i32::MAX);
    errno::name(number).map_or_else(|| number.to_string().into(), Cow::from)
}

/// Operations of which `asked` is a number of bytes: pread and pwrite. (Vectors have a number of iovecs.)
const WITH_BYTES: [usize; 2] = [0, 1];

impl Counters {
    /// Adds calls, with the durations if there are histograms for this label set.
    pub fn add_calls(&mut self, call: Syscall, counts: &CallCounts, with_durations: bool) {
        *self.calls.entry(call.name()).or_default() += counts.calls();
        if with_durations {
            self.call_durations.entry(call.name()).or_default().add(&counts.durations);
        }
    }

    /// Adds failed calls.
    pub fn add_call_errors(&mut self, call: Syscall, errors: &BTreeMap<i64, u64>) {
        for (ret, count) in errors {
            let mut key = (call.name(), errno(*ret));
            if self.call_errors.len() >= MOST_ERRORS && !self.call_errors.contains_key(&key) {
                key.1 = "other".into();
            }
            *self.call_errors.entry(key).or_default() += count;
        }
    }

    /// Adds requests that resulted in errors.
    pub fn add_request_errors(&mut self, errors: &BTreeMap<i64, u64>) {
        for (ret, count) in errors {
            let mut key = errno(*ret);
            if self.request_errors.len() >= MOST_ERRORS && !self.request_errors.contains_key(&key) {
                key = "other".into();
            }
            *self.request_errors.entry(key).or_default() += count;
        }
    }

    /// Adds the requests of a context.
    pub fn add_context(&mut self, counts: &ContextCounts, with_durations: bool) {
        for (index, it) in (0..OPS).zip(&counts.ops).filter(|(_, it)| it.requests > 0) {
            *self.requests.entry(operation(index)).or_default() += it.requests;
            if WITH_BYTES.contains(&index) {
                *self.bytes.entry(operation(index)).or_default() += it.asked;
            }
        }
        for (index, it) in counts.latencies.iter().filter(|_| with_durations) {
            self.request_durations.entry(operation(*index)).or_default().add(it);
        }
    }

    /// Adds a finding.
    pub fn add_finding(&mut self, name: &'static str, severity: Severity) {
        *self.findings.entry((name, severity.text())).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_bounded_and_their_sum_is_right() {
        let mut counters = Counters::default();
        let all: BTreeMap<i64, u64> = (1..=130).map(|it| (-it, 2)).collect();
        counters.add_call_errors(Syscall::Submit, &all);
        counters.add_request_errors(&all);
        assert_eq!(counters.call_errors.len(), MOST_ERRORS + 1);
        assert_eq!(counters.call_errors.values().sum::<u64>(), 260);
        assert_eq!(counters.request_errors.values().sum::<u64>(), 260);
        assert_eq!(counters.call_errors[&("io_submit", "EOWNERDEAD".into())], 2);
    }

    #[test]
    fn an_errno_without_a_name_is_its_number() {
        assert_eq!(errno(-11), "EAGAIN");
        assert_eq!(errno(-4000), "4000");
        assert_eq!(errno(OTHER_ERROR), "other");
    }

    #[test]
    fn bytes_are_known_where_requests_have_a_length() {
        let mut counts = ContextCounts::default();
        for index in [0, 7, OTHER_OP] {
            counts.ops[index].requests = 1;
            counts.ops[index].asked = 4096;
        }
        let mut counters = Counters::default();
        counters.add_context(&counts, true);
        assert_eq!(counters.requests.len(), 3);
        assert_eq!(counters.bytes, BTreeMap::from([("pread".into(), 4096)]));
    }
}
