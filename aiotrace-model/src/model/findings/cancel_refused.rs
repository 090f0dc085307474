//! cancel-refused: io_cancel was called for something that cannot be cancelled.

use super::Basis;
use crate::{
    any_order::AnyOrder as _,
    errno::returned::{EAGAIN, EINPROGRESS, EINVAL},
    event::{Address, Call, Event, Handle, SpaceId, errno_name, opcode_name},
    model::{
        Context, ContextRef, Finding, Model, Severity, cause, process::Cancelled,
        requests::MOST_COMPARED,
    },
    opcode::Opcode,
};
use aiotrace_common::abi;


/// An io_cancel that cancelled nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CancelRefused {
    opcode: Option<Opcode>,
    iocb: Address,
    ret: i64,
    /// The reason, as far as it is known.
    reason: String,
}

impl Basis for CancelRefused {
    const NAME: &'static str = "cancel-refused";
    const SEVERITY: Severity = Severity::Info;
    const NUMBERS: &'static [&'static str] = &[];

    fn message(&self) -> String {
        let op = self.opcode.and_then(opcode_name).unwrap_or("request");
        let errno = errno_name(self.ret).unwrap_or("?");
        format!("io_cancel of a {op}, iocb {:#x} = {errno}: {}", self.iocb.0, self.reason)
    }

    fn numbers(&self) -> Vec<(&'static str, i64)> {
        Vec::new()
    }
}

impl Model {
    /// io_cancel returned.
    pub(in crate::model) fn cancel(
        &mut self,
        event: &Event,
        call: &Call,
        (ctx, iocb): (Handle, Address),
        value: Option<&abi::Iocb>,
    ) {
        let space = self.space(event.pid);
        let Some(context) = self.context_when((event.pid, ctx), call.began(event)) else { return };
        let name = context.name;
        match call.ret {
            EINPROGRESS | 0 => {
                if let Some(space) = self.spaces.get_mut(&space) {
                    let (context, time) = (name.id, event.time);
                    space.cancelled(Cancelled { context, iocb: iocb.0, time });
                }
            }
            EINVAL | EAGAIN => {
                let opcode = value.map(Opcode::of);
                let elsewhere = || self.in_flight_elsewhere(space, iocb, value);
                let (kind, reason) = why_not_cancelled(context, iocb, value, elsewhere);
                let evidence = CancelRefused { opcode, iocb, ret: call.ret, reason };
                let mut finding = Finding::new(evidence, event.time, event.pid);
                finding.tid = Some(event.tid);
                finding.context = Some(name);
                let what = u64::from(opcode.map_or(u16::MAX, |it| it.0)) << 8 | kind;
                self.find(finding, name.id.0, what);
            }
            _ => (),
        }
    }

    /// Where else in the program the request to be cancelled is in flight. If there are many contexts, not all are
    /// searched: the program may ask often.
    fn in_flight_elsewhere(
        &self,
        space: SpaceId,
        iocb: Address,
        value: Option<&abi::Iocb>,
    ) -> Elsewhere {
        let has_it = |it: &&Context| {
            let request = it.requests.of_iocb(iocb.0, value.map(|it| it.data));
            request.is_some_and(|request| value.is_none_or(|value| request.has(value)))
        };
        let (mut own, mut found) = (0, None::<&Context>);
        let some = self.contexts.in_any_order().take(MOST_PASSED);
        for context in some.filter(|((of, _), _)| *of == space).map(|it| it.1).take(MOST_COMPARED) {
            own += 1;
            if has_it(&context) && found.is_none_or(|it| context.name.id < it.name.id) {
                found = Some(context);
            }
        }
        match found {
            // The request may have completed since the last look at that context.
            Some(it) => Elsewhere::In {
                context: it.name,
                is_certain: self.settings.exact_completions && it.doubt_of_requests().is_none(),
            },
            None if own == MOST_COMPARED || self.contexts.len() > MOST_PASSED => {
                Elsewhere::Unsearched
            }
            None => Elsewhere::Nowhere,
        }
    }
}

/// Contexts of all programs that are passed on the search for those of one.
const MOST_PASSED: usize = 16 * MOST_COMPARED;

/// Whether a request is in flight in another context of the program.
enum Elsewhere {
    In { context: ContextRef, is_certain: bool },
    Nowhere,
    /// There are too many contexts to look into all.
    Unsearched,
}

/// Why io_cancel found nothing that it could cancel, as far as that is known; and a number for the reason.
fn why_not_cancelled(
    context: &Context,
    iocb: Address,
    value: Option<&abi::Iocb>,
    elsewhere: impl FnOnce() -> Elsewhere,
) -> (u64, String) {
    let in_flight = context.requests.of_iocb(iocb.0, value.map(|it| it.data));
    if let Some(reason) = cause::key(value) {
        let which = if in_flight.is_some() { ", which is in flight" } else { "" };
        return (0, format!("{reason}{which}"));
    }
    let op = |opcode: Opcode| opcode_name(opcode).unwrap_or("request");
    let elsewhere = if in_flight.is_none() { elsewhere() } else { Elsewhere::Nowhere };
    match in_flight {
        Some(it) if it.is_poll() => (1, "it was completing at that moment".to_owned()),
        Some(it) => {
            let op = it.opcode.map_or("request", op);
            (2, format!("a {op} cannot be cancelled, only polls can"))
        }
        None if let Elsewhere::In { context: it, is_certain } = elsewhere => {
            let verb = if is_certain { "is" } else { "may be" };
            (6, format!("it {verb} in flight in context {} at {:#x}", it.id, it.handle.0))
        }
        None if let Some(it) = context.requests.same(value) => {
            let text = format!(
                "no request of an iocb at this address is known to be in flight, but one with the same content is, \
                 submitted from {:#x}",
                it.iocb
            );
            (5, text)
        }
        None if context.adopted
            || context.doubt_of_requests().is_some()
            || matches!(elsewhere, Elsewhere::Unsearched) =>
        {
            let text = "it has completed, or cannot be cancelled (only polls can), or was submitted from another \
                        address";
            (3, text.to_owned())
        }
        None => {
            let text = "no request of an iocb at this address is in flight: it has completed, was submitted from \
                        another address, or its io_submit had not returned";
            (4, text.to_owned())
        }
    }
}
