//! What the kernel says of itself, and of this process.

use std::{fs, os::unix::fs::MetadataExt as _};

/// A value below /proc/sys: `fs/aio-nr`, for instance.
pub fn sysctl(name: &str) -> Option<String> {
    Some(fs::read_to_string(format!("/proc/sys/{name}")).ok()?.trim().to_owned())
}

/// The same, of a number.
pub fn sysctl_number(name: &str) -> Option<u64> {
    sysctl(name)?.parse().ok()
}

/// The release of the kernel.
pub fn release() -> String {
    sysctl("kernel/osrelease").unwrap_or_default()
}

/// Major and minor of a kernel's release; what cannot be read passes for new.
pub fn kernel_version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|it: char| !it.is_ascii_digit()).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => (u32::MAX, 0),
    }
}

/// Inode number of our pid namespace, or `None` if it is the initial one.
pub fn pid_namespace() -> Option<u32> {
    /// `PROC_PID_INIT_INO` of include/linux/proc_ns.h: the same on every kernel.
    const INITIAL: u64 = 0xEFFF_FFFC;
    let inode = fs::metadata("/proc/self/ns/pid").ok()?.ino();
    (inode != INITIAL).then_some(inode as u32)
}

/// The calling thread gets a processor before others (nice -20), where that is allowed.
pub fn go_first() {
    // SAFETY: no memory is involved.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) };
}

/// Memory that this process has now, bytes; 0 if that is not known. (`ru_maxrss` would be that of whoever started it,
/// if that was more.)
pub fn memory_now() -> u64 {
    let pages = || {
        let all = fs::read_to_string("/proc/self/statm").ok()?;
        all.split(' ').nth(1)?.parse::<u64>().ok()
    };
    // x86-64 has no other size.
    pages().unwrap_or(0) * 4096
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_has_a_major_and_a_minor() {
        assert_eq!(kernel_version("6.1.0-13-amd64"), (6, 1));
        assert_eq!(kernel_version("5.10.0"), (5, 10));
        assert_eq!(kernel_version("odd"), (u32::MAX, 0));
    }
}
