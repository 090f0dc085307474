//! Which tests a guest runs, and with which probe sets.

use clap::ValueEnum;

use super::{
    Options,
    table::{Kernel, SIGNS},
};
use crate::arch::Architecture;

/// A way in which the tests see events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Set {
    Auto,
    Trampoline,
    Kprobe,
    Syscall,
    Ptrace,
}

impl Set {
    const BY_BPF: [Self; 3] = [Self::Trampoline, Self::Kprobe, Self::Syscall];

    /// Its name, as the tests know it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Trampoline => "trampoline",
            Self::Kprobe => "kprobe",
            Self::Syscall => "syscall",
            Self::Ptrace => "ptrace",
        }
    }
}

/// The tests of the events that each source yields for each call.
pub const EVENTS: &str = "events::";
/// The tests of events rather than of the command line: all sources must pass them alike.
pub const ABOUT_EVENTS: &str = "events::,twins::,calls::,findings::";
/// The same tests, and those of what is concluded from events.
const ABOUT_CONCLUSIONS: &str = "events::,twins::,calls::,findings::,rings::,cases::,reports::";

/// The probe sets that a guest with this kernel runs, each with the filter of its tests.
pub fn runs(options: &Options, kernel: &Kernel) -> Vec<(Set, String)> {
    let filter = options.filter.clone();
    if kernel.arch != Architecture::X86.name() && !options.everywhere {
        return arm_runs(options, kernel, filter);
    }
    if !options.probes.is_empty() {
        let of = |set: Set| {
            let all = if set == Set::Auto { "" } else { ABOUT_EVENTS };
            (set, filter.clone().unwrap_or_else(|| all.to_owned()))
        };
        return options.probes.iter().copied().map(of).collect();
    }
    if let Some(filter) = filter {
        return vec![(Set::Auto, filter)];
    }
    let others = Set::BY_BPF.into_iter().filter(|it| it.name() != kernel.best);
    // If the kernel skips runs of a set's probes, only the tests of events run: they compare what
    // was seen.
    let filter = |set: Set| {
        let about_all = options.everywhere && !kernel.skipped.contains(&set.name());
        if about_all { ABOUT_CONCLUSIONS } else { EVENTS }
    };
    let has_others = !kernel.is_again || options.everywhere;
    let others = others.filter(|_| has_others).map(|it| (it, filter(it).to_owned()));
    [(Set::Auto, String::new())].into_iter().chain(others).collect()
}

/// What guests of arm64 run: what depends on registers, numbers of calls, and how the kernel can be
/// probed. The rest is the same code as on x86-64.
const ABOUT_ARM: &str = "received::this_kernel,received::every_fault_by_file,\
    received::every_fault_by_write,received::without_a_name,events::submit_65,events::short,\
    events::seccomp,events::exec,\
    events::program_of_32_bits,calls::a_32_bit,attach::a_call_in_progress_at_the_attach,ls::unreaped,stacks::each_caller";
/// What they run with the syscall set.
const ABOUT_ARM_BY_TRACEPOINTS: &str =
    "events::submit_65,events::short,events::seccomp,events::destroy_in_flight,events::reap_ring";
/// What they run with ptrace.
const ABOUT_ARM_BY_PTRACE: &str = "received::every_fault_by_ptrace,events::submit_65,events::short,\
    attach::a_call_in_progress_at_the_attach";

/// What runs where the processor signs return addresses.
const ABOUT_SIGNED: &str = "stacks::a_signed";

/// The probe sets that a guest of arm64 runs, each with the filter of its tests.
fn arm_runs(options: &Options, kernel: &Kernel, filter: Option<String>) -> Vec<(Set, String)> {
    if kernel.name == SIGNS {
        return vec![(Set::Auto, filter.unwrap_or_else(|| ABOUT_SIGNED.to_owned()))];
    }
    let all = [
        (Set::Auto, ABOUT_ARM),
        (Set::Syscall, ABOUT_ARM_BY_TRACEPOINTS),
        (Set::Ptrace, ABOUT_ARM_BY_PTRACE),
    ];
    let is_asked_for = |it: &(Set, &str)| match options.probes.is_empty() {
        true => filter.is_none() || it.0 == Set::Auto,
        false => options.probes.contains(&it.0),
    };
    let asked = all.into_iter().filter(is_asked_for);
    asked.map(|(set, about)| (set, filter.clone().unwrap_or_else(|| about.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::table::KERNELS;

    #[test]
    fn each_probe_set_is_tried_and_a_filter_is_passed_on() {
        let kernel = KERNELS.iter().find(|it| it.best == "kprobe").expect("one");
        let of = |options: &Options| -> Vec<(&str, String)> {
            runs(options, kernel).into_iter().map(|(set, filter)| (set.name(), filter)).collect()
        };
        let all = [
            ("auto", String::new()),
            ("trampoline", "events::".to_owned()),
            ("syscall", "events::".to_owned()),
        ];
        assert_eq!(of(&Options::default()), all);
        let filter = Some("short".to_owned());
        let one = Options { filter, ..Options::default() };
        assert_eq!(of(&one), [("auto", "short".to_owned())]);
        let asked = Options { probes: vec![Set::Syscall], ..one };
        assert_eq!(of(&asked), [("syscall", "short".to_owned())]);
    }
}
