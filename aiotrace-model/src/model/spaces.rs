//! Processes and their address spaces.

use super::{Alive, Doubt, MOST_NAMES, MOST_SPACES, Model, Target};
use crate::{
    any_order::AnyOrder as _,
    event::{Change, Event, Process, SpaceId},
};

impl Model {
    /// The number of a process's address space. Until it is known, the process id stands for it.
    pub(super) fn space(&self, pid: u32) -> SpaceId {
        self.space_of.get(&pid).copied().unwrap_or_else(|| provisional(pid))
    }

    /// Notes that an event of this process was lost; 0: of any process.
    pub(super) fn lost(&mut self, pid: u32) {
        let meant = (pid != 0).then(|| self.space(pid));
        self.faults.unsure(meant, Doubt::Lost);
        if let Some(space) = meant {
            self.spaces.entry(space).or_default();
        }
        let is_meant = |space: SpaceId| meant.is_none_or(|it| it == space);
        for (_, space) in self.spaces.in_any_order_mut().filter(|(space, _)| is_meant(**space)) {
            space.lost = true;
        }
        let live = self.contexts.in_any_order_mut().map(|((space, _), context)| (*space, context));
        let leaving = self.leaving.iter_mut().map(|((space, _), context)| (*space, context));
        for (_, context) in live.chain(leaving).filter(|(space, _)| is_meant(*space)) {
            context.doubts(Doubt::Lost);
        }
    }

    pub(super) fn process(&mut self, event: &Event, process: &Process) {
        // What a process did before it runs a new program, it did under its old name.
        let is_exec = matches!(process.change, Change::Exec { .. });
        if !is_exec {
            self.name(event.pid, &process.name);
        }
        self.no_wait_is_endless(event.pid);
        match process.change {
            Change::Attached => {
                self.lives(event, true);
                self.uses(event.pid, process.space);
                self.ask_who_uses_aio();
            }
            Change::Seen => self.uses(event.pid, process.space),
            Change::Fork { child, followed } if followed => {
                self.name(child, &process.name);
                let parent = self.space(event.pid);
                self.uses(child, process.space);
                let space = self.space(child);
                if space != parent
                    && let Some(it) = self.spaces.get_mut(&space)
                {
                    it.parent = Some((parent, event.pid, event.time));
                }
                self.forked(parent, Some(space), event.time);
            }
            // It may share the address space, and what it makes there is not seen.
            Change::Fork { .. } => {
                if let Some(it) = self.target.as_mut().filter(|it| it.pid == event.pid) {
                    it.untraced += 1;
                }
                let space = self.space(event.pid);
                self.spaces.entry(space).or_default().has_untraced = true;
                if let Some(known) = self.spaces.get_mut(&space) {
                    known.is_whole = false;
                    known.is_shared |= process.space == Some(space);
                    if known.is_shared {
                        self.faults.unsure(Some(space), Doubt::SharedMemory);
                    }
                }
                self.forked(space, None, event.time);
            }
            Change::Exec { .. } => {
                self.lives(event, false);
                self.left_calls(event.pid);
                self.forget_turns(event.pid);
                self.leave(event, None);
                self.keep_name_of_kinds(event.pid);
                self.name(event.pid, &process.name);
                self.uses(event.pid, process.space);
                let space = self.space(event.pid);
                self.spaces.entry(space).or_default().is_whole = process.space.is_some();
            }
            Change::ExitWaits => self.in_exit(event),
            Change::Exit { status } => {
                self.alive.remove(&event.pid);
                if let Some(it) = self.target.as_mut().filter(|it| it.pid == event.pid) {
                    it.ended = Some(event.time);
                }
                self.left_calls(event.pid);
                self.forget_turns(event.pid);
                self.leave(event, Some(status));
            }
        }
    }

    /// Notes a process that is traced by name: it existed, or begins its program.
    pub(super) fn lives(&mut self, event: &Event, is_attached: bool) {
        let Event { pid, time: since, .. } = *event;
        let users = Vec::new();
        let new = Target { pid, since, is_attached, ended: None, untraced: 0, users };
        self.target.get_or_insert(new);
        if self.alive.len() < MOST_NAMES {
            self.alive.entry(pid).or_insert(Alive { since, is_attached, last_call: None });
        }
    }

    /// Notes that a process made an AIO call.
    pub(super) fn called(&mut self, pid: u32, time: u64) {
        if self.alive.len() >= MOST_NAMES && !self.alive.contains_key(&pid) {
            return;
        }
        let new = Alive { since: time, is_attached: false, last_call: None };
        let it = self.alive.entry(pid).or_insert(new);
        it.last_call = it.last_call.max(Some(time));
    }

    pub(super) fn name(&mut self, pid: u32, name: &[u8]) {
        if self.names.len() < MOST_NAMES || self.names.contains_key(&pid) {
            self.names.insert(pid, name.to_vec());
        }
    }

    /// The name that a process had when it left an address space, or has now.
    pub(super) fn name_then(&self, space: SpaceId, pid: u32) -> Vec<u8> {
        let then = self.spaces.get(&space).and_then(|it| it.name.as_ref());
        then.or_else(|| self.names.get(&pid)).cloned().unwrap_or_default()
    }

    /// It runs another program, which has another name.
    fn keep_name_of_kinds(&mut self, pid: u32) {
        let Some(name) = self.names.get(&pid) else { return };
        for (_, kind) in self.kinds.in_any_order_mut().filter(|((of, ..), _)| *of == pid) {
            kind.process.get_or_insert_with(|| name.clone());
        }
    }

    pub(super) fn uses(&mut self, pid: u32, space: Option<SpaceId>) {
        let Some(space) = space else { return };
        // Otherwise the process has an address space of its own.
        if self.space_of.len() >= MOST_SPACES && !self.space_of.contains_key(&pid) {
            return;
        }
        if self.spaces.get(&space).is_some_and(|it| it.ended.is_some()) {
            self.close(space);
        }
        let before = self.space_of.insert(pid, space);
        if before == Some(space) {
            return;
        }
        // What was known before the number of the address space was known.
        let provisional = provisional(pid);
        let is_over = self.spaces.get(&provisional).is_none_or(|it| it.ended.is_some());
        if let Some(old) =
            (before.is_none() && !is_over).then(|| self.spaces.remove(&provisional)).flatten()
        {
            let contexts: Vec<_> =
                self.contexts.extract_in_any_order(|(of, _), _| *of == provisional).collect();
            self.contexts.extend(contexts.into_iter().map(|((_, it), of)| ((space, it), of)));
            let leaving = self.leaving.iter_mut().filter(|((of, _), _)| *of == provisional);
            leaving.for_each(|((of, _), _)| *of = space);
            let lost = self.lost.iter_mut().filter(|it| it.key.0 == provisional);
            lost.for_each(|it| it.key.0 = space);
            let lost = old.lost;
            self.faults.moved(provisional, space);
            self.spaces.entry(space).or_insert(old).lost |= lost;
        }
        self.spaces.entry(space).or_default().users.push(pid);
    }
}

/// What stands for the address space of a process until it is known.
fn provisional(pid: u32) -> SpaceId {
    SpaceId(pid.into())
}
