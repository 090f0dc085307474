//! What /proc shows of processes, and their memory. Only this module reads these, except for the
//! files that a process has mapped (`stacks`), which have to be opened with more care.
//!
//! Most of these reads may have to wait for the process, or for a server of its memory. So no
//! thread of aiotrace itself makes them: a helper does ([`crate::errand`]). Only names, cgroups and
//! the lists of processes and threads can be read without waiting.

mod blocked;
pub mod descriptor;
pub mod file;
pub mod maps;
mod memory;
mod process;
pub mod ring;
pub mod scan;
pub mod system;
mod threads;
pub mod ways;

pub use self::{
    blocked::{Blocked, blocked_call, blocked_calls, read_timespec, waits_in_exit, within},
    memory::{read_memory, try_read_memory, write_memory},
    process::{
        all, auxiliary_vector, cgroup, cgroups, children, environment, executable, has_program,
        has_seccomp_filter, has_thread, is_alive, is_filtered, is_over, name, pidfd_open,
        processor, read_from_disks, share_space, signal, started_at, status, status_bytes,
        status_field, thread_name, thread_state, threads, user,
    },
    threads::threads_of_space,
};

/// The program that we are, also if its file was replaced or removed.
pub const OURSELVES: &str = "/proc/self/exe";

/// For the fuzz target: runs every reader of a file of /proc; gives how many found something.
pub fn fuzz(bytes: &[u8], text: &str) -> u64 {
    let found = [
        status_field(bytes, "Seccomp").is_some(),
        is_filtered(bytes),
        process::stat_state(bytes).is_some(),
        process::started(bytes).is_some(),
        blocked::parse_syscall(text, false).is_some(),
        blocked::parse_syscall(text, true).is_some(),
        system::kernel_version(text).0 != u32::MAX,
    ];
    found.iter().filter(|it| **it).count() as u64
}
