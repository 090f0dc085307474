//! The memory of a request: what comes again is a retry only if each byte that was left has the same place there.

use aiotrace_common::synchronous::Does;

use super::{Owed, reach};
use crate::{
    event::{Synchronous, Vectors},
    model::{Doubt, requests::Request},
};

impl Owed {
    /// Why what begins there in the file, and has this memory, may move other data than what is missing.
    pub fn why_other_memory(&self, at: u64, memory: Option<&Vectors>) -> Option<Doubt> {
        self.span()?;
        let own = self.request.memory();
        let Some((own, other)) = own.as_ref().zip(memory) else {
            return Some(Doubt::Vectors);
        };
        let start = self.request.offset.max(0) as u64;
        let end = at.saturating_add(other.length());
        let is_same = |(from, to): &(u64, u64)| {
            let (from, to) = ((*from).max(at), (*to).min(end));
            from >= to || own.are(from.saturating_sub(start), other, from - at, to - from)
        };
        (!self.missing.iter().all(is_same)).then_some(Doubt::OtherBuffer)
    }

    /// Whether a call may have moved what is missing, wherever it went: it moved as much, or used the same memory, or
    /// its memory is not known. (A program that prints a message does neither.)
    pub fn may_be_moved_by(&self, call: &Synchronous) -> bool {
        let moved = call.ret.max(0) as u64;
        let is_same = || {
            let both = self.request.memory().zip(call.memory.as_ref());
            both.is_none_or(|(own, used)| used.each(moved).any(|range| own.overlap(range)))
        };
        moved > 0 && (moved == self.left() || is_same())
    }

    /// Why the same request, submitted again, may move other data than what is missing.
    pub fn why_another(&self, request: &Request) -> Option<Doubt> {
        // The next record of a log looks the same.
        if request.appends() {
            return Some(Doubt::Append);
        }
        self.span()?;
        let (from, to) = reach(request);
        let is_whole = self.missing.iter().all(|it| from <= it.0 && it.1 <= to);
        let less = (!is_whole).then_some(Doubt::OtherBuffer);
        self.why_other_memory(from, request.memory().as_ref()).or(less)
    }

    /// Why what has done it may have been something else.
    pub fn why_again(&self) -> Option<Doubt> {
        self.again
    }

    /// Whether a call has put other data into the memory of a write.
    pub fn is_refilled(&self, call: &Synchronous) -> bool {
        let is_read = matches!(call.call.does(), Does::Read | Does::Receive);
        if !is_read || !self.request.is_write() {
            return false;
        }
        let both = self.request.memory().zip(call.memory.as_ref());
        both.is_some_and(|(own, read)| {
            read.each(call.ret.max(0) as u64).any(|range| own.overlap(range))
        })
    }

    /// The same of a request that reads.
    pub fn is_refilled_by(&self, read: &Request) -> bool {
        if !self.request.is_write() {
            return false;
        }
        let both = self.request.memory().zip(read.memory());
        both.is_some_and(|(own, read)| read.each(u64::MAX).any(|range| own.overlap(range)))
    }
}
