//! Shared memory of System V for fio, on a kernel that has none (CONFIG_SYSVIPC). This library is
//! preloaded, and its functions take the place of the C library's. fio makes a segment before it
//! forks, so a shared mapping serves the same purpose.

use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use libc::{c_int, c_void};

/// More segments than fio makes.
const MOST: usize = 16;

static SEGMENTS: [AtomicPtr<c_void>; MOST] = [const { AtomicPtr::new(std::ptr::null_mut()) }; MOST];
static USED: AtomicUsize = AtomicUsize::new(0);

/// shmget(2): makes a new segment.
#[unsafe(no_mangle)]
pub extern "C" fn shmget(_: libc::key_t, size: usize, _: c_int) -> c_int {
    let (access, kind) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    // SAFETY: the kernel chooses an address where nothing is mapped.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), size, access, kind, -1, 0) };
    let id = USED.fetch_add(1, Ordering::Relaxed);
    match SEGMENTS.get(id) {
        Some(segment) if at != libc::MAP_FAILED => {
            segment.store(at, Ordering::Relaxed);
            id as c_int
        }
        _ => -1,
    }
}

/// shmat(2): gives the address of the segment, which is mapped already.
#[unsafe(no_mangle)]
pub extern "C" fn shmat(id: c_int, _: *const c_void, _: c_int) -> *mut c_void {
    let segment = usize::try_from(id).ok().and_then(|id| SEGMENTS.get(id));
    segment.map_or(libc::MAP_FAILED, |it| it.load(Ordering::Relaxed))
}

/// shmdt(2): does nothing; the end of the process unmaps the segment.
#[unsafe(no_mangle)]
pub extern "C" fn shmdt(_: *const c_void) -> c_int {
    0
}

/// shmctl(2): fio calls it to remove a segment, which nobody else knows, so it does nothing.
#[unsafe(no_mangle)]
pub extern "C" fn shmctl(_: c_int, _: c_int, _: *mut c_void) -> c_int {
    0
}
