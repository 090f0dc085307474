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

/// The offsets, one a line: its name, the structure, and the way to the member; without one, the size of the structure.
macro_rules! offsets {
    ($($name:ident: $structure:literal [$($member:literal),*];)*) => {
        /// Byte offsets in kernel structures, taken from the running kernel's BTF ([`ABSENT`] if not there), and sizes of
        /// some.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        #[expect(missing_docs, reason = "each is the offset of the member it is named after")]
        pub struct Offsets { $(pub $name: u32,)* }

        impl Offsets {
            /// What `look_up` finds: of a structure and the way to a member, or no way.
            pub fn found(look_up: impl Fn(&str, &[&str]) -> Option<u32>) -> Self {
                Self { $($name: look_up($structure, &[$($member),*]).unwrap_or(ABSENT),)* }
            }
        }
    };
}

offsets! {
    task_thread_info_status: "task_struct" ["thread_info", "status"];
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
