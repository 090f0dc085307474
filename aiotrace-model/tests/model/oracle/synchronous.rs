//! Synchronous calls in a play.

use aiotrace_common::synchronous::Call;
use aiotrace_model::event::{Address, Body, Synchronous, Vectors};

use super::{
    fate::{Act, Does},
    play::{PAGE, PID, Player},
    truth::Work,
    works::memory,
};

/// Another thread of the program.
const THREAD: u32 = 17;

impl Player<'_> {
    /// Returns whether the source sees it.
    pub fn tell_synchronous(&mut self, told: Synchronous) -> bool {
        let entered = told.entered.filter(|_| !self.plan.around.late);
        self.tell_watched(PID, Synchronous { entered, ..told })
    }

    /// Another process, or another thread, makes a call.
    pub fn tell_synchronous_of(&mut self, tid: u32, told: Synchronous) {
        self.tell_watched(tid, told);
    }

    fn tell_watched(&mut self, tid: u32, told: Synchronous) -> bool {
        let is_watched = match self.model.settled_up_to() {
            None => true,
            Some(time) => time < self.provoked,
        };
        if !self.plan.watches || !is_watched {
            return false;
        }
        match tid {
            PID => drop(self.record(vec![Body::Synchronous(told)])),
            THREAD => self.tell_of(PID, tid, Body::Synchronous(told)),
            _ => self.tell_of(tid, tid, Body::Synchronous(told)),
        }
        true
    }

    /// A call that moves no data of the program. Returns whether the source sees it.
    pub fn tell_call(&mut self, call: Call, fd: u32, count: u64) -> bool {
        let entered = Some(self.tick());
        self.tick();
        let (offset, memory, ret) = (None, None, 0);
        self.tell_synchronous(Synchronous { call, entered, fd, offset, memory, count, ret })
    }

    /// The file of a descriptor is mapped.
    pub fn tell_map(&mut self, fd: u32, stores: bool) {
        let entered = Some(self.tick());
        self.tick();
        let (call, offset, memory, ret) = (Call::Mmap, None, None, 0x7000_0000);
        let count = u64::from(stores);
        self.tell_synchronous(Synchronous { call, entered, fd, offset, memory, count, ret });
    }

    /// Maps the file of a work, and does it there. (A mapping is not enough for a sync.)
    pub fn mapped(&mut self, work: Work) {
        if matches!(work.opcode, 2 | 3) {
            self.tell_call(Call::Msync, u32::MAX, 1);
        } else {
            self.world.map(self.world.file(work.fd), true);
            self.tell_map(work.fd, true);
        }
        let now = Work { file: self.world.file(work.fd), ..work };
        self.truth.acts.push(Act { data: None, ..Act::by_call(self.now, now) });
    }

    /// Moves other data at the place of a work; nobody sees that it is no fallback.
    pub fn with_other_memory(&mut self, work: Work) {
        if matches!(work.opcode, 2 | 3) {
            return;
        }
        let call = if work.is_write() { Call::Pwrite } else { Call::Pread };
        let entered = Some(self.tick());
        self.tick();
        let (count, ret) = (PAGE as u64, PAGE);
        let (offset, memory) = (Some(work.offset), Some(Vectors::one(Address(0x77), count)));
        let told = Synchronous { call, entered, fd: work.fd, offset, memory, count, ret };
        let now = Work { file: self.world.file(work.fd), ..work };
        self.truth.acts.push(Act { data: None, ..Act::by_call(self.now, now) });
        self.tell_synchronous(told);
    }

    /// Does a work with read(2) or write(2), whose offset nobody sees.
    pub fn somewhere(&mut self, work: Work) {
        let call = match work.opcode {
            2 | 3 => return self.synchronously(work, work.fd, (1, 1)),
            0 => Call::Read,
            _ => Call::Write,
        };
        let entered = Some(self.tick());
        self.tick();
        let length = work.end() - work.offset;
        let memory = Some(Vectors::one(Address(memory(work)), length as u64));
        let (fd, offset, count, ret) = (work.fd, None, length as u64, length);
        let now = Work { file: self.world.file(fd), ..work };
        self.truth.acts.push(Act { data: None, ..Act::by_call(self.now, now) });
        self.reads(now);
        self.tell_synchronous(Synchronous { call, entered, fd, offset, memory, count, ret });
    }

    /// Does a work through this descriptor, or the first `most` of its pieces.
    pub fn synchronously(&mut self, work: Work, fd: u32, (pieces, most): (i64, i64)) {
        let pieces = if matches!(work.opcode, 2 | 3) { 1 } else { pieces };
        for piece in 0..most.min(pieces) {
            if !self.piece(work, fd, (piece, pieces)) {
                return;
            }
        }
    }

    /// Does one of so many pieces of a work through this descriptor. Returns false if the file has ended.
    pub fn piece(&mut self, work: Work, fd: u32, (piece, pieces): (i64, i64)) -> bool {
        let entered = self.tick();
        self.tick();
        let told = self.call_of(work, fd, (piece, pieces), entered);
        let is_all = told.ret == told.count as i64 || told.call.is_vectored();
        self.tell_synchronous(told);
        is_all || matches!(work.opcode, 2 | 3)
    }

    /// Another thread does a work, with a call that began then, or after the failure.
    pub fn in_thread(&mut self, work: Work, before: bool) {
        let now = self.tick();
        let is_sync = matches!(work.opcode, 2 | 3);
        let entered = if before && is_sync { now - 1_000_000 } else { now };
        self.tick();
        let told = self.call_of(work, work.fd, (0, 1), entered);
        let entered = told.entered.filter(|_| !self.plan.around.late);
        self.tell_synchronous_of(THREAD, Synchronous { entered, ..told });
    }

    /// The call that does one of so many pieces, which has just returned.
    fn call_of(
        &mut self,
        work: Work,
        fd: u32,
        (piece, pieces): (i64, i64),
        entered: u64,
    ) -> Synchronous {
        let length = work.end() - work.offset;
        let from = length * piece / pieces;
        let size = length * (piece + 1) / pieces - from;
        let call = match work.opcode {
            2 => Call::Fsync,
            3 => Call::Fdatasync,
            8 if fd == work.fd => Call::Pwritev,
            1 | 8 => Call::Pwrite,
            _ => Call::Pread,
        };
        let is_sync = work.does() == Does::Sync || work.does() == Does::SyncData;
        let offset = work.offset + from;
        let file = self.world.file(fd);
        let ends = self.truth.sizes.get(&file).map_or(i64::MAX, |it| *it as i64);
        let moved = match call {
            Call::Pread => size.min((ends - offset).max(0)),
            _ => size,
        };
        // A piece is one of the two vectors.
        let count = match call.is_vectored() {
            true if pieces == 1 => 2,
            true => 1,
            false => size as u64,
        };
        let at = Address(memory(work) + from as u64);
        let memory = (!is_sync).then(|| Vectors::one(at, size as u64));
        let data = if work.is_write() { self.world.data(work.offset) } else { 0 };
        let append = work.is_write() && self.world.appends(fd);
        let range = (offset as u64, (offset + size) as u64);
        let now = Work { file, ..work };
        let now = Work { append, data, ..now };
        self.truth.acts.push(Act { began: entered, range, ..Act::by_call(self.now, now) });
        self.reads(now);
        let (offset, entered) = ((!is_sync).then_some(offset), Some(entered));
        Synchronous { call, entered, fd, offset, memory, count, ret: moved }
    }
}
