//! Changes the results of completions, in the ring or in the memory into which they were reaped.

use aiotrace_common::{
    abi::{IoEvent, RingHeader},
    record::{Changed, ITEMS_PER_CALL, Kind},
};

use super::Reaped;
use crate::source::ptrace::{
    memory,
    records::{Records, header},
    rings::New,
    tracee::Tracee,
};

/// A completion that is to get another result.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// The handle of its context.
    pub handle: u64,
    /// Its position in the ring.
    pub position: u32,
    /// The completion as the kernel wrote it.
    pub event: IoEvent,
    /// The result that it is to get.
    pub res: i64,
    /// The rule that changes it.
    pub rule: u32,
}

/// Changes a completion in the ring. `false`: it had been reaped before it was changed.
pub fn is_changed_in_ring(tracee: &Tracee, change: &Change) -> bool {
    // Another thread may have reaped it since the stop began, so what was fetched then does not count.
    memory::forget();
    let memory = tracee.memory();
    let Change { handle, position, event, res, .. } = *change;
    let is_unreaped = || {
        let Some(ring) = memory.value::<RingHeader>(handle) else { return false };
        let RingHeader { nr, head, tail, .. } = ring;
        let is_sane = nr != 0 && head < nr && tail < nr && position < nr;
        let ahead = |position| RingHeader::distance(head, position, nr);
        is_sane && ahead(position) < ahead(tail)
    };
    let at = handle.wrapping_add(New::result_at(position));
    if !is_unreaped() || !memory.write(at, &res.to_ne_bytes()) {
        return false;
    }
    // Another thread may have reaped it at the same moment, before or after the change.
    if is_unreaped() {
        return true;
    }
    let _ = memory.restore(at, &event.res.to_ne_bytes());
    false
}

/// Writes the record of a changed completion, which says where it was changed.
pub fn tell(
    tracee: &mut Tracee,
    records: &mut Records,
    change: &Change,
    index: Option<usize>,
    effect: u32,
    time: u64,
) {
    let Change { handle, event, res, rule, .. } = *change;
    let index = index.map_or(u32::MAX, |it| it as u32);
    let header = header(tracee, Kind::Changed, 0, time);
    records.emit(&Changed { header, handle, event, res, fault: rule | effect, index });
}

/// The array of events that a call has put into the program's memory.
pub struct Array {
    at: u64,
    events: Vec<IoEvent>,
    taken: Vec<bool>,
}

impl Array {
    /// The array of events that this call has reaped.
    pub fn of(tracee: &Tracee, reaped: Option<Reaped>) -> Self {
        let Reaped { events: at, count } = reaped.unwrap_or(Reaped { events: 0, count: 0 });
        let count = count.min(ITEMS_PER_CALL as u64);
        let size = size_of::<IoEvent>() as u64;
        let read = |index: u64| tracee.memory().value(at.wrapping_add(index * size));
        let events: Vec<IoEvent> = (0..count).map_while(read).collect();
        Self { at, taken: vec![false; events.len()], events }
    }

    /// The index of this completion in the array. Each entry is found only once.
    pub fn find(&mut self, change: &Change) -> Option<usize> {
        let mut all = self.events.iter().zip(&self.taken);
        let index = all.position(|(event, taken)| !taken && *event == change.event)?;
        self.taken[index] = true;
        Some(index)
    }

    /// Changes the result of an entry; `false` if that was not possible.
    pub fn change(&self, tracee: &Tracee, index: usize, res: i64) -> bool {
        let offset = index * size_of::<IoEvent>() + std::mem::offset_of!(IoEvent, res);
        tracee.memory().write(self.at.wrapping_add(offset as u64), &res.to_ne_bytes())
    }
}
