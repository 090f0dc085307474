//! submit-eagain: io_submit returned EAGAIN, because the context has no room for a request.

use super::Basis;
use crate::{
    event::{Event, Handle, Ring},
    model::{Doubt, Finding, Model, Severity},
    words::number::thousands,
};

/// How full the context was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubmitEagain {
    in_flight: u64,
    /// More may be in flight, which were submitted before the attach.
    is_at_least: bool,
    unreaped: u64,
    /// How many completions the ring can hold, if that is known.
    capacity: Option<u64>,
    /// How many requests of how many were accepted before one was refused.
    accepted: Option<(u64, u64)>,
}

impl SubmitEagain {
    fn is_full(&self) -> bool {
        self.capacity.is_some_and(|it| 2 * (self.in_flight + self.unreaped) >= it)
    }
}

impl Basis for SubmitEagain {
    const NAME: &'static str = "submit-eagain";
    const SEVERITY: Severity = Severity::Warning;
    const NUMBERS: &'static [&'static str] = &["in_flight", "unreaped", "capacity"];

    fn message(&self) -> String {
        let Self { in_flight, is_at_least, unreaped, capacity, accepted } = *self;
        let is_below = capacity.is_some() && !is_at_least && !self.is_full();
        let advice = if unreaped >= in_flight && self.is_full() {
            ": reap, do not just try again"
        } else if is_below {
            ". That is below its capacity: slots are kept for each processor, or memory was short; \
             wait for a completion, then try again"
        } else {
            ": wait for completions and reap them, then try again"
        };
        let what = match accepted {
            Some((accepted, given)) => {
                let [accepted, given] = [accepted, given].map(thousands);
                format!("io_submit accepted {accepted} of {given} requests, and the next one = EAGAIN")
            }
            None => "io_submit = EAGAIN".to_owned(),
        };
        let at_least = if is_at_least { "at least " } else { "" };
        let ring = capacity.map(|it| format!(", in a ring of {}", thousands(it)));
        let [in_flight, unreaped] = [in_flight, unreaped].map(thousands);
        format!(
            "{what} with {at_least}{in_flight} in flight and {unreaped} completed but not reaped{}{advice}",
            ring.unwrap_or_default()
        )
    }

    fn numbers(&self) -> Vec<(&'static str, i64)> {
        let capacity = self.capacity.map(|it| ("capacity", it as i64));
        let mut all =
            vec![("in_flight", self.in_flight as i64), ("unreaped", self.unreaped as i64)];
        all.extend(capacity);
        all
    }
}

impl Model {
    /// An io_submit that began on this context at that time returned EAGAIN; or it accepted so many requests of so many,
    /// and the next one was refused with EAGAIN.
    pub(in crate::model) fn submit_eagain(
        &mut self,
        event: &Event,
        (ctx, began): (Handle, u64),
        ring: Option<Ring>,
        accepted: Option<(u64, u64)>,
    ) {
        let space = self.space(event.pid);
        let is_shared = self.spaces.get(&space).is_some_and(|it| it.is_shared);
        let Some(context) = self.context_when_mut((event.pid, ctx), began) else { return };
        // Otherwise this is the ring of the context that has the handle by now.
        let ring = ring.filter(|_| !context.is_left);
        if let Some(ring) = ring {
            context.looked(ring, event.time);
        }
        let in_flight = context.requests.in_flight();
        let unreaped = ring.map_or(context.requests.unreaped(), |it| u64::from(it.unreaped()));
        let capacity = ring.or(context.ring).map(|it| u64::from(it.nr.saturating_sub(1)));
        let is_at_least = context.adopted && context.in_flight_at_attach != Some(0);
        let (name, doubt) = (context.name, context.doubt_of_reading());
        let evidence = SubmitEagain { in_flight, is_at_least, unreaped, capacity, accepted };
        let early = (is_at_least && !evidence.is_full()).then_some(Doubt::BeforeAttach);
        let mut finding = Finding::new(evidence, event.time, event.pid);
        finding.tid = Some(event.tid);
        finding.context = Some(name);
        // Who shares the memory, and is not traced, may submit to the context, too.
        finding.doubt = is_shared.then_some(Doubt::SharedMemory).or(doubt).or(early);
        self.find(finding, name.id.0, 0);
    }
}
