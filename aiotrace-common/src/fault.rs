//! Fault rules, and the decision whether a rule acts: one function, for the probes and for the
//! ptrace source.
//!
//! A call is judged once, at its entry; a completion is judged when it is first seen. Each rule
//! that matches counts the call, whether or not an earlier rule acts; the first rule whose count is
//! due acts. Mechanisms only carry this decision out.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::abi::Syscall;

/// How many rules there can be at a time.
pub const MOST_RULES: usize = 16;
/// Nanoseconds between two signs of life of aiotrace, at most: if none comes, the rules do nothing.
/// So a stopped aiotrace makes no faults.
pub const HEARTBEAT: u64 = 2_000_000_000;

/// What a rule can be about.
pub mod what {
    use super::Syscall;

    /// A completion.
    pub const COMPLETE: u32 = 7;

    /// A call.
    #[inline(always)]
    pub const fn call(syscall: Syscall) -> u32 {
        syscall as u32
    }
}

/// [`Rule::action`]
pub mod action {
    /// The call fails with [`Rule::value`](super::Rule::value), a negative errno.
    pub const ERROR: u32 = 1;
    /// io_submit gets to see only the first `value` of its requests.
    pub const ACCEPT: u32 = 2;
    /// The call begins `value` nanoseconds later.
    pub const DELAY_ENTER: u32 = 3;
    /// The call returns `value` nanoseconds later.
    pub const DELAY_EXIT: u32 = 4;
    /// The completion has this result.
    pub const RESULT: u32 = 5;
}

/// [`Rule::per`]: which calls are counted together.
pub mod per {
    /// All calls of a process.
    pub const PROCESS: u32 = 0;
    /// The calls of a thread.
    pub const THREAD: u32 = 1;
    /// The calls of a process on the same context.
    pub const CONTEXT: u32 = 2;
}

/// [`Rule::mechanism`]: how the kernel side carries a decision out.
pub mod mechanism {
    /// The kernel side does not carry it out.
    pub const NONE: u32 = 0;
    /// A BPF program runs in place of the system call's function (fmod_ret).
    pub const FMOD_RET: u32 = 1;
    /// A kprobe on that function overrides its return value.
    pub const OVERRIDE: u32 = 2;
    /// A BPF program runs in place of `security_file_permission`.
    pub const FILE_PERMISSION: u32 = 3;
    /// A BPF program writes into the events that io_getevents returns.
    pub const WRITE_USER: u32 = 4;
}

/// [`Rule::looked_up`]: conditions that only ptrace can decide, because it looks something up at the call.
pub mod looked_up {
    /// The file must be one of those that `path=` of the rule named.
    pub const FILES: u32 = 1;
    /// The call must be made at a place that `site=` or `caller=` of the rule named.
    pub const PLACE: u32 = 1 << 1;
    /// The request's own result must be more than [`Rule::value`](super::Rule::value): `less` of the rule.
    pub const RESULT: u32 = 1 << 2;
}

/// What became of a rule's decision: bits that records have beside the rule's number.
pub mod effect {
    /// The number of the rule, from 1; 0 for none.
    pub const RULE: u32 = 0xff;
    /// The rule would have acted: `--dry-run`.
    pub const DRY_RUN: u32 = 1 << 8;
    /// The rule could not act: its mechanism does not reach this call.
    pub const MISSED: u32 = 1 << 9;
    /// The rule acted, but the program may have read the memory before the mechanism changed it.
    pub const UNSURE: u32 = 1 << 10;
}

/// The value of [`Rule::fd`] that matches any descriptor.
pub const ANY_FD: u32 = u32::MAX;

/// A rule. Times are nanoseconds since the rules were armed.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Rule {
    /// What the rule is about: a bit for each of [`what`].
    pub about: u32,
    /// One of [`action`].
    pub action: u32,
    /// What `action` needs: see [`action`].
    pub value: i64,
    /// The rule acts from this count on (the first is 1),
    pub first: u64,
    /// up to this count,
    pub last: u64,
    /// and between them at every `step`th count; at least 1.
    pub step: u64,
    /// The rule acts this often in 2^64 times; [`u64::MAX`]: always.
    pub odds: u64,
    /// The rule acts at most this often, all in all.
    pub max: u64,
    /// The rule does not act before this time.
    pub after: u64,
    /// The rule does not act from this time on.
    pub until: u64,
    /// The handle of the context; 0: any.
    pub ctx: u64,
    /// A bit for each `IOCB_CMD_*`; 0: any of them.
    pub ops: u32,
    /// The descriptor, or [`ANY_FD`].
    pub fd: u32,
    /// The thread, as aiotrace's pid namespace sees it; 0: any.
    pub tid: u32,
    /// One of [`per`].
    pub per: u32,
    /// Conditions that must be looked up: bits of [`looked_up`].
    pub looked_up: u32,
    /// One of [`mechanism`].
    pub mechanism: u32,
}

impl Rule {
    /// A rule that is about nothing, and has no conditions.
    pub const NONE: Self = Self {
        about: 0,
        action: 0,
        value: 0,
        first: 1,
        last: u64::MAX,
        step: 1,
        odds: u64::MAX,
        max: u64::MAX,
        after: 0,
        until: u64::MAX,
        ctx: 0,
        ops: 0,
        fd: ANY_FD,
        tid: 0,
        per: per::PROCESS,
        looked_up: 0,
        mechanism: 0,
    };

    /// Whether the rule has a condition on requests, or on what must be looked up.
    #[inline(always)]
    pub const fn asks_for_requests(&self) -> bool {
        self.ops != 0 || self.fd != ANY_FD || self.looked_up != 0
    }

    /// Whether a request meets the rule's conditions on requests. `is_of_files`: its file is one of
    /// those that `path=` named.
    #[inline(always)]
    pub const fn describes(&self, opcode: u16, fd: u32, is_of_files: bool) -> bool {
        (self.ops == 0 || (opcode < 32 && self.ops & 1 << opcode != 0))
            && (self.fd == ANY_FD || self.fd == fd)
            && (self.looked_up & looked_up::FILES == 0 || is_of_files)
    }

    /// Whether the rule counts this call or completion.
    #[inline(always)]
    pub const fn matches(&self, index: u32, facts: &Facts) -> bool {
        self.about & 1 << facts.what != 0
            && facts.since >= self.after
            && facts.since < self.until
            && (self.ctx == 0 || self.ctx == facts.ctx)
            && (self.tid == 0 || self.tid == facts.tid)
            && (!self.asks_for_requests() || facts.requests & 1 << index != 0)
            && (self.action != action::ACCEPT || facts.nr > self.value)
    }

    /// Whether the rule acts at this count (the first is 1), if its odds are left aside.
    #[inline(always)]
    pub const fn is_due(&self, count: u64) -> bool {
        // A BPF program divides by zero without an error. To be safe on both sides, a step of 0
        // counts as 1.
        let step = if self.step == 0 { 1 } else { self.step };
        count >= self.first && count <= self.last && (count - self.first).is_multiple_of(step)
    }

    /// Whether chance lets the rule act. It is a hash of numbers that are the same in each run.
    #[inline(always)]
    pub const fn is_lucky(&self, index: u32, seed: u64, facts: &Facts, count: u64) -> bool {
        if self.odds == u64::MAX {
            return true;
        }
        let which = (index as u64) << 8 | facts.what as u64;
        mix(mix(mix(seed ^ which).wrapping_add(facts.process)).wrapping_add(count)) < self.odds
    }
}

/// splitmix64: each bit of the result depends on each bit of `number`.
#[inline(always)]
const fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

/// What a rule knows of the call or completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// One of [`what`].
    pub what: u32,
    /// The thread, as aiotrace's pid namespace sees it.
    pub tid: u32,
    /// The context's handle; 0 for io_setup.
    pub ctx: u64,
    /// For io_submit: the number of requests.
    pub nr: i64,
    /// Nanoseconds since the rules were armed.
    pub since: u64,
    /// The ordinal of the process: processes are numbered from 0, in the order of their first AIO
    /// calls since the rules were armed.
    pub process: u64,
    /// A bit for each rule: one of the requests meets its conditions ([`Rule::describes`]), and so does what was
    /// looked up.
    pub requests: u32,
}

/// The counters of the rules.
pub trait Counters {
    /// Counts once more for this rule. Returns the new count of the calls that are counted
    /// together, or `None` if there is no room to count them.
    fn count(&mut self, index: u32, rule: &Rule, facts: &Facts) -> Option<u64>;

    /// Notes that the rule acts. Returns whether it may: whether it has acted fewer than
    /// [`Rule::max`] times.
    fn take(&mut self, index: u32, rule: &Rule) -> bool;
}

/// Whether this rule wants to act. Counts the call if it matches.
#[inline(always)]
pub fn wants(
    index: u32,
    rule: &Rule,
    seed: u64,
    facts: &Facts,
    counters: &mut impl Counters,
) -> bool {
    if !rule.matches(index, facts) {
        return false;
    }
    let Some(count) = counters.count(index, rule, facts) else {
        return false;
    };
    rule.is_due(count) && rule.is_lucky(index, seed, facts, count)
}

/// Asks one rule whether it acts. The rules must be asked in their order; `is_open` says whether no
/// earlier one acts.
#[inline(always)]
pub fn consider(
    index: u32,
    rule: &Rule,
    seed: u64,
    facts: &Facts,
    counters: &mut impl Counters,
    is_open: impl FnOnce() -> bool,
) -> bool {
    wants(index, rule, seed, facts, counters) && is_open() && counters.take(index, rule)
}

/// The number, from 1, of the rule that acts; 0 if none does.
#[inline(always)]
pub fn decide(rules: &[Rule], seed: u64, facts: &Facts, counters: &mut impl Counters) -> u32 {
    let mut chosen = 0;
    for (index, rule) in (0..).zip(rules) {
        if consider(index, rule, seed, facts, counters, || chosen == 0) {
            chosen = index + 1;
        }
    }
    chosen
}

/// What the loader tells the probes of the rules: constants to the verifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Armed {
    /// The rules; unused ones are about nothing.
    pub rules: [Rule; MOST_RULES],
    /// The seed of the rules' odds.
    pub seed: u64,
    /// A bit for each of [`what`] that a rule is about.
    pub about: u32,
    /// A bit for each of [`what`] that a rule with a condition on requests is about.
    pub requests: u32,
    /// 1: a rule has odds.
    pub chance: u32,
    /// 1: the rules only say what they would do.
    pub dry_run: u32,
}

impl Armed {
    /// No rules.
    pub const NONE: Self = Self {
        rules: [Rule::NONE; MOST_RULES],
        seed: 0,
        about: 0,
        requests: 0,
        chance: 0,
        dry_run: 0,
    };

    /// Arms these rules; those beyond [`MOST_RULES`] are left out.
    pub fn new(rules: &[Rule], seed: u64, dry_run: bool) -> Self {
        let mut armed = Self { seed, dry_run: dry_run.into(), ..Self::NONE };
        for (slot, rule) in armed.rules.iter_mut().zip(rules) {
            *slot = *rule;
            armed.about |= rule.about;
            armed.requests |= if rule.asks_for_requests() { rule.about } else { 0 };
            armed.chance |= u32::from(rule.odds != u64::MAX);
        }
        armed
    }
}

impl Rule {
    /// Whether the rule's decision depends on its count, or on how often it has acted.
    pub const fn counts(&self) -> bool {
        self.first > 1
            || self.last != u64::MAX
            || self.step > 1
            || self.odds != u64::MAX
            || self.max != u64::MAX
    }
}

/// What aiotrace tells the probes while rules are armed. Times are nanoseconds of CLOCK_MONOTONIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Pulse {
    /// When the rules were armed; 0: they are not armed.
    pub armed: u64,
    /// aiotrace's last sign of life: see [`HEARTBEAT`].
    pub beat: u64,
}

/// The key of a count, on the kernel side: calls with the same key are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CountKey {
    /// The index of the rule, from 0.
    pub rule: u32,
    /// One of [`what`].
    pub what: u32,
    /// The process, as the initial pid namespace sees it; with [`per::THREAD`] the thread, as
    /// aiotrace's pid namespace sees it.
    pub whose: u64,
    /// The context's handle with [`per::CONTEXT`], else 0.
    pub ctx: u64,
}
