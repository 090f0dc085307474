//! Writes the records of a call when it begins and when it ends, as the probes do (aiotrace-ebpf/src/probes): the
//! iocbs of io_submit when it begins (here also a single one), everything else when it ends.

use aiotrace_common::{
    abi::{Abi, IoEvent, Iocb, RingHeader, Syscall, Timespec},
    arch::Place,
    record::{
        Call, Cancel, Destroy, EVENTS_PER_RECORD, Events, Header, IOCBS_PER_RECORD, ITEMS_PER_CALL,
        Kind, Memory as Mark, NewEntries, PAGE, RingSample, STACK_PAGES, Setup, Sigset, Stack,
        Submit, Submitted, SubmittedIocb, Vectors, flag,
    },
};
use aiotrace_model::opcode::{self, Opcode};
use zerocopy::{FromZeros as _, IntoBytes as _};

use super::{
    memory::{self, Memory, Wanted},
    records::{Records, header},
    rings::{New, Rings},
    sites::Sites,
    tracee::{InCall, Tracee},
};
use crate::{clock::monotonic, source::backlog::Message};

/// Most errands for the iocbs of one call that were not fetched together: a target can have thousands, of which one page
/// cannot be read, and others wait for their turn meanwhile.
const MOST_ASKS: u64 = 256;

/// Writes the records of calls.
pub struct Calls {
    /// The records that are written.
    pub records: Records,
    /// The rings of all contexts.
    pub rings: Rings,
    /// The stack is copied at each call, and not only at io_setup.
    pub all_stacks: bool,
    /// Unwinds stacks at once, if all are wanted, or a rule has to know the call sites.
    pub sites: Option<Sites>,
    /// A rule has to know the call sites.
    pub needs_sites: bool,
    /// There are fault rules: the iovecs of requests are read.
    pub has_rules: bool,
}

/// How a call ended.
#[derive(Clone, Copy, Debug)]
pub struct Left {
    /// When the call returned, nanoseconds of CLOCK_MONOTONIC.
    pub time: u64,
    /// What it returned.
    pub ret: i64,
    /// Bits of [`flag`].
    pub flags: u16,
}

impl Calls {
    /// A call begins; `place` gives its instruction, stack and frame pointer. `new` is called with each entry that is
    /// new in its ring.
    pub fn entered(
        &mut self,
        tracee: &mut Tracee,
        call: &mut InCall,
        place: impl FnOnce() -> Option<Place>,
        new: impl FnMut(New),
    ) {
        let is_shown = call.syscall == Syscall::Setup || self.all_stacks;
        let wants_stack = is_shown || self.sites.is_some();
        let place = if wants_stack && !call.abi.is_32_bit() { place() } else { None };
        self.fetch_at_entry(tracee, call, place);
        // The time that the reading took is ours, not the call's: it may have waited for memory that does not answer.
        call.entered = monotonic();
        if let Some(place) = place {
            self.stack(tracee, call, place, is_shown);
        }
        let handle = call.args[0];
        let mut sample = RingSample::UNREAD;
        // io_submit and io_destroy change what the ring will show, so it is looked at before them, too.
        if matches!(call.syscall, Syscall::Submit | Syscall::Destroy) {
            sample = self.rings.sample(tracee, &mut self.records, handle, call.entered, new);
        }
        if call.syscall == Syscall::Submit {
            self.rings.submits(tracee.space, handle, call.args[1]);
        }
        match call.syscall {
            Syscall::Submit => {
                call.unread = self.iocbs(tracee, call, sample, 0, 0);
            }
            Syscall::Destroy => call.ring = sample,
            Syscall::Getevents | Syscall::Pgetevents => {
                call.timeout = tracee.memory().timespec(call.args[4], call.abi);
            }
            Syscall::Setup | Syscall::Cancel => (),
        }
    }

    /// Fetches at once what is read below when a call begins.
    fn fetch_at_entry(&self, tracee: &Tracee, call: &InCall, place: Option<Place>) {
        let [handle, _, _, _, timeout, _] = call.args;
        let mut wanted: Vec<Wanted> = place.map_or(Vec::new(), |it| {
            stack_pages(it.sp).map(|page| Wanted::Bytes(page, PAGE)).collect()
        });
        match call.syscall {
            Syscall::Submit => {
                wanted.push(self.rings.wanted(tracee, handle));
                wanted.push(wanted_iocbs(call, 0));
            }
            Syscall::Destroy => wanted.push(self.rings.wanted(tracee, handle)),
            Syscall::Getevents | Syscall::Pgetevents if timeout != 0 => {
                wanted.push(Wanted::Bytes(timeout, timespec_bytes(call.abi)));
            }
            _ => (),
        }
        if !wanted.is_empty() {
            tracee.memory().fetch(wanted);
        }
    }

    /// Fetches at once what is read when a call ends with the result `ret`.
    pub fn fetch_at_exit(&self, tracee: &Tracee, call: &InCall, ret: i64) {
        let [handle, second, _, events, timeout, _] = call.args;
        let mut wanted = Vec::new();
        match call.syscall {
            Syscall::Setup => {
                let (width, each) = (width(call.abi), size_of::<RingHeader>());
                wanted.push(Wanted::Pointed { at: second, count: 1, width, each });
            }
            Syscall::Destroy => return,
            _ => wanted.push(self.rings.wanted(tracee, handle)),
        }
        match call.syscall {
            Syscall::Submit => wanted.extend(call.unread.map(|first| wanted_iocbs(call, first))),
            Syscall::Cancel => wanted.push(Wanted::Bytes(second, size_of::<Iocb>())),
            Syscall::Getevents | Syscall::Pgetevents => {
                if call.timeout.is_none() && timeout != 0 {
                    wanted.push(Wanted::Bytes(timeout, timespec_bytes(call.abi)));
                }
                let count = ret.clamp(0, ITEMS_PER_CALL as i64) as usize;
                if count > 0 {
                    wanted.push(Wanted::Bytes(events, count * size_of::<IoEvent>()));
                }
            }
            _ => (),
        }
        tracee.memory().fetch(wanted);
    }

    /// io_destroy begins. The kernel unmaps the ring first, and another context may get its address before the call
    /// returns.
    pub fn destroys(&mut self, tracee: &Tracee, call: &InCall) {
        if call.syscall == Syscall::Destroy {
            self.rings.destroyed(tracee.space, call.args[0]);
        }
    }

    /// The call of this thread ends with `ret`: looks at the ring. `new` is called with each entry that is new in it.
    pub fn look(
        &mut self,
        tracee: &mut Tracee,
        call: &InCall,
        (time, ret): (u64, i64),
        new: impl FnMut(New),
    ) -> RingSample {
        if call.syscall == Syscall::Submit {
            // If `entered` is 0, the call began before we attached.
            let given = (call.entered != 0).then_some(call.args[1]);
            self.rings.submitted(tracee.space, call.args[0], given, ret);
        }
        match call.syscall {
            Syscall::Setup | Syscall::Destroy => RingSample::UNREAD,
            _ => self.rings.sample(tracee, &mut self.records, call.args[0], time, new),
        }
    }

    /// Writes the record of a call that ends, with this sample of the ring.
    pub fn left(&mut self, tracee: &mut Tracee, call: &InCall, left: &Left, ring: RingSample) {
        let left = &Left { flags: left.flags | compat(call.abi), ..*left };
        match call.syscall {
            Syscall::Setup => self.setup(tracee, call, left),
            Syscall::Destroy => {
                let call_record = record(tracee, Kind::Destroy, call, left);
                self.records.emit(&Destroy { call: call_record, ring: call.ring });
            }
            Syscall::Submit => {
                if let Some(first) = call.unread {
                    self.iocbs(tracee, call, RingSample::UNREAD, first, flag::LATE);
                }
                let call = record(tracee, Kind::Submitted, call, left);
                self.records.emit(&Submitted { call, ring, new: NewEntries::NONE });
            }
            Syscall::Cancel => {
                let (iocb, memory) = tracee.memory().marked(call.args[1], Mark::Read);
                let call = record(tracee, Kind::Cancel, call, left);
                self.records.emit(&Cancel { call, ring, iocb, memory, reserved: 0 });
            }
            Syscall::Getevents | Syscall::Pgetevents => self.events(tracee, call, left, ring),
        }
    }

    fn setup(&mut self, tracee: &mut Tracee, call: &InCall, left: &Left) {
        let handle = tracee.memory().pointer(call.args[1], call.abi);
        if let (0, Some(handle)) = (left.ret, handle) {
            self.rings.created(tracee.space, handle);
        }
        let call = record(tracee, Kind::Setup, call, left);
        let memory = if handle.is_some() { Mark::Read } else { Mark::Unread };
        self.records.emit(&Setup { call, handle: handle.unwrap_or(0), memory, reserved: 0 });
        if let (0, Some(handle)) = (left.ret, handle) {
            // This look remembers the ring's id: by it the ring is recognised if it is moved before the first call on
            // it.
            self.rings.sample(tracee, &mut self.records, handle, left.time, |_| ());
        }
    }

    /// Writes the iocbs from index `first` on, those for which too many errands would be needed as unread. Returns the
    /// index of the first that could not be read.
    fn iocbs(
        &mut self,
        tracee: &mut Tracee,
        call: &InCall,
        ring: RingSample,
        first: u32,
        flags: u16,
    ) -> Option<u32> {
        let [handle, nr, pointers, ..] = call.args;
        let total = iocbs_of(nr);
        let how = if flags & flag::LATE != 0 { Mark::ReadLate } else { Mark::Read };
        let width = u64::from(width(call.abi));
        let mut unread = None;
        let mut first = first;
        let asked = memory::asks();
        loop {
            let count = (total - first.min(total)).min(IOCBS_PER_RECORD as u32);
            let mut array = [SubmittedIocb {
                address: 0,
                pointer: Mark::Unread,
                memory: Mark::Unread,
                iocb: Iocb::new_zeroed(),
            }; IOCBS_PER_RECORD];
            for (index, slot) in (first..first + count).zip(&mut array) {
                let at = pointers.wrapping_add(u64::from(index) * width);
                let may_ask = memory::asks() - asked < MOST_ASKS;
                if may_ask && let Some(address) = tracee.memory().pointer(at, call.abi) {
                    (slot.address, slot.pointer) = (address, how);
                    (slot.iocb, slot.memory) = tracee.memory().marked(address, how);
                }
                if slot.memory == Mark::Unread && unread.is_none() {
                    unread = Some(index);
                }
            }
            let more = first + count < total;
            let flags = flags | compat(call.abi) | if more { flag::MORE } else { 0 };
            let header = header(tracee, Kind::Submit, flags, call.entered);
            let args = [handle, nr, pointers];
            let record = Submit { header, args, ring, first, count };
            self.records.emit_with(&record, &array[..count as usize]);
            if self.has_rules && how == Mark::Read {
                self.vectors(tracee, call, first, &array[..count as usize]);
            }
            if !more {
                return unread;
            }
            first += count;
        }
    }

    /// Writes the iovecs of the vectored ones of these iocbs; `first` is the index of the first.
    fn vectors(&mut self, tracee: &Tracee, call: &InCall, first: u32, iocbs: &[SubmittedIocb]) {
        let is_vectored = |it: &SubmittedIocb| {
            it.memory == Mark::Read && opcode::is_vectored(Opcode::of(&it.iocb))
        };
        let all =
            || (first..).zip(iocbs).filter(|(_, it)| is_vectored(it)).map(|it| (it.0, it.1.iocb));
        let wanted = |(_, it): (u32, Iocb)| {
            Some(Wanted::Bytes(it.buf, Memory::iovec_bytes(it.nbytes, call.abi)?))
        };
        let wanted: Vec<Wanted> = all().filter_map(wanted).collect();
        if !wanted.is_empty() {
            tracee.memory().fetch(wanted);
        }
        for (index, iocb) in all() {
            let Some(bytes) = tracee.memory().iovecs(iocb.buf, iocb.nbytes, call.abi) else {
                continue;
            };
            let (time, pid, tid) = (call.entered, tracee.pid, tracee.tid);
            let header =
                Header { kind: Kind::Vectors, flags: compat(call.abi), seq: 0, time, pid, tid };
            let record = Vectors { header, index, count: iocb.nbytes as u32 };
            self.records.emit_with(&record, bytes.as_slice());
        }
    }

    fn events(&mut self, tracee: &mut Tracee, call: &InCall, left: &Left, ring: RingSample) {
        if call.syscall == Syscall::Pgetevents && call.args[5] != 0 {
            self.sigset(tracee, call, left);
        }
        let memory = tracee.memory();
        let late = || memory.timespec(call.args[4], call.abi);
        let (timeout, timeout_memory) = match call.timeout {
            Some(timeout) => (timeout, Mark::Read),
            None => late().map_or((Timespec::default(), Mark::Unread), |it| (it, Mark::ReadLate)),
        };
        let total = left.ret.clamp(0, ITEMS_PER_CALL as i64) as u32;
        let mut array = [IoEvent::new_zeroed(); EVENTS_PER_RECORD];
        let mut first = 0;
        loop {
            let count = (total - first).min(EVENTS_PER_RECORD as u32);
            let events = &mut array[..count as usize];
            let offset = u64::from(first) * size_of::<IoEvent>() as u64;
            let is_read = memory.read(call.args[3].wrapping_add(offset), events.as_mut_bytes());
            let more = first + count < total;
            let flags = left.flags | if more { flag::MORE } else { 0 };
            let record = Events {
                call: record(tracee, Kind::Events, call, &Left { flags, ..*left }),
                ring,
                timeout,
                timeout_memory,
                first,
                count,
                memory: if is_read { Mark::Read } else { Mark::Unread },
            };
            let read = if is_read { &*events } else { &[] };
            self.records.emit_with(&record, read);
            if !more {
                return;
            }
            first += count;
        }
    }

    /// Reads `struct __aio_sigset` of fs/aio.c: the address of the mask and its size, a word each.
    fn sigset(&mut self, tracee: &mut Tracee, call: &InCall, left: &Left) {
        let (at, memory) = (call.args[5], tracee.memory());
        let word = u64::from(width(call.abi));
        let address = memory.pointer(at, call.abi);
        let size = address.and_then(|_| memory.pointer(at.wrapping_add(word), call.abi));
        let (mask, mask_memory) = memory.marked(address.unwrap_or(0), Mark::Read);
        let memory = if size.is_some() { Mark::Read } else { Mark::Unread };
        let (address, size) = (address.unwrap_or(0), size.unwrap_or(0));
        let header = header(tracee, Kind::Sigset, left.flags, left.time);
        self.records.emit(&Sigset { header, address, size, mask, memory, mask_memory });
    }

    /// Finds where a call is made, and writes its stack if it `is_shown`.
    fn stack(&mut self, tracee: &mut Tracee, call: &mut InCall, place: Place, is_shown: bool) {
        let (mut record, mut pages) = copy_stack(tracee, call.entered, place);
        if let Some(sites) = &mut self.sites {
            let stack = sites.unwind(tracee.pid, &record, &pages);
            if self.needs_sites {
                call.site = sites.of(call.syscall, tracee.pid, &stack);
                sites.tell(|text| self.records.say(Message::Note(text)));
            }
            if is_shown && let Some(known) = sites.keep(stack) {
                record = Stack { known, pages: 0, read: 0, ..record };
                pages.clear();
            }
            // That may have taken time, too.
            call.entered = monotonic();
        }
        if is_shown {
            let header = header(tracee, Kind::Stack, 0, call.entered);
            self.records.emit_with(&Stack { header, ..record }, &pages[..]);
        }
    }

    /// A process ended, or executes another program.
    pub fn forget_code(&mut self, pid: u32) {
        if let Some(sites) = &mut self.sites {
            sites.forget(pid);
        }
    }

    /// Writes that a thread which made AIO calls is gone.
    pub fn gone(&mut self, tracee: &mut Tracee, time: u64) {
        let header: Header = header(tracee, Kind::Gone, 0, time);
        self.records.emit(&header);
    }
}

/// Copies the user stack, from `sp` on. The header is still to be filled in.
fn copy_stack(tracee: &Tracee, time: u64, place: Place) -> (Stack, Vec<u8>) {
    let mut bytes = vec![0; STACK_PAGES * PAGE];
    let (mut pages, mut read) = (0, 0);
    for ((index, page), at) in (0u32..).zip(bytes.chunks_exact_mut(PAGE)).zip(stack_pages(place.sp))
    {
        // A missing page does not end the stack: a large buffer in it may never have been written to.
        if tracee.memory().read(at, page) {
            read |= 1 << index;
            pages = index + 1;
        }
    }
    bytes.truncate(pages as usize * PAGE);
    let (pid, tid, space) = (tracee.pid, tracee.tid, tracee.space);
    let header = Header { kind: Kind::Stack, flags: 0, seq: 0, time, pid, tid };
    (Stack { header, place, pages, read, known: 0, space }, bytes)
}

/// The addresses of the pages of a stack that are copied.
fn stack_pages(sp: u64) -> impl Iterator<Item = u64> {
    let first = sp & !(PAGE as u64 - 1);
    (0..STACK_PAGES as u64).map(move |it| first.wrapping_add(it * PAGE as u64))
}

/// How many iocbs of an io_submit that was given `nr` are recorded.
fn iocbs_of(nr: u64) -> u32 {
    (nr as i64).clamp(0, ITEMS_PER_CALL as i64) as u32
}

/// What the pointers to the iocbs of an io_submit point to, from index `first` on.
fn wanted_iocbs(call: &InCall, first: u32) -> Wanted {
    let [_, nr, pointers, ..] = call.args;
    let (width, each) = (width(call.abi), size_of::<Iocb>());
    let at = pointers.wrapping_add(u64::from(first) * u64::from(width));
    Wanted::Pointed { at, count: iocbs_of(nr).saturating_sub(first), width, each }
}

/// Size of a pointer, in bytes.
pub fn width(abi: Abi) -> u8 {
    if abi.is_32_bit() { 4 } else { 8 }
}

/// Size of a timeout, in bytes.
fn timespec_bytes(abi: Abi) -> usize {
    if matches!(abi, Abi::Compat) { 8 } else { size_of::<Timespec>() }
}

/// The part that the records of all calls have in common, for a call that ends.
fn record(tracee: &mut Tracee, kind: Kind, call: &InCall, left: &Left) -> Call {
    Call {
        header: header(tracee, kind, left.flags, left.time),
        entered: call.entered,
        args: call.args,
        ret: left.ret,
        syscall: call.syscall,
        fault: call.fault,
    }
}

fn compat(abi: Abi) -> u16 {
    if abi.is_32_bit() { flag::COMPAT } else { 0 }
}
