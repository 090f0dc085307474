//! What aiotrace tells the probes about this machine, and other facts about it.

use std::sync::OnceLock;

use aiotrace_common::{
    arch::KERNEL_STACK,
    record::STACK_PAGES,
    settings::{ABSENT, Offsets, Settings},
};

use super::{
    btf::{self, Btf},
    error::Error,
};
use crate::proc::system;

/// Does work that needs the kernel's types in the form of the loader library. They take some 15
/// MiB, which are given back afterwards: glibc's allocator would keep them.
pub(super) fn with_kernel_types<T>(
    then: impl FnOnce(&aya::Btf) -> Result<T, Error>,
) -> Result<T, Error> {
    let types = aya::Btf::from_sys_fs().map_err(|_| {
        Error::Btf(btf::Error::Read(std::io::Error::other("the loader cannot parse it")))
    })?;
    let done = then(&types);
    drop(types);
    // The C library of other targets gives it back by itself, or has no such function.
    #[cfg(target_env = "gnu")]
    // SAFETY: the function has no preconditions.
    unsafe {
        libc::malloc_trim(0)
    };
    done
}

/// The settings for this machine and one kind of target, with everything optional turned off: no
/// process is followed, no target is named, and per-CPU memory is not read ([`with_processors`]).
///
/// # Errors
/// As for [`offsets`].
pub fn settings(target: u32) -> Result<Settings, Error> {
    Ok(Settings {
        cgroup_id: 0,
        cgroup_level: 0,
        target,
        follow: 0,
        pid_namespace: system::pid_namespace().unwrap_or(0),
        exact_completions: 0,
        registers_on_stack: 0,
        per_cpu_offset: 0,
        possible_cpus: 0,
        setup_stack_pages: STACK_PAGES as u32,
        submit_stack_pages: 0,
        slow_submit: 0,
        counting: 0,
        count_requests: 0,
        sample: 0,
        only_errors: 0,
        only_ops: 0,
        only_fd: ABSENT,
        only_pid: 0,
        typed_task: u32::from(kernel_version() >= (5, 11)),
        kernel_stack: kernel_stack(),
        offsets: offsets()?,
    })
}

/// The size of a kernel stack: at least a page, where kernel stacks are mapped (`CONFIG_VMAP_STACK`,
/// <https://elixir.bootlin.com/linux/v6.12/source/arch/arm64/include/asm/memory.h#L115>).
fn kernel_stack() -> u32 {
    KERNEL_STACK.max(u32::try_from(system::page_size()).unwrap_or(0))
}

/// The settings for a program that also reads per-CPU memory. (To read /proc/kallsyms takes 40 ms.)
pub fn with_processors(settings: Settings) -> Settings {
    Settings {
        per_cpu_offset: system::kernel_symbol("__per_cpu_offset").unwrap_or(0),
        possible_cpus: possible_cpus().unwrap_or(0),
        ..settings
    }
}

/// The number of possible processors: `0-3` in /sys/devices/system/cpu/possible is 4.
pub(super) fn possible_cpus() -> Option<u32> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible").ok()?;
    let last = text.trim().rsplit(['-', ',']).next()?;
    last.parse::<u32>().ok()?.checked_add(1)
}

/// The offsets in the running kernel, which are looked up once.
///
/// # Errors
/// If the kernel has no BTF. The offset of a missing member is [`ABSENT`].
fn offsets() -> Result<Offsets, btf::Error> {
    static FOUND: OnceLock<Offsets> = OnceLock::new();
    if let Some(found) = FOUND.get() {
        return Ok(*found);
    }
    let found = offsets_in(&Btf::of_kernel()?);
    Ok(*FOUND.get_or_init(|| found))
}

fn offsets_in(btf: &Btf) -> Offsets {
    Offsets::found(|structure, way| match way {
        [] => btf.size(structure),
        way => btf.offset(structure, way),
    })
}

/// Whether programs may be preempted so often that the kernel skips many runs. Trampolines are
/// preemptible wherever the kernel is, which it mostly is since 6.13 (PREEMPT_LAZY); tracepoints
/// are from 7.0 on.
pub(super) fn probes_are_preemptible() -> bool {
    let version = system::sysctl("kernel/version");
    kernel_version() >= (6, 13) && version.is_some_and(|it| it.contains("PREEMPT"))
}

/// Whether this holds for programs at tracepoints, too.
pub(super) fn tracepoints_are_preemptible() -> bool {
    kernel_version() >= (7, 0) && probes_are_preemptible()
}

fn kernel_version() -> (u32, u32) {
    system::kernel_version(&system::release())
}
