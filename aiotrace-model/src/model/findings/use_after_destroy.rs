//! use-after-destroy: a call on a handle that was destroyed before the call began.

use super::Basis;
use crate::{
    event::{Call, Event, Handle, Syscall},
    model::{ContextId, ContextRef, Finding, Model, Severity},
    words::duration::in_words,
};

/// A call that came too late.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UseAfterDestroy {
    syscall: Syscall,
    handle: Handle,
    /// How long before the call the context was destroyed, nanoseconds.
    before: u64,
}

impl Basis for UseAfterDestroy {
    const NAME: &'static str = "use-after-destroy";
    const SEVERITY: Severity = Severity::Warning;
    const NUMBERS: &'static [&'static str] = &["destroyed_ns_before"];

    fn message(&self) -> String {
        let (name, ago) = (self.syscall.name(), in_words(self.before));
        format!("{name} on {:#x}, which was destroyed {ago} before", self.handle.0)
    }

    fn numbers(&self) -> Vec<(&'static str, i64)> {
        vec![("destroyed_ns_before", self.before as i64)]
    }
}

impl Model {
    /// Reports a call with EINVAL if its context was destroyed before; returns whether it was.
    pub(in crate::model) fn used_after_destroy(
        &mut self,
        event: &Event,
        call: &Call,
        handle: Handle,
    ) -> bool {
        let space = self.space(event.pid);
        if self.contexts.contains_key(&(space, handle)) {
            return false;
        }
        let Some(known) = self.spaces.get(&space) else { return false };
        let destroyed = known.when_destroyed(handle);
        // A call that was waiting when another thread destroyed the context gets EINVAL by design.
        let (Some(destroyed), Some(entered)) = (destroyed, call.entered) else { return false };
        if entered <= destroyed {
            return false;
        }
        let syscall = call.args.syscall();
        let evidence = UseAfterDestroy { syscall, handle, before: entered - destroyed };
        let mut finding = Finding::new(evidence, event.time, event.pid);
        finding.tid = Some(event.tid);
        finding.doubt = known.doubt();
        finding.context = Some(ContextRef { id: ContextId::UNKNOWN, handle });
        self.find(finding, handle.0, syscall as u64);
        true
    }
}
