//! Which probes the user wants. aiotrace finds out what a kernel allows by loading probes
//! ([`super::load`]); [`ProbeSet`] is the result.

pub use aiotrace_model::trace::{By, ProbeSet, Refused};

use super::error::Error;

/// The probes that the user wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// The best probes that can be loaded, piece by piece.
    #[default]
    Auto,
    /// Trampolines (fentry, fexit), or fail.
    Trampoline,
    /// Tracepoints of all system calls, and nothing else.
    Syscall,
    /// Kprobes, which are never preempted, or fail.
    Kprobe,
}

/// How the probes for features may be attached.
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

/// Notes that something was tried and refused.
pub(super) fn refused(what: &'static str, error: &Error) -> Refused {
    Refused { what, why: super::error::reason(error) }
}
