//! Fault rules, and the decision whether one acts: one function, for the probes and for the ptrace loop.
//!
//! A call is judged once, when it is entered; a completion, when it is first seen. Each rule that matches
//! counts it, whether or not an earlier rule acts; the first whose count says so acts. Mechanisms only carry
//! that out.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::abi::Syscall;

/// Rules at a time, at most.
pub const MOST_RULES: usize = 16;
/// A stopped program's rules do nothing: it tells the time at least that often. Nanoseconds.
pub const HEARTBEAT: u64 = 2_000_000_000;

/// What a rule may be about: a call, or what is no call.
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

/// [`Rule::per`]: what is counted together.
pub mod per {
    /// All calls of a process.
    pub const PROCESS: u32 = 0;
    /// Those of a thread.
    pub const THREAD: u32 = 1;
    /// Those of a process with the same context.
    pub const CONTEXT: u32 = 2;
}

/// [`Rule::mechanism`]: by what the kernel side carries a decision out.
pub mod mechanism {
    /// Not at all.
    pub const NONE: u32 = 0;
    /// A program in the place of the system call's function (fmod_ret).
    pub const FMOD_RET: u32 = 1;
    /// A kprobe on it that overrides its return.
    pub const OVERRIDE: u32 = 2;
    /// A program in the place of `security_file_permission`.
    pub const FILE_PERMISSION: u32 = 3;
    /// A program that writes into the events that io_getevents returns.
    pub const WRITE_USER: u32 = 4;
}

/// What became of a rule's decision: bits beside the rule's number, in records.
pub mod effect {
    /// The number of the rule, from 1; 0 for none.
    pub const RULE: u32 = 0xff;
    /// It would have acted: `--dry-run`.
    pub const DRY_RUN: u32 = 1 << 8;
    /// It could not act: the mechanism does not reach this call.
    pub const MISSED: u32 = 1 << 9;
    /// It acted, but the program may have read before that what it changed.
    pub const UNSURE: u32 = 1 << 10;
}

/// Anything will do: of [`Rule::fd`].
pub const ANY_FD: u32 = u32::MAX;

/// A rule. Times are nanoseconds since the rules were armed.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Rule {
    /// What it is about: a bit for each of [`what`].
    pub about: u32,
    /// One of [`action`].
    pub action: u32,
    /// See there.
    pub value: i64,
    /// It acts at this count, the first is 1;
    pub first: u64,
    /// up to this one;
    pub last: u64,
    /// and of these at each so-many-th, at least 1.
    pub step: u64,
    /// Of 2^64 times it acts so often; [`u64::MAX`]: always.
    pub odds: u64,
    /// It acts so often at most, all in all.
    pub max: u64,
    /// Not before this time.
    pub after: u64,
    /// Not from this time on.
    pub until: u64,
    /// The context's handle; 0: any.
    pub ctx: u64,
    /// A bit for each `IOCB_CMD_*`; 0: any.
    pub ops: u32,
    /// The descriptor, or [`ANY_FD`].
    pub fd: u32,
    /// The thread, as our pid namespace sees it; 0: any.
    pub tid: u32,
    /// One of [`per`].
    pub per: u32,
    /// 1: the file must be one of those that belong to this rule.
    pub files: u32,
    /// One of [`mechanism`].
    pub mechanism: u32,
}

impl Rule {
    /// Acts always, on nothing.
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
        files: 0,
        mechanism: 0,
    };

    /// Whether it is about some requests only.
    #[inline(always)]
    pub const fn asks_for_requests(&self) -> bool {
        self.ops != 0 || self.fd != ANY_FD || self.files != 0
    }

    /// Whether a request is one of those it is about; `is_of_files`: its file belongs to this rule.
    #[inline(always)]
    pub const fn describes(&self, opcode: u16, fd: u32, is_of_files: bool) -> bool {
        (self.ops == 0 || (opcode < 32 && self.ops & 1 << opcode != 0))
            && (self.fd == ANY_FD || self.fd == fd)
            && (self.files == 0 || is_of_files)
    }

    /// Whether it counts this.
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

    /// Whether it acts at this count, the first is 1, if there were no odds.
    #[inline(always)]
    pub const fn is_due(&self, count: u64) -> bool {
        // A program of the kernel divides by zero without complaint; this one does not.
        let step = if self.step == 0 { 1 } else { self.step };
        count >= self.first && count <= self.last && (count - self.first).is_multiple_of(step)
    }

    /// Whether chance is for it: a hash of what is the same in each run.
    #[inline(always)]
    pub const fn is_lucky(&self, index: u32, seed: u64, facts: &Facts, count: u64) -> bool {
        if self.odds == u64::MAX {
            return true;
        }
        let which = (index as u64) << 8 | facts.what as u64;
        mix(mix(mix(seed ^ which).wrapping_add(facts.process)).wrapping_add(count)) < self.odds
    }
}

/// splitmix64: each bit of the result depends on each bit of the number.
#[inline(always)]
const fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

/// What a rule is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// One of [`what`].
    pub what: u32,
    /// The thread, as our pid namespace sees it.
    pub tid: u32,
    /// The context's handle; 0 for io_setup.
    pub ctx: u64,
    /// io_submit: how many requests.
    pub nr: i64,
    /// Nanoseconds since the rules were armed.
    pub since: u64,
    /// The process, counted from 0 in the order of their first AIO calls since the rules were armed.
    pub process: u64,
    /// A bit for each rule: one of the requests is as [`Rule::describes`] says.
    pub requests: u32,
}

/// What is counted.
pub trait Counters {
    /// One more for this rule; how many that makes for what is counted together, or `None` if there is no
    /// room to count it.
    fn count(&mut self, index: u32, rule: &Rule, facts: &Facts) -> Option<u64>;

    /// The rule acts; whether it may: it has not yet done so [`Rule::max`] times.
    fn take(&mut self, index: u32, rule: &Rule) -> bool;
}

/// Whether this rule wants to act. Counts.
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

/// Asks one rule, in their order; whether it acts. `is_open`: no earlier one does.
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

/// Which rule acts: its number, from 1; 0 if none does.
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

/// What the probes are told of the rules before they are loaded: constants to the verifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Armed {
    /// The rules; those that are not used are about nothing.
    pub rules: [Rule; MOST_RULES],
    /// What chance depends on.
    pub seed: u64,
    /// A bit for each of [`what`] some rule is about.
    pub about: u32,
    /// The same, of rules that are about some requests only.
    pub requests: u32,
    /// 1: some rule has odds.
    pub chance: u32,
    /// 1: they only tell what they would do.
    pub dry_run: u32,
}

impl Armed {
    /// No rule.
    pub const NONE: Self = Self {
        rules: [Rule::NONE; MOST_RULES],
        seed: 0,
        about: 0,
        requests: 0,
        chance: 0,
        dry_run: 0,
    };

    /// These rules; those beyond [`MOST_RULES`] are left out.
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
    /// Whether its decision depends on how often it was asked, or has acted.
    pub const fn counts(&self) -> bool {
        self.first > 1
            || self.last != u64::MAX
            || self.step > 1
            || self.odds != u64::MAX
            || self.max != u64::MAX
    }
}

/// What the program tells the probes while rules are armed. Times: nanoseconds of CLOCK_MONOTONIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Pulse {
    /// When the rules were armed; 0: they are not.
    pub armed: u64,
    /// The program's last sign of life: see [`HEARTBEAT`].
    pub beat: u64,
}

/// What is counted together, on the kernel side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CountKey {
    /// The rule, from 0.
    pub rule: u32,
    /// One of [`what`].
    pub what: u32,
    /// The process, as the initial namespace sees it; of a thread, that one.
    pub whose: u64,
    /// The context's handle, if those are counted apart; else 0.
    pub ctx: u64,
}
