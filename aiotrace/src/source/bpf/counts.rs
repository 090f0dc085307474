//! Reads what the probes have counted. The rows are mapped: to read them takes no call of the
//! kernel, so the kernel skips no kprobe because of it. See [`aiotrace_common::counts`] for who
//! writes into which row.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::{AsFd as _, AsRawFd as _},
};

use aiotrace_common::{
    counts::{
        CALL_ROWS, CONTEXT_ROWS, CallRow, ContextRow, CountedContext, ERROR_ROWS, ErrorKey,
        LATENCIES, LatencyKey, SHARED_CALL_ROWS, state,
    },
    names, started,
};
use aya::maps::{Map, Queue};
use zerocopy::FromZeros;

use super::{error::Error, load::Probes};
use crate::{
    clock,
    counted::{CallCounts, ContextCounts, Counted, MOST_CONTEXTS, Processes, histogram::Histogram},
    event::{Handle, Syscall},
    source::collector::Counting,
};

/// The sizes of the maps where calls are counted.
pub(super) const SIZES: [(&str, u32); 6] = [
    (names::CALL_ROWS, CALL_ROWS),
    (names::FREE_CALL_ROWS, CALL_ROWS),
    (names::CONTEXT_ROWS, CONTEXT_ROWS),
    (names::FREE_CONTEXT_ROWS, CONTEXT_ROWS),
    (names::CONTEXT_PLACES, CONTEXT_ROWS),
    (names::ERRORS, ERROR_ROWS),
];

/// The sizes of the further maps where latencies of requests are measured.
pub(super) const LATENCY_SIZES: [(&str, u32); 2] =
    [(names::STARTED, started::SETS), (names::LATENCY_PLACES, CALL_ROWS)];

/// The counts in the rows, and the counts that were taken from rows that are free again.
pub struct Counts {
    calls: Rows<CallRow>,
    contexts: Rows<ContextRow>,
    processes: Processes,
    ended: Counted,
    last: u64,
    /// Processes that have ended are forgotten when they were told, so that others have room for ever.
    forgets: bool,
    told_gone: BTreeSet<u32>,
}

impl Counts {
    /// Maps the rows and makes them free for use.
    ///
    /// # Errors
    /// If the object has no such maps, or they cannot be mapped.
    pub fn new(probes: &mut Probes, counting: &Counting) -> Result<Self, Error> {
        let has_requests = counting.requests;
        let counts = Self {
            calls: Rows::of(probes, names::CALL_ROWS, CALL_ROWS)?,
            contexts: Rows::of(probes, names::CONTEXT_ROWS, CONTEXT_ROWS)?,
            processes: Processes::default(),
            ended: Counted { has_requests, ..Counted::default() },
            last: 0,
            forgets: counting.forgets,
            told_gone: BTreeSet::new(),
        };
        free(probes, names::FREE_CALL_ROWS, SHARED_CALL_ROWS..CALL_ROWS)?;
        free(probes, names::FREE_CONTEXT_ROWS, 1..CONTEXT_ROWS)?;
        Ok(counts)
    }

    /// Takes the counts from the rows of threads that are gone, and makes these rows free again.
    pub fn sweep(&mut self, probes: &mut Probes) {
        let mut swept = Vec::new();
        for index in SHARED_CALL_ROWS..CALL_ROWS {
            if self.calls.state(index, std::mem::offset_of!(CallRow, state)) != state::OVER {
                continue;
            }
            let row = self.calls.read(index);
            let place = self.processes.place(row.pid);
            add_call(&mut self.ended, place, &row);
            self.calls.clear(index);
            swept.push(index);
        }
        let _ = free(probes, names::FREE_CALL_ROWS, swept);
    }

    /// [`Self::sweep`], and also for processes that are gone: a record of their end may be missing.
    pub fn sweep_processes(&mut self, probes: &mut Probes) {
        self.sweep(probes);
        let mut gone: BTreeMap<u32, bool> = BTreeMap::new();
        // A process whose first thread is a zombie may have other threads, and its directory still
        // exists.
        let mut is_gone =
            move |pid: u32| *gone.entry(pid).or_insert_with(|| crate::proc::user(pid).is_err());
        let mut swept = Vec::new();
        for index in 1..CONTEXT_ROWS {
            if self.contexts.state(index, std::mem::offset_of!(ContextRow, state)) != state::USED {
                continue;
            }
            let row = self.contexts.read(index);
            if !is_gone(row.pid) {
                continue;
            }
            let key = self.context_key(row.pid, row.handle, true);
            self.ended.contexts.entry(key).or_default().add(&context_counts(&row));
            self.contexts.clear(index);
            let key = CountedContext { handle: row.handle, pid: u64::from(row.pid) };
            if let Ok(mut places) = probes.map::<[u8; 16], u32>(names::CONTEXT_PLACES) {
                let _ = places.remove(zerocopy::transmute_ref!(&key));
            }
            swept.push(index);
        }
        let _ = free(probes, names::FREE_CONTEXT_ROWS, swept);
        if self.ended.has_requests {
            self.sweep_latencies(probes, &mut is_gone);
        }
        for (key, count) in errors(probes).into_iter().filter(|(key, _)| is_gone(key.pid)) {
            let place = self.processes.place(key.pid);
            add_error(&mut self.ended, place, &key, count);
            if let Ok(mut errors) = probes.map::<[u8; 16], u64>(names::ERRORS) {
                let _ = errors.remove(zerocopy::transmute_ref!(&key));
            }
        }
    }

    fn sweep_latencies(&mut self, probes: &mut Probes, mut is_gone: impl FnMut(u32) -> bool) {
        let mut swept = Vec::new();
        for index in SHARED_CALL_ROWS..CALL_ROWS {
            if self.calls.state(index, std::mem::offset_of!(CallRow, state)) != state::USED {
                continue;
            }
            let row = self.calls.read(index);
            let Some(op) = operation(&row) else { continue };
            if !is_gone(row.pid) {
                continue;
            }
            let key = self.context_key(row.pid, row.handle, true);
            add_latency(&mut self.ended, key, op, &row);
            self.calls.clear(index);
            let key = LatencyKey { handle: row.handle, pid: row.pid, op: op as u32 };
            if let Ok(mut places) = probes.map::<[u8; 16], u32>(names::LATENCY_PLACES) {
                let _ = places.remove(zerocopy::transmute_ref!(&key));
            }
            swept.push(index);
        }
        let _ = free(probes, names::FREE_CALL_ROWS, swept);
    }

    /// Everything that was counted until now.
    pub fn read(&mut self, probes: &mut Probes) -> Counted {
        let told = std::mem::take(&mut self.told_gone);
        self.ended.forget(&told);
        self.processes.forget(&told);
        self.sweep_processes(probes);
        // Who still has a row is told again, and must not be forgotten.
        let mut has_row = BTreeSet::new();
        let mut counted = self.ended.clone();
        counted.time = clock::monotonic();
        for index in 1..CALL_ROWS {
            let is_shared = index < SHARED_CALL_ROWS;
            let state = self.calls.state(index, std::mem::offset_of!(CallRow, state));
            if !is_shared && state == state::FREE {
                continue;
            }
            let row = self.calls.read(index);
            has_row.insert(row.pid);
            if let Some(op) = operation(&row) {
                let key = self.context_key(row.pid, row.handle, false);
                add_latency(&mut counted, key, op, &row);
            } else if is_shared {
                add_call(&mut counted, 0, &CallRow { kind: index, ..row });
            } else {
                add_call(&mut counted, self.processes.place(row.pid), &row);
            }
        }
        for index in 0..CONTEXT_ROWS {
            let state = self.contexts.state(index, std::mem::offset_of!(ContextRow, state));
            if index > 0 && state == state::FREE {
                continue;
            }
            let row = self.contexts.read(index);
            has_row.insert(row.pid);
            // That of contexts without a row of their own may be empty.
            if index > 0 || row != FromZeros::new_zeroed() {
                let key = self.context_key(row.pid, row.handle, false);
                counted.contexts.entry(key).or_default().add(&context_counts(&row));
            }
        }
        for (key, count) in errors(probes) {
            let place = self.processes.place(key.pid);
            add_error(&mut counted, place, &key, count);
            has_row.insert(key.pid);
        }
        if self.forgets {
            let is_gone = |pid: u32| !has_row.contains(&pid) && crate::proc::user(pid).is_err();
            counted.gone = self.processes.those(is_gone);
            self.told_gone.clone_from(&counted.gone);
        }
        counted
    }

    /// Whether something was counted since the last call of this function.
    pub fn has_changed(&mut self, counted: &Counted) -> bool {
        let total = counted.total();
        std::mem::replace(&mut self.last, total) != total
    }

    /// The key under which a context's counts are reported. Contexts of ended processes have keys
    /// of their own only as long as there are few of them.
    fn context_key(&mut self, pid: u32, handle: u64, ended: bool) -> (u32, Handle) {
        let key = (pid, Handle(handle));
        let has_room = !ended
            || self.ended.contexts.len() < MOST_CONTEXTS
            || self.ended.contexts.contains_key(&key);
        if has_room && self.processes.place(pid) != 0 { key } else { (0, Handle(0)) }
    }
}

/// The index of the operation whose latencies the row counts, if it counts latencies.
fn operation(row: &CallRow) -> Option<usize> {
    (row.kind & LATENCIES != 0).then_some((row.kind & !LATENCIES) as usize)
}

fn add_call(to: &mut Counted, pid: u32, row: &CallRow) {
    let syscall = Syscall::ALL.into_iter().find(|it| *it as u32 == row.kind);
    let counts = call_counts(row);
    if let Some(syscall) = syscall
        && counts.calls() > 0
    {
        to.calls.entry((pid, syscall)).or_default().add(&counts);
    }
}

fn add_latency(to: &mut Counted, key: (u32, Handle), op: usize, row: &CallRow) {
    let context = to.contexts.entry(key).or_default();
    context.latencies.entry(op).or_default().add(&durations(row));
}

fn call_counts(row: &CallRow) -> CallCounts {
    CallCounts { failed: row.failed, unseen: row.unseen, durations: durations(row) }
}

fn durations(row: &CallRow) -> Histogram {
    let shortest = (row.shortest_inverted != 0).then_some(!row.shortest_inverted);
    let longest = (row.longest != 0).then_some(row.longest);
    Histogram::of_kernel(&row.buckets, row.total, shortest, longest)
}

fn context_counts(row: &ContextRow) -> ContextCounts {
    let ContextRow { used, accepted, ops, reaped, failed, moved, unread, .. } = *row;
    let latencies = BTreeMap::new();
    ContextCounts { used, accepted, ops, latencies, reaped, failed, moved, unread }
}

fn add_error(to: &mut Counted, pid: u32, key: &ErrorKey, count: u64) {
    let syscall = Syscall::ALL.into_iter().find(|it| *it as u32 == key.syscall);
    let errors = match syscall {
        Some(syscall) => to.errors.entry((pid, syscall)).or_default(),
        None => to.results.entry(pid).or_default(),
    };
    *errors.entry(key.ret).or_default() += count;
}

fn errors(probes: &mut Probes) -> Vec<(ErrorKey, u64)> {
    let Ok(errors) = probes.map::<[u8; 16], u64>(names::ERRORS) else { return Vec::new() };
    errors.iter().flatten().map(|(key, count)| (zerocopy::transmute!(key), count)).collect()
}

/// Makes rows free for threads and contexts that need one.
fn free(
    probes: &mut Probes,
    name: &'static str,
    rows: impl IntoIterator<Item = u32>,
) -> Result<(), Error> {
    let map = probes.ebpf.map_mut(name).ok_or(Error::Object(name))?;
    let mut queue = Queue::<_, u32>::try_from(map).map_err(|_| Error::Object(name))?;
    rows.into_iter().try_for_each(|row| queue.push(row, 0)).map_err(|_| Error::Object(name))
}

/// The rows of an array, which is mapped.
struct Rows<T> {
    at: *mut T,
    count: u32,
}

// SAFETY: the kernel writes to this memory as well; it is only accessed with volatile reads, and
// cleared where nobody uses a row.
unsafe impl<T> Send for Rows<T> {}

impl<T: zerocopy::FromBytes> Rows<T> {
    fn of(probes: &Probes, name: &'static str, count: u32) -> Result<Self, Error> {
        let Some(Map::Array(data)) = probes.ebpf.map(name) else { return Err(Error::Object(name)) };
        let fd = data.fd().as_fd().as_raw_fd();
        let (read, write) = (libc::PROT_READ, libc::PROT_WRITE);
        let bytes = count as usize * size_of::<T>();
        // SAFETY: a new mapping of a map; the kernel checks its size.
        let at = unsafe {
            libc::mmap(std::ptr::null_mut(), bytes, read | write, libc::MAP_SHARED, fd, 0)
        };
        if at == libc::MAP_FAILED {
            Err(Error::Object(name))
        } else {
            Ok(Self { at: at.cast(), count })
        }
    }

    fn row(&self, index: u32) -> *mut T {
        assert!(index < self.count, "a row");
        // SAFETY: the index was checked, so the row is in the mapping.
        unsafe { self.at.add(index as usize) }
    }

    /// The state of a row; `offset` is where the row has it.
    fn state(&self, index: u32, offset: usize) -> u32 {
        // SAFETY: it is in the mapping and aligned.
        unsafe { self.row(index).byte_add(offset).cast::<u32>().read_volatile() }
    }

    fn read(&self, index: u32) -> T {
        // SAFETY: it is in the mapping and aligned, and any bytes are a row.
        unsafe { self.row(index).read_volatile() }
    }

    /// Fills a row with zeros. Nobody may be using the row.
    fn clear(&self, index: u32) {
        // SAFETY: it is in the mapping, and zeros are a row.
        unsafe { self.row(index).write_bytes(0, 1) };
    }
}

impl<T> Drop for Rows<T> {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this size.
        unsafe { libc::munmap(self.at.cast(), self.count as usize * size_of::<T>()) };
    }
}
