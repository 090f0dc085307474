//! A context's ring as the program sees it: a header of 32 bytes, then the entries. The handle is
//! the ring's address.

use std::sync::atomic::{AtomicU32, Ordering, fence};

use crate::aio::IoEvent;

/// Enough pages for the ring of a context for few requests: a ring grows with the number of
/// processors.
pub const MANY_PAGES: usize = 256;

/// The ring of a context that is alive.
pub struct Ring {
    handle: u64,
}

impl Ring {
    pub fn of(handle: u64) -> Self {
        Self { handle }
    }

    fn header(&self, index: usize) -> &AtomicU32 {
        // SAFETY: the ring lives as long as its context, and its header is made of 32-bit numbers.
        unsafe { &*(self.handle as *const AtomicU32).add(index) }
    }

    /// How many entries the ring has. One less can be in use.
    pub fn entries(&self) -> u32 {
        self.header(1).load(Ordering::Relaxed)
    }

    /// Whether no completion is there.
    pub fn is_empty(&self) -> bool {
        self.header(2).load(Ordering::Relaxed) == self.header(3).load(Ordering::Acquire)
    }

    /// Takes the oldest completion out, as io_getevents does.
    pub fn reap(&self) -> Option<IoEvent> {
        let (head, tail) = (self.header(2), self.header(3));
        let at = head.load(Ordering::Relaxed);
        if at == tail.load(Ordering::Acquire) {
            return None;
        }
        // SAFETY: `at` is below the number of entries, so the entry is in the ring.
        let event =
            unsafe { ((self.handle + 32) as *const IoEvent).add(at as usize).read_volatile() };
        fence(Ordering::SeqCst);
        head.store((at + 1) % self.entries(), Ordering::Release);
        Some(event)
    }

    /// The length of the ring's mapping, which is whole pages.
    pub fn bytes(&self) -> usize {
        (32 + 32 * self.entries() as usize).next_multiple_of(4096)
    }

    /// Unmaps the ring and leaves the context: a leak.
    pub fn unmap(self) {
        // SAFETY: nobody uses the ring after this.
        let ret = unsafe { libc::munmap(self.handle as *mut libc::c_void, self.bytes()) };
        assert_eq!(ret, 0, "munmap");
    }

    /// Maps other memory where the ring was, all of it 0.
    pub fn cover(handle: u64) {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: nothing else is mapped there.
        let at = unsafe { libc::mmap(handle as *mut libc::c_void, 4096, access, flags, -1, 0) };
        assert_eq!(at as u64, handle, "mmap");
    }

    /// Moves the ring to `place`, and gives the context's new handle. Whatever is mapped at `place`
    /// is lost.
    pub fn move_to(self, place: u64) -> u64 {
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        let bytes = self.bytes();
        // SAFETY: by the contract of this function, nobody needs what is at `place`.
        let moved = unsafe {
            let place = place as *mut libc::c_void;
            libc::mremap(self.handle as *mut libc::c_void, bytes, bytes, flags, place)
        } as u64;
        assert_eq!(moved, place, "mremap");
        moved
    }
}
