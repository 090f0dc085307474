//! What the kernel says of itself, and of our own process.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader},
    os::unix::fs::MetadataExt as _,
    sync::OnceLock,
};

use aiotrace_model::trace::Machine;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{file, process};

/// The value of a file below /proc/sys, for instance `fs/aio-nr`.
pub fn sysctl(name: &str) -> Option<String> {
    Some(fs::read_to_string(format!("/proc/sys/{name}")).ok()?.trim().to_owned())
}

/// The value of a file below /proc/sys that is a number.
pub fn sysctl_number(name: &str) -> Option<u64> {
    sysctl(name)?.parse().ok()
}

/// Whether more threads want to run at this moment than there are processors.
pub fn is_busy() -> bool {
    // SAFETY: the call takes no pointers.
    let processors = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    running(&load).is_some_and(|it| it > processors.max(1))
}

/// How many threads run or want to, by the content of /proc/loadavg: `0.20 0.18 0.12 1/80 11206`.
fn running(load: &str) -> Option<i64> {
    load.split(' ').nth(3)?.split('/').next()?.parse().ok()
}

/// The size of a page of this machine, in bytes.
pub fn page_size() -> usize {
    static SIZE: OnceLock<usize> = OnceLock::new();
    // SAFETY: the call takes no pointers.
    let ask = || usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    *SIZE.get_or_init(ask)
}

/// The release of the running kernel.
pub fn release() -> String {
    sysctl("kernel/osrelease").unwrap_or_default()
}

/// This machine, as a recording names it.
pub fn machine() -> Machine {
    Machine {
        arch: std::env::consts::ARCH.into(),
        page_size: page_size() as u64,
        kernel: sysctl("kernel/osrelease"),
        host: sysctl("kernel/hostname"),
        boot_id: sysctl("kernel/random/boot_id"),
    }
}

/// The major and minor version in a kernel's release; one that cannot be parsed passes for new.
pub fn kernel_version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|it: char| !it.is_ascii_digit()).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => (u32::MAX, 0),
    }
}

/// The address of one of the kernel's symbols, if it is told. (It takes 40 ms.)
pub fn kernel_symbol(name: &str) -> Option<u64> {
    let mut symbols = BufReader::new(File::open("/proc/kallsyms").ok()?);
    // `ffffffff82a1b0c0 D __per_cpu_offset`
    let end = format!(" {name}\n");
    let mut line = Vec::new();
    while !line.ends_with(end.as_bytes()) {
        line.clear();
        if symbols.read_until(b'\n', &mut line).ok()? == 0 {
            return None;
        }
    }
    u64::from_str_radix(str::from_utf8(line.get(..16)?).ok()?, 16).ok()
}

/// Whether we are in a cgroup namespace.
pub fn is_in_a_cgroup_namespace() -> bool {
    /// `PROC_CGROUP_INIT_INO` of include/linux/proc_ns.h: the same on every kernel.
    const INITIAL: u64 = 0xEFFF_FFFB;
    fs::metadata("/proc/self/ns/cgroup").is_ok_and(|it| it.ino() != INITIAL)
}

/// Our cgroups, a line for each hierarchy.
pub fn own_cgroups() -> Option<String> {
    String::from_utf8(file::read("/proc/self/cgroup").ok()?).ok()
}

/// What is said of this process in `status`.
pub fn own_status() -> Option<Vec<u8>> {
    file::read("/proc/self/status").ok()
}

/// Inode number of our pid namespace, or `None` if it is the initial one.
pub fn pid_namespace() -> Option<u32> {
    /// `PROC_PID_INIT_INO` of include/linux/proc_ns.h: the same on every kernel.
    const INITIAL: u64 = 0xEFFF_FFFC;
    let inode = fs::metadata("/proc/self/ns/pid").ok()?.ino();
    (inode != INITIAL).then_some(inode as u32)
}

/// Lets the calling thread run before others (nice -20), if that is allowed.
pub fn go_first() {
    // SAFETY: the call takes no pointers.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) };
}

/// Lowers a limit of this process to `most`, or leaves it if it is lower.
///
/// # Errors
/// If the kernel has no such limit.
pub fn lower_limit(resource: Resource, most: u64) -> io::Result<()> {
    let (_, before) = getrlimit(resource)?;
    let most = most.min(before);
    Ok(setrlimit(resource, most, most)?)
}

/// The memory that this process has now, in bytes.
pub fn memory_now() -> Option<u64> {
    own_memory("VmRSS")
}

/// The most memory that this process has had, in bytes. (`ru_maxrss` would not do: `exec_mmap`
/// keeps the value of the program that started us, if that was more,
/// [exec.c](https://elixir.bootlin.com/linux/v6.12/source/fs/exec.c).)
pub fn most_memory() -> Option<u64> {
    own_memory("VmHWM")
}

fn own_memory(field: &str) -> Option<u64> {
    process::status_bytes(&own_status()?, field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_memory_is_at_least_what_is_there_now() {
        let now = memory_now().unwrap();
        assert!(now > 1 << 20, "{now}");
        assert!(most_memory().unwrap() >= now);
    }

    #[test]
    fn threads_that_want_to_run_are_counted() {
        assert_eq!(running("0.20 0.18 0.12 11/80 11206\n"), Some(11));
        assert_eq!((running(""), running("0.20 0.18 0.12 many")), (None, None));
        let now = fs::read_to_string("/proc/loadavg").unwrap();
        assert!(running(&now).unwrap() > 0, "{now}");
    }

    #[test]
    fn this_machine_is_known() {
        let machine = machine();
        assert!(machine.page_size.is_power_of_two() && machine.page_size >= 4096, "{machine:?}");
        let texts = [machine.kernel, machine.host, machine.boot_id];
        assert!(texts.iter().flatten().all(|it| !it.is_empty() && !it.contains('\n')), "{texts:?}");
        assert_eq!(texts.iter().flatten().count(), 3);
    }

    #[test]
    fn a_release_has_a_major_and_a_minor() {
        assert_eq!(kernel_version("6.1.0-13-amd64"), (6, 1));
        assert_eq!(kernel_version("5.10.0"), (5, 10));
        assert_eq!(kernel_version("odd"), (u32::MAX, 0));
    }
}
