//! The rules of fs/aio.c, in small: contexts, rings, slots, requests and fs.aio-nr. There is neither time nor an
//! event.
//!
//! What the source has reported of a request ([`Request::returned`], [`Request::told`]) is kept with it, so that what
//! the model must know is counted from the requests that the kernel has.

use aiotrace_model::event::{Handle, IoEvent, Ring};

/// A context: an index that is never used again.
pub type Ctx = usize;

pub const EBADF: i64 = -9;
pub const EAGAIN: i64 = -11;
pub const EINVAL: i64 = -22;

pub const PREAD: u16 = 0;
pub const PWRITE: u16 = 1;
pub const POLL: u16 = 5;

/// What a program asks for, and the address of its iocb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub address: u64,
    pub opcode: u16,
    pub fd: u32,
    pub offset: i64,
    pub nbytes: u64,
    /// The descriptor is not open.
    pub is_bad: bool,
}

/// A request that was accepted.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    pub what: Wanted,
    /// The number of its io_submit.
    pub call: u64,
    pub completed: bool,
    pub failed: bool,
    /// The source reported the return of its io_submit while its context existed.
    pub returned: bool,
    /// The source reported its completion.
    pub told: bool,
}

#[derive(Debug)]
pub struct Context {
    pub space: u64,
    pub handle: Handle,
    pub asked: u32,
    nr: u32,
    entries: Vec<IoEvent>,
    /// All requests that were ever accepted, in that order.
    pub requests: Vec<Request>,
    /// Most of them that were in flight at a time.
    pub peak: usize,
    /// Those that completed, in that order.
    pub order: Vec<usize>,
    /// How many completions were reaped, by io_getevents or by the program.
    pub reaped: usize,
    /// The context was neither destroyed nor ended in another way.
    pub is_alive: bool,
    /// The ring is at the address of the handle.
    pub is_mapped: bool,
    /// Number of calls on it that have not returned: io_destroy waits for them.
    pub users: u32,
}

impl Context {
    pub fn in_flight(&self) -> usize {
        self.requests.len() - self.order.len()
    }

    pub fn unreaped(&self) -> usize {
        self.order.len() - self.reaped
    }

    /// Number of free slots.
    pub fn room(&self) -> usize {
        self.nr as usize - 1 - self.in_flight() - self.unreaped()
    }

    pub fn ring(&self) -> Ring {
        let place = |count: usize| (count % self.nr as usize) as u32;
        Ring { head: place(self.reaped), tail: place(self.order.len()), nr: self.nr }
    }

    /// The entry of the ring where that completion was written: the kernel clears nothing.
    pub fn entry(&self, completion: usize) -> IoEvent {
        self.entries[completion % self.nr as usize]
    }

    pub fn open(&self) -> impl Iterator<Item = usize> {
        (0..self.requests.len()).filter(|it| !self.requests[*it].completed)
    }
}

/// All contexts that exist or existed.
#[derive(Debug, Default)]
pub struct Kernel {
    pub contexts: Vec<Context>,
}

/// fs.aio-max-nr
const MOST: u32 = 100;

impl Kernel {
    /// The value of fs.aio-nr: a context counts until it is destroyed, or its process ends; its ring does not matter.
    pub fn charge(&self) -> u32 {
        self.contexts.iter().filter(|it| it.is_alive).map(|it| it.asked).sum()
    }

    pub fn is_full(&self, asked: u32) -> bool {
        self.charge() + asked > MOST
    }

    /// The context with this handle, in this address space.
    pub fn find(&self, space: u64, handle: Handle) -> Option<Ctx> {
        self.contexts
            .iter()
            .position(|it| it.space == space && it.handle == handle && it.is_alive && it.is_mapped)
    }

    /// Whether a living context has this handle, even if its ring is not mapped.
    pub fn is_held(&self, space: u64, handle: Handle) -> bool {
        self.contexts.iter().any(|it| it.space == space && it.handle == handle && it.is_alive)
    }

    /// The lowest free address; that of a destroyed context is free at once. `is_taken`: addresses that must not be
    /// used.
    fn free(&self, space: u64, is_taken: impl Fn(Handle) -> bool) -> Handle {
        let handle = |n: u64| Handle(0x7f00_0000_0000 + n * 0x1_0000);
        let is_free = |it: &Handle| self.find(space, *it).is_none() && !is_taken(*it);
        (0..).map(handle).find(is_free).expect("there is always a free one")
    }

    pub fn setup(
        &mut self,
        space: u64,
        asked: u32,
        is_taken: impl Fn(Handle) -> bool,
    ) -> Result<Ctx, i64> {
        if self.is_full(asked) {
            return Err(EAGAIN);
        }
        let nr = asked * 2 + 2;
        self.contexts.push(Context {
            space,
            handle: self.free(space, is_taken),
            asked,
            nr,
            entries: vec![IoEvent::default(); nr as usize],
            requests: Vec::new(),
            peak: 0,
            order: Vec::new(),
            reaped: 0,
            is_alive: true,
            is_mapped: true,
            users: 0,
        });
        Ok(self.contexts.len() - 1)
    }

    /// An iocb of an io_submit. A slot is taken until its completion is reaped.
    pub fn submit_one(&mut self, ctx: Ctx, what: Wanted, call: u64) -> Result<(), i64> {
        let context = &mut self.contexts[ctx];
        if context.room() == 0 {
            return Err(EAGAIN);
        }
        if what.is_bad {
            return Err(EBADF);
        }
        context.requests.push(Request {
            what,
            call,
            completed: false,
            failed: false,
            returned: false,
            told: false,
        });
        context.peak = context.peak.max(context.in_flight());
        Ok(())
    }

    pub fn complete(&mut self, ctx: Ctx, request: usize, res: i64) -> IoEvent {
        let context = &mut self.contexts[ctx];
        let it = &mut context.requests[request];
        (it.completed, it.failed) = (true, res < 0);
        let event = IoEvent { data: 0, obj: it.what.address, res, res2: 0 };
        let place = context.order.len() % context.nr as usize;
        context.entries[place] = event;
        context.order.push(request);
        event
    }

    /// Changes the result of that completion, in the ring or where it was copied.
    pub fn change(&mut self, ctx: Ctx, completion: usize, res: i64) {
        let context = &mut self.contexts[ctx];
        let place = completion % context.nr as usize;
        context.entries[place].res = res;
    }

    /// Reaps completions, by io_getevents or by the program itself.
    pub fn reap(&mut self, ctx: Ctx, most: usize) -> Vec<IoEvent> {
        let context = &mut self.contexts[ctx];
        let first = context.reaped;
        context.reaped += most.min(context.unreaped());
        (first..context.reaped).map(|it| context.entry(it)).collect()
    }

    /// io_destroy begins, or the address space ends. Requests in flight go on.
    pub fn kill(&mut self, ctx: Ctx) {
        self.contexts[ctx].is_alive = false;
    }

    pub fn unmap(&mut self, ctx: Ctx) {
        self.contexts[ctx].is_mapped = false;
    }

    /// mremap(2) gives the context another handle.
    pub fn remap(&mut self, ctx: Ctx, is_taken: impl Fn(Handle) -> bool) -> Handle {
        let to = self.free(self.contexts[ctx].space, is_taken);
        self.contexts[ctx].handle = to;
        to
    }
}
