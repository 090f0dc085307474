//! Facts about the machine on which tracing depends, and what to do where it refuses something.

use std::{fs, io, path::Path};

use nix::{errno::Errno, unistd::geteuid};

use crate::{
    proc,
    source::bpf::{
        self, btf,
        features::{self, Facts},
    },
};

/// What to do about this error, given this machine.
pub fn hint(error: &bpf::Error) -> String {
    features::hint(facts(errno(error))).into_owned()
}

/// What the machine is like. `errno`: the error that it gave, if there is one.
pub fn facts(errno: Option<i32>) -> Facts {
    let status = proc::system::own_status().unwrap_or_default();
    let effective = proc::status_field(&status, "CapEff")
        .and_then(|it| u64::from_str_radix(it, 16).ok())
        .unwrap_or(0);
    // The bits of include/uapi/linux/capability.h.
    let has = |bit: u32| effective >> bit & 1 == 1;
    let (sys_admin, perfmon, bpf) = (has(21), has(38), has(39));
    Facts {
        errno,
        root: geteuid().is_root(),
        capable: sys_admin || (perfmon && bpf),
        btf: Path::new(btf::VMLINUX).exists(),
        kernel: proc::system::kernel_version(&proc::system::release()),
        memory_limit: memory_limit(),
        locked_down: lockdown().is_some_and(|it| it.contains("[confidentiality]")),
    }
}

/// Where the cgroup hierarchies (v2, hybrid, v1) keep the limit of memory: the beginning of the
/// line in /proc/self/cgroup, the mount, and the file.
const MEMORY_LIMITS: [(&str, &str, &str); 3] = [
    ("0::/", "/sys/fs/cgroup", "memory.max"),
    ("0::/", "/sys/fs/cgroup/unified", "memory.max"),
    (":memory:/", "/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
];

/// The lowest memory limit of our cgroup and of those above it.
fn memory_limit() -> Option<u64> {
    let ours = proc::system::own_cgroups()?;
    let limits = |(line, mount, file): (&str, &str, &str)| -> Vec<u64> {
        let found = ours.lines().find_map(|it| it.split_once(line));
        let cgroup = Path::new(found.map_or("", |it| it.1));
        let text = |it: &Path| fs::read_to_string(Path::new(mount).join(it).join(file)).ok();
        cgroup.ancestors().filter_map(text).filter_map(|it| it.trim().parse().ok()).collect()
    };
    // If there is no limit, v1 shows the largest number of whole pages.
    let is_limit = |it: &u64| *it < i64::MAX as u64 / 4096 * 4096;
    MEMORY_LIMITS.into_iter().flat_map(limits).filter(is_limit).min()
}

/// What /sys/kernel/security/lockdown says, if it is there.
pub fn lockdown() -> Option<String> {
    fs::read_to_string("/sys/kernel/security/lockdown").ok().map(|it| it.trim().to_owned())
}

/// The errno at the end of the chain of causes, if there is one.
fn errno(error: &bpf::Error) -> Option<i32> {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = source {
        if let Some(error) = cause.downcast_ref::<io::Error>() {
            return error.raw_os_error();
        }
        if let Some(errno) = cause.downcast_ref::<Errno>() {
            return Some(*errno as i32);
        }
        source = cause.source();
    }
    None
}
