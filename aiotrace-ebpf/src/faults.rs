//! The fault rules, and what they have counted. [`aiotrace_common::fault`] has the decision itself.

use aiotrace_common::{
    fault::{
        self, Armed, CountKey, Counters, Facts, HEARTBEAT, MOST_RULES, Pulse, Rule, effect, per,
    },
    record::Thread,
};
use aya_ebpf::{
    bindings::BPF_NOEXIST,
    macros::map,
    maps::{Array, HashMap},
};

use crate::{atomic, task::current_kernel_ids, user::unknown};

/// The rules. The loader fills them in.
#[unsafe(no_mangle)]
static FAULTS: Armed = Armed::NONE;

#[map]
static PULSE: Array<Pulse> = Array::with_max_entries(1, 0);

/// How many calls or completions have met the conditions of a rule.
#[map]
static FAULT_COUNTS: HashMap<CountKey, u64> = HashMap::with_max_entries(16_384, 0);

/// How often a rule with `max=` has acted, or would have acted without that limit.
#[map]
static FAULT_TAKEN: Array<u64> = Array::with_max_entries(MOST_RULES as u32, 0);

/// The ordinal of each process, by its pid in the initial namespace.
#[map]
/// How many processes have an ordinal.
static FAULT_PROCESSES: HashMap<u32, u64> = HashMap::with_max_entries(16_384, 0);
#[map]
static FAULT_ORDINALS: Array<u64> = Array::with_max_entries(1, 0);

/// Reads one field of [`FAULTS`]. The read is volatile, because the loader changes the value
/// without the compiler knowing.
macro_rules! armed {
    ($($field:tt)*) => {
        // SAFETY: a plain read of an initialized static.
        unsafe { core::ptr::read_volatile(&raw const FAULTS.$($field)*) }
    };
}

/// Whether there are rules.
#[inline(always)]
pub fn are_armed() -> bool {
    armed!(about) != 0
}

/// Whether a rule is about `what`, which is one of [`fault::what`].
#[inline(always)]
pub fn are_about(what: u32) -> bool {
    armed!(about) & 1 << what != 0
}

/// Whether a rule leaves its decision to chance (`prob=`).
#[inline(always)]
pub fn have_odds() -> bool {
    armed!(chance) != 0
}

/// Whether the rules only say what they would do (`--dry-run`).
#[inline(always)]
pub fn are_dry() -> bool {
    armed!(dry_run) != 0
}

/// For how many nanoseconds the rules have been armed; `None` if they are not armed, or if
/// aiotrace's heartbeat has stopped.
#[inline(always)]
pub fn since_armed(now: u64) -> Option<u64> {
    let pulse = PULSE.get(0)?;
    let is_alive = pulse.armed != 0 && now.saturating_sub(pulse.beat) <= HEARTBEAT;
    is_alive.then(|| now.saturating_sub(pulse.armed))
}

/// Forgets what was decided about the thread's last call.
#[inline(always)]
pub fn forget(thread: &mut Thread) {
    thread.verdict = 0;
    thread.fault = 0;
}

/// What became of the decision, when the call returns: a verdict that no mechanism carried out was
/// missed.
#[inline(always)]
pub fn outcome(thread: &Thread) -> u32 {
    if thread.fault == 0 && thread.verdict != 0 {
        thread.verdict | effect::MISSED
    } else {
        thread.fault
    }
}

/// The rules that a request with this opcode and descriptor meets: one bit for each rule.
#[inline(always)]
pub fn describing(opcode: u16, fd: u32) -> u32 {
    let mut rules = 0;
    for index in 0..MOST_RULES {
        if armed!(rules[index].about) == 0 {
            break;
        }
        let rule = armed!(rules[index]);
        if rule.describes(opcode, fd, false) {
            rules |= 1 << index;
        }
    }
    rules
}

/// Whether a rule about `what` has a condition on the requests (`op=`, `fd=`).
#[inline(always)]
pub fn ask_for_requests(what: u32) -> bool {
    armed!(requests) & 1 << what != 0
}

/// Asks the rules, and puts the number of the one that acts into `chosen`, which must be 0 and in a
/// map: if the verifier knew its value, it would have to walk the program once for each.
#[inline(always)]
pub fn decide(facts: &Facts, counters: &mut impl Counters, chosen: &mut u32) {
    for index in 0..MOST_RULES as u32 {
        let about = armed!(rules[index as usize].about);
        if about == 0 {
            break;
        }
        if about & 1 << facts.what == 0 {
            continue;
        }
        let rule = armed!(rules[index as usize]);
        let seed = armed!(seed);
        if fault::consider(index, &rule, seed, facts, counters, || unknown(chosen) == 0) {
            *chosen = index + 1;
        }
    }
}

/// The action, the value and the mechanism of a rule, by its number from 1.
#[inline(always)]
pub fn rule(number: u32) -> Option<(u32, i64, u32)> {
    let index = number.wrapping_sub(1) as usize;
    (index < MOST_RULES).then(|| {
        (armed!(rules[index].action), armed!(rules[index].value), armed!(rules[index].mechanism))
    })
}

/// Counts in maps. This needs atomic additions that give the sum, which Linux has from 5.12 on.
pub struct Counting {
    kernel_pid: u32,
}

impl Counting {
    /// The counters for the running thread.
    #[inline(always)]
    pub fn here() -> Self {
        Self { kernel_pid: current_kernel_ids().pid }
    }
}

impl Counters for Counting {
    #[inline(always)]
    fn count(&mut self, index: u32, rule: &Rule, facts: &Facts) -> Option<u64> {
        let whose = if rule.per == per::THREAD { facts.tid } else { self.kernel_pid };
        let ctx = if rule.per == per::CONTEXT { facts.ctx } else { 0 };
        let key = CountKey { rule: index, what: facts.what, whose: u64::from(whose), ctx };
        atomic::number(&FAULT_COUNTS, &key).map(next)
    }

    #[inline(always)]
    fn take(&mut self, index: u32, rule: &Rule) -> bool {
        rule.max == u64::MAX
            || FAULT_TAKEN.get_ptr_mut(index).is_some_and(|taken| next(taken) <= rule.max)
    }
}

/// Counters for rules that do not depend on a count.
pub struct Uncounted;

impl Counters for Uncounted {
    #[inline(always)]
    fn count(&mut self, _: u32, _: &Rule, _: &Facts) -> Option<u64> {
        Some(1)
    }

    #[inline(always)]
    fn take(&mut self, _: u32, _: &Rule) -> bool {
        true
    }
}

/// The ordinal of the process; 0 if no rule leaves its decision to chance.
#[inline(always)]
pub fn ordinal(kernel_pid: u32) -> u64 {
    if !have_odds() {
        return 0;
    }
    if FAULT_PROCESSES.get_ptr(&kernel_pid).is_none()
        && let Some(ordinals) = FAULT_ORDINALS.get_ptr_mut(0)
    {
        let ordinal = next(ordinals).wrapping_sub(1);
        let _ = FAULT_PROCESSES.insert(&kernel_pid, &ordinal, u64::from(BPF_NOEXIST));
    }
    // SAFETY: a map value, never removed.
    FAULT_PROCESSES.get_ptr(&kernel_pid).map_or(0, |it| unsafe { *it })
}

/// Adds one atomically and returns the sum. It is written in assembly because the compiler knows an
/// addition that gives the sum only together with the 32-bit instructions, which nothing else here
/// uses.
#[inline(always)]
fn next(number: *mut u64) -> u64 {
    let mut before = 1u64;
    // SAFETY: a map value, valid and aligned; all changes of it are atomic.
    unsafe {
        core::arch::asm!(
            "{before} = atomic_fetch_add((u64 *)({number} + 0), {before})",
            number = in(reg) number,
            before = inout(reg) before,
        );
    }
    before.wrapping_add(1)
}
