//! What the loader tells the probes before it loads them. The probes read it as constants: the
//! verifier knows every value and removes code that is turned off.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::arch;

/// The values of [`Settings::target`]: which processes are traced.
pub mod target {
    /// The processes in the map `TARGETS`.
    pub const LISTED: u32 = 0;
    /// The processes in a cgroup or below it.
    pub const CGROUP: u32 = 1;
    /// Every process that this pid namespace can see.
    pub const ALL: u32 = 2;
}

/// The offset of a member that the kernel's BTF does not have; what needs it is turned off.
pub const ABSENT: u32 = u32::MAX;

/// The read-only settings of the probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Settings {
    /// With [`target::CGROUP`]: the cgroup's id.
    pub cgroup_id: u64,
    /// Address of the kernel's `__per_cpu_offset`; 0 if it is not known.
    pub per_cpu_offset: u64,
    /// With `counting`: an io_submit that takes this many nanoseconds or more is recorded.
    pub slow_submit: u64,
    /// With [`target::CGROUP`]: the cgroup's depth below the root.
    pub cgroup_level: u32,
    /// One of [`target`].
    pub target: u32,
    /// 1: children of traced processes are traced too.
    pub follow: u32,
    /// The inode number of aiotrace's pid namespace; 0 for the initial one, whose ids need no
    /// translation.
    pub pid_namespace: u32,
    /// 1: a probe on `aio_complete` sees completions; 0: the probes find them in the rings.
    pub exact_completions: u32,
    /// The place of a system call's registers on the kernel stack, for kernels whose BTF does not
    /// tell the type of that argument; 0 if it does.
    pub registers_on_stack: u32,
    /// The number of possible processors.
    pub possible_cpus: u32,
    /// How many pages of the user stack are copied at io_setup: 0, or up to
    /// [`STACK_PAGES`](crate::record::STACK_PAGES).
    pub setup_stack_pages: u32,
    /// How many pages of the user stack are copied at io_submit.
    pub submit_stack_pages: u32,
    /// 1: calls are counted; io_submit, io_getevents and io_pgetevents are recorded only if a
    /// setting below says so.
    pub counting: u32,
    /// With `counting`: 1: requests and their results are counted, too.
    pub count_requests: u32,
    /// With `counting`: one call of this many is recorded; 0: none, except those that findings
    /// need.
    pub sample: u32,
    /// With `counting`: 1: only calls that fail, or that return an event that is an error, are
    /// recorded.
    pub only_errors: u32,
    /// With `counting`: only calls about a request with one of these opcodes are recorded, a bit
    /// for each; 0: any.
    pub only_ops: u32,
    /// With `counting`: only calls about a request for this descriptor are recorded; [`ABSENT`]:
    /// any.
    pub only_fd: u32,
    /// The only process that can be traced, as the initial pid namespace sees it: the probes need
    /// not look for the slots of other processes' threads. 0: unknown.
    pub only_pid: u32,
    /// 1: the kernel gives the running task as a pointer that programs may follow (since Linux
    /// 5.11).
    pub typed_task: u32,
    /// The size of a kernel stack, where that is not the same on all kernels of an architecture.
    pub kernel_stack: u32,
    /// The offsets of the members that the probes read.
    pub offsets: Offsets,
}

/// Each line is one offset: its name, the structure, and the path to the member; with no path, it
/// is the size of the structure.
macro_rules! offsets {
    ($($name:ident: $structure:literal [$($member:expr),*];)*) => {
        /// Byte offsets in kernel structures, from the running kernel's BTF ([`ABSENT`] if it has
        /// no such member), and the sizes of some.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        #[expect(missing_docs, reason = "each is the offset of the member it is named after")]
        pub struct Offsets { $(pub $name: u32,)* }

        impl Offsets {
            /// The offsets that `look_up` finds; it is given a structure and the path to a member,
            /// or no path.
            pub fn found(look_up: impl Fn(&str, &[&str]) -> Option<u32>) -> Self {
                Self { $($name: look_up($structure, &[$($member),*]).unwrap_or(ABSENT),)* }
            }
        }
    };
}

offsets! {
    task_thread_info_compat: "task_struct" ["thread_info", arch::COMPAT_MEMBER];
    task_pid: "task_struct" ["pid"];
    task_tgid: "task_struct" ["tgid"];
    task_group_leader: "task_struct" ["group_leader"];
    task_start_boottime: "task_struct" ["start_boottime"];
    task_comm: "task_struct" ["comm"];
    task_mm: "task_struct" ["mm"];
    task_exit_code: "task_struct" ["exit_code"];
    task_signal: "task_struct" ["signal"];
    task_thread_pid: "task_struct" ["thread_pid"];
    task_seccomp_mode: "task_struct" ["seccomp", "mode"];
    signal_live: "signal_struct" ["live"];
    signal_flags: "signal_struct" ["flags"];
    signal_group_exit_code: "signal_struct" ["group_exit_code"];
    pid_numbers: "pid" ["numbers"];
    pid_level: "pid" ["level"];
    upid_size: "upid" [];
    upid_nr: "upid" ["nr"];
    upid_ns: "upid" ["ns"];
    pid_namespace_inum: "pid_namespace" ["ns", "inum"];
    binprm_filename: "linux_binprm" ["filename"];
    task_flags: "task_struct" ["flags"];
    task_stack: "task_struct" ["stack"];
    pt_regs_size: "pt_regs" [];
    kioctx_user_id: "kioctx" ["user_id"];
    kioctx_max_reqs: "kioctx" ["max_reqs"];
    kioctx_nr_events: "kioctx" ["nr_events"];
    kioctx_table_nr: "kioctx_table" ["nr"];
    kioctx_table_table: "kioctx_table" ["table"];
    mm_struct_ioctx_table: "mm_struct" ["ioctx_table"];
    kioctx_dead: "kioctx" ["dead"];
    kioctx_cpu: "kioctx" ["cpu"];
    kioctx_reqs_available: "kioctx" ["reqs_available"];
    kioctx_completed_events: "kioctx" ["completed_events"];
    kioctx_cpu_reqs_available: "kioctx_cpu" ["reqs_available"];
    kioctx_aio_ring_file: "kioctx" ["aio_ring_file"];
    aio_kiocb_ki_ctx: "aio_kiocb" ["ki_ctx"];
    aio_kiocb_ki_res: "aio_kiocb" ["ki_res"];
    vm_area_struct_vm_start: "vm_area_struct" ["vm_start"];
    vm_area_struct_vm_file: "vm_area_struct" ["vm_file"];
    task_files: "task_struct" ["files"];
    files_struct_fdt: "files_struct" ["fdt"];
    fdtable_fd: "fdtable" ["fd"];
    file_f_pos: "file" ["f_pos"];
}
