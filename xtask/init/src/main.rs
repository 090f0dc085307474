//! The first process of a virtual machine: it mounts file systems, runs what the kernel's command
//! line says, and powers off. Nothing else runs there.
//!
//! Linux hands parameters that it does not know to its init as environment variables:
//! - `aiotrace_guest=NAME`: the row of the table of kernels for this guest
//!   (tests/kernel/machine.rs).
//! - `aiotrace_cost=yes`: the clock counts instructions.
//! - `aiotrace_everywhere=yes`: also run the tests for which one guest is enough.
//! - `aiotrace_commands=yes`: run the lines of /commands, instead of the kernel tests.
//! - `aiotrace_run=SET/FILTER,FILTER;SET/...`: run the kernel tests once for each probe set: those
//!   whose names contain one of the filters, or all if there is no filter.
//!
//! Beside what the tests and the kernel write, these lines go to the console:
//! ```text
//! guest | up | RELEASE
//! guest | begin | SET
//! guest | end | SET | STATUS
//! guest | warned | what the kernel warned of while the tests ran, in the lines before
//! guest | off
//! ```

mod commands;

use std::{
    ffi::CStr,
    fs::File,
    os::fd::AsRawFd as _,
    path::Path,
    process::{Command, ExitCode},
};

fn main() -> ExitCode {
    if !is_first() {
        eprintln!("this is the init of a virtual machine of `cargo xtask vm`, and nothing else");
        return ExitCode::FAILURE;
    }
    for (kind, at) in [
        (c"proc", c"/proc"),
        (c"sysfs", c"/sys"),
        (c"devtmpfs", c"/dev"),
        (c"tmpfs", c"/tmp"),
        (c"tracefs", c"/sys/kernel/tracing"),
        (c"securityfs", c"/sys/kernel/security"),
        (c"cgroup2", c"/sys/fs/cgroup"),
    ] {
        mount(kind, at);
    }
    // udev would make these links.
    for (to, at) in [
        ("/proc/self/fd", "/dev/fd"),
        ("/proc/self/fd/0", "/dev/stdin"),
        ("/proc/self/fd/1", "/dev/stdout"),
        ("/proc/self/fd/2", "/dev/stderr"),
    ] {
        let _ = std::os::unix::fs::symlink(to, at);
    }
    // Our output goes to the console, wherever the kernel pointed it.
    if let Ok(console) = File::options().write(true).open("/dev/console") {
        for fd in [1, 2] {
            // SAFETY: the call takes no pointers, and both descriptors are open.
            unsafe { libc::dup2(console.as_raw_fd(), fd) };
        }
    }
    // Install a shell and the programs that tests call from it.
    let _ = Command::new("/bin/busybox").args(["--install", "-s", "/bin"]).status();
    // Servers that tests start listen at the loopback interface.
    let _ = Command::new("/bin/busybox").args(["ip", "link", "set", "lo", "up"]).status();
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    println!("guest | up | {}", release.trim());
    let before = taint();
    if std::env::var_os("aiotrace_commands").is_some() {
        commands::run();
    }
    let runs = std::env::var("aiotrace_run").unwrap_or_default();
    for run in runs.split(';').filter(|it| !it.is_empty()) {
        let (set, filters) = run.split_once('/').unwrap_or((run, ""));
        println!("guest | begin | {set}");
        println!("guest | end | {set} | {}", kernel_tests(set, filters));
    }
    // (A bit that was set before the tests hides a later warning of the same kind.)
    let new = taint() & !before;
    if new != 0 {
        // The kernel boots with `quiet`: it does not put its warnings on the console.
        let _ = Command::new("/bin/dmesg").status();
        println!("guest | warned | new bits of /proc/sys/kernel/tainted: {new:#x}");
    }
    println!("guest | off");
    // SAFETY: the calls take no pointers. They end the machine, which runs nothing else.
    unsafe {
        libc::sync();
        libc::reboot(libc::RB_POWER_OFF);
    }
    ExitCode::FAILURE
}

/// Whether we are the first process of a machine. Process 1 of a pid namespace is not: it finds
/// /proc mounted. (Mounting over the directories of a real machine would be a bad mistake.)
fn is_first() -> bool {
    std::process::id() == 1 && !Path::new("/proc/self").exists()
}

/// The bits by which the kernel says that it complained: it died in part (7), warned (9), or was
/// stuck for long (14).
/// (<https://elixir.bootlin.com/linux/v6.12/source/Documentation/admin-guide/tainted-kernels.rst>)
fn taint() -> u64 {
    const COMPLAINED: u64 = 1 << 7 | 1 << 9 | 1 << 14;
    let text = std::fs::read_to_string("/proc/sys/kernel/tainted").unwrap_or_default();
    text.trim().parse().unwrap_or(0) & COMPLAINED
}

/// Runs the kernel tests with this probe set; says in words how they ended.
fn kernel_tests(set: &str, filters: &str) -> String {
    let ended = Command::new("/bin/kernel-tests")
        .args(["--ignored", "--test-threads=1", "--color=never"])
        .args((!filters.is_empty()).then_some(filters))
        .env("PATH", "/bin:/usr/bin")
        .env("RUST_BACKTRACE", "0")
        .env("AIOTRACE_PROBES", set)
        .env("AIOTRACE_GUEST", std::env::var_os("aiotrace_guest").unwrap_or_default())
        .env("AIOTRACE_COST", std::env::var_os("aiotrace_cost").unwrap_or_default())
        .env("AIOTRACE_EVERYWHERE", std::env::var_os("aiotrace_everywhere").unwrap_or_default())
        .env("AIOTRACE_BINARY", "/bin/aiotrace")
        .env("AIOTRACE_PROGRAMS", "/bin/aio-programs")
        .status();
    ended.map_or_else(|error| error.to_string(), |it| it.to_string())
}

fn mount(kind: &CStr, at: &CStr) {
    let none = std::ptr::null();
    // SAFETY: the strings are constants that end with NUL. /dev may be mounted already, and a file
    // system that is missing shows in the tests.
    unsafe { libc::mount(kind.as_ptr(), at.as_ptr(), kind.as_ptr(), 0, none) };
}
