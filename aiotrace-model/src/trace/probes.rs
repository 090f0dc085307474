//! The probes of a trace: what they see, and what they lack.

use aiotrace_common::names::{Feature, Program};

use super::Probes;

/// The kind of a probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum By {
    /// Tracepoints of all system calls.
    #[default]
    Tracepoint,
    /// Trampolines at kernel functions.
    Trampoline,
    /// kprobes at kernel functions.
    Kprobe,
}

/// Something that the kernel refused, and why.
#[derive(Clone, Debug)]
pub struct Refused {
    /// What it would have been good for.
    pub what: &'static str,
    /// The error and its cause.
    pub why: String,
}

/// The probes that were chosen.
#[derive(Clone, Debug, Default)]
pub struct ProbeSet {
    /// The kind of probe that sees calls.
    pub calls: By,
    /// The features inside of the kernel that are seen, and by which kind of probe.
    pub features: Vec<(Feature, By)>,
    /// The programs that were loaded.
    pub programs: Vec<Program>,
    /// The registers of calls would have to be found on the stack, so no probes were chosen.
    pub lacks_registers: bool,
    /// Programs that were tried and refused.
    pub refused: Vec<Refused>,
}

impl ProbeSet {
    /// The kind of probe that sees a feature, if one does.
    pub fn by(&self, feature: Feature) -> Option<By> {
        self.features.iter().find(|(found, _)| *found == feature).map(|(_, by)| *by)
    }

    /// Whether a feature is seen.
    pub fn has(&self, feature: Feature) -> bool {
        self.by(feature).is_some()
    }

    /// Whether there are events of synchronous calls after a fault or a short io_submit.
    pub fn watches_synchronous(&self) -> bool {
        // They come from the program that sees the end of every system call.
        self.calls == By::Tracepoint
    }

    /// The name of this probe set.
    pub fn probes(&self) -> Probes {
        let any = |by| self.features.iter().any(|(_, found)| *found == by);
        match self.calls {
            By::Trampoline => Probes::Trampoline,
            By::Kprobe => Probes::Kprobe,
            _ if any(By::Trampoline) => Probes::SyscallTrampoline,
            _ if any(By::Kprobe) => Probes::SyscallKprobe,
            _ => Probes::Syscall,
        }
    }

    /// What these probes cannot see, or cannot see for sure.
    pub fn lacks(&self) -> Vec<&'static str> {
        let mut lacks = Vec::new();
        match self.by(Feature::Completions) {
            Some(By::Kprobe) => lacks.push(
                "some completions, perhaps (the kernel skips kprobes while another BPF program runs)",
            ),
            Some(_) => (),
            None => lacks.push(
                "exact completion times",
            ),
        }
        if !self.has(Feature::Refused) {
            lacks.push("errnos of iocbs refused in a short io_submit");
        }
        if !self.has(Feature::Moved) {
            lacks.push("the moment a ring is moved");
        }
        lacks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_a_name_and_says_what_it_lacks() {
        let mut set = ProbeSet::default();
        assert_eq!((set.probes().text(), set.lacks().len()), ("syscall", 3));
        set.features.push((Feature::Completions, By::Kprobe));
        assert_eq!((set.probes().text(), set.lacks().len()), ("syscall+kprobe", 3));
        set.features = Feature::ALL.map(|feature| (feature, By::Trampoline)).to_vec();
        assert_eq!(set.probes().text(), "syscall+trampoline");
        set.calls = By::Trampoline;
        assert_eq!(set.probes().text(), "trampoline");
        assert!(set.lacks().is_empty());
    }
}
