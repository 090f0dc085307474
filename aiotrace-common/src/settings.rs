//! What the program tells the probes before they are loaded. The probes read it as constants: the
//! verifier knows every value and removes what is turned off.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Which processes are traced.
pub mod target {
    /// Those in the map `TARGETS`.
    pub const LISTED: u32 = 0;
    /// Those in a cgroup or below it.
    pub const CGROUP: u32 = 1;
    /// Every process this pid namespace can see.
    pub const ALL: u32 = 2;
}

/// An offset that this kernel's BTF does not have; what needs it is off.
pub const ABSENT: u32 = u32::MAX;

/// Read-only settings of the probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Settings {
    /// With [`target::CGROUP`]: the cgroup's id.
    pub cgroup_id: u64,
    /// Address of the kernel's `__per_cpu_offset`; 0 if it is not known.
    pub per_cpu_offset: u64,
    /// With `counting`: an io_submit that took so long is told, nanoseconds.
    pub slow_submit: u64,
    /// With [`target::CGROUP`]: its depth below the root.
    pub cgroup_level: u32,
    /// One of [`target`].
    pub target: u32,
    /// 1: children of traced processes are traced too.
    pub follow: u32,
    /// Inode number of our pid namespace; 0 for the initial one, whose ids need no translation.
    pub pid_namespace: u32,
    /// 1: a probe on `aio_complete` tells of completions; else they are found in the rings.
    pub exact_completions: u32,
    /// Where the registers of a system call are on the kernel stack, for kernels whose BTF does not
    /// tell the type of that argument; else 0.
    pub registers_on_stack: u32,
    /// Processors that there may be.
    pub possible_cpus: u32,
    /// Pages of user stack copied at io_setup: 0, or up to [`STACK_PAGES`](crate::record::STACK_PAGES).
    pub setup_stack_pages: u32,
    /// The same at io_submit.
    pub submit_stack_pages: u32,
    /// 1: calls are counted, and io_submit, io_getevents and io_pgetevents are told only if what follows
    /// says so.
    pub counting: u32,
    /// With `counting`: 1: requests and their results are looked at, too.
    pub count_requests: u32,
    /// With `counting`: one of so many calls is told; 0: none, but for those that findings need.
    pub sample: u32,
    /// With `counting`: 1: told are calls that fail, or give a result that is an error.
    pub only_errors: u32,
    /// With `counting`: told are calls about a request with one of these opcodes, a bit for each; 0: any.
    pub only_ops: u32,
    /// With `counting`: told are calls about a request for this descriptor; [`ABSENT`]: any.
    pub only_fd: u32,
    /// Nobody but this process can be traced, as the initial pid namespace sees it; 0: not known. So that
    /// others need not be looked for.
    pub only_pid: u32,
    /// 1: the kernel gives the running task as a pointer that may be followed (since 5.11).
    pub typed_task: u32,
    /// Fills up to a multiple of eight.
    pub reserved: u32,
    /// Where the kernel keeps what we read.
    pub offsets: Offsets,
}

/// Byte offsets in kernel structures, taken from the running kernel's BTF ([`ABSENT`] if not
/// there). Field names are `struct_member`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[expect(missing_docs, reason = "each is the offset of the member it is named after")]
pub struct Offsets {
    pub task_thread_info_status: u32,
    pub task_pid: u32,
    pub task_tgid: u32,
    pub task_group_leader: u32,
    pub task_start_boottime: u32,
    pub task_comm: u32,
    pub task_mm: u32,
    pub task_exit_code: u32,
    pub task_signal: u32,
    pub task_thread_pid: u32,
    pub task_seccomp_mode: u32,
    pub signal_live: u32,
    pub signal_flags: u32,
    pub signal_group_exit_code: u32,
    pub pid_numbers: u32,
    pub pid_level: u32,
    pub upid_size: u32,
    pub upid_nr: u32,
    pub upid_ns: u32,
    pub pid_namespace_inum: u32,
    pub binprm_filename: u32,
    pub task_flags: u32,
    pub task_stack: u32,
    pub pt_regs_size: u32,
    pub kioctx_user_id: u32,
    pub kioctx_max_reqs: u32,
    pub kioctx_nr_events: u32,
    pub kioctx_table_nr: u32,
    pub kioctx_table_table: u32,
    pub mm_struct_ioctx_table: u32,
    pub kioctx_dead: u32,
    pub kioctx_cpu: u32,
    pub kioctx_reqs_available: u32,
    pub kioctx_completed_events: u32,
    pub kioctx_cpu_reqs_available: u32,
    pub kioctx_aio_ring_file: u32,
    pub aio_kiocb_ki_ctx: u32,
    pub aio_kiocb_ki_res: u32,
    pub vm_area_struct_vm_start: u32,
    pub vm_area_struct_vm_file: u32,
    pub task_files: u32,
    pub files_struct_fdt: u32,
    pub fdtable_fd: u32,
    pub file_f_pos: u32,
}
