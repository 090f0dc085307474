//! Why the probes cannot be used.

use aya::programs::ProgramError;

use super::{btf, modify_return};

/// Why tracing cannot begin. [`super::features::hint`] says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// aiotrace was built where bpf-linker was missing.
    #[error("this aiotrace was built without its BPF probes")]
    NotBuilt,
    /// The registers of this architecture are unknown.
    #[error("tracing works on x86-64 and arm64 only, this is {0}")]
    Architecture(&'static str),
    /// The kernel has no usable BTF.
    #[error("the kernel's type information (BTF) cannot be used")]
    Btf(#[from] btf::Error),
    /// The kernel refused the maps of the object.
    #[error("the kernel refused the BPF maps")]
    Maps(#[source] Box<aya::EbpfError>),
    /// The kernel refused a program.
    #[error("the kernel refused the BPF program {name}")]
    Program {
        /// The program's name in the object.
        name: &'static str,
        /// The error of the kernel.
        #[source]
        source: Box<ProgramError>,
    },
    /// A structure of the kernel lacks a member that is needed.
    #[error("the kernel's type information lacks a field needed for {0}")]
    Offsets(&'static str),
    /// A map or program of the object is not of the kind that aiotrace expects.
    #[error("the BPF object has no usable `{0}`; it does not belong to this aiotrace")]
    Object(&'static str),
    /// The kernel refused an entry in the maps that tell the probes about adopted contexts.
    #[error("cannot tell the probes of a context of process {pid}")]
    Adopt {
        /// The process.
        pid: u32,
        /// The error of the kernel.
        #[source]
        source: Box<aya::maps::MapError>,
    },
    /// A program could not be put in place of a kernel function.
    #[error(transparent)]
    ModifyReturn(modify_return::Error),
    /// The kernel refused an entry in the set of targets.
    #[error("cannot put process {pid} into the set of targets")]
    Target {
        /// The process.
        pid: u32,
        /// The error of the kernel.
        #[source]
        source: Box<aya::maps::MapError>,
    },
}

/// The last line of the verifier's log that says something about the program.
pub fn objection(log: &str) -> Option<String> {
    const COUNTS: [&str; 5] =
        ["processed ", "insns processed ", "verification time ", "stack depth ", "mark_read "];
    let is_count = |line: &&str| COUNTS.iter().any(|it| line.starts_with(it));
    let said = |line: &&str| !line.trim().is_empty() && !is_count(line);
    log.lines().rfind(said).map(str::to_owned)
}

/// An error and its causes in one line, without the rest of the verifier's log, which is for bug reports.
pub fn reason(error: &Error) -> String {
    let mut reason = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let boxed = cause.downcast_ref::<Box<ProgramError>>().map(|it| &**it);
        let of_program = cause.downcast_ref::<ProgramError>().or(boxed);
        if let Some(ProgramError::LoadError { io_error, verifier_log }) = of_program {
            let said = objection(&verifier_log.to_string()).unwrap_or_else(|| io_error.to_string());
            return format!("{reason}: {said}");
        }
        // Some errors repeat their cause in their own text.
        let text = cause.to_string();
        if !reason.ends_with(&text) {
            reason.push_str(": ");
            reason.push_str(&text);
        }
        source = cause.source();
    }
    reason
}

/// Whether the verifier refused a program with these words.
pub fn mentions(error: &Error, words: &str) -> bool {
    let Error::Program { source, .. } = error else {
        return false;
    };
    matches!(&**source, ProgramError::LoadError { verifier_log, .. }
        if verifier_log.to_string().contains(words))
}
