//! Which context has which handle, and which one had it when a call began.

use super::{Context, ContextId, ContextRef, MOST_CONTEXTS, Model, cause, requests};
use crate::event::{Adopted, Event, Handle, Moved, SpaceId};

impl Model {
    pub(super) fn context_mut(&mut self, pid: u32, handle: Handle) -> Option<&mut Context> {
        self.contexts.get_mut(&(self.space(pid), handle))
    }

    /// The context that had the handle when a call on it began: when the call returns, another context may have it.
    /// `None`: the context was unknown, or has ended in the meantime.
    pub(super) fn context_when(
        &self,
        (pid, handle): (u32, Handle),
        began: u64,
    ) -> Option<&Context> {
        let key = (self.space(pid), handle);
        let it = self.contexts.get(&key)?;
        match self.left_when(key, began) {
            None => (it.held <= began).then_some(it),
            Some(place) => self.leaving.get(place).map(|it| &it.1),
        }
    }

    pub(super) fn context_when_mut(
        &mut self,
        (pid, handle): (u32, Handle),
        began: u64,
    ) -> Option<&mut Context> {
        let key = (self.space(pid), handle);
        match self.left_when(key, began) {
            None => self.contexts.get_mut(&key).filter(|it| it.held <= began),
            Some(place) => self.leaving.get_mut(place).map(|it| &mut it.1),
        }
    }

    /// The index of the context that had this handle at that time, if another one has it by now.
    pub(super) fn left_when(&self, key: (SpaceId, Handle), began: u64) -> Option<usize> {
        let is_late = self.contexts.get(&key).is_some_and(|it| began < it.held);
        let is_it = |(of, it): &((SpaceId, Handle), Context)| *of == key && it.held <= began;
        is_late.then(|| self.leaving.iter().rposition(is_it)).flatten()
    }

    /// Adds a context; `None` if there are too many.
    pub(super) fn add_context(
        &mut self,
        pid: u32,
        handle: Handle,
        time: u64,
    ) -> Option<&mut Context> {
        let more = self.leaving.len() + self.ends.destroying.len();
        if self.contexts.len() + more >= MOST_CONTEXTS {
            self.evicted += 1;
            return None;
        }
        let space = self.space(pid);
        let name = ContextRef { id: ContextId(self.next_context), handle };
        self.next_context += 1;
        let mut context = Context::new(name, pid, time);
        context.doubt = self.spaces.entry(space).or_default().doubt();
        self.give(space, context, time);
        self.contexts.get_mut(&(space, handle))
    }

    /// Gives the context its handle.
    pub(super) fn give(&mut self, space: SpaceId, mut context: Context, time: u64) {
        let key = (space, context.handle());
        let destroyed = self.spaces.entry(space).or_default().given_again(key.1);
        context.held = destroyed.unwrap_or(0);
        self.forget_lost(|it| it == key);
        if let Some(mut old) = self.contexts.remove(&key) {
            context.held = time;
            old.is_left = true;
            // io_destroy has unmapped the ring of the old context and still waits; or the ring was unmapped in
            // another way.
            self.leaving.push((key, old));
        }
        self.contexts.insert(key, context);
    }

    /// Takes out the context that has the handle. An older context gets the handle back: its ring may have been
    /// unmapped, which a look will find.
    pub(super) fn release(&mut self, key: (SpaceId, Handle)) -> Option<Context> {
        let context = self.contexts.remove(&key)?;
        let older = self.leaving.iter().rposition(|(of, _)| *of == key);
        self.contexts.extend(older.map(|place| self.leaving.remove(place)));
        Some(context)
    }

    pub(super) fn adopted(&mut self, event: &Event, adopted: Adopted) {
        let every_call = self.settings.every_call;
        let Some(context) = self.add_context(event.pid, adopted.ctx, event.time) else { return };
        context.adopted = true;
        context.charge = adopted.charge;
        // Without its ring nobody knows which completions belong to these requests.
        context.in_flight_at_attach = adopted.in_flight.filter(|_| adopted.ring.is_some());
        context.ring = adopted.ring;
        if every_call {
            context.requests = requests::Requests::adopted(adopted.ring, event.time);
        }
    }

    pub(super) fn moved(&mut self, event: &Event, Moved { from, to }: Moved) {
        let space = self.space(event.pid);
        if let Some(mut context) = self.release((space, from)) {
            context.name.handle = to;
            self.explain_refusals((space, from), || cause::moved(to));
            self.spaces.entry(space).or_default().moved(from, to);
            (context.look.unmapped, context.look.is_missing) = (None, false);
            self.give(space, context, event.time);
            self.faults.ring_moved(space, from, to);
        }
    }
}
