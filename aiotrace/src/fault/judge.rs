//! The decision whether a rule acts, for sources that see the calls in user space: this module
//! keeps the counts that [`fault::decide`] needs.
//!
//! [`fault::decide`]: aiotrace_common::fault::decide

use std::collections::HashMap;

use aiotrace_common::fault::{self, Counters, Facts, MOST_RULES, per};
use foldhash::fast::FixedState;

use super::Rule;

/// The largest number of counts, and of processes, that are kept; a call that would need one more
/// gets no fault.
pub const MOST_COUNTERS: usize = 16_384;

/// A call or a completion that is to be judged.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// One of [`fault::what`].
    pub what: u32,
    /// The process, as our pid namespace sees it.
    pub pid: u32,
    /// The thread, as our pid namespace sees it.
    pub tid: u32,
    /// The context's handle; 0 for io_setup.
    pub ctx: u64,
    /// How many requests io_submit was given.
    pub nr: i64,
    /// When it is judged: CLOCK_MONOTONIC, in nanoseconds.
    pub now: u64,
}

/// The rule that acts, and what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The number of the rule, counted from 1.
    pub number: u32,
    /// One of [`fault::action`].
    pub action: u32,
    /// The value that the action needs: see [`fault::action`].
    pub value: i64,
}

/// The rules, and what they have counted. It must be asked about each call exactly once, when the
/// call is entered.
#[derive(Debug)]
pub struct Judge {
    rules: Vec<Rule>,
    plain: Vec<fault::Rule>,
    seed: u64,
    armed: u64,
    ordinals: HashMap<u32, u64, FixedState>,
    next_ordinal: u64,
    counts: Counts,
}

impl Judge {
    /// Makes a judge with the first [`MOST_RULES`] of these rules (see [`check`](super::check)).
    /// They are in force from `armed` on: CLOCK_MONOTONIC, in nanoseconds.
    pub fn new(mut rules: Vec<Rule>, seed: u64, armed: u64) -> Self {
        rules.truncate(MOST_RULES);
        let plain = rules.iter().map(|it| it.rule).collect();
        Self {
            rules,
            plain,
            seed,
            armed,
            ordinals: HashMap::default(),
            next_ordinal: 0,
            counts: Counts::default(),
        }
    }

    /// The rules. A [`Verdict`] names one by its number, counted from 1.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Whether any rule is about calls of this kind, one of [`fault::what`].
    pub fn is_about(&self, what: u32) -> bool {
        self.plain.iter().any(|rule| is_about(rule, what))
    }

    /// Whether a rule about this needs to know the requests, because it has op=, fd= or path=.
    pub fn needs_requests(&self, what: u32) -> bool {
        self.plain.iter().any(|rule| is_about(rule, what) && rule.asks_for_requests())
    }

    /// Decides which rule acts, if any. This must be asked about every AIO call, even if no rule is
    /// about it: prob= depends on the order in which processes make their first call.
    ///
    /// `has`: whether one of the requests is as this rule [describes](Rule::describes). It is asked
    /// only for rules that [need](Rule::needs_requests) to know.
    pub fn decide(&mut self, case: &Case, mut has: impl FnMut(&Rule) -> bool) -> Option<Verdict> {
        let process = self.ordinal(case.pid)?;
        let mut requests = 0;
        for (index, rule) in self.rules.iter().enumerate() {
            if is_about(&rule.rule, case.what) && rule.needs_requests() && has(rule) {
                requests |= 1 << index;
            }
        }
        let facts = Facts {
            what: case.what,
            tid: case.tid,
            ctx: case.ctx,
            nr: case.nr,
            since: case.now.saturating_sub(self.armed),
            process,
            requests,
        };
        let mut counters = Counting { counts: &mut self.counts, pid: case.pid };
        let number = fault::decide(&self.plain, self.seed, &facts, &mut counters);
        let rule = self.plain.get(usize::try_from(number).ok()?.checked_sub(1)?)?;
        Some(Verdict { number, action: rule.action, value: rule.value })
    }

    /// Forgets the counts of a process that has ended: its pid may soon belong to another process.
    pub fn process_ended(&mut self, pid: u32) {
        if self.ordinals.remove(&pid).is_some() {
            self.counts.counts.retain(|key, _| key.pid != pid);
        }
    }

    /// How many calls got no fault because [`MOST_COUNTERS`] were in use, so that they could not be
    /// counted.
    pub fn uncounted(&self) -> u64 {
        self.counts.uncounted
    }

    fn ordinal(&mut self, pid: u32) -> Option<u64> {
        if let Some(ordinal) = self.ordinals.get(&pid) {
            return Some(*ordinal);
        }
        let ordinal = self.next_ordinal;
        self.next_ordinal += 1;
        if self.ordinals.len() >= MOST_COUNTERS {
            self.counts.uncounted += 1;
            return None;
        }
        self.ordinals.insert(pid, ordinal);
        Some(ordinal)
    }
}

fn is_about(rule: &fault::Rule, what: u32) -> bool {
    rule.about & 1u32.checked_shl(what).unwrap_or(0) != 0
}

/// What is counted together: calls with the same key have one count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    index: u32,
    what: u32,
    pid: u32,
    /// The thread, the context's handle, or 0, by what the rule counts.
    part: u64,
}

#[derive(Debug, Default)]
struct Counts {
    counts: HashMap<Key, u64, FixedState>,
    taken: [u64; MOST_RULES],
    uncounted: u64,
}

/// The counts, as seen by a call of this process.
struct Counting<'a> {
    counts: &'a mut Counts,
    pid: u32,
}

impl Counters for Counting<'_> {
    fn count(&mut self, index: u32, rule: &fault::Rule, facts: &Facts) -> Option<u64> {
        let part = match rule.per {
            per::THREAD => facts.tid.into(),
            per::CONTEXT => facts.ctx,
            _ => 0,
        };
        let key = Key { index, what: facts.what, pid: self.pid, part };
        let Counts { counts, uncounted, .. } = &mut *self.counts;
        if counts.len() >= MOST_COUNTERS && !counts.contains_key(&key) {
            *uncounted += 1;
            return None;
        }
        let count = counts.entry(key).or_insert(0);
        *count += 1;
        Some(*count)
    }

    fn take(&mut self, index: u32, rule: &fault::Rule) -> bool {
        let Some(taken) = self.counts.taken.get_mut(index as usize) else { return false };
        let may = *taken < rule.max;
        *taken += u64::from(may);
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{event::Syscall, fault::what};

    fn judge(rules: &[&str]) -> Judge {
        Judge::new(rules.iter().map(|it| it.parse().unwrap()).collect(), 1, 0)
    }

    fn case(pid: u32, ctx: u64) -> Case {
        Case { what: what::call(Syscall::Submit), pid, tid: pid, ctx, nr: 1, now: 0 }
    }

    #[test]
    fn requests_are_asked_for_only_where_a_rule_needs_them() {
        let mut judge = judge(&["io_submit:error=EAGAIN:fd=3", "io_cancel:error=EINVAL"]);
        let submit = what::call(Syscall::Submit);
        let cancel = what::call(Syscall::Cancel);
        assert!(judge.needs_requests(submit) && !judge.needs_requests(cancel));
        assert!(judge.is_about(cancel) && !judge.is_about(what::COMPLETE));
        let cancelled = Case { what: cancel, ..case(1, 1) };
        let verdict = judge.decide(&cancelled, |_| panic!("nobody needs to know"));
        let value = -i64::from(libc::EINVAL);
        assert_eq!(verdict, Some(Verdict { number: 2, action: fault::action::ERROR, value }));
        let of_3 = |rule: &Rule| rule.describes(0, 3, None);
        assert_eq!(judge.decide(&case(1, 1), of_3).map(|it| it.number), Some(1));
        assert_eq!(judge.decide(&case(1, 1), |rule| rule.describes(0, 4, None)), None);
    }

    #[test]
    fn what_cannot_be_counted_gets_no_fault_and_is_counted() {
        let mut judge = judge(&["io_submit:error=EAGAIN:per=context"]);
        for ctx in 1..=MOST_COUNTERS as u64 {
            assert!(judge.decide(&case(1, ctx), |_| false).is_some());
        }
        assert_eq!(judge.decide(&case(1, u64::MAX), |_| false), None);
        assert!(judge.decide(&case(1, 1), |_| false).is_some());
        assert_eq!(judge.uncounted(), 1);
        judge.process_ended(1);
        assert!(judge.decide(&case(2, u64::MAX), |_| false).is_some());
    }

    #[test]
    fn a_process_that_ended_leaves_no_count_to_the_next_with_its_pid() {
        let mut judge = judge(&["io_submit:error=EAGAIN:when=2"]);
        assert_eq!(judge.decide(&case(1, 1), |_| false), None);
        judge.process_ended(1);
        assert_eq!(judge.decide(&case(1, 1), |_| false), None);
        assert!(judge.decide(&case(1, 1), |_| false).is_some());
    }
}
