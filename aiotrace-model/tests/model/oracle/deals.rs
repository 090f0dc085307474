//! What the program of a play does about requests that were refused or failed, and what happens meanwhile.

use aiotrace_common::synchronous::Call;
use aiotrace_model::event::{Address, Args, Handle, Synchronous, Vectors};

use super::{
    fate::Act,
    plan::{By, Deal, End, Meanwhile, Others, Refill, Reopen},
    play::{OTHER, PAGE, Player, Todo, call},
    truth::Work,
    works::{iocb, memory},
    world::SOCKET,
};

/// Failures that the program does something about.
const MOST_DEALS: usize = 30;
/// The handle of the other process's context.
const OTHERS: Handle = Handle(0x9000);

impl Player<'_> {
    /// What the program does about requests that were refused or failed.
    pub fn deal(&mut self, rest: Vec<(Work, u64)>) {
        let deal = self.plan.deals[self.deals % self.plan.deals.len()];
        self.deals += 1;
        // The program does not try for ever.
        let deal = if self.deals > MOST_DEALS { Deal::Drop } else { deal };
        let keeps = matches!(deal, Deal::AtOnce | Deal::OneByOne);
        if !keeps {
            self.busy.retain(|busy| rest.iter().all(|it| it.1 != *busy));
        }
        let (number, work) = (self.deals - 1, rest.first().map(|it| it.0));
        let plan = self.plan;
        self.happens(&plan.before, number, work);
        if !self.is_over() {
            self.deal_with(deal, rest);
        }
        self.happens(&plan.after, number, work);
    }

    fn deal_with(&mut self, deal: Deal, rest: Vec<(Work, u64)>) {
        match deal {
            Deal::Through { which, by, pieces } => {
                for (work, _) in rest {
                    self.through(work, which, by, pieces.into());
                }
            }
            Deal::ByOther(does) => {
                for (work, _) in rest {
                    self.by_other(does, work.file, work.offset, work);
                }
            }
            Deal::Silently { unmaps } => {
                let may = |it: &&(Work, u64)| self.world.may_be_done_silently(it.0);
                for (work, _) in rest.iter().filter(may) {
                    let act = Act { data: None, ..Act::by_call(self.now + 1, *work) };
                    self.truth.acts.push(act);
                }
                if unmaps {
                    self.meanwhile(Meanwhile::Unmap, None);
                }
            }
            Deal::InThread { before } => {
                for (work, _) in rest {
                    self.in_thread(work, before);
                }
            }
            Deal::AtOnce => {
                let batch = rest.into_iter().map(|(work, iocb)| (work, iocb, false)).collect();
                self.submit(batch, false);
            }
            Deal::OneByOne => {
                for (work, iocb) in rest {
                    if self.is_over() {
                        break;
                    }
                    self.submit(vec![(work, iocb, false)], false);
                }
            }
            Deal::Elsewhere { after } => {
                let due = self.step + usize::from(after);
                self.todo.extend(rest.into_iter().map(|it| Todo { due, work: it.0, iocb: None }));
            }
            Deal::Drop => (),
            Deal::Synchronously { pieces } => {
                for (work, _) in rest {
                    self.synchronously(work, work.fd, (pieces.into(), pieces.into()));
                }
            }
            Deal::Halfway => {
                for (work, _) in rest {
                    self.synchronously(work, work.fd, (2, 1));
                }
            }
            Deal::Somewhere => {
                for (work, _) in rest {
                    self.somewhere(work);
                }
            }
            Deal::Map => {
                for (work, _) in rest {
                    self.mapped(work);
                }
            }
            Deal::OtherMemory => {
                for (work, _) in rest {
                    self.with_other_memory(work);
                }
            }
            Deal::Exit { status, after } => {
                self.wait(u64::from(after) / 1000);
                self.now += u64::from(after) % 1000 * 1_000_000;
                self.leave(End::Exit(status));
            }
            Deal::Abort => self.leave(End::Signal(6)),
            Deal::Hang => self.hangs = true,
        }
    }

    /// What happens before or after the program deals with a failure.
    fn happens(&mut self, what: &[Option<Meanwhile>], number: usize, about: Option<Work>) {
        // It may fail, too, and the program does not go on with that for ever.
        if number > MOST_DEALS {
            return;
        }
        let what = what.get(number % what.len().max(1)).copied().flatten();
        if let Some((what, about)) = what.zip(about).filter(|_| !self.is_over()) {
            self.meanwhile(what, Some(about));
        }
    }

    /// Something happens; `about`: the program has this to do.
    pub fn meanwhile(&mut self, what: Meanwhile, about: Option<Work>) {
        let own = about.map_or(3, |it| it.fd);
        let used = self.used;
        let which = |which: u8| match which {
            0 => own,
            1 => used,
            _ => 1 + u32::from(which),
        };
        let offset = about.map_or(PAGE, |it| it.offset);
        match what {
            Meanwhile::Reopen { which: it, file, how } => {
                let file = match file {
                    4 => self.world.file(used),
                    5 => self.world.file(own),
                    _ => file.into(),
                };
                self.reopen(which(it), file, how);
            }
            Meanwhile::Append { which: it } => {
                let is_seen = self.tell_call(Call::Fcntl, which(it), 0);
                self.world.set_append(which(it), is_seen);
            }
            Meanwhile::Refill(how) => self.refill(how, offset),
            Meanwhile::Other { does, here } => {
                let work = about.unwrap_or(Work { opcode: 1, nbytes: 512, ..Work::default() });
                let file = if here { work.file } else { 2 };
                let elsewhere = work.offset + 1000 * PAGE;
                self.by_other(does, file, if here { work.offset } else { elsewhere }, work);
            }
            Meanwhile::Map { which: it, stores } => {
                self.world.map(self.world.file(which(it)), stores);
                self.tell_map(which(it), stores);
            }
            Meanwhile::Unmap => {
                self.world.unmap();
                self.tell_call(Call::Munmap, u32::MAX, 0);
            }
        }
    }

    /// A number gets another file. (No program closes what it has requests for.)
    fn reopen(&mut self, fd: u32, file: u32, how: Reopen) {
        if self.uses(fd) {
            return;
        }
        let (call, count) = match how {
            Reopen::Close => (Call::Close, 0),
            Reopen::Dup2 => (Call::Dup2, 0),
            Reopen::CloseRange => (Call::CloseRange, u64::from(fd)),
        };
        self.tick();
        self.world.open(fd, file);
        self.tell_call(call, fd, count);
    }

    /// Other data are put into the memory of this place in a file. (No program does that to what is in flight.)
    fn refill(&mut self, how: Refill, offset: i64) {
        if self.moves(offset) {
            return;
        }
        let count = PAGE as u64;
        let call = match how {
            Refill::Reads => Call::Read,
            Refill::Receives => Call::Recvfrom,
            Refill::Submits => {
                let work = Work { fd: 7, offset, nbytes: count, ..Work::default() };
                if let Some(iocb) = self.iocb()
                    && !self.is_open(work)
                {
                    self.submit(vec![(work, iocb, false)], true);
                }
                return;
            }
        };
        let entered = Some(self.tick());
        self.tick();
        self.world.refill(offset);
        let memory = Some(Vectors::one(Address(memory(Work { offset, ..Work::default() })), count));
        let (fd, offset, ret) = (SOCKET, None, PAGE);
        self.tell_synchronous(Synchronous { call, entered, fd, offset, memory, count, ret });
    }

    /// The other process opens the file, and does this to a page of it.
    fn by_other(&mut self, does: Others, file: u32, offset: i64, like: Work) {
        if !self.plan.around.other {
            return;
        }
        self.world.traced.insert(file);
        let work = Work { fd: 30, file, offset, append: false, ..like };
        let entered = Some(self.tick());
        self.tick();
        let is_write = work.is_write();
        let is_sync = matches!(work.opcode, 2 | 3);
        let (count, ret, memory) = (PAGE as u64, PAGE, None);
        let mut told = Synchronous {
            call: Call::Pwrite,
            entered,
            fd: 30,
            offset: Some(offset),
            memory,
            count,
            ret,
        };
        match does {
            Others::Submits => {
                let iocbs = vec![Some(iocb(work, 0x5000))];
                let args =
                    Args::Submit { ctx: OTHERS, nr: 1, iocbpp: Address(16), iocbs, truncated: 0 };
                let began = self.now - 500;
                self.tell_of(OTHER, OTHER, call(began, args, 1, (None, None), None));
            }
            Others::Calls => {
                (told.call, told.offset, told.ret) = match work.opcode {
                    2 => (Call::Fsync, None, 0),
                    3 => (Call::Fdatasync, None, 0),
                    _ if is_write => (Call::Pwrite, Some(offset), PAGE),
                    _ => (Call::Pread, Some(offset), PAGE),
                };
                self.tell_synchronous_of(OTHER, told);
            }
            Others::Copies | Others::Maps => {
                (told.call, told.offset, told.count, told.ret) = match (does, is_sync) {
                    (Others::Copies, false) => (Call::CopyFileRange, None, count, PAGE),
                    (_, true) => (Call::Msync, None, count, 0),
                    _ => (Call::Mmap, None, 1, 0x7000_0000),
                };
                self.tell_synchronous_of(OTHER, told);
            }
        }
        // What another process reads, the program has not.
        if is_write || is_sync {
            self.truth.acts.push(Act { data: None, ..Act::by_call(self.now, work) });
        }
    }

    /// Does a work in pieces through another descriptor.
    fn through(&mut self, work: Work, which: u8, by: By, pieces: i64) {
        let mut others: Vec<u32> = (3..9).filter(|it| *it != work.fd).collect();
        others.sort_by_key(|it| self.world.file(*it) != work.file);
        let fd = others[usize::from(which) % others.len()];
        self.used = fd;
        let pieces = if matches!(work.opcode, 2 | 3) { 1 } else { pieces };
        for piece in 0..pieces {
            if self.is_over() {
                return;
            }
            let by_aio = match by {
                By::Calls => false,
                By::Aio => true,
                By::Both => piece % 2 == 0,
            };
            if !by_aio {
                self.piece(work, fd, (piece, pieces));
                continue;
            }
            let length = work.end() - work.offset;
            let from = length * piece / pieces;
            let nbytes = (length * (piece + 1) / pieces - from) as u64;
            let opcode = if work.opcode == 8 { 1 } else { work.opcode };
            let offset = work.offset + from;
            let piece = Work { opcode, fd, offset, nbytes, ..Work::default() };
            let is_there = self.is_open(piece);
            if let Some(iocb) = self.iocb().filter(|_| !is_there) {
                self.submit(vec![(piece, iocb, false)], false);
            }
        }
    }
}
