//! What the program of a play works at: new requests, with iocbs.

use aiotrace_common::abi;
use aiotrace_model::event::{Address, Iocb, Vector, Vectors};

use super::{
    plan::{Iocbs, Log},
    play::{PAGE, Player},
    truth::Work,
};
use crate::reference::Wanted;

impl Player<'_> {
    /// A record of a log, and its header.
    pub fn log(&mut self, how: Log) {
        let header = Work { opcode: 1, fd: 3, nbytes: PAGE as u64, ..Work::default() };
        let sync = Work { opcode: 2, fd: 3, ..Work::default() };
        let record = Work { fd: 3, ..self.new_work(1) };
        let calls = match how {
            Log::HeaderFirst => vec![vec![header], vec![record]],
            Log::RecordFirst => vec![vec![record], vec![header]],
            Log::Together => vec![vec![record, header]],
            Log::Synced => vec![vec![record], vec![sync], vec![header], vec![sync]],
        };
        for works in calls {
            let iocbs: Vec<u64> = works.iter().map_while(|_| self.iocb()).collect();
            let batch = works.into_iter().zip(iocbs).map(|(work, iocb)| (work, iocb, false));
            self.submit(batch.collect(), false);
            self.drain();
        }
    }

    /// New works, with iocbs.
    pub fn batch(
        &mut self,
        opcodes: &[u16],
        bad: bool,
        again: Option<u8>,
    ) -> Vec<(Work, u64, bool)> {
        let mut works: Vec<Work> = Vec::new();
        for (index, opcode) in opcodes.iter().enumerate() {
            let earlier = again.filter(|_| index == 0 && !self.truth.works.is_empty());
            let work = match earlier {
                Some(which) => self.truth.works[usize::from(which) % self.truth.works.len()],
                None => self.new_work(*opcode),
            };
            // If two equal works were in flight at the same time, nobody could tell them apart.
            let is_there = works.iter().any(|it| it.place() == work.place())
                || self.todo.iter().any(|it| it.work.place() == work.place())
                || self.is_open(work);
            if !is_there {
                works.push(work);
            }
        }
        let count = works.len();
        let iocbs: Vec<u64> = (0..count).map_while(|_| self.iocb()).collect();
        let is_bad = |index: usize| bad && index + 1 == count;
        let with = works.into_iter().zip(iocbs).enumerate();
        with.map(|(index, (work, iocb))| (work, iocb, is_bad(index))).collect()
    }

    /// Whether the work was submitted and the program has not got its completion.
    pub fn is_open(&self, work: Work) -> bool {
        let is_it = |it: &Wanted| (it.opcode, it.fd, it.offset, it.nbytes) == work.place();
        self.open().any(is_it)
    }

    /// Whether there are such requests of this descriptor.
    pub fn uses(&self, fd: u32) -> bool {
        self.open().any(|it| it.fd == fd)
    }

    /// Whether there are such requests with this memory.
    pub fn moves(&self, offset: i64) -> bool {
        self.open().any(|it| it.offset / PAGE == offset / PAGE)
    }

    fn open(&self) -> impl Iterator<Item = &Wanted> {
        let context = &self.kernel.contexts[self.ctx];
        let open = context.open().chain(context.order[self.reaped..].iter().copied());
        open.map(|it| &context.requests[it].what)
    }

    pub fn new_work(&mut self, opcode: u16) -> Work {
        self.works += 1;
        let mut fd = 3 + (self.works % 2) as u32;
        let mut offset = self.works * PAGE;
        if opcode == 0 && self.plan.around.ends {
            fd = self.world.open_short(self.works as u32, offset, &mut self.truth);
        }
        let nbytes = match opcode {
            2 | 3 => {
                offset = 0;
                0
            }
            8 => 2,
            _ => PAGE as u64,
        };
        Work { opcode, fd, offset, nbytes, ..Work::default() }
    }

    /// A free iocb; a pool may have none.
    pub fn iocb(&mut self) -> Option<u64> {
        let most = match self.plan.iocbs {
            Iocbs::Own => u64::MAX,
            Iocbs::Pool(most) => u64::from(most),
            // A batch has as many iocbs as it needs.
            Iocbs::Stack => 64,
        };
        let first = if most == u64::MAX { self.next_iocb } else { 0 };
        let address = |index: u64| 0x1000 + index * 64;
        let free = (first..most).find(|it| !self.busy.contains(&address(*it)))?;
        self.next_iocb = free + 1;
        self.busy.insert(address(free));
        Some(address(free))
    }
}

/// Where the data of a work is.
pub fn memory(work: Work) -> u64 {
    0x100_0000 + work.offset as u64
}

pub fn iocb(work: Work, address: u64) -> Iocb {
    let Work { opcode, fd: fildes, offset, nbytes, .. } = work;
    let buf = memory(work);
    let value = abi::Iocb { opcode, fildes, offset, nbytes, buf, ..Default::default() };
    // Two vectors make a page together.
    let half = PAGE as u64 / 2;
    let vector = |it: u64| Vector { base: Address(buf + it * half), length: half };
    let vectors = matches!(opcode, 7 | 8).then(|| (0..nbytes).map(vector).collect());
    let (address, value) = (Some(Address(address)), Some(value));
    Iocb { address, value, read_late: false, vectors: vectors.map(Vectors::new) }
}
