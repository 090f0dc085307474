//! The processors on which we run. The kernel keeps a few slots of a context at each processor that
//! submitted to it, so a full context has slots again for a thread that has moved: a program that
//! wants EAGAIN must stay on one.

/// The processors that we may use.
pub fn allowed() -> Vec<usize> {
    // SAFETY: zeros are a valid set of bits, and the size is its own.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        assert_eq!(libc::sched_getaffinity(0, size_of_val(&set), &mut set), 0, "sched_getaffinity");
        set
    };
    // SAFETY: the index is within the set.
    (0..libc::CPU_SETSIZE as usize).filter(|it| unsafe { libc::CPU_ISSET(*it, &set) }).collect()
}

/// Moves this thread to this processor and keeps it there.
pub fn run_on(processor: usize) {
    // SAFETY: zeros are a valid set of bits, and the size is its own.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(processor, &mut set);
        assert_eq!(libc::sched_setaffinity(0, size_of_val(&set), &set), 0, "sched_setaffinity");
    }
}

/// Stays on the last processor that we may use: the first one has most of the interrupts.
pub fn stay_on_one() {
    run_on(*allowed().last().expect("a processor"));
}
