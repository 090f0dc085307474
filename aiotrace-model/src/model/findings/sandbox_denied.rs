//! sandbox-denied: a seccomp filter answers a call in the kernel's place.

use super::Basis;
use crate::{
    errno::returned::{ENOSYS},
    event::{Call, Event, Syscall, errno_name},
    model::{Finding, Model, Severity},
};


/// A call, and what the filter answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxDenied {
    syscall: Syscall,
    ret: i64,
}

impl SandboxDenied {
    /// Whether libaio makes another call after this answer.
    fn is_harmless(&self) -> bool {
        self.syscall == Syscall::Pgetevents && self.ret == ENOSYS
    }
}

impl Basis for SandboxDenied {
    const NAME: &'static str = "sandbox-denied";
    const SEVERITY: Severity = Severity::Error;
    const NUMBERS: &'static [&'static str] = &["ret"];

    fn message(&self) -> String {
        let errno = errno_name(self.ret).unwrap_or("?");
        let libaio = if self.is_harmless() {
            "; libaio falls back to io_getevents"
        } else if self.syscall == Syscall::Pgetevents {
            "; libaio falls back to io_getevents only on ENOSYS"
        } else {
            ""
        };
        format!("a seccomp filter answers {} with {errno}{libaio}", self.syscall.name())
    }

    fn numbers(&self) -> Vec<(&'static str, i64)> {
        vec![("ret", self.ret)]
    }
}

impl Model {
    pub(in crate::model) fn denied(&mut self, event: &Event, call: &Call) {
        let (syscall, ret) = (call.args.syscall(), call.ret);
        let evidence = SandboxDenied { syscall, ret };
        let is_harmless = evidence.is_harmless();
        let mut finding = Finding::new(evidence, event.time, event.pid);
        if is_harmless {
            finding.severity = Severity::Info;
        }
        finding.tid = Some(event.tid);
        self.find(finding, syscall as u64, ret as u64);
    }
}
