//! Shared memory of System V for fio, on a kernel that has none (CONFIG_SYSVIPC): preloaded, it stands in the place of
//! the C library's calls. fio makes a segment before it forks, and so a shared mapping does the same.

use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use libc::{c_int, c_void};

/// More than fio makes.
const MOST: usize = 16;

static SEGMENTS: [AtomicPtr<c_void>; MOST] = [const { AtomicPtr::new(std::ptr::null_mut()) }; MOST];
static USED: AtomicUsize = AtomicUsize::new(0);

/// shmget(2), of a new segment.
#[unsafe(no_mangle)]
pub extern "C" fn shmget(_: libc::key_t, size: usize, _: c_int) -> c_int {
    let (access, kind) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping of no file.
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

/// shmat(2): it is mapped already.
#[unsafe(no_mangle)]
pub extern "C" fn shmat(id: c_int, _: *const c_void, _: c_int) -> *mut c_void {
    let segment = usize::try_from(id).ok().and_then(|id| SEGMENTS.get(id));
    segment.map_or(libc::MAP_FAILED, |it| it.load(Ordering::Relaxed))
}

/// shmdt(2): the end of the process does it.
#[unsafe(no_mangle)]
pub extern "C" fn shmdt(_: *const c_void) -> c_int {
    0
}

/// shmctl(2), to remove it: nobody else knows it.
#[unsafe(no_mangle)]
pub extern "C" fn shmctl(_: c_int, _: c_int, _: *mut c_void) -> c_int {
    0
}
