//! Who else may write to the file of a request that met a fault, without that being watched: the process itself, by stores to a
//! mapping of the file; and processes that it was forked from, or that were forked from it or from the same one, before the
//! fault: they have the same descriptors. And what is known to be another file.

use std::hash::Hash;

use super::Faults;
use crate::{
    any_order::AnyOrder as _,
    event::Open,
    model::{Doubt, Map, Model, Question},
};

/// Processes whose relatives are known.
const MOST_PROCESSES: usize = 4096;
/// Relatives of a process that are looked at.
const MOST_RELATIVES: usize = 16;
/// Descriptors that one call makes worth a look.
const MOST_LOOKS: usize = 16;
/// Faults of a second that make others be looked at.
const MOST_IN_A_SECOND: u32 = 256;
/// Descriptors of which something is known.
const MOST_DESCRIPTORS: usize = 1024;

/// Processes that were forked from one another while the trace ran, by family.
#[derive(Debug, Default)]
pub struct Families {
    /// Families have numbers of their own, as the id of a process is given again.
    next: u32,
    of: Map<u32, u32>,
    members: Map<u32, Vec<Member>>,
    /// There were more than are remembered.
    is_cut: bool,
}

/// A process that has not ended, as far as seen.
#[derive(Clone, Copy, Debug)]
struct Member {
    pid: u32,
    /// Its end would be seen.
    is_followed: bool,
}

impl Families {
    fn forked(&mut self, parent: u32, child: u32, is_followed: bool) {
        if self.of.len() + 2 > MOST_PROCESSES {
            self.is_cut = true;
            return;
        }
        // The id of one that was not followed may be given again.
        self.ended(child);
        let family = *self.of.entry(parent).or_insert_with(|| {
            self.next = self.next.wrapping_add(1);
            self.next
        });
        self.of.insert(child, family);
        let members = self.members.entry(family).or_default();
        if members.is_empty() {
            members.push(Member { pid: parent, is_followed: true });
        }
        members.push(Member { pid: child, is_followed });
    }

    fn ended(&mut self, pid: u32) {
        let Some(family) = self.of.remove(&pid) else { return };
        if let Some(members) = self.members.get_mut(&family) {
            members.retain(|it| it.pid != pid);
            if members.is_empty() {
                self.members.remove(&family);
            }
        }
    }

    /// The others of a family.
    fn relatives(&self, pid: u32) -> impl Iterator<Item = Member> {
        let members = self.of.get(&pid).and_then(|it| self.members.get(it));
        members.into_iter().flatten().copied().filter(move |it| it.pid != pid)
    }
}

/// What is known of descriptors, by address space.
#[derive(Debug, Default)]
pub struct Sharers {
    families: Families,
    /// Their files.
    ids: Map<(u64, u32), (u64, u64)>,
    /// Those that are mapped, writable and shared, and when that was seen last.
    mapped: Map<(u64, u32), u64>,
    /// Those that may be of the file of a request, and are to be looked at.
    unlooked: Vec<u32>,
    /// Faults of which it has become known what they were about, and nothing else.
    pub(super) identified: Vec<u64>,
}

impl Sharers {
    /// It is to be looked up what this descriptor is.
    pub(super) fn looks_for(&mut self, fd: u32) {
        if self.unlooked.len() < MOST_LOOKS {
            self.unlooked.push(fd);
        }
    }

    /// Why who has written to these is not known, as far as it is known that it is not.
    pub(super) fn of(&self, space: u64, fds: &[u32]) -> Vec<(u32, Doubt)> {
        let is_mapped = |fd: &&u32| self.mapped.contains_key(&(space, **fd));
        fds.iter().filter(is_mapped).map(|fd| (*fd, Doubt::Mapped)).collect()
    }

    /// An address space that stood for a process has become known.
    pub(super) fn moved(&mut self, from: u64, to: u64) {
        move_space(&mut self.ids, from, to);
        move_space(&mut self.mapped, from, to);
    }

    /// The address space is gone.
    pub(super) fn ended(&mut self, space: u64) {
        of_space(&mut self.ids, space);
        of_space(&mut self.mapped, space);
    }
}

/// Takes out what is known of an address space, by descriptor or by context.
pub(super) fn of_space<K: Eq + Hash, T>(map: &mut Map<(u64, K), T>, space: u64) -> Vec<(K, T)> {
    if map.is_empty() {
        return Vec::new();
    }
    let of_it = map.extract_in_any_order(|(of, _), _| *of == space);
    of_it.map(|((_, key), it)| (key, it)).collect()
}

/// An address space that stood for a process has become known: what is known of it moves to its number.
pub(super) fn move_space<K: Eq + Hash, T>(map: &mut Map<(u64, K), T>, from: u64, to: u64) {
    let all = of_space(map, from);
    map.extend(all.into_iter().map(|(key, it)| ((to, key), it)));
}

/// Notes what is known of a descriptor. If that is of too many, all else is forgotten.
pub(super) fn note<T>(map: &mut Map<(u64, u32), T>, key: (u64, u32), value: T) {
    if map.len() >= MOST_DESCRIPTORS && !map.contains_key(&key) {
        map.clear();
    }
    map.insert(key, value);
}

impl Faults {
    /// The file of a descriptor was looked up.
    pub(in crate::model) fn is_file(&mut self, space: u64, fd: u32, id: Option<(u64, u64)>) {
        let Self { sharers, owing, watched, .. } = self;
        let Some(id) = id else {
            sharers.ids.remove(&(space, fd));
            return;
        };
        note(&mut sharers.ids, (space, fd), id);
        for number in owing.iter() {
            let Some(it) = watched.get_mut(number).filter(|it| it.space == space) else { continue };
            it.kind.each_owed(|owed| {
                let own = sharers.ids.get(&(space, owed.request.fd));
                if owed.through() == Some(fd) && own.is_some_and(|own| *own != id) {
                    owed.is_elsewhere(fd);
                }
            });
        }
    }

    /// Whether the process has mapped the file of a descriptor, writable and shared, as it was seen at this time.
    pub(in crate::model) fn is_mapped(
        &mut self,
        (space, fd): (u64, u32),
        time: u64,
        is_mapped: Option<bool>,
    ) {
        let of_it = self.watched.values_mut().filter(|it| it.space == space);
        match is_mapped {
            Some(true) => {
                note(&mut self.sharers.mapped, (space, fd), time);
                of_it.for_each(|it| it.is_shared(fd, Doubt::Mapped));
            }
            Some(false) => {
                // Of later faults it was only supposed.
                let Some(seen) = self.sharers.mapped.remove(&(space, fd)) else { return };
                let later = of_it.filter(|it| it.time > seen);
                later.for_each(|it| it.shared.retain(|it| *it != (fd, Doubt::Mapped)));
            }
            None => (),
        }
    }

    /// What a process has at the number of a descriptor that a relative of it had a fault with.
    pub(in crate::model) fn relative_has(&mut self, pid: u32, fd: u32, open: Open) {
        let Self { sharers, watched, .. } = self;
        for it in watched.values_mut().filter(|it| it.pid != pid && it.written.contains(&fd)) {
            let relative = sharers.families.relatives(it.pid).find(|it| it.pid == pid);
            let id = sharers.ids.get(&(it.space, fd));
            let has = match open {
                Open::As(other) => id.is_none_or(|id| *id == other),
                Open::No => false,
                // It was there when the fault was made.
                Open::Unknown => relative.is_some_and(|it| it.is_followed),
            };
            if has && relative.is_some() {
                it.is_shared(fd, Doubt::SharedFile);
            }
        }
        // Nobody tells of the end of a process that is not followed.
        let is_gone = |it: &Member| it.pid == pid && !it.is_followed;
        let family = sharers.families.of.get(&pid).and_then(|it| sharers.families.members.get(it));
        if open == Open::Unknown && family.is_some_and(|it| it.iter().any(is_gone)) {
            sharers.families.ended(pid);
        }
    }
}

impl Model {
    /// A process was made.
    pub(in crate::model) fn has_child(&mut self, parent: u32, child: u32, is_followed: bool) {
        if self.faults.history.is_some() {
            self.faults.sharers.families.forked(parent, child, is_followed);
        }
    }

    /// A process has ended.
    pub(in crate::model) fn has_ended(&mut self, pid: u32) {
        self.faults.sharers.families.ended(pid);
    }

    /// A fault keeps the process from writing to these descriptors: asks where that leads, and who else may do it. Returns
    /// what is known of it, by descriptor: why places say nothing, and why it is not known who has written.
    pub(super) fn ask_who_writes(
        &mut self,
        (pid, space): (u32, u64),
        time: u64,
        fds: &[u32],
    ) -> [Vec<(u32, Doubt)>; 2] {
        let placeless = self.faults.placeless_of(space, fds);
        let mut shared = self.faults.sharers.of(space, fds);
        for fd in fds {
            if self.faults.wants_path(space, *fd, time) {
                self.ask(Question::File { pid, fd: *fd });
            }
            shared.extend(self.ask_for_sharers(pid, *fd).map(|doubt| (*fd, doubt)));
        }
        [placeless, shared]
    }

    /// Asks the same of faults of which it has become known what they were about.
    pub(super) fn ask_of_identified(&mut self) {
        for number in std::mem::take(&mut self.faults.sharers.identified) {
            let Some(it) = self.faults.watched.get(&number) else { continue };
            let (of, time, fds) = ((it.pid, it.space), it.time, it.written.clone());
            let [placeless, shared] = self.ask_who_writes(of, time, &fds);
            if let Some(it) = self.faults.watched.get_mut(&number) {
                (it.placeless, it.shared) = (placeless, shared);
            }
        }
    }

    /// Asks who else may write to this descriptor: the newest of them. Why others are not asked about, if there are more.
    fn ask_for_sharers(&mut self, pid: u32, fd: u32) -> Option<Doubt> {
        if !self.faults.watches {
            return None;
        }
        let mapped = Question::Mapped { pid, fd };
        // One look serves all faults that wait for it.
        let is_asked = self.questions.contains(&mapped);
        if !is_asked && !self.sharer_looks.take(self.now, MOST_IN_A_SECOND) {
            return Some(Doubt::ManyFaults);
        }
        self.ask(mapped);
        let families = &self.faults.sharers.families;
        let relatives: Vec<u32> = families.relatives(pid).map(|it| it.pid).collect();
        let are_many = families.is_cut || relatives.len() > MOST_RELATIVES;
        for pid in relatives.into_iter().rev().take(MOST_RELATIVES) {
            self.ask(Question::Descriptor { pid, fd });
        }
        are_many.then_some(Doubt::ManySharers)
    }

    /// Asks what those descriptors are through which a process may have done what a fault kept it from.
    pub(super) fn ask_for_others(&mut self, pid: u32) {
        for fd in std::mem::take(&mut self.faults.sharers.unlooked) {
            self.ask(Question::File { pid, fd });
        }
    }
}
