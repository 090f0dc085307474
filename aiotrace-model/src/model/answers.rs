//! The answers to the model's questions.

use super::{
    Doubt, Model, Name, SECOND, inline,
    questions::{Needs, Waiting},
};
use crate::event::{Event, File, FileKind, Handle, Looked, RingFound};

impl Model {
    pub(super) fn looked(&mut self, event: &Event, looked: &Looked) {
        match looked {
            Looked::Ring { ctx, found, destroying, awaited } => {
                self.looked_at_ring(event, *ctx, *found, (*destroying, *awaited));
            }
            Looked::File { fd, file, until } => self.looked_at_file(event, *fd, *file, *until),
            Looked::Descriptor { fd, open, until } => {
                self.looked_at_descriptor(event.pid, *fd, *open, (event.time, *until));
            }
            Looked::Limit(limit) => {
                for mut waiting in self.answered(0, |it| it.needs == Needs::Limit) {
                    waiting.finding.answer_limit(limit, event.time);
                    self.tell(waiting.finding, waiting.key.2, waiting.key.3);
                }
            }
            Looked::Unreferenced(handles) => self.unreferenced(event, handles),
            Looked::Iovecs { at, list } => {
                let answers =
                    |it: &Waiting| matches!(it.needs, Needs::Iovecs { at: of, .. } if of == *at);
                for mut waiting in self.answered(event.pid, answers) {
                    let Needs::Iovecs { count, .. } = waiting.needs else { continue };
                    waiting.finding.answer_iovecs(list.as_deref(), count);
                    self.tell(waiting.finding, waiting.key.2, waiting.key.3);
                }
                self.aligned_iovecs(event.pid, *at, list.as_deref());
            }
            Looked::Threads(threads) => self.looked_at_threads(event, threads.as_deref()),
            Looked::Ways { fd, ways } => {
                let space = self.space(event.pid);
                if let Some(ways) = *ways {
                    self.faults.has_ways(space, *fd, event.time, ways);
                    if let Some(space) = self.spaces.get_mut(&space) {
                        space.has_ways(*fd, event.time, ways);
                    }
                }
            }
            Looked::Below(users) => {
                let is_it = |it: &&mut super::Target| it.pid == event.pid;
                if let Some(target) = self.target.as_mut().filter(is_it)
                    && !users.is_empty()
                {
                    target.users.clone_from(users);
                }
            }
            Looked::Path { fd, path } => {
                let space = self.space(event.pid);
                self.faults.leads_to(space, *fd, event.time, path.as_deref());
            }
        }
    }

    fn looked_at_file(&mut self, event: &Event, fd: u32, file: Option<File>, until: u64) {
        let space = self.space(event.pid);
        if let Some(file) = file {
            self.faults.placeless((space, fd), event.time, inline::placeless(file));
        }
        self.faults.is_file(space, fd, file, (event.time, until));
        self.aligned_file(event.pid, fd, file);
        self.end_is_known(event, fd, file);
        self.looked_at_end(event.pid, fd, file, (event.time, until));
        let mut first = None;
        if let Some(space) = self.spaces.get_mut(&space) {
            first = space.files.first(fd);
            space.files.answered(fd, file, (event.time, until));
        }
        let is_storage = |it: Option<File>| it.is_some_and(|it| it.kind == FileKind::Storage);
        let is_longer = |place: u64| file.and_then(|it| it.size).is_some_and(|it| it > place);
        let is_another = first.zip(file).is_some_and(|(first, now)| first.id != now.id);
        let answers =
            |it: &Waiting| matches!(it.needs, Needs::Storage { fd: needed, .. } if needed == fd);
        for mut waiting in self.answered(event.pid, answers) {
            let Needs::Storage { beyond, .. } = waiting.needs else { continue };
            // A request in flight holds its file, even if the descriptor is closed.
            let is_stuck = waiting.finding.name == Name::RequestStuck;
            let is_closed = file.is_none() && is_stuck && is_storage(first);
            if is_closed {
                waiting.finding.doubt.get_or_insert(Doubt::Closed);
            }
            if is_another {
                waiting.finding.doubt.get_or_insert(Doubt::Closed);
            }
            // A read that reaches the end of a growing file is never a mistake.
            if beyond.is_some() {
                waiting.finding.doubt.get_or_insert(Doubt::Grown);
            }
            if is_closed || (is_storage(file) && beyond.is_none_or(is_longer)) {
                self.tell(waiting.finding, waiting.key.2, waiting.key.3);
            }
        }
    }

    pub(super) fn looked_at_ring(
        &mut self,
        event: &Event,
        ctx: Handle,
        found: RingFound,
        (destroying, awaited): (bool, Option<i64>),
    ) {
        let time = event.time;
        let key = (self.space(event.pid), ctx);
        // Another context has the handle, and no thread destroys this one: so its ring was unmapped.
        let heir = self.contexts.get(&key).map(|it| it.since);
        let strayed = self.spaces.get(&key.0).and_then(|it| it.strayed);
        let left = self.leaving.iter().find(|(of, _)| *of == key);
        let is_left = left.is_some_and(|(_, it)| !it.may_have_moved(strayed));
        if is_left
            && !destroying
            && heir.is_some_and(|since| time >= since.saturating_add(SECOND / 2))
        {
            self.leaked(event, ctx, None);
        }
        let Some(context) = self.contexts.get_mut(&key) else { return };
        context.look.is_missing = !matches!(found, RingFound::There(_));
        match found {
            RingFound::There(ring) => {
                context.look.unmapped = None;
                context.look.confirmed = time;
                context.look.awaited = awaited;
                if self.settings.every_call {
                    context.looked(ring, time);
                    self.reaped_by_hand(key);
                }
                if !destroying {
                    self.confirm_refusals(key, time);
                }
            }
            // Perhaps it is the one that was moved to a handle of which it is not known where it comes from.
            RingFound::Unmapped | RingFound::Covered if context.may_have_moved(strayed) => {
                context.look.unmapped = None;
            }
            RingFound::Covered if context.look.works_without => context.look.unmapped = None,
            RingFound::Unmapped | RingFound::Covered if !destroying => {
                match context.look.unmapped {
                    // io_destroy may have been on its way when the first look was taken.
                    Some(first) if time >= first + SECOND / 2 => {
                        let is_covered = found == RingFound::Covered;
                        self.leaked(event, ctx, is_covered.then_some(Doubt::Covered));
                    }
                    Some(_) => (),
                    None => {
                        context.look.unmapped = Some(time);
                        context.look.pace.due = time.saturating_add(SECOND / 2);
                    }
                }
            }
            RingFound::Unmapped | RingFound::Covered | RingFound::Unknown => {
                context.look.unmapped = None;
            }
        }
        if let Some(min_nr) = awaited {
            self.suspect_wait(event.pid, ctx, min_nr);
        }
    }
}
