//! Tests of the decoder, with records that they make.

use aiotrace_common::{
    abi::IoEvent,
    arch::Place,
    record::{Events, Lost, NewEntries, PAGE, SubmittedIocb},
};
use zerocopy::{FromZeros, IntoBytes};

use super::*;
use crate::{
    event::{Behind, Call, Entry, Iocb, Refused, Sigset, Stack},
    records::Copied,
};

/// The time when a ring is looked at: a moment after the call returned.
const SEEN: u64 = 2001;

fn header(kind: Kind, seq: u32, flags: u16) -> Header {
    Header { kind, flags, seq, time: 2000, pid: 7, tid: 8 }
}

fn call(kind: Kind, seq: u32, syscall: Syscall, args: [u64; 6], ret: i64) -> record::Call {
    let header = header(kind, seq, 0);
    record::Call { header, entered: 1500, args, ret, syscall, fault: 0 }
}

fn sample(head: u32, tail: u32) -> RingSample {
    RingSample { head, tail, nr: 127, memory: Memory::Read }
}

fn iocb(data: u64) -> abi::Iocb {
    abi::Iocb { data, opcode: 1, fildes: 3, buf: 0xb0f, nbytes: 512, ..Default::default() }
}

fn submitted_iocb(data: u64, memory: Memory) -> SubmittedIocb {
    SubmittedIocb { address: 0x1000 + data, pointer: Memory::Read, memory, iocb: iocb(data) }
}

fn submit(seq: u32, flags: u16, nr: u64, first: u32, iocbs: &[SubmittedIocb]) -> Vec<u8> {
    let record = Submit {
        header: header(Kind::Submit, seq, flags),
        args: [0xc0, nr, 0xa0],
        ring: sample(1, 1),
        first,
        count: iocbs.len() as u32,
    };
    [record.as_bytes(), iocbs.as_bytes()].concat()
}

fn submitted(seq: u32, nr: u64, ret: i64) -> Vec<u8> {
    let call = call(Kind::Submitted, seq, Syscall::Submit, [0xc0, nr, 0xa0, 0, 0, 0], ret);
    Submitted { call, ring: sample(1, 2), new: NewEntries::NONE }.as_bytes().to_vec()
}

fn submitted_with_entries(seq: u32, entries: &[IoEvent]) -> Vec<u8> {
    let call = call(Kind::Submitted, seq, Syscall::Submit, [0xc0, 1, 0xa0, 0, 0, 0], 1);
    let record = Submitted { call, ring: sample(1, 2), new: new_entries(entries) };
    [record.as_bytes(), entries.as_bytes()].concat()
}

fn submitted_one(seq: u32, iocb: SubmittedIocb, entries: &[IoEvent]) -> Vec<u8> {
    let call = call(Kind::SubmittedOne, seq, Syscall::Submit, [0xc0, 1, 0xa0, 0, 0, 0], 1);
    let submitted = Submitted { call, ring: sample(1, 2), new: new_entries(entries) };
    let record = SubmittedOne { submitted, ring_before: sample(1, 1), iocb };
    [record.as_bytes(), entries.as_bytes()].concat()
}

fn new_entries(entries: &[IoEvent]) -> NewEntries {
    NewEntries {
        seen: SEEN,
        first: 5,
        count: entries.len() as u32,
        beyond: 0,
        memory: Memory::Read,
    }
}

fn ring_record(seq: u32, entries: &[IoEvent]) -> Vec<u8> {
    let record = record::Ring {
        header: header(Kind::Ring, seq, 0),
        handle: 0xc0,
        new: new_entries(entries),
    };
    [record.as_bytes(), entries.as_bytes()].concat()
}

fn events_record(seq: u32, flags: u16, ret: i64, first: u32, list: &[IoEvent]) -> Vec<u8> {
    let args = [0xc0, 1, 200, 0xe0, 0x71, 0];
    let mut call = call(Kind::Events, seq, Syscall::Getevents, args, ret);
    call.header.flags = flags;
    let record = Events {
        call,
        ring: sample(2, 2),
        timeout: abi::Timespec { sec: 1, nsec: 5 },
        timeout_memory: Memory::Read,
        first,
        count: list.len() as u32,
        memory: Memory::Read,
    };
    [record.as_bytes(), list.as_bytes()].concat()
}

const SPACE: u64 = 6;

fn completion(data: u64) -> Vec<u8> {
    let (header, event) = (header(Kind::Completion, 0, 0), io_event(data));
    record::Completion { header, space: SPACE, handle: 0xc0, event }.as_bytes().to_vec()
}

fn refused(seq: u32) -> record::Refused {
    record::Refused { header: header(Kind::Refused, seq, 0), iocb: 0x1002, ret: -9 }
}

fn context_seen(seq: u32, id: u32, tail: u32) -> Vec<u8> {
    let header = header(Kind::ContextSeen, seq, 0);
    record::ContextSeen { header, handle: 0xc0, id, nr: 127, tail, reserved: 0 }.as_bytes().to_vec()
}

fn context_gone(end: record::End) -> Vec<u8> {
    let header = header(Kind::ContextGone, 0, 0);
    record::ContextGone { header, space: SPACE, handle: 0xc0, completed: 0, end, by_other: 0 }
        .as_bytes()
        .to_vec()
}

fn seen_thread(seq: u32) -> Vec<u8> {
    record::Process {
        header: header(Kind::Process, seq, 0),
        started: 5,
        space: SPACE,
        change: record::Change::Seen,
        other: 0,
        status: 0,
        followed: 0,
        thread_name: [0; 16],
        name: [0; 16],
        path: [0; record::PATH_BYTES],
    }
    .as_bytes()
    .to_vec()
}

fn stack(seq: u32, entered: u64) -> Vec<u8> {
    let header = Header { time: entered, ..header(Kind::Stack, seq, 0) };
    let record = record::Stack {
        header,
        place: Place { ip: 0xabc, sp: 0x7000, ..Place::default() },
        pages: 1,
        read: 1,
        known: 0,
        space: SPACE,
    };
    [record.as_bytes(), &[0; PAGE]].concat()
}

fn setup(seq: u32) -> Vec<u8> {
    let mut call = call(Kind::Setup, seq, Syscall::Setup, [4, 0x5, 0, 0, 0, 0], 0);
    (call.entered, call.header.time) = (1000, 1200);
    Setup { call, handle: 0xc0, memory: Memory::Read, reserved: 0 }.as_bytes().to_vec()
}

fn io_event(data: u64) -> IoEvent {
    IoEvent { data, obj: 0x1000 + data, res: 512, res2: 0 }
}

/// The events that come of these records.
fn decode(records: &[Vec<u8>]) -> Vec<Body> {
    let mut decoder = Decoder::default();
    let mut bodies = Vec::new();
    for record in records {
        decoder.feed(record, |event| bodies.push(event.body.clone())).unwrap();
    }
    bodies
}

fn only_call(records: &[Vec<u8>]) -> Call {
    match decode(records).as_slice() {
        [Body::Call(call)] => call.clone(),
        other => panic!("{other:?}"),
    }
}

/// One record of each kind.
fn each_kind() -> Vec<Vec<u8>> {
    let of = |kind, syscall, args| call(kind, 1, syscall, args, 0);
    let process = record::Process {
        header: header(Kind::Process, 0, 0),
        started: 5,
        space: 6,
        change: record::Change::Exec,
        other: 8,
        status: 0,
        followed: 0,
        thread_name: *b"thread\0\0\0\0\0\0\0\0\0\0",
        name: *b"name\0\0\0\0\0\0\0\0\0\0\0\0",
        path: [b'x'; record::PATH_BYTES],
    };
    vec![
        submit(1, 0, 2, 0, &[submitted_iocb(1, Memory::Read), submitted_iocb(2, Memory::Read)]),
        submitted(1, 1, 1),
        Setup {
            call: of(Kind::Setup, Syscall::Setup, [4, 0x5, 0, 0, 0, 0]),
            handle: 0xc0,
            memory: Memory::Read,
            reserved: 0,
        }
        .as_bytes()
        .to_vec(),
        Cancel {
            call: of(Kind::Cancel, Syscall::Cancel, [0xc0, 0x1001, 0, 0, 0, 0]),
            ring: sample(0, 0),
            iocb: iocb(1),
            memory: Memory::Read,
            reserved: 0,
        }
        .as_bytes()
        .to_vec(),
        Destroy { call: of(Kind::Destroy, Syscall::Destroy, [0xc0; 6]), ring: sample(1, 3) }
            .as_bytes()
            .to_vec(),
        events_record(1, 0, 1, 0, &[io_event(1)]),
        ring_record(1, &[io_event(1)]),
        submitted_with_entries(1, &[io_event(1)]),
        submitted_one(1, submitted_iocb(1, Memory::Read), &[io_event(1)]),
        header(Kind::Gone, 1, 0).as_bytes().to_vec(),
        process.as_bytes().to_vec(),
        completion(1),
        refused(1).as_bytes().to_vec(),
        context_seen(1, 3, 5),
        context_gone(record::End::Destroy),
        record::ContextMoved {
            header: header(Kind::ContextMoved, 0, 0),
            space: SPACE,
            from: 0xc0,
            to: 0xd0,
        }
        .as_bytes()
        .to_vec(),
        stack(1, 1000),
        sigset(1, Memory::Read),
    ]
}

fn sigset(seq: u32, mask_memory: Memory) -> Vec<u8> {
    record::Sigset {
        header: header(Kind::Sigset, seq, 0),
        address: 0x51,
        size: 8,
        mask: 0x200,
        memory: Memory::Read,
        mask_memory,
    }
    .as_bytes()
    .to_vec()
}

#[test]
fn a_signal_set_belongs_to_the_events_behind_it() {
    let of = |records: &[Vec<u8>]| {
        let Args::Getevents { sigset_value, .. } = only_call(records).args else { panic!() };
        sigset_value
    };
    let set = |mask| Some(Sigset { address: Address(0x51), size: 8, mask });
    let events = |seq| events_record(seq, 0, 1, 0, &[io_event(1)]);
    assert_eq!(of(&[sigset(1, Memory::Read), events(2)]), set(Some(0x200)));
    assert_eq!(of(&[sigset(1, Memory::Unread), events(2)]), set(None));
    assert_eq!(of(&[events(1)]), None);
}

#[test]
fn every_truncation_of_every_record_is_an_error() {
    for record in each_kind() {
        let mut decoder = Decoder::default();
        decoder.feed(&record, |_| ()).unwrap();
        for length in 0..record.len() {
            let result = decoder.feed(&record[..length], |_| ());
            assert!(result.is_err(), "{length} of {} bytes", record.len());
        }
    }
}

#[test]
fn unknown_kinds_and_values_are_errors() {
    for (place, value) in [(0, 0u8), (0, 19), (0, 200), (1, 1)] {
        let mut record = submitted(1, 1, 1);
        record[place] = value;
        let result = Decoder::default().feed(&record, |_| ());
        assert!(result.is_err(), "byte {place} is {value}");
    }
    // The offsets of the call's number and of the state of the ring's memory.
    let call_at = std::mem::offset_of!(record::Call, syscall);
    let memory_at = size_of::<record::Call>() + std::mem::offset_of!(RingSample, memory);
    for place in [call_at, memory_at] {
        let mut record = submitted(1, 1, 1);
        record[place] = 77;
        assert!(Decoder::default().feed(&record, |_| ()).is_err(), "byte {place}");
    }
    // The record claims more entries than it can have, none of them read: they must not become four billion
    // completions.
    let mut record = submitted(1, 1, 1);
    let count_at = std::mem::offset_of!(Submitted, new) + std::mem::offset_of!(NewEntries, count);
    record[count_at + 3] = 0xff;
    assert!(Decoder::default().feed(&record, |_| ()).is_err());
    assert_eq!(Lost::ALL.map(|cause| cause as usize), std::array::from_fn(|index| index));
}

#[test]
fn entries_that_cannot_be_read_yet_are_told_when_they_are() {
    let mut decoder = Decoder::default();
    let mut bodies = Vec::new();
    let mut record = record::Ring {
        header: header(Kind::Ring, 1, 0),
        handle: 0xc0,
        new: NewEntries { first: 5, beyond: 1, ..NewEntries::NONE },
    };
    let mut feed = |bytes: &[u8], bodies: &mut Vec<Body>| {
        decoder.feed(bytes, |event| bodies.push(event.body.clone())).unwrap();
    };
    feed(record.as_bytes(), &mut bodies);
    let behind = Body::Behind(Behind { ctx: Handle(0xc0), completions: 1 });
    assert_eq!(bodies, [behind], "one, and no completion yet");
    record.header.seq = 2;
    record.new = NewEntries { first: 5, count: 1, ..NewEntries::NONE };
    feed(record.as_bytes(), &mut bodies);
    let Body::Completion(unread) = bodies[1] else { panic!("{bodies:?}") };
    assert_eq!(unread.event, None, "it was overwritten");
}

#[test]
fn the_records_of_a_submit_become_one_call() {
    let call = only_call(&[
        submit(1, flag::MORE, 3, 0, &[submitted_iocb(1, Memory::Read)]),
        submit(2, 0, 3, 1, &[submitted_iocb(2, Memory::Read), submitted_iocb(3, Memory::Read)]),
        submitted(3, 3, 3),
    ]);
    assert_eq!((call.ret, call.entered, call.entry), (3, Some(1500), Entry::Seen));
    assert_eq!(call.ring_before, Some(Ring { head: 1, tail: 1, nr: 127 }));
    assert_eq!(call.ring, Some(Ring { head: 1, tail: 2, nr: 127 }));
    let Args::Submit { ctx, nr, iocbs, truncated, .. } = call.args else { panic!() };
    assert_eq!((ctx, nr, truncated), (Handle(0xc0), 3, 0));
    let values: Vec<_> = iocbs.iter().map(|it| it.as_ref().unwrap().value.unwrap()).collect();
    assert_eq!(values, [iocb(1), iocb(2), iocb(3)]);
}

#[test]
fn the_only_iocb_of_a_submit_comes_with_its_result() {
    let call = |memory| only_call(&[submitted_one(1, submitted_iocb(1, memory), &[])]);
    let seen = call(Memory::Read);
    assert_eq!((seen.ret, seen.entered, seen.entry), (1, Some(1500), Entry::Seen));
    assert_eq!(seen.ring_before, Some(Ring { head: 1, tail: 1, nr: 127 }));
    assert_eq!(seen.ring, Some(Ring { head: 1, tail: 2, nr: 127 }));
    let address = Some(Address(0x1001));
    for (memory, value, read_late) in [
        (Memory::Read, Some(iocb(1)), false),
        (Memory::ReadLate, Some(iocb(1)), true),
        (Memory::Unread, None, false),
    ] {
        let Args::Submit { nr: 1, iocbs, truncated: 0, .. } = call(memory).args else { panic!() };
        assert_eq!(iocbs, [Some(Iocb { address, value, read_late, vectors: None })]);
    }
}

#[test]
fn the_only_iocb_of_a_submit_that_has_not_returned_is_in_the_threads_slot() {
    let mut thread: record::Thread = FromZeros::new_zeroed();
    (thread.syscall, thread.tid, thread.args) =
        (Syscall::Submit as u32, 8, [0xc0, 1, 0xa0, 0, 0, 0]);
    (thread.iocb_address, thread.iocb_pointer) = (0x1001, Memory::Read as u32);
    (thread.iocb, thread.iocb_memory) = (iocb(1), Memory::Read as u32);
    let (address, value) = (Some(Address(0x1001)), Some(iocb(1)));
    let of_it = Some(Iocb { address, value, read_late: false, vectors: None });
    let of_a_call_before = None;
    for (told, expected) in [(1, of_it), (0, of_a_call_before)] {
        thread.told = told;
        let mut bodies = Vec::new();
        Decoder::default().unfinished(0, &[thread], |event| bodies.push(event.body.clone()));
        let [Body::Unfinished(Unfinished { args: Args::Submit { iocbs, .. }, .. })] = &bodies[..]
        else {
            panic!("{bodies:?}")
        };
        assert_eq!(*iocbs, [expected]);
    }
}

#[test]
fn entries_of_the_ring_become_completions_with_a_window() {
    let before = [
        seen_thread(1),
        context_seen(2, 3, 5),
        submit(3, 0, 1, 0, &[submitted_iocb(1, Memory::Read)]),
    ];
    let entries = [io_event(1), io_event(2)];
    let by_itself =
        vec![ring_record(4, &entries), submitted(5, 1, 1), ring_record(6, &entries[1..])];
    let with_the_call = vec![submitted_with_entries(4, &entries), ring_record(5, &entries[1..])];
    let with_its_iocb = vec![
        submitted_one(4, submitted_iocb(1, Memory::Read), &entries),
        ring_record(5, &entries[1..]),
    ];
    let ctx = Handle(0xc0);
    let of = |data| {
        Body::Completion(Completion {
            ctx,
            event: Some(io_event(data)),
            since: Some(2000),
            until: Some(SEEN),
            discarded: false,
        })
    };
    for records in [by_itself, with_the_call, with_its_iocb] {
        let bodies = decode(&[&before[..], &records].concat());
        assert_eq!(bodies[1..3], [of(1), of(2)]);
        assert!(matches!(&bodies[3], Body::Call(call) if call.ret == 1));
        assert_eq!(bodies.len(), 4, "an entry that was seen is not told again: {bodies:?}");
    }
}

#[test]
fn a_refused_iocb_is_the_first_that_was_not_accepted() {
    let two = [submitted_iocb(1, Memory::Read), submitted_iocb(2, Memory::Read)];
    let bodies =
        decode(&[submit(1, 0, 2, 0, &two), refused(2).as_bytes().to_vec(), submitted(3, 2, 1)]);
    let expected = Refused { ctx: Handle(0xc0), index: 1, iocb: Some(Address(0x1002)), ret: -9 };
    assert_eq!(bodies[0], Body::Refused(expected));
    assert!(matches!(&bodies[1], Body::Call(call) if call.ret == 1));
}

#[test]
fn the_end_of_a_context_is_told_once_whoever_tells_it() {
    let destroy = |seq| {
        let call = call(Kind::Destroy, seq, Syscall::Destroy, [0xc0; 6], 0);
        Destroy { call, ring: sample(1, 1) }.as_bytes().to_vec()
    };
    let (how, in_flight) = (How::Destroy, Some(1));
    let gone = Body::ContextGone(Gone { ctx: Handle(0xc0), how, in_flight, at_most: false });
    let start = [seen_thread(1), setup(2), submitted(3, 1, 1)];
    let records = [&start[..], &[destroy(4)]].concat();
    let ended = |bodies: &[Body]| {
        let index = bodies.iter().position(|it| *it == gone).unwrap();
        assert_eq!(bodies.iter().filter(|it| matches!(it, Body::ContextGone(_))).count(), 1);
        assert!(matches!(&bodies[index + 1], Body::Call(call) if call.ret == 0));
    };
    ended(&decode(&records));
    let told = [&start[..], &[context_gone(record::End::Destroy), destroy(4)]].concat();
    let mut decoder = Decoder { told_ends: true, ..Decoder::default() };
    let mut bodies = Vec::new();
    for record in &told {
        decoder.feed(record, |event| bodies.push(event.body.clone())).unwrap();
    }
    ended(&bodies);
}

/// An unwinder that gives stacks of one function, and notes the questions.
#[derive(Clone, Default)]
struct Asked(std::rc::Rc<std::cell::RefCell<Vec<String>>>);

impl Unwind for Asked {
    fn unwind(&mut self, pid: u32, copied: &Copied<'_>) -> Stack {
        self.0.borrow_mut().push(format!("unwind {pid} at {}", copied.time));
        let frame = crate::event::Frame { address: copied.place.ip, place: None };
        Stack { frames: [frame].into(), truncated: true }
    }

    fn forget(&mut self, pid: u32) {
        self.0.borrow_mut().push(format!("forget {pid}"));
    }
}

#[test]
fn a_stack_is_of_the_call_with_which_it_came() {
    let asked = Asked::default();
    let mut decoder = Decoder::default().with_stacks(asked.clone());
    let exit = record::Process {
        header: header(Kind::Process, 0, 0),
        started: 5,
        space: SPACE,
        change: record::Change::Exit,
        other: 0,
        status: 0,
        followed: 0,
        thread_name: [0; 16],
        name: [0; 16],
        path: [0; record::PATH_BYTES],
    };
    let mut stacks = Vec::new();
    // The second stack belongs to a call whose end never came.
    for record in
        [stack(1, 1000), setup(2), stack(3, 999), setup(4), setup(5), exit.as_bytes().to_vec()]
    {
        let take = |event: &Event| {
            if let Body::Call(call) = &event.body {
                stacks.push(call.stack.as_ref().map(|it| it.frames[0].address));
            }
        };
        decoder.feed(&record, take).unwrap();
    }
    assert_eq!(stacks, [Some(0xabc), None, None]);
    assert_eq!(*asked.0.borrow(), ["unwind 7 at 1000", "unwind 7 at 999", "forget 7"]);
}

/// A process that reads /proc/PID/maps, as we do, may be the last that holds the memory of another process.
#[test]
fn an_end_by_somebody_else_is_explained_by_what_the_process_did() {
    let other = || {
        let mut record = context_gone(record::End::Exit);
        record[std::mem::offset_of!(record::ContextGone, by_other)] = 1;
        record
    };
    let process = |change, space| {
        let mut record = seen_thread(0);
        record[std::mem::offset_of!(record::Process, change)] = change as u8;
        record[std::mem::offset_of!(record::Process, space)] = space;
        record
    };
    let seen = process(record::Change::Seen, SPACE as u8);
    let exec = process(record::Change::Exec, 99);
    let exit = process(record::Change::Exit, SPACE as u8);
    let how = |records: &[&Vec<u8>]| {
        let mut decoder = Decoder { told_ends: true, ..Decoder::default() };
        let mut found = Vec::new();
        let mut take = |event: &Event| {
            if let Body::ContextGone(gone) = event.body {
                found.push(gone.how);
            }
        };
        for record in records {
            decoder.feed(record, &mut take).unwrap();
        }
        decoder.unfinished(0, &[], &mut take);
        found
    };
    assert_eq!(how(&[&seen, &other(), &exec]), [How::Exec]);
    assert_eq!(how(&[&seen, &exec, &other()]), [How::Exec]);
    assert_eq!(how(&[&seen, &other(), &exit]), [How::Exit]);
    assert_eq!(how(&[&seen, &exit, &other()]), [How::Exit]);
    assert_eq!(how(&[&seen, &other()]), [How::Exit], "the trace ended before");
}

#[test]
fn what_is_read_late_fills_the_gaps_only() {
    let unread = submitted_iocb(2, Memory::Unread);
    let changed = SubmittedIocb { iocb: iocb(99), ..submitted_iocb(1, Memory::ReadLate) };
    let late = submitted_iocb(2, Memory::ReadLate);
    let call = only_call(&[
        submit(1, 0, 2, 0, &[submitted_iocb(1, Memory::Read), unread]),
        submit(2, flag::LATE, 2, 0, &[changed, late]),
        submitted(3, 2, 2),
    ]);
    let Args::Submit { iocbs, .. } = call.args else { panic!() };
    assert_eq!(iocbs[0].clone().unwrap().value, Some(iocb(1)), "as it was at entry");
    assert!(!iocbs[0].clone().unwrap().read_late);
    assert_eq!(iocbs[1].clone().unwrap().value, Some(iocb(2)));
    assert!(iocbs[1].clone().unwrap().read_late);
}

#[test]
fn the_records_of_a_getevents_become_one_call() {
    let list: Vec<IoEvent> = (0..130).map(io_event).collect();
    let call = only_call(&[
        events_record(1, flag::MORE, 130, 0, &list[..128]),
        events_record(2, 0, 130, 128, &list[128..]),
    ]);
    let Args::Getevents { list: found, timeout_value, .. } = call.args else { panic!() };
    assert_eq!(found.into_iter().flatten().collect::<Vec<_>>(), list);
    assert_eq!(timeout_value, Some(abi::Timespec { sec: 1, nsec: 5 }));
}

#[test]
fn a_gap_in_the_sequence_is_a_loss_and_nothing_of_it_is_guessed() {
    let bodies = decode(&[
        submit(1, 0, 1, 0, &[submitted_iocb(1, Memory::Read)]),
        // The result of the first call and the iocbs of the second are missing.
        submitted(4, 1, 1),
    ]);
    assert_eq!(bodies[0], Body::Lost { records: 2 });
    let Body::Call(Call { args: Args::Submit { iocbs, .. }, .. }) = &bodies[1] else { panic!() };
    assert_eq!(iocbs, &[None]);
}

#[test]
fn a_new_slot_of_a_known_thread_is_no_loss() {
    let bodies = decode(&[submitted(1, 0, 0), submitted(2, 0, 0), submitted(1, 0, 0)]);
    assert_eq!(bodies.len(), 3);
    let bodies = decode(&[submitted(1, 0, 0), submitted(5, 0, 0), submitted(3, 0, 0)]);
    assert_eq!(bodies[1], Body::Lost { records: 3 });
    assert_eq!(bodies[3], Body::Lost { records: 2 }, "the first two of the new slot");
}

#[test]
fn a_call_that_was_not_entered_is_explained() {
    let entry = |flags: u16, ret: i64, blocked: bool| {
        let mut call = call(Kind::Submitted, 1, Syscall::Submit, [0xc0, 0, 0, 0, 0, 0], ret);
        call.header.flags = flag::NOT_ENTERED | flags;
        call.entered = 0;
        let record = Submitted { call, ring: RingSample::UNREAD, new: NewEntries::NONE };
        let mut decoder = Decoder::default();
        if blocked {
            decoder.blocked_at_attach(8, Syscall::Submit);
        }
        let mut found = None;
        let take = |event: &Event| {
            if let Body::Call(call) = &event.body {
                found = Some(call.entry);
            }
        };
        decoder.feed(record.as_bytes(), take).unwrap();
        found.unwrap()
    };
    assert_eq!(entry(0, -1, false), Entry::BeforeAttach, "first of its thread, no filter");
    assert_eq!(entry(flag::SECCOMP, 1, false), Entry::BeforeAttach, "a filter gives no success");
    assert_eq!(entry(flag::SECCOMP, -1, true), Entry::BeforeAttach, "/proc showed it blocked");
    assert_eq!(entry(flag::SECCOMP, -1, false), Entry::Denied);
    assert_eq!(entry(flag::SECCOMP | flag::KNOWN_THREAD, -1, false), Entry::Denied);
    assert_eq!(entry(flag::KNOWN_THREAD, -1, false), Entry::Missed);
    assert_eq!(entry(flag::SECCOMP | flag::KNOWN_THREAD, 1, false), Entry::Missed);
}

#[test]
fn the_same_records_give_the_same_events() {
    let process = record::Process {
        header: header(Kind::Process, 0, 0),
        started: 5,
        space: SPACE,
        change: record::Change::Seen,
        other: 0,
        status: 0,
        followed: 0,
        thread_name: [0; 16],
        name: [0; 16],
        path: [0; record::PATH_BYTES],
    };
    let records = [process.as_bytes().to_vec(), stack(1, 1000), setup(2)];
    let events = |seed| {
        let mut decoder = Decoder::default().with_stacks(Asked::default()).with_seed(seed);
        let mut events = Vec::new();
        for record in &records {
            decoder.feed(record, |event| events.push(event.clone())).unwrap();
        }
        events
    };
    assert_eq!(events(1).len(), 2);
    assert_eq!(events(1), events(1));
    assert_ne!(events(1), events(2), "address spaces have other numbers");
}
