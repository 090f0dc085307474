//! Confines a process that reads files which an enemy may have written: the process gives up
//! everything with which it could do harm.
//!
//! It keeps its memory, and the descriptors that it has. It can open no file, and make and reach no
//! process.

use std::io;

use nix::{errno::Errno, sys::resource::Resource};

use crate::{
    arch::NATIVE,
    proc::system::lower_limit,
    seccomp::{self, ANY_BIT, ARCH, EQUAL, LOAD, NUMBER, RETURN, argument, no_new_privileges, op},
};

/// The most address space that the process may take, in bytes: it maps files, and debug information
/// may have gigabytes.
const MOST_ADDRESSES: u64 = 8 << 30;
/// The most memory of its own that the process may take, in bytes.
const MOST_MEMORY: u64 = 1 << 30;
/// The most processor time that the process may take, in seconds. (aiotrace waits less than that
/// for one answer.)
const MOST_TIME: u64 = 300;
/// The most descriptors that the process may have.
const MOST_DESCRIPTORS: u64 = 16;
/// The process runs as the user with this number plus its process id: two processes of one user can
/// harm each other, so this is a user that nobody else has. (The ranges of systemd and of
/// containers end below: <https://systemd.io/UIDS-GIDS/>)
const FIRST_USER: u32 = 3_000_000_000;

/// The system calls that the process may still make; mmap(2) only for memory without code.
pub const ALLOWED: [i64; 23] = [
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_recvmsg,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_sched_yield,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Confines this process, which has one thread. It ends when `parent` ends.
///
/// # Errors
/// If the process could not give something up: then it must not go on.
pub fn confine(parent: u32) -> io::Result<()> {
    // Rust's signal handlers would call sigaction(2), which the filter does not allow, and so run
    // again for ever.
    for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGABRT, libc::SIGILL] {
        // SAFETY: the default action runs no code of this program.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    lower_limit(Resource::RLIMIT_AS, MOST_ADDRESSES)?;
    lower_limit(Resource::RLIMIT_DATA, MOST_MEMORY)?;
    lower_limit(Resource::RLIMIT_CPU, MOST_TIME)?;
    lower_limit(Resource::RLIMIT_NOFILE, MOST_DESCRIPTORS)?;
    for none in [
        Resource::RLIMIT_CORE,
        Resource::RLIMIT_FSIZE,
        Resource::RLIMIT_MEMLOCK,
        Resource::RLIMIT_MSGQUEUE,
    ] {
        lower_limit(none, 0)?;
    }
    give_up_identity()?;
    // Only after the change of the user, which resets these two: prctl(2).
    prctl(libc::PR_SET_DUMPABLE, 0)?;
    prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64)?;
    if nix::unistd::getppid().as_raw() as u32 != parent {
        return Err(io::Error::other("the process that started it has ended"));
    }
    no_new_privileges()?;
    seccomp::install(&mut filter())?;
    Ok(())
}

fn prctl(option: i32, value: u64) -> io::Result<()> {
    // SAFETY: no memory is involved.
    Errno::result(unsafe { libc::prctl(option, value, 0, 0, 0) })?;
    Ok(())
}

/// Gives up the user and all capabilities. A process that may not change its user (an unprivileged
/// one, or one in a user namespace without that number) keeps it.
pub fn give_up_identity() -> io::Result<()> {
    become_user(user_of(std::process::id()))
}

/// The user that nobody has but the process with this number, and what it starts.
pub(super) fn user_of(pid: u32) -> u32 {
    FIRST_USER + pid
}

/// As [`give_up_identity`], for another user.
pub(super) fn become_user(id: u32) -> io::Result<()> {
    // SAFETY: no memory is involved.
    unsafe {
        let _ = libc::setgroups(0, std::ptr::null());
        let _ = libc::setresgid(id, id, id);
        let _ = libc::setresuid(id, id, id);
    }
    /// `_LINUX_CAPABILITY_VERSION_3`, which wants two sets of three words: capset(2).
    const VERSION: u32 = 0x2008_0522;
    let header = [VERSION, 0];
    let none = [0u32; 6];
    // SAFETY: a header and two sets, as this version wants them.
    let set = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) };
    Errno::result(set)?;
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64)
}

fn filter() -> Vec<libc::sock_filter> {
    let refuse = op(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32);
    let allow = op(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW);
    let mut filter =
        vec![op(LOAD, 0, 0, ARCH), op(EQUAL, 1, 0, NATIVE), refuse, op(LOAD, 0, 0, NUMBER)];
    let others = ALLOWED.iter().filter(|it| **it != libc::SYS_mmap);
    for number in others {
        filter.extend([op(EQUAL, 0, 1, *number as u32), allow]);
    }
    filter.extend([
        op(EQUAL, 1, 0, libc::SYS_mmap as u32),
        refuse,
        op(LOAD, 0, 0, argument(2)),
        op(ANY_BIT, 0, 1, libc::PROT_EXEC as u32),
        refuse,
        allow,
    ]);
    filter
}

/// Tries everything that the process must not do, and returns what worked. (A test runs this inside
/// of a confined process.)
pub fn holes() -> Vec<String> {
    /// A number beyond the last system call of this architecture.
    const LAST: i64 = 600;
    /// uretprobe and uprobe: every filter lets them pass, and the kernel kills a process that calls
    /// them from any place but the kernel's own:
    /// <https://github.com/torvalds/linux/blob/v6.18/arch/x86/kernel/uprobes.c>.
    const PROBES: [i64; 2] = [335, 336];
    let mut found = Vec::new();
    let is_tried = |it: &i64| !ALLOWED.contains(it) && !PROBES.contains(it);
    for number in (0..LAST).filter(is_tried) {
        // SAFETY: no system call can use these arguments: if one is made, it fails with another
        // errno.
        let made = Errno::result(unsafe { libc::syscall(number, -1, -1, -1, -1, -1, -1) });
        if made != Err(Errno::EPERM) {
            found.push(format!("system call {number}: {made:?}"));
        }
    }
    for path in ["/dev/null", "/proc/self/status", "/etc/hostname"] {
        if std::fs::File::open(path).is_ok() {
            found.push(format!("{path} can be opened"));
        }
    }
    // SAFETY: new memory, which nothing uses.
    let code = unsafe {
        let (read, private) =
            (libc::PROT_READ | libc::PROT_EXEC, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        libc::mmap(std::ptr::null_mut(), 4096, read, private, -1, 0)
    };
    if code != libc::MAP_FAILED {
        found.push("memory can be mapped as code".to_owned());
    }
    found
}
