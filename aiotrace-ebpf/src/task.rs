//! Reads the kernel's `task_struct`, at the offsets that the loader took from BTF.

use aiotrace_common::{arch::COMPAT_BIT, settings::ABSENT};
use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_get_current_task, generated};

use crate::{kernel::read, setting};

/// `SIGNAL_GROUP_EXIT`:
/// <https://elixir.bootlin.com/linux/v6.12.117/source/include/linux/sched/signal.h#L257>
const SIGNAL_GROUP_EXIT: u32 = 4;
/// `PF_EXITING`: <https://elixir.bootlin.com/linux/v6.12.117/source/include/linux/sched.h#L1693>
const PF_EXITING: u32 = 4;
/// `MAX_PID_NS_LEVEL`:
/// <https://elixir.bootlin.com/linux/v6.12.117/source/include/linux/pid_namespace.h#L15>
const MAX_PID_NS_LEVEL: u32 = 32;
/// `SECCOMP_MODE_FILTER`:
/// <https://elixir.bootlin.com/linux/v6.12.117/source/include/uapi/linux/seccomp.h#L12>
const SECCOMP_MODE_FILTER: u32 = 2;

/// The kernel's numbers for a thread and its process, in the initial pid namespace.
#[derive(Clone, Copy)]
pub struct KernelIds {
    /// The process.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
}

/// The numbers of a thread and its process, as aiotrace's pid namespace sees them.
#[derive(Clone, Copy)]
pub struct Ids {
    /// The process.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
}

/// A pointer to a `task_struct`.
#[derive(Clone, Copy)]
pub struct Task(*const u8);

impl Task {
    /// The task at this address.
    #[inline(always)]
    pub fn at(pointer: *const u8) -> Self {
        Self(pointer)
    }

    /// The running task.
    #[inline(always)]
    pub fn current() -> Self {
        // SAFETY: the helper has no preconditions.
        Self(unsafe { bpf_get_current_task() } as *const u8)
    }

    /// Its ids in the initial namespace.
    #[inline(always)]
    pub fn kernel_ids(self) -> KernelIds {
        KernelIds {
            pid: read(self.0, setting!(offsets.task_tgid)).unwrap_or(0),
            tid: read(self.0, setting!(offsets.task_pid)).unwrap_or(0),
        }
    }

    /// Its ids as aiotrace sees them, or `None` if it is not in aiotrace's pid namespace.
    #[inline(always)]
    pub fn ids(self, kernel: KernelIds) -> Option<Ids> {
        if setting!(pid_namespace) == 0 {
            return Some(Ids { pid: kernel.pid, tid: kernel.tid });
        }
        Some(Ids { pid: self.leader().namespaced_id()?, tid: self.namespaced_id()? })
    }

    /// Its id in aiotrace's pid namespace.
    #[inline(always)]
    fn namespaced_id(self) -> Option<u32> {
        let id = id_in_our_namespace(read(self.0, setting!(offsets.task_thread_pid))?);
        (id != 0).then_some(id)
    }

    /// The thread with which the process began.
    #[inline(always)]
    pub fn leader(self) -> Self {
        read(self.0, setting!(offsets.task_group_leader)).map_or(self, Self)
    }

    /// The address of its address space, 0 if it has none.
    #[inline(always)]
    pub fn space(self) -> u64 {
        read(self.0, setting!(offsets.task_mm)).unwrap_or(0)
    }

    /// When it started, in nanoseconds of CLOCK_BOOTTIME.
    #[inline(always)]
    pub fn started(self) -> u64 {
        read(self.0, setting!(offsets.task_start_boottime)).unwrap_or(0)
    }

    /// The name of the thread.
    #[inline(always)]
    pub fn name(self) -> [u8; 16] {
        read(self.0, setting!(offsets.task_comm)).unwrap_or_default()
    }

    /// The address of its kernel stack.
    #[inline(always)]
    pub fn stack(self) -> *const u8 {
        read(self.0, setting!(offsets.task_stack)).unwrap_or(core::ptr::null())
    }

    /// The position in the file of a descriptor.
    #[inline(always)]
    pub fn position(self, fd: u32) -> Option<i64> {
        let files: *const u8 = read(self.0, setting!(offsets.task_files))?;
        let table: *const u8 = read(files, setting!(offsets.files_struct_fdt))?;
        let all: *const u8 = read(table, setting!(offsets.fdtable_fd))?;
        // The system call succeeded, so the descriptor is in the table.
        let file: *const u8 = read(all.wrapping_add(fd as usize * 8), 0)?;
        read(file, setting!(offsets.file_f_pos))
    }

    /// Whether it is exiting.
    #[inline(always)]
    pub fn is_exiting(self) -> bool {
        read::<u32>(self.0, setting!(offsets.task_flags)).unwrap_or(0) & PF_EXITING != 0
    }

    /// Whether it has a seccomp filter.
    #[inline(always)]
    pub fn has_seccomp_filter(self) -> bool {
        read::<u32>(self.0, setting!(offsets.task_seccomp_mode)) == Some(SECCOMP_MODE_FILTER)
    }

    /// Whether no thread of the process is alive any more. The kernel counts `signal->live` down
    /// before it calls the tracepoint:
    /// <https://git.kernel.org/pub/scm/linux/kernel/git/stable/linux.git/tree/kernel/exit.c?h=v6.12.117#n907>
    #[inline(always)]
    pub fn process_is_dead(self) -> bool {
        let Some(signal) = read::<*const u8>(self.0, setting!(offsets.task_signal)) else {
            return false;
        };
        read::<u32>(signal, setting!(offsets.signal_live)) == Some(0)
    }

    /// The process's status as wait(2) will give it, computed as `wait_task_zombie` does:
    /// <https://git.kernel.org/pub/scm/linux/kernel/git/stable/linux.git/tree/kernel/exit.c?h=v6.12.117#n1241>
    #[inline(always)]
    pub fn exit_status(self) -> u32 {
        let leader = self.leader();
        let of_leader = read(leader.0, setting!(offsets.task_exit_code)).unwrap_or(0);
        let Some(signal) = read::<*const u8>(self.0, setting!(offsets.task_signal)) else {
            return of_leader;
        };
        let flags: u32 = read(signal, setting!(offsets.signal_flags)).unwrap_or(0);
        if flags & SIGNAL_GROUP_EXIT == 0 {
            return of_leader;
        }
        read(signal, setting!(offsets.signal_group_exit_code)).unwrap_or(of_leader)
    }
}

/// `numbers[level].nr` of a `struct pid`, at the level of aiotrace's pid namespace; 0 if it has
/// none there. A global function, see [`crate::records`]: the address is a number, and no pointer
/// that the verifier knows.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn id_in_our_namespace(pid: u64) -> u32 {
    find_id(pid as *const u8).unwrap_or(0)
}

#[inline(always)]
fn find_id(pid: *const u8) -> Option<u32> {
    let deepest: u32 = read(pid, setting!(offsets.pid_level))?;
    let mut entry = setting!(offsets.pid_numbers);
    for level in 0..=MAX_PID_NS_LEVEL {
        if level > deepest {
            break;
        }
        let namespace: *const u8 = read(pid, entry + setting!(offsets.upid_ns))?;
        let inode: u32 = read(namespace, setting!(offsets.pid_namespace_inum))?;
        if inode == setting!(pid_namespace) {
            return read(pid, entry + setting!(offsets.upid_nr));
        }
        entry += setting!(offsets.upid_size);
    }
    None
}

/// Whether the running task is in a system call that came through the 32-bit entry. The probes ask
/// this at every call, so it is read without a helper that copies, where that is possible.
#[inline(always)]
pub fn in_compat_syscall() -> bool {
    let offset = setting!(offsets.task_thread_info_compat);
    let status = if setting!(typed_task) != 0 && offset != ABSENT {
        // SAFETY: the verifier checks the access, and that the helper gives a task.
        unsafe {
            let task = generated::bpf_get_current_task_btf().cast::<u8>();
            task.add(offset as usize).cast::<u32>().read_volatile()
        }
    } else {
        read(Task::current().0, offset).unwrap_or(0)
    };
    status & COMPAT_BIT != 0
}

/// The kernel's numbers of the running task, without a memory access.
#[inline(always)]
pub fn current_kernel_ids() -> KernelIds {
    let both = bpf_get_current_pid_tgid();
    KernelIds { pid: (both >> 32) as u32, tid: both as u32 }
}

/// Copies the path of a program being executed (`linux_binprm.filename`) into `to`.
#[inline(always)]
pub fn read_exec_path(binprm: *const u8, to: &mut [u8]) {
    if let Some(filename) = read::<*const u8>(binprm, setting!(offsets.binprm_filename)) {
        // SAFETY: the helper checks the address; `to` is valid for its length.
        unsafe {
            generated::bpf_probe_read_kernel_str(
                to.as_mut_ptr().cast(),
                to.len() as u32,
                filename.cast(),
            )
        };
    }
}
