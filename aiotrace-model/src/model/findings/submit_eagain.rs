//! submit-eagain: io_submit returned EAGAIN, because the context has no room for a request.

use super::Basis;
use crate::{
    words::number::thousands,
    event::{Handle, Ring},
    model::{Doubt, Finding, Model, Severity},
};

/// How full the context was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubmitEagain {
    in_flight: u64,
    unreaped: u64,
    /// How many completions the ring can hold.
    capacity: u64,
}

impl SubmitEagain {
    fn is_full(&self) -> bool {
        2 * (self.in_flight + self.unreaped) >= self.capacity
    }
}

impl Basis for SubmitEagain {
    const NAME: &'static str = "submit-eagain";
    const SEVERITY: Severity = Severity::Warning;
    const NUMBERS: &'static [&'static str] = &["in_flight", "unreaped", "capacity"];

    fn message(&self) -> String {
        let Self { in_flight, unreaped, capacity } = *self;
        let is_full = self.is_full();
        let advice = if unreaped >= in_flight && is_full {
            ": reap, do not just try again"
        } else if is_full {
            ": wait for completions and reap them, then try again"
        } else {
            ". That is below its capacity: slots are kept for each processor, or memory was short; \
             wait for a completion, then try again"
        };
        let [in_flight, unreaped, capacity] = [in_flight, unreaped, capacity].map(thousands);
        format!(
            "io_submit = EAGAIN with {in_flight} in flight and {unreaped} completed but not reaped, \
             in a ring of {capacity}{advice}"
        )
    }

    fn numbers(&self) -> Vec<(&'static str, i64)> {
        vec![
            ("in_flight", self.in_flight as i64),
            ("unreaped", self.unreaped as i64),
            ("capacity", self.capacity as i64),
        ]
    }
}

impl Model {
    /// An io_submit that began on this context at that time returned EAGAIN.
    pub(in crate::model) fn submit_eagain(
        &mut self,
        (time, pid, tid): (u64, u32, u32),
        (ctx, began): (Handle, u64),
        ring: Option<Ring>,
    ) {
        let space = self.space(pid);
        let is_shared = self.spaces.get(&space).is_some_and(|it| it.is_shared);
        let Some(context) = self.context_when_mut((pid, ctx), began) else { return };
        // Otherwise this is the ring of the context that has the handle by now.
        let ring = ring.filter(|_| !context.is_left);
        if let Some(ring) = ring {
            context.looked(ring, time);
        }
        let in_flight = context.requests.in_flight();
        let unreaped = ring.map_or(context.requests.unreaped(), |it| u64::from(it.unreaped()));
        let capacity = ring.or(context.ring).map_or(0, |it| u64::from(it.nr.saturating_sub(1)));
        let (name, doubt) = (context.name, context.doubt_of_reading());
        let evidence = SubmitEagain { in_flight, unreaped, capacity };
        // More may be in flight since before the attach.
        let early = (context.adopted && !evidence.is_full()).then_some(Doubt::BeforeAttach);
        let mut finding = Finding::new(evidence, time, pid);
        finding.tid = Some(tid);
        finding.context = Some(name);
        // Who shares the memory, and is not traced, may submit to the context, too.
        finding.doubt = is_shared.then_some(Doubt::SharedMemory).or(doubt).or(early);
        self.find(finding, name.id.0, 0);
    }
}
