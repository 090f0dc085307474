//! What the kernel counts for each program: how often it ran, how long, and how often it was
//! skipped.

use std::os::fd::{AsRawFd as _, RawFd};

use aiotrace_common::names;

use super::{choice::By, load::Probes};
use crate::{
    proc::{descriptor::info_of_ours, status_field},
    source::ProbeRuns,
};

impl Probes {
    /// How often the kernel skipped a program because it was already running on the same CPU, from
    /// `recursion_misses` in the program's fdinfo (since Linux 5.12; 0 before):
    /// <https://git.kernel.org/pub/scm/linux/kernel/git/stable/linux.git/tree/kernel/bpf/syscall.c?h=v6.12.117#n2330>
    ///
    /// `with_second`: counts also the program that, with kprobes, looks at each return a second
    /// time.
    pub fn recursion_misses(&self, with_second: bool) -> u64 {
        let is_second = |program: &&names::Program| {
            !with_second && self.set.calls == By::Kprobe && program.name == names::UNSEEN_EXITS.name
        };
        let counted = self.set.programs.iter().filter(|program| !is_second(program));
        counted.filter_map(|program| self.fdinfo(program.name, "recursion_misses")).sum()
    }

    /// What the probes cost, if the kernel measures it (`sysctl kernel.bpf_stats_enabled=1`).
    pub fn runs(&self) -> Option<ProbeRuns> {
        let sum = |field| {
            let programs = self.ebpf.programs();
            programs.filter_map(|(name, _)| self.fdinfo(name, field)).sum::<u64>()
        };
        let runs = ProbeRuns { count: sum("run_cnt"), time_ns: sum("run_time_ns") };
        (runs.count > 0).then_some(runs)
    }

    /// A number in the fdinfo of a loaded program.
    fn fdinfo(&self, program: &str, field: &str) -> Option<u64> {
        let fd = self.ebpf.program(program)?.fd().ok().map(raw)?;
        status_field(&info_of_ours(fd)?, field)?.parse().ok()
    }

    /// How many instructions the verifier walked (since Linux 5.16).
    pub fn verified_instructions(&self, name: &str) -> Option<u32> {
        self.ebpf.program(name)?.info().ok()?.verified_instruction_count()
    }
}

fn raw(fd: &aya::programs::ProgramFd) -> RawFd {
    use std::os::fd::AsFd as _;
    fd.as_fd().as_raw_fd()
}
