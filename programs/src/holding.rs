//! Processes that hold contexts, for `aiotrace ls`. Each says `ready`, and ends when a line comes
//! on its standard input.

use crate::aio::{self, Iocb};

/// Holds `count` contexts, for 1 to 9 requests each.
pub fn hold(count: u64) {
    for index in 0..count {
        aio::setup(1 + index % 9);
    }
    crate::wait();
}

/// Holds two contexts; the ring of one of them is unmapped.
pub fn unmapped() {
    let ctx = aio::setup(8);
    aio::setup(8);
    // SAFETY: nobody uses the ring.
    assert_eq!(unsafe { libc::munmap(ctx as *mut libc::c_void, 4096) }, 0, "munmap");
    crate::wait();
}

/// The thread with which the process began exits, and another one lives on.
pub fn leaderless() {
    std::thread::spawn(|| {
        aio::setup(8);
        let status = || std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        while !status().contains(") Z ") {
            std::thread::yield_now();
        }
        crate::wait();
        std::process::exit(0);
    });
    // SAFETY: the call ends only this thread.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
}

/// A child inherits the mapping of the ring, but no context.
pub fn forked() {
    aio::setup(8);
    // SAFETY: this process has one thread.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: the calls take no pointers. The child waits for the signal that comes when its
        // parent is gone.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            libc::pause();
        }
    }
    crate::wait();
    // SAFETY: the child is ours and was not waited for yet, so the pid is still its own.
    unsafe { libc::kill(child, libc::SIGKILL) };
}

/// A child shares the address space, as a child of vfork does.
pub fn vforked() {
    aio::setup(8);
    let mut stack = vec![0u64; 1 << 16];
    // SAFETY: the parent waits until the child is gone, and only the child uses the stack.
    let child = unsafe {
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        let top = stack.as_mut_ptr().add(stack.len()).cast();
        libc::clone(wait_as_child, top, flags, std::ptr::null_mut())
    };
    assert!(child > 0, "clone");
}

extern "C" fn wait_as_child(_: *mut libc::c_void) -> i32 {
    crate::wait();
    0
}

/// Leaves three completed reads unreaped.
pub fn unreaped() {
    let ctx = aio::setup(8);
    let fd = aio::zero();
    let mut buffer = 0;
    let mut iocbs: [Iocb; 3] = [aio::pread(fd, &mut buffer, 1); 3];
    assert_eq!(aio::submit(ctx, &mut iocbs), 3, "io_submit");
    crate::wait();
}
