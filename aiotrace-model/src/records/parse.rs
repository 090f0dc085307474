//! The meaning of a single record, or of a part of it.

use aiotrace_common::{
    abi,
    record::{self, MOST_VECTORS, Memory, PAGE, RingSample, SubmittedIocb, flag},
};
use zerocopy::{FromBytes as _, TryFromBytes};

use super::{
    Copied, Undecodable,
    contexts::{self, Contexts},
};
use crate::event::{
    Address, Args, Change, ExitStatus, Handle, How, Iocb, Process, Ring, SpaceId, Syscall, Vector,
    Vectors,
};

/// The copy of a stack in a record.
pub(super) fn copied(bytes: &[u8]) -> Result<Copied<'_>, Undecodable> {
    let (record, rest): (record::Stack, _) = prefix(bytes)?;
    let record::Stack { header, place, pages, read, known, space } = record;
    let wanted = (pages as usize).checked_mul(PAGE);
    let pages = wanted.and_then(|it| rest.get(..it)).ok_or(Undecodable(bytes.len()))?;
    Ok(Copied { time: header.time, space, place, pages, read, known })
}

/// An iocb of an io_submit, if it could be read.
pub(super) fn read_iocb(found: &SubmittedIocb) -> Iocb {
    Iocb {
        address: is_read(found.pointer).then_some(Address(found.address)),
        value: is_read(found.memory).then_some(found.iocb),
        read_late: matches!(found.memory, Memory::ReadLate),
        vectors: None,
    }
}

/// The only iocb of an io_submit that has not returned.
pub(super) fn kept_iocb(thread: &record::Thread) -> Iocb {
    let is_read = |memory: u32| memory == Memory::Read as u32;
    Iocb {
        address: is_read(thread.iocb_pointer).then_some(Address(thread.iocb_address)),
        value: is_read(thread.iocb_memory).then_some(thread.iocb),
        read_late: false,
        vectors: None,
    }
}

/// The arguments of a call, from its registers.
pub fn arguments(syscall: Syscall, args: &[u64; 6]) -> Args {
    let ctx = Handle(args[0]);
    match syscall {
        Syscall::Setup => {
            Args::Setup { nr_events: args[0] as u32, ctxp: Address(args[1]), stored: None }
        }
        Syscall::Destroy => Args::Destroy { ctx },
        Syscall::Submit => Args::Submit {
            ctx,
            nr: args[1] as i64,
            iocbpp: Address(args[2]),
            iocbs: Vec::new(),
            truncated: 0,
        },
        Syscall::Getevents | Syscall::Pgetevents => Args::Getevents {
            syscall,
            ctx,
            min_nr: args[1] as i64,
            nr: args[2] as i64,
            events: Address(args[3]),
            timeout: Address(args[4]),
            timeout_value: None,
            sigset: Address(if syscall == Syscall::Pgetevents { args[5] } else { 0 }),
            sigset_value: None,
            list: Vec::new(),
            truncated: 0,
            changed: Vec::new(),
        },
        Syscall::Cancel => {
            Args::Cancel { ctx, iocb: Address(args[1]), result: Address(args[2]), value: None }
        }
    }
}

/// Notes which process uses which address space, and returns the contexts that ended with the one that was left.
pub(super) fn changed(contexts: &mut Contexts, record: &record::Process) -> Vec<contexts::Ended> {
    let pid = record.header.pid;
    match record.change {
        record::Change::Exit => contexts.exited(pid),
        record::Change::Fork if record.followed == 0 => {
            contexts.is_shared(pid);
            Vec::new()
        }
        _ if record.space == 0 => Vec::new(),
        record::Change::Fork => contexts.uses(record.other, record.space, How::Exec),
        record::Change::Seen => contexts.uses(pid, record.space, How::Exec),
        record::Change::Exec => {
            let ended = contexts.uses(pid, record.space, How::Exec);
            contexts.begins(record.space);
            ended
        }
    }
}

/// `space` stands for the kernel's address of the address space, which nobody may learn.
pub(super) fn process(record: &record::Process, space: Option<SpaceId>) -> Process {
    let change = match record.change {
        record::Change::Seen => Change::Seen,
        record::Change::Fork => {
            Change::Fork { child: record.other, followed: record.followed != 0 }
        }
        record::Change::Exec => Change::Exec { path: until_nul(&record.path) },
        record::Change::Exit => Change::Exit { status: ExitStatus::from_wait(record.status) },
    };
    Process {
        name: until_nul(&record.name),
        thread_name: until_nul(&record.thread_name),
        started: (record.started != 0).then_some(record.started),
        space,
        change,
    }
}

pub(super) fn until_nul(bytes: &[u8]) -> Vec<u8> {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
}

pub(super) fn is_read(memory: Memory) -> bool {
    matches!(memory, Memory::Read | Memory::ReadLate)
}

pub(super) fn ring(sample: RingSample) -> Option<Ring> {
    is_read(sample.memory).then_some(Ring { head: sample.head, tail: sample.tail, nr: sample.nr })
}

pub(super) fn prefix<T: TryFromBytes>(bytes: &[u8]) -> Result<(T, &[u8]), Undecodable> {
    T::try_read_from_prefix(bytes).map_err(|_| Undecodable(bytes.len()))
}

/// The iovecs behind a record, as the program has them: so many, of two words each.
pub(super) fn vectors(bytes: &[u8], count: u32, flags: u16) -> Result<Vectors, Undecodable> {
    let word = if flags & flag::COMPAT != 0 { 4 } else { 8 };
    let size = 2 * word;
    let count = (count as usize).min(MOST_VECTORS);
    let bytes = bytes.get(..count * size).ok_or(Undecodable(bytes.len()))?;
    let number = |bytes: &[u8]| {
        let mut whole = [0; 8];
        whole[..bytes.len()].copy_from_slice(bytes);
        u64::from_ne_bytes(whole)
    };
    let piece = |bytes: &[u8]| {
        let (base, length) = bytes.split_at(word);
        Vector { base: Address(number(base)), length: number(length) }
    };
    Ok(Vectors::new(bytes.chunks_exact(size).map(piece).collect()))
}

pub(super) fn io_events(
    bytes: &[u8],
    count: usize,
) -> Result<impl Iterator<Item = abi::IoEvent> + '_, Undecodable> {
    let size = size_of::<abi::IoEvent>();
    let array = count
        .checked_mul(size)
        .and_then(|wanted| bytes.get(..wanted))
        .ok_or(Undecodable(bytes.len()))?;
    Ok(array.chunks_exact(size).filter_map(|bytes| abi::IoEvent::read_from_bytes(bytes).ok()))
}
