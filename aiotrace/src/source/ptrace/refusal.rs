//! What to say to someone who may not trace a process. The sentences are decided from facts that are passed in, so
//! that each has a test.

use nix::{errno::Errno, unistd::geteuid};

use crate::{
    errand::{Errand as _, Status},
    proc::{status_field, system::sysctl},
};

/// What is known about a refusal of ptrace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// errno of the refusal.
    pub errno: Option<Errno>,
    /// The process is a child that we launch.
    pub is_launched: bool,
    /// The process that traces it already; 0 if there is none.
    pub tracer: u32,
    /// The value of /proc/sys/kernel/yama/ptrace_scope, if it exists.
    pub scope: Option<u8>,
    /// Our effective user id is 0.
    pub is_root: bool,
    /// The process belongs to our user.
    pub is_own: bool,
}

impl Facts {
    /// Finds out what can be known of a refusal.
    pub fn of(pid: u32, errno: Errno, is_launched: bool) -> Self {
        let status = Status { pid, tid: pid }.ask().flatten().unwrap_or_default();
        let number =
            |name| status_field(&status, name).and_then(|it| it.split('\t').next()?.parse().ok());
        let scope = sysctl("kernel/yama/ptrace_scope");
        Self {
            errno: Some(errno),
            is_launched,
            // TracerPid is the id of a thread.
            tracer: number("TracerPid").map_or(0, process_of),
            scope: scope.and_then(|it| it.parse().ok()),
            is_root: geteuid().is_root(),
            is_own: number("Uid") == Some(geteuid().as_raw()),
        }
    }
}

/// The process that a thread belongs to.
fn process_of(tid: u32) -> u32 {
    let status = Status { pid: tid, tid }.ask().flatten().unwrap_or_default();
    status_field(&status, "Tgid").and_then(|it| it.parse().ok()).unwrap_or(tid)
}

/// The next step for the user, in one line.
pub fn hint(facts: &Facts) -> String {
    match *facts {
        Facts { tracer: tracer @ 1.., .. } => format!(
            "process {tracer} traces it already (a debugger, strace, another aiotrace?), and there can be \
             only one: end that, or use --source bpf"
        ),
        Facts { scope: Some(3), .. } => "kernel.yama.ptrace_scope is 3: nobody may use ptrace until the \
             next boot; use --source bpf"
            .into(),
        Facts { scope: Some(2), is_root: false, .. } => {
            "kernel.yama.ptrace_scope is 2: only root (CAP_SYS_PTRACE) may use ptrace".into()
        }
        Facts { scope: Some(1), is_root: false, is_own: true, is_launched: false, .. } => {
            "kernel.yama.ptrace_scope is 1: a program may trace its own children only. Start it with \
             `aiotrace run --source ptrace`, or run aiotrace as root, or `sysctl kernel.yama.ptrace_scope=0`"
                .into()
        }
        Facts { is_root: false, is_own: false, is_launched: false, .. } => {
            "it belongs to another user: run as root".into()
        }
        Facts { is_root: true, is_launched: false, .. } => {
            "root here lacks CAP_SYS_PTRACE over it (a container, or a security module?): run on the host, \
             or give the container this capability"
                .into()
        }
        Facts { is_launched: false, is_own: true, .. } => {
            "it does not let its user look into it (a set-user-id program, or prctl(PR_SET_DUMPABLE)): run \
             as root"
                .into()
        }
        _ => "a sandbox forbids ptrace(2): run outside of it, or use --source bpf as root".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_a_next_step() {
        let base = Facts { errno: Some(Errno::EPERM), ..Facts::default() };
        let own = Facts { is_own: true, ..base.clone() };
        for (facts, wanted) in [
            (Facts { tracer: 77, ..base.clone() }, "process 77 traces it already"),
            (Facts { scope: Some(3), is_root: true, ..base.clone() }, "--source bpf"),
            (Facts { scope: Some(2), ..own.clone() }, "only root"),
            (Facts { scope: Some(1), ..own.clone() }, "aiotrace run --source ptrace"),
            (Facts { scope: Some(0), ..base.clone() }, "another user"),
            (Facts { is_root: true, ..base.clone() }, "CAP_SYS_PTRACE"),
            (own, "set-user-id"),
            (Facts { is_launched: true, ..base }, "sandbox"),
        ] {
            let hint = hint(&facts);
            assert!(hint.contains(wanted), "{facts:?}: {hint}");
        }
    }
}
