//! The first and only process of a virtual machine: mounts what is needed, runs the suite, powers
//! off.

use std::{ffi::CStr, fs::File, os::fd::AsRawFd as _, path::Path};

/// Whether we are that process. Process 1 of a pid namespace is not: it has another name, and finds
/// /proc mounted. (Mounting over a machine's own directories is no small mistake.)
pub fn is_us() -> bool {
    let has_name = std::env::args_os().next().is_some_and(|it| it == "/init");
    std::process::id() == 1 && has_name && !Path::new("/proc/self").exists()
}

/// What it does. Never returns.
pub fn run() -> ! {
    for (kind, at) in [
        (c"proc", c"/proc"),
        (c"sysfs", c"/sys"),
        (c"devtmpfs", c"/dev"),
        (c"tmpfs", c"/tmp"),
        (c"tracefs", c"/sys/kernel/tracing"),
        (c"securityfs", c"/sys/kernel/security"),
    ] {
        mount(kind, at);
    }
    // Our output goes to the console, wherever the kernel left it.
    if let Ok(console) = File::options().write(true).open("/dev/console") {
        for fd in [1, 2] {
            // SAFETY: two open descriptors.
            unsafe { libc::dup2(console.as_raw_fd(), fd) };
        }
    }
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    crate::say(&format!("guest | {}", release.trim()));
    let aiotrace = Path::new("/bin/aiotrace");
    let doctor = crate::injected::doctor(aiotrace);
    crate::say(&doctor);
    // The kernel gives what it does not know itself to its init: aiotrace_probes=syscall,kprobe
    let wanted = std::env::var("aiotrace_probes").unwrap_or_default();
    for probes in wanted.split(',').filter(|it| !it.is_empty()) {
        crate::suite::run(aiotrace, probes);
    }
    // Nothing but that, to look at it alone.
    let counted = std::env::var("aiotrace_counted").unwrap_or_default();
    for probes in counted.split(',').filter(|it| !it.is_empty()) {
        let counts = crate::suite::counted(aiotrace, probes);
        crate::say(&format!("suite {probes} | counted | {counts}"));
        crate::say(&format!(
            "suite {probes} | chosen | {}",
            crate::suite::chosen(aiotrace, probes)
        ));
    }
    if std::env::var_os("aiotrace_faults").is_some() {
        crate::injected::run(aiotrace, &doctor);
    }
    if std::env::var_os("aiotrace_bench").is_some() {
        crate::bench::guest(aiotrace);
    }
    // SAFETY: ends the machine.
    unsafe {
        libc::sync();
        libc::reboot(libc::RB_POWER_OFF);
    }
    std::process::exit(0)
}

fn mount(kind: &CStr, at: &CStr) {
    let none = std::ptr::null();
    // SAFETY: constant strings. /dev may be mounted already; what is missing shows in the suite.
    unsafe { libc::mount(kind.as_ptr(), at.as_ptr(), kind.as_ptr(), 0, none) };
}
