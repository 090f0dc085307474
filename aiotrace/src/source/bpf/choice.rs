//! Which probes are used. What a kernel allows is found out by loading them ([`super::load`]); here is
//! what was wanted. ([`ProbeSet`] is what came of it.)

pub use aiotrace_model::trace::{By, ProbeSet, Refused};

use super::error::Error;

/// Which probes to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// The best that can be loaded, piece by piece
    #[default]
    Auto,
    /// Trampolines (fentry, fexit), or fail
    Trampoline,
    /// Tracepoints of all system calls, and nothing else
    Syscall,
    /// kprobes, which are never preempted, or fail
    Kprobe,
}

/// By what the features may be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Features {
    Any,
    ByTrampoline,
    ByKprobe,
    None,
}

impl Wanted {
    pub(super) fn features(self) -> Features {
        match self {
            Self::Auto => Features::Any,
            Self::Trampoline => Features::ByTrampoline,
            Self::Kprobe => Features::ByKprobe,
            Self::Syscall => Features::None,
        }
    }
}

/// What was tried and refused.
pub(super) fn refused(what: &'static str, error: &Error) -> Refused {
    Refused { what, why: super::error::reason(error) }
}
