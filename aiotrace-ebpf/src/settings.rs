//! The read-only settings: constants to the verifier.

use aiotrace_common::settings::{Offsets, Settings, target};

/// Filled in by the loader.
#[unsafe(no_mangle)]
pub static SETTINGS: Settings = Settings {
    cgroup_id: 0,
    per_cpu_offset: 0,
    slow_submit: 0,
    cgroup_level: 0,
    target: target::LISTED,
    follow: 0,
    pid_namespace: 0,
    exact_completions: 0,
    registers_on_stack: 0,
    possible_cpus: 0,
    setup_stack_pages: 0,
    submit_stack_pages: 0,
    counting: 0,
    count_requests: 0,
    sample: 0,
    only_errors: 0,
    only_ops: 0,
    only_fd: 0,
    only_pid: 0,
    offsets: OFFSETS,
};

/// Placeholders; the loader puts the running kernel's offsets here.
const OFFSETS: Offsets = Offsets {
    task_thread_info_status: 0,
    task_pid: 0,
    task_tgid: 0,
    task_group_leader: 0,
    task_start_boottime: 0,
    task_comm: 0,
    task_mm: 0,
    task_exit_code: 0,
    task_signal: 0,
    task_thread_pid: 0,
    task_seccomp_mode: 0,
    signal_live: 0,
    signal_flags: 0,
    signal_group_exit_code: 0,
    pid_numbers: 0,
    pid_level: 0,
    upid_size: 0,
    upid_nr: 0,
    upid_ns: 0,
    pid_namespace_inum: 0,
    binprm_filename: 0,
    task_flags: 0,
    task_stack: 0,
    pt_regs_size: 0,
    kioctx_user_id: 0,
    kioctx_max_reqs: 0,
    kioctx_nr_events: 0,
    kioctx_table_nr: 0,
    kioctx_table_table: 0,
    mm_struct_ioctx_table: 0,
    kioctx_dead: 0,
    kioctx_cpu: 0,
    kioctx_reqs_available: 0,
    kioctx_completed_events: 0,
    kioctx_cpu_reqs_available: 0,
    kioctx_aio_ring_file: 0,
    aio_kiocb_ki_ctx: 0,
    aio_kiocb_ki_res: 0,
    vm_area_struct_vm_start: 0,
    vm_area_struct_vm_file: 0,
};

pub use crate::setting;
