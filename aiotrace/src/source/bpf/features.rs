//! Tells the user what to do if tracing does not work. The sentences are chosen by facts that are
//! passed in, so that each has a test.

use std::borrow::Cow;

use crate::arch::{MINIMUM_KERNEL, TOO_OLD};

/// The architecture that aiotrace was built for.
pub const ARCHITECTURE: &str = std::env::consts::ARCH;

/// What is known of the machine when the kernel refused something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The errno of the refusal, if there was one.
    pub errno: Option<i32>,
    /// The effective user id is 0.
    pub root: bool,
    /// The process has CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN.
    pub capable: bool,
    /// /sys/kernel/btf/vmlinux exists.
    pub btf: bool,
    /// The major and minor number of the kernel's release.
    pub kernel: (u32, u32),
    /// The lockdown mode is `confidentiality`, which forbids BPF to read kernel memory.
    pub locked_down: bool,
    /// The lowest memory limit of aiotrace's cgroups, in bytes.
    pub memory_limit: Option<u64>,
}

/// From this version on, the memory that BPF takes counts for the cgroup, and no longer for
/// RLIMIT_MEMLOCK.
const COUNTED_BY_CGROUP: (u32, u32) = (5, 11);

/// A cgroup with a higher memory limit, in bytes, has room for aiotrace, unless other processes
/// have filled it.
const SMALL: u64 = 512 << 20;

/// The next step for the user, in one line.
pub fn hint(facts: Facts) -> Cow<'static, str> {
    let small = facts.memory_limit.filter(|limit| *limit <= SMALL);
    if let (Some(libc::ENOMEM), Some(limit)) = (facts.errno, small) {
        return format!(
            "the cgroup that aiotrace is in may take {} MiB of memory, and the probes and their buffers need some 64 MiB: \
             raise memory.max (memory.limit_in_bytes with v1), or start aiotrace in another cgroup, or use --source ptrace, which needs little",
            limit >> 20
        )
        .into();
    }
    sentence(facts).into()
}

fn sentence(facts: Facts) -> &'static str {
    match facts {
        Facts { errno: Some(libc::ENOSYS), .. } => {
            "this kernel has no bpf(2) (CONFIG_BPF_SYSCALL), or a sandbox hides it: run aiotrace \
             outside of the sandbox, or on a kernel with BPF, or use --source ptrace"
        }
        Facts { kernel, .. } if kernel < MINIMUM_KERNEL => TOO_OLD,
        Facts { capable: false, root: false, .. } => {
            "needs CAP_BPF and CAP_PERFMON: run as root, or use --source ptrace"
        }
        Facts { capable: false, root: true, .. } => {
            "root here lacks CAP_BPF and CAP_PERFMON (a container?): run on the host, or give the \
             container these capabilities (--privileged), or use --source ptrace"
        }
        Facts { locked_down: true, .. } => {
            "the kernel is in lockdown mode `confidentiality`, which forbids BPF from reading \
             memory: boot with lockdown=integrity or none, or use --source ptrace"
        }
        Facts { btf: false, .. } => {
            "this kernel shows no /sys/kernel/btf/vmlinux (CONFIG_DEBUG_INFO_BTF): use a \
             distribution's kernel, or one built with it, or --source ptrace"
        }
        Facts { errno: Some(libc::ENOMEM), .. } => {
            "the kernel has no memory for the probes and their buffers, some 64 MiB: free some, or use --source ptrace, \
             which needs little"
        }
        // Such a kernel reports this with EPERM (`bpf_charge_memlock`).
        Facts { errno: Some(libc::EPERM), kernel, .. } if kernel < COUNTED_BY_CGROUP => {
            "not enough memory may be locked: raise RLIMIT_MEMLOCK (ulimit -l unlimited)"
        }
        _ => "`aiotrace doctor` tells what this machine allows",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINE: Facts = Facts {
        errno: Some(libc::EPERM),
        root: true,
        capable: true,
        btf: true,
        kernel: (6, 1),
        locked_down: false,
        memory_limit: None,
    };

    #[test]
    fn each_reason_has_its_own_sentence() {
        let cases = [
            (Facts { errno: Some(libc::ENOSYS), ..FINE }, "no bpf(2)"),
            (Facts { kernel: (5, 4), ..FINE }, TOO_OLD),
            (Facts { capable: false, root: false, ..FINE }, "run as root"),
            (Facts { capable: false, ..FINE }, "a container?"),
            (Facts { locked_down: true, ..FINE }, "lockdown"),
            (Facts { btf: false, ..FINE }, "CONFIG_DEBUG_INFO_BTF"),
            (Facts { errno: Some(libc::ENOMEM), ..FINE }, "no memory for the probes"),
            (
                Facts { errno: Some(libc::ENOMEM), memory_limit: Some(50 << 20), ..FINE },
                "may take 50 MiB of memory",
            ),
            (Facts { kernel: (5, 10), ..FINE }, "RLIMIT_MEMLOCK"),
            (FINE, "aiotrace doctor"),
        ];
        for (facts, part) in cases {
            assert!(hint(facts).contains(part), "{facts:?}: {}", hint(facts));
        }
    }

    #[test]
    fn the_cause_nearest_to_the_user_comes_first() {
        let facts = Facts { capable: false, root: false, btf: false, ..FINE };
        assert!(hint(facts).contains("run as root"));
    }
}
