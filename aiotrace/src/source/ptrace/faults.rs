//! Faults: a call is judged when it begins, a completion when its entry is first seen in the ring.
//!
//! What the program gets of a completion can be changed in two places: in the ring, as long as nobody has
//! reaped it, and in the memory into which io_getevents has just copied it. A program that reaps from the
//! ring itself may be faster than we are; then the fault is told as missed.

use std::{collections::HashMap, path::PathBuf};

use aiotrace_common::{
    abi::{IoEvent, Iocb, RingHeader, Syscall},
    fault::{action, effect, what},
    record::{Changed, ITEMS_PER_CALL, Kind},
};
use nix::errno::Errno;

use super::{
    Rules,
    records::{Records, header},
    requests,
    rings::New,
    signals::is_32_bit,
    tracee::{InCall, Pending, Tracee},
};
use crate::fault::{Case, Rule, Verdict};

/// Changes that wait for a reaper at most.
const MOST_WAITING: usize = 4096;

/// The rules, and what is to be changed yet.
pub struct Faults {
    rules: Rules,
    waiting: Vec<Waiting>,
}

/// A completion that is to have another result.
#[derive(Clone, Copy, Debug)]
struct Change {
    handle: u64,
    position: u32,
    /// As the kernel made it.
    event: IoEvent,
    res: i64,
    rule: u32,
}

/// It was reaped by one of these threads, whose io_getevents has not returned yet.
struct Waiting {
    change: Change,
    space: u64,
    tids: Vec<u32>,
}

/// What a call was given: the array of events, and how many are in it.
#[derive(Clone, Copy, Debug)]
pub struct Reaped {
    /// Where.
    pub events: u64,
    /// How many.
    pub count: u64,
}

impl Reaped {
    /// What this call, which returned so much, has reaped.
    pub fn by(call: &InCall, ret: i64) -> Option<Self> {
        let is_reaper = matches!(call.syscall, Syscall::Getevents | Syscall::Pgetevents);
        is_reaper.then_some(Self { events: call.args[3], count: ret.max(0) as u64 })
    }
}

/// How a call goes on after it was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goes {
    /// It takes place.
    On,
    /// It takes place so many nanoseconds later.
    Later(u64),
    /// It does not take place.
    Not,
}

impl Faults {
    /// By these rules.
    pub fn new(rules: Rules) -> Self {
        Self { rules, waiting: Vec::new() }
    }

    /// Whether completions are looked at.
    pub fn are_about_completions(&self) -> bool {
        self.rules.judge.is_about(what::COMPLETE)
    }

    /// Counts of a process that ended are not needed any more.
    pub fn process_ended(&mut self, pid: u32) {
        self.rules.judge.process_ended(pid);
    }

    /// Judges a call that begins, and changes the registers as the verdict says.
    ///
    /// # Errors
    /// The thread is dead.
    pub fn call(&mut self, tracee: &Tracee, call: &mut InCall) -> Result<Goes, Errno> {
        let is_submit = call.syscall == Syscall::Submit;
        let case = Case {
            what: what::call(call.syscall),
            pid: tracee.pid,
            tid: tracee.tid,
            ctx: if call.syscall == Syscall::Setup { 0 } else { call.args[0] },
            nr: if is_submit { call.args[1] as i64 } else { 0 },
            now: call.entered,
        };
        let mut requests = Requests::of(tracee, call);
        let verdict = self.rules.judge.decide(&case, |rule| requests.has(rule));
        let Some(Verdict { number, action, value }) = verdict else { return Ok(Goes::On) };
        call.fault = number;
        if self.rules.dry_run {
            call.fault |= effect::DRY_RUN;
            return Ok(Goes::On);
        }
        match action {
            action::ERROR => {
                call.verdict = Some(Pending::Return(value));
                let mut registers = requests::registers(tracee.tid)?;
                // If we die now, the program still gets its errno, and not ENOSYS.
                registers.orig_rax = u64::MAX;
                registers.rax = value as u64;
                requests::set_registers(tracee.tid, &registers)?;
                Ok(Goes::Not)
            }
            action::ACCEPT => {
                let mut registers = requests::registers(tracee.tid)?;
                let nr = second_argument(&mut registers);
                call.verdict = Some(Pending::GiveBack(*nr));
                *nr = value as u64;
                requests::set_registers(tracee.tid, &registers)?;
                Ok(Goes::On)
            }
            action::DELAY_ENTER => Ok(Goes::Later(value.max(0) as u64)),
            action::DELAY_EXIT => {
                call.verdict = Some(Pending::Late(value.max(0) as u64));
                Ok(Goes::On)
            }
            _ => {
                call.fault |= effect::MISSED;
                Ok(Goes::On)
            }
        }
    }

    /// Judges completions that are new in a ring, in their order, and changes them where they are: in the
    /// ring, or where `reaped` says that this call has put them. `others`: threads that may have reaped them
    /// as well, in calls that have not returned.
    pub fn completions(
        &mut self,
        tracee: &mut Tracee,
        records: &mut Records,
        call: &InCall,
        new: &[New],
        reaped: Option<Reaped>,
        others: &[u32],
        time: u64,
    ) {
        let mut changes = Vec::new();
        for New { position, event } in new {
            if let Some(change) = self.judge(tracee, call.args[0], *position, *event, time) {
                changes.push(change);
            }
        }
        let tid = tracee.tid;
        let events = reaped.map(|it| events(tracee, it)).unwrap_or_default();
        let mut taken = vec![false; events.len()];
        let mut find = |change: &Change| {
            let same = |(index, event): (usize, &IoEvent)| {
                !taken[index]
                    && (event.obj, event.data, event.res)
                        == (change.event.obj, change.event.data, change.event.res)
            };
            let index = events.iter().enumerate().position(same)?;
            taken[index] = true;
            Some(index)
        };
        // Those that were seen by others first.
        let space = tracee.space;
        let mut lost = Vec::new();
        let mut found = Vec::new();
        self.waiting.retain_mut(|it| {
            if it.space != space || it.change.handle != call.args[0] || !it.tids.contains(&tid) {
                return true;
            }
            if let Some(index) = find(&it.change) {
                found.push((it.change, index));
                return false;
            }
            it.tids.retain(|other| *other != tid);
            if it.tids.is_empty() {
                lost.push(it.change);
            }
            !it.tids.is_empty()
        });
        for (change, index) in found {
            let at = reaped.map_or(0, |it| it.events).wrapping_add(result_in(index));
            let done = tracee.memory().write(at, &change.res.to_ne_bytes());
            tell(
                tracee,
                records,
                &change,
                index as u32,
                if done { 0 } else { effect::MISSED },
                time,
            );
        }
        for change in lost {
            tell(tracee, records, &change, u32::MAX, effect::MISSED, time);
        }
        for change in changes {
            if self.rules.dry_run {
                tell(tracee, records, &change, u32::MAX, effect::DRY_RUN, time);
            } else if let Some(index) = find(&change) {
                let at = reaped.map_or(0, |it| it.events).wrapping_add(result_in(index));
                let done = tracee.memory().write(at, &change.res.to_ne_bytes());
                let effect = if done { 0 } else { effect::MISSED };
                tell(tracee, records, &change, index as u32, effect, time);
            } else if call.syscall != Syscall::Destroy && is_changed_in_ring(tracee, &change) {
                tell(tracee, records, &change, u32::MAX, 0, time);
            } else if !others.is_empty() && self.waiting.len() < MOST_WAITING {
                self.waiting.push(Waiting { change, space, tids: others.to_vec() });
            } else {
                tell(tracee, records, &change, u32::MAX, effect::MISSED, time);
            }
        }
    }

    fn judge(
        &mut self,
        tracee: &Tracee,
        handle: u64,
        position: u32,
        event: IoEvent,
        now: u64,
    ) -> Option<Change> {
        let (pid, tid) = (tracee.pid, tracee.tid);
        let case = Case { what: what::COMPLETE, pid, tid, ctx: handle, nr: 0, now };
        let mut requests = Requests::at(tracee, event.obj);
        let verdict = self.rules.judge.decide(&case, |rule| requests.has(rule))?;
        let (res, rule) = (verdict.value, verdict.number);
        (verdict.action == action::RESULT).then_some(Change { handle, position, event, res, rule })
    }
}

/// Whether nobody had reaped it, and it has its new result.
fn is_changed_in_ring(tracee: &Tracee, change: &Change) -> bool {
    let memory = tracee.memory();
    let Change { handle, position, event, res, .. } = *change;
    let is_unreaped = || {
        let Some(ring) = memory.value::<RingHeader>(handle) else { return false };
        let RingHeader { nr, head, tail, .. } = ring;
        let is_sane = nr != 0 && head < nr && tail < nr && position < nr;
        is_sane && (position + nr - head) % nr < (tail + nr - head) % nr
    };
    let at = handle.wrapping_add(New::result_at(position));
    if !is_unreaped() || !memory.write(at, &res.to_ne_bytes()) {
        return false;
    }
    // Another thread may have reaped it at the same moment, before or after the change.
    if is_unreaped() {
        return true;
    }
    let _ = memory.write(at, &event.res.to_ne_bytes());
    false
}

fn tell(
    tracee: &mut Tracee,
    records: &mut Records,
    change: &Change,
    index: u32,
    effect: u32,
    time: u64,
) {
    let Change { handle, event, res, rule, .. } = *change;
    let header = header(tracee, Kind::Changed, 0, time);
    records.emit(&Changed { header, handle, event, res, fault: rule | effect, index });
}

/// Offset of the result of the event with this index.
fn result_in(index: usize) -> u64 {
    (index * size_of::<IoEvent>() + std::mem::offset_of!(IoEvent, res)) as u64
}

fn events(tracee: &Tracee, reaped: Reaped) -> Vec<IoEvent> {
    let count = reaped.count.min(ITEMS_PER_CALL as u64);
    let at = |index: u64| reaped.events.wrapping_add(index * size_of::<IoEvent>() as u64);
    (0..count).map_while(|index| tracee.memory().value(at(index))).collect()
}

/// The register with the number of requests.
pub fn second_argument(registers: &mut libc::user_regs_struct) -> &mut u64 {
    if is_32_bit(registers) { &mut registers.rcx } else { &mut registers.rsi }
}

/// The requests that a call is about, read when a rule needs to know.
struct Requests<'a> {
    tracee: &'a Tracee,
    addresses: Addresses<'a>,
    iocbs: Option<Vec<Iocb>>,
    paths: HashMap<u32, Option<PathBuf>>,
}

enum Addresses<'a> {
    OfCall(&'a InCall),
    One(u64),
}

impl<'a> Requests<'a> {
    fn of(tracee: &'a Tracee, call: &'a InCall) -> Self {
        let addresses = Addresses::OfCall(call);
        Self { tracee, addresses, iocbs: None, paths: HashMap::new() }
    }

    fn at(tracee: &'a Tracee, address: u64) -> Self {
        let addresses = Addresses::One(address);
        Self { tracee, addresses, iocbs: None, paths: HashMap::new() }
    }

    fn read(&self) -> Vec<Iocb> {
        let memory = self.tracee.memory();
        match self.addresses {
            Addresses::One(address) => memory.value(address).into_iter().collect(),
            Addresses::OfCall(call) => match call.syscall {
                Syscall::Cancel => memory.value(call.args[1]).into_iter().collect(),
                Syscall::Submit => {
                    let width = if call.abi.is_32_bit() { 4 } else { 8 };
                    let count = (call.args[1] as i64).clamp(0, ITEMS_PER_CALL as i64) as u64;
                    let at = |index: u64| call.args[2].wrapping_add(index * width);
                    let pointers = (0..count).map_while(|it| memory.pointer(at(it), call.abi));
                    pointers.filter_map(|it| memory.value(it)).collect()
                }
                _ => Vec::new(),
            },
        }
    }

    /// Whether one of them is as the rule describes.
    fn has(&mut self, rule: &Rule) -> bool {
        if self.iocbs.is_none() {
            self.iocbs = Some(self.read());
        }
        let pid = self.tracee.pid;
        let Self { iocbs, paths, .. } = self;
        iocbs.iter().flatten().any(|iocb| {
            let path = rule.path.as_ref().and_then(|_| {
                // As it is now: the file that the request will use, or used.
                let look = |fd| std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok();
                paths.entry(iocb.fildes).or_insert_with(|| look(iocb.fildes)).as_deref()
            });
            rule.describes(iocb.opcode, iocb.fildes, path)
        })
    }
}
