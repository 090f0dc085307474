//! The processes that are traced, and which of them share an address space.

use std::collections::HashMap;

use aiotrace_common::record::{Change, Header, Kind, PATH_BYTES, Process as Record};

use super::errands::ExecutedPath;
use super::{
    records::{Records, header},
    tracee::Tracee,
};
use crate::{
    errand::{Errand as _, Started},
    proc,
};

/// The processes that are traced.
#[derive(Default)]
pub struct Processes {
    known: HashMap<u32, Process>,
    /// The last number given to an address space.
    spaces: u64,
}

/// A process that is traced.
#[derive(Clone, Debug)]
pub struct Process {
    /// The number of its address space.
    pub space: u64,
    /// When it started, nanoseconds of CLOCK_BOOTTIME; 0 if unknown.
    started: u64,
    name: [u8; 16],
    /// Its threads stop at each system call.
    pub all_calls: bool,
    /// The time of the fault or short io_submit because of which its synchronous calls are watched.
    pub watched: Option<u64>,
    /// When a synchronous call of it, since then, last read, wrote or synced something: what that was is to be looked at.
    pub touched: u64,
    /// How many more such calls are worth a look.
    pub looks: u32,
    /// It is traced only because it must be, and nothing is recorded of it.
    pub is_silent: bool,
    /// No event of its maker has announced it.
    pub is_orphan: bool,
}

impl Processes {
    /// Adds a process. Its address space is that of `shares`, or its own.
    pub fn add(&mut self, pid: u32, shares: Option<u32>, all_calls: bool, is_silent: bool) -> u64 {
        let shared = shares.and_then(|it| Some(self.known.get(&it)?.space));
        let space = shared.unwrap_or_else(|| self.new_space());
        let started = Started { pid }.ask().flatten().unwrap_or(0);
        let name = padded(proc::name(pid));
        let (watched, is_orphan) = (None, false);
        let (touched, looks) = (0, 0);
        let process = Process {
            space,
            started,
            name,
            all_calls,
            watched,
            touched,
            looks,
            is_silent,
            is_orphan,
        };
        self.known.insert(pid, process);
        space
    }

    fn new_space(&mut self) -> u64 {
        self.spaces += 1;
        self.spaces
    }

    /// A process, if it is traced.
    pub fn of(&self, pid: u32) -> Option<&Process> {
        self.known.get(&pid)
    }

    /// A process, to be changed.
    pub fn of_mut(&mut self, pid: u32) -> Option<&mut Process> {
        self.known.get_mut(&pid)
    }

    /// The ids of all processes.
    pub fn pids(&self) -> impl Iterator<Item = u32> + '_ {
        self.known.keys().copied()
    }

    /// Whether all processes that are left are silent.
    pub fn is_over(&self) -> bool {
        self.known.values().all(|it| it.is_silent)
    }

    /// Gives the process another address space. Returns the number of the new one, and that of the old one if no
    /// other process has it.
    pub fn leave_space(&mut self, pid: u32) -> (u64, Option<u64>) {
        let new = self.new_space();
        let Some(process) = self.known.get_mut(&pid) else { return (new, None) };
        process.watched = None;
        let old = std::mem::replace(&mut process.space, new);
        (new, self.unless_used(old))
    }

    /// Removes a process that ended. Returns it, and its address space if no other process has that.
    pub fn remove(&mut self, pid: u32) -> Option<(Process, Option<u64>)> {
        let process = self.known.remove(&pid)?;
        let space = self.unless_used(process.space);
        Some((process, space))
    }

    fn unless_used(&self, space: u64) -> Option<u64> {
        self.known.values().all(|it| it.space != space).then_some(space)
    }

    /// Reads its name again.
    pub fn rename(&mut self, pid: u32) {
        if let Some(process) = self.known.get_mut(&pid) {
            process.name = padded(proc::name(pid));
        }
    }

    /// Records the first AIO call of a thread, in the thread's own sequence of records.
    pub fn tell_thread(&mut self, records: &mut Records, tracee: &mut Tracee, time: u64) {
        self.rename(tracee.pid);
        let header = header(tracee, Kind::Process, 0, time);
        if let Some(process) = self.known.get(&tracee.pid) {
            records.emit(&process.record(header, Change::Seen));
        }
    }

    /// A thread of `pid` created a process.
    /// `waits`: until the child has ended or runs another program, and shares its memory with it for that time only.
    pub fn tell_fork(
        &self,
        records: &mut Records,
        [pid, tid, child]: [u32; 3],
        (time, waits): (u64, bool),
    ) {
        let of_child = self.known.get(&child);
        if let Some(process) = self.known.get(&pid) {
            let record = process.record(uncounted(pid, tid, time), Change::Fork);
            let is_followed = of_child.is_some_and(|it| !it.is_silent);
            let space = of_child.filter(|_| is_followed || !waits).map_or(0, |it| it.space);
            let followed = u32::from(is_followed);
            records.emit(&Record { other: child, space, followed, ..record });
        }
    }

    /// Records that a process runs a new program; the thread that asked for it had the id `former`.
    pub fn tell_exec(&self, records: &mut Records, pid: u32, former: u32, time: u64) {
        if let Some(process) = self.known.get(&pid) {
            let record = process.record(uncounted(pid, pid, time), Change::Exec);
            records.emit(&Record { other: former, path: path(pid), ..record });
        }
    }
}

impl Process {
    fn record(&self, header: Header, change: Change) -> Record {
        let thread_name = padded(proc::thread_name(header.pid, header.tid));
        Record {
            header,
            started: self.started,
            space: self.space,
            change,
            other: 0,
            status: 0,
            followed: 0,
            thread_name: if thread_name == [0; 16] { self.name } else { thread_name },
            name: self.name,
            path: [0; PATH_BYTES],
        }
    }

    /// Records that a process ended, with this status as wait(2) gives it.
    pub fn tell_exit(&self, records: &mut Records, pid: u32, status: u32, time: u64) {
        let record = self.record(uncounted(pid, pid, time), Change::Exit);
        records.emit(&Record { status, ..record });
    }
}

/// The header of a record that belongs to no thread's sequence.
fn uncounted(pid: u32, tid: u32, time: u64) -> Header {
    Header { kind: Kind::Process, flags: 0, seq: 0, time, pid, tid }
}

/// A name padded with NUL; only NUL if it could not be read.
fn padded(name: Option<Vec<u8>>) -> [u8; 16] {
    let mut padded = [0; 16];
    // The last byte stays NUL.
    for (to, from) in padded[..15].iter_mut().zip(name.unwrap_or_default()) {
        *to = from;
    }
    padded
}

/// The path of the program that begins, as it was given to exec, padded with NUL.
fn path(pid: u32) -> [u8; PATH_BYTES] {
    let mut path = [0; PATH_BYTES];
    let found = ExecutedPath { pid }.ask().unwrap_or_default();
    // The last byte stays NUL.
    for (to, from) in path[..PATH_BYTES - 1].iter_mut().zip(found) {
        *to = from;
    }
    path
}

/// Looks up the path of the program that begins. Runs in a helper.
pub fn executed_path(pid: u32) -> Vec<u8> {
    let mut path = vec![0; PATH_BYTES];
    let Some(address) = path_address(&proc::auxiliary_vector(pid).unwrap_or_default()) else {
        return Vec::new();
    };
    // The path is near the end of the stack, so fewer bytes may be readable.
    let is_there = |length: &usize| proc::read_memory(pid, address, &mut path[..*length]).is_some();
    let length = (1..PATH_BYTES).rev().find(is_there).unwrap_or(0);
    path.truncate(length);
    path.truncate(path.iter().position(|it| *it == 0).unwrap_or(length));
    path
}

/// The value of `AT_EXECFN` in an auxiliary vector, of a 64-bit program or of a 32-bit one.
fn path_address(auxv: &[u8]) -> Option<u64> {
    const AT_EXECFN: u64 = 31;
    let of = |width: usize| {
        let words: Vec<u64> = auxv
            .chunks_exact(width)
            .map(|it| it.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)))
            .collect();
        words.chunks_exact(2).find(|it| it[0] == AT_EXECFN).map(|it| it[1])
    };
    // Tags are small numbers: read as 64-bit words, a vector of 32-bit words would have large ones.
    of(8).filter(|_| auxv.chunks_exact(16).all(|it| it[4..8] == [0; 4])).or_else(|| of(4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_program_is_in_its_auxiliary_vector() {
        let words =
            |words: &[u64]| words.iter().flat_map(|it| it.to_ne_bytes()).collect::<Vec<_>>();
        assert_eq!(
            path_address(&words(&[6, 4096, 31, 0x7ffd_0000_1000, 0, 0])),
            Some(0x7ffd_0000_1000)
        );
        let narrow: Vec<u8> =
            [6u32, 4096, 31, 0xff00_1000, 0, 0].iter().flat_map(|it| it.to_ne_bytes()).collect();
        assert_eq!(path_address(&narrow), Some(0xff00_1000));
        assert_eq!(path_address(&[]), None);
    }

    #[test]
    fn an_address_space_ends_with_its_last_user() {
        let mut processes = Processes::default();
        let space = processes.add(4_194_301, None, false, false);
        assert_eq!(processes.add(4_194_302, Some(4_194_301), false, false), space);
        let (new, left) = processes.leave_space(4_194_302);
        assert!(new != space && left.is_none());
        assert_eq!(processes.remove(4_194_301).unwrap().1, Some(space));
        assert_eq!(processes.remove(4_194_302).unwrap().1, Some(new));
        assert!(processes.is_over());
    }
}
