//! Faults: a call is judged when it begins, a completion when its entry is first seen in the ring.
//!
//! What the program gets of a completion can be changed in two places: in the ring, as long as nobody has
//! reaped it, and in the memory into which io_getevents has just copied it. A program that reaps from the
//! ring itself may be faster than we are; then the fault is told as missed.

use std::{collections::HashMap, ffi::OsString, os::unix::ffi::OsStringExt as _, path::PathBuf};

use aiotrace_common::{
    abi::{IoEvent, Iocb, RingHeader, Syscall},
    fault::{action, effect, what},
    record::{Changed, ITEMS_PER_CALL, Kind},
};
use nix::errno::Errno;

use super::{
    Rules,
    calls::width,
    heads::Heads,
    in_flight::InFlight,
    memory,
    records::{Records, header},
    requests,
    rings::New,
    signals::is_32_bit,
    tracee::{InCall, Pending, Tracee},
};
use crate::{
    errand::{self, Errand as _},
    fault::{Case, Rule, Verdict},
};

/// Changes that wait for a reaper at most.
const MOST_WAITING: usize = 4096;

/// The rules, and what is to be changed yet.
pub struct Faults {
    rules: Rules,
    waiting: Vec<Waiting>,
    /// Requests in flight, if a rule has to know whose completion it changes.
    in_flight: Option<InFlight>,
    /// Who moves the heads of the rings.
    heads: Heads,
    /// A completion was changed, since that was asked for.
    has_changed: bool,
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

/// What a call shows of completions, when it begins or ends.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The call.
    pub call: &'a InCall,
    /// Entries that are new in its ring.
    pub new: &'a [New],
    /// What it gives to the program.
    pub reaped: Option<Reaped>,
    /// Other threads in io_getevents, which may have reaped the new entries.
    pub others: &'a [u32],
    /// When, nanoseconds of CLOCK_MONOTONIC.
    pub time: u64,
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
        let in_flight = rules.judge.needs_requests(what::COMPLETE).then(InFlight::default);
        Self { rules, waiting: Vec::new(), in_flight, heads: Heads::default(), has_changed: false }
    }

    /// Whether completions are looked at.
    pub fn are_about_completions(&self) -> bool {
        self.rules.judge.is_about(what::COMPLETE)
    }

    /// Whether a completion was changed since this was asked.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.has_changed)
    }

    /// How many calls and completions could not be counted, and so had no fault.
    pub fn uncounted(&self) -> u64 {
        self.rules.judge.uncounted()
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
        let goes = self.judge_call(tracee, call);
        if let Some(in_flight) = &mut self.in_flight
            && call.syscall == Syscall::Submit
            && goes != Ok(Goes::Not)
        {
            let iocbs = given(tracee, call);
            in_flight.given(tracee.tid, (tracee.space, call.args[0]), iocbs);
        }
        goes
    }

    /// A call has returned.
    pub fn returned(&mut self, tracee: &Tracee, call: &InCall, ret: i64) {
        if call.syscall == Syscall::Destroy && ret == 0 {
            self.heads.forget(tracee.space, call.args[0]);
        }
        let Some(in_flight) = &mut self.in_flight else { return };
        match call.syscall {
            Syscall::Submit => in_flight.returned(tracee.tid, ret.max(0) as usize),
            Syscall::Destroy if ret == 0 => in_flight.destroyed(tracee.space, call.args[0]),
            _ => (),
        }
    }

    fn judge_call(&mut self, tracee: &Tracee, call: &mut InCall) -> Result<Goes, Errno> {
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
                // If we die now, the program goes on with this register changed. The kernel reads it when the call
                // begins, and a thread that does not stop in between cannot have it back before the call ends; to
                // change the array of iocbs instead would leave more behind.
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

    /// A call on a context begins, or ends and gives so many events. `is_disturbed`: other threads may be reaping.
    pub fn look_at_head(
        &mut self,
        tracee: &Tracee,
        call: &InCall,
        reaped: Option<Reaped>,
        is_disturbed: bool,
    ) {
        let handle = call.args[0];
        if call.syscall != Syscall::Setup
            && let Some(ring) = tracee.memory().value::<RingHeader>(handle)
        {
            let given = reaped.map_or(0, |it| it.count);
            self.heads.look((tracee.space, handle), (ring.nr, ring.head), given, is_disturbed);
        }
    }

    /// Judges completions that are new in a ring, in their order, and changes them where they are: in the
    /// ring, or where this call has put them.
    pub fn completions(&mut self, tracee: &mut Tracee, records: &mut Records, seen: &Seen<'_>) {
        let Seen { call, new, reaped, others, time } = *seen;
        let handle = call.args[0];
        let judged = |it: &New| self.judge(tracee, handle, it, time);
        let changes: Vec<Change> = new.iter().filter_map(judged).collect();
        let mut array = Array::of(tracee, reaped);
        // Those that another thread saw first, while this one was reaping them.
        for (change, index) in self.found_by(tracee, handle, &mut array) {
            let effect = match index {
                Some(index) if array.change(tracee, index, change.res) => 0,
                _ => effect::MISSED,
            };
            self.has_changed |= effect == 0;
            tell(tracee, records, &change, index, effect, time);
        }
        for change in changes {
            if self.rules.dry_run {
                tell(tracee, records, &change, None, effect::DRY_RUN, time);
            } else if let Some(index) = array.find(&change) {
                let is_done = array.change(tracee, index, change.res);
                let effect = if is_done { 0 } else { effect::MISSED };
                self.has_changed |= is_done;
                tell(tracee, records, &change, Some(index), effect, time);
            } else if call.syscall != Syscall::Destroy && is_changed_in_ring(tracee, &change) {
                self.has_changed = true;
                let by_hand = self.heads.are_moved_by_hand(tracee.space, handle);
                let effect = if by_hand { effect::UNSURE } else { 0 };
                tell(tracee, records, &change, None, effect, time);
            } else if !others.is_empty() && self.waiting.len() < MOST_WAITING {
                let (space, tids) = (tracee.space, others.to_vec());
                self.waiting.push(Waiting { change, space, tids });
            } else {
                tell(tracee, records, &change, None, effect::MISSED, time);
            }
        }
    }

    /// Changes that waited for this thread, and where in its array they are; nowhere, if no other thread can
    /// have reaped them either.
    fn found_by(
        &mut self,
        tracee: &Tracee,
        handle: u64,
        array: &mut Array,
    ) -> Vec<(Change, Option<usize>)> {
        let mut found = Vec::new();
        self.waiting.retain_mut(|it| {
            let is_meant = it.space == tracee.space && it.change.handle == handle;
            if !is_meant || !it.tids.contains(&tracee.tid) {
                return true;
            }
            it.tids.retain(|tid| *tid != tracee.tid);
            let index = array.find(&it.change);
            let is_over = index.is_some() || it.tids.is_empty();
            if is_over {
                found.push((it.change, index));
            }
            !is_over
        });
        found
    }

    fn judge(&mut self, tracee: &Tracee, handle: u64, new: &New, now: u64) -> Option<Change> {
        let New { position, event } = *new;
        let (pid, tid) = (tracee.pid, tracee.tid);
        let case = Case { what: what::COMPLETE, pid, tid, ctx: handle, nr: 0, now };
        let in_flight = self.in_flight.as_mut();
        let known = in_flight.and_then(|it| it.take((tracee.space, handle), &event));
        let mut requests = Requests::of_event(tracee, &event, known);
        let verdict = self.rules.judge.decide(&case, |rule| requests.has(rule))?;
        let (res, rule) = (verdict.value, verdict.number);
        (verdict.action == action::RESULT).then_some(Change { handle, position, event, res, rule })
    }
}

/// Whether nobody had reaped it, and it has its new result.
fn is_changed_in_ring(tracee: &Tracee, change: &Change) -> bool {
    // Somebody may have reaped it since the stop began.
    memory::forget();
    let memory = tracee.memory();
    let Change { handle, position, event, res, .. } = *change;
    let is_unreaped = || {
        let Some(ring) = memory.value::<RingHeader>(handle) else { return false };
        let RingHeader { nr, head, tail, .. } = ring;
        let is_sane = nr != 0 && head < nr && tail < nr && position < nr;
        let ahead = |position| RingHeader::distance(head, position, nr);
        is_sane && ahead(position) < ahead(tail)
    };
    let at = handle.wrapping_add(New::result_at(position));
    if !is_unreaped() || !memory.write(at, &res.to_ne_bytes()) {
        return false;
    }
    // Another thread may have reaped it at the same moment, before or after the change.
    if is_unreaped() {
        return true;
    }
    let _ = memory.restore(at, &event.res.to_ne_bytes());
    false
}

fn tell(
    tracee: &mut Tracee,
    records: &mut Records,
    change: &Change,
    index: Option<usize>,
    effect: u32,
    time: u64,
) {
    let Change { handle, event, res, rule, .. } = *change;
    let index = index.map_or(u32::MAX, |it| it as u32);
    let header = header(tracee, Kind::Changed, 0, time);
    records.emit(&Changed { header, handle, event, res, fault: rule | effect, index });
}

/// The events that a call has put into the program's memory.
struct Array {
    at: u64,
    events: Vec<IoEvent>,
    taken: Vec<bool>,
}

impl Array {
    fn of(tracee: &Tracee, reaped: Option<Reaped>) -> Self {
        let Reaped { events: at, count } = reaped.unwrap_or(Reaped { events: 0, count: 0 });
        let count = count.min(ITEMS_PER_CALL as u64);
        let size = size_of::<IoEvent>() as u64;
        let read = |index: u64| tracee.memory().value(at.wrapping_add(index * size));
        let events: Vec<IoEvent> = (0..count).map_while(read).collect();
        Self { at, taken: vec![false; events.len()], events }
    }

    /// Where this completion is. Each is found once.
    fn find(&mut self, change: &Change) -> Option<usize> {
        let mut all = self.events.iter().zip(&self.taken);
        let index = all.position(|(event, taken)| !taken && *event == change.event)?;
        self.taken[index] = true;
        Some(index)
    }

    /// Gives it another result; whether that was possible.
    fn change(&self, tracee: &Tracee, index: usize, res: i64) -> bool {
        let offset = index * size_of::<IoEvent>() + std::mem::offset_of!(IoEvent, res);
        tracee.memory().write(self.at.wrapping_add(offset as u64), &res.to_ne_bytes())
    }
}

/// The register with the number of requests.
pub fn second_argument(registers: &mut libc::user_regs_struct) -> &mut u64 {
    if is_32_bit(registers) { &mut registers.rcx } else { &mut registers.rsi }
}

/// The iocbs of an io_submit that begins, and where they are.
fn given<'a>(tracee: &'a Tracee, call: &'a InCall) -> impl Iterator<Item = (u64, Iocb)> + 'a {
    let memory = tracee.memory();
    let width = u64::from(width(call.abi));
    let count = (call.args[1] as i64).clamp(0, ITEMS_PER_CALL as i64) as u64;
    let at = move |index: u64| call.args[2].wrapping_add(index * width);
    let pointers = (0..count).map_while(move |it| tracee.memory().pointer(at(it), call.abi));
    pointers.filter_map(move |it| Some((it, memory.value(it)?)))
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
    /// At this address, and with this data.
    One(u64, u64),
}

impl<'a> Requests<'a> {
    fn of(tracee: &'a Tracee, call: &'a InCall) -> Self {
        let addresses = Addresses::OfCall(call);
        Self { tracee, addresses, iocbs: None, paths: HashMap::new() }
    }

    /// The request that completed so. If it was submitted before the trace, its iocb is where it was, unless the
    /// data shows that this is another one's by now.
    fn of_event(tracee: &'a Tracee, event: &IoEvent, known: Option<Iocb>) -> Self {
        let addresses = Addresses::One(event.obj, event.data);
        Self { tracee, addresses, iocbs: known.map(|it| vec![it]), paths: HashMap::new() }
    }

    fn read(&self) -> Vec<Iocb> {
        let memory = self.tracee.memory();
        match self.addresses {
            Addresses::One(address, data) => {
                let found = memory.value(address).into_iter();
                found.filter(|it: &Iocb| it.data == data).collect()
            }
            Addresses::OfCall(call) => match call.syscall {
                Syscall::Cancel => memory.value(call.args[1]).into_iter().collect(),
                Syscall::Submit => given(self.tracee, call).map(|it| it.1).collect(),
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
                let path = |it| PathBuf::from(OsString::from_vec(it));
                let look = |fd| errand::Path { pid, fd }.ask().flatten().map(path);
                paths.entry(iocb.fildes).or_insert_with(|| look(iocb.fildes)).as_deref()
            });
            rule.describes(iocb.opcode, iocb.fildes, path)
        })
    }
}
