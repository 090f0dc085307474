//! What is asked about the files of requests that met a fault: where a write goes, what may do the request without being seen
//! ([`crate::model::unseen`]), and what is known to be another file.

use std::hash::Hash;

use super::{FRESH, Faults, placeless::NoPlace, watched::Watched};
use crate::{
    any_order::AnyOrder as _,
    event::{File, SpaceId, Synchronous, Ways},
    model::{Map, Model, Question, owed::gives_up, unseen::Unseen},
};

/// Descriptors that one call makes worth a look.
const MOST_LOOKS: usize = 16;
/// Looks at all processes that have a file, in a second: each of them may have to go through 100,000 descriptors.
const MOST_IN_A_SECOND: u32 = 16;
/// Looks at what a descriptor is, beside those that come with its path.
const MOST_FILES_IN_A_SECOND: u32 = 64;
/// Descriptors of which something is known.
const MOST_DESCRIPTORS: usize = 1024;

/// When a call returned, and in which thread.
type Made = (u64, u32);

/// What is known of descriptors, by address space.
#[derive(Debug, Default)]
pub struct Sharers {
    /// What else may read or write them, when that was looked up, while something was left without a break since.
    ways: Map<(SpaceId, u32), (u64, Ways)>,
    /// Their files, and when the looks were over, while synchronous calls are watched.
    ids: Map<(SpaceId, u32), ((u64, u64), u64)>,
    /// Since when synchronous calls are watched without a break, so that no close was missed.
    unbroken: u64,
    /// Those that may be of the file of a request, and are to be looked at.
    unlooked: Vec<u32>,
    /// What was done through them.
    calls: Map<(SpaceId, u32), Vec<(Made, Synchronous)>>,
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

    /// A synchronous call through a descriptor that may be of the file of a request. Returns whether it is remembered until the
    /// descriptor is looked at.
    pub(super) fn did(&mut self, space: SpaceId, made: Made, call: &Synchronous) -> bool {
        self.looks_for(call.fd);
        let mut calls = self.calls.remove(&(space, call.fd)).unwrap_or_default();
        let is_known = calls.last().is_some_and(|it| (it.0, &it.1) == (made, call));
        let has_room = calls.len() < MOST_LOOKS;
        if has_room && !is_known {
            calls.push((made, call.clone()));
        }
        note(&mut self.calls, (space, call.fd), calls);
        has_room || is_known
    }

    /// Synchronous calls are watched anew from this time on: what was closed before, nobody has seen.
    pub(super) fn begin(&mut self, time: u64) {
        self.ids.clear();
        self.unbroken = time;
    }

    /// What was looked up a moment ago, and when that look was over. (A flood of faults would have all processes looked at again and again.)
    fn ways(&self, space: SpaceId, fd: u32, time: u64) -> Option<(u64, Ways)> {
        let known = self.ways.get(&(space, fd));
        known.filter(|it| time.saturating_sub(it.0) < FRESH).copied()
    }

    /// A call gives up descriptors: their numbers may be of other files, and what was done through them stays unknown.
    pub(super) fn gave_up(&mut self, space: SpaceId, call: &Synchronous) {
        without(&mut self.ids, space, call);
        without(&mut self.ways, space, call);
        without(&mut self.calls, space, call);
    }

    /// A mapping was made: what was looked up before is not true any more.
    pub(super) fn maps(&mut self, space: SpaceId) {
        of_space(&mut self.ways, space);
    }

    /// An address space that stood for a process has become known.
    pub(super) fn moved(&mut self, from: SpaceId, to: SpaceId) {
        move_space(&mut self.ids, from, to);
        move_space(&mut self.ways, from, to);
        move_space(&mut self.calls, from, to);
    }

    /// The address space is gone.
    pub(super) fn ended(&mut self, space: SpaceId) {
        of_space(&mut self.ids, space);
        of_space(&mut self.ways, space);
        of_space(&mut self.calls, space);
    }
}

/// Takes out what is known of an address space, by descriptor or by context.
pub(super) fn of_space<K: Eq + Hash, T>(
    map: &mut Map<(SpaceId, K), T>,
    space: SpaceId,
) -> Vec<(K, T)> {
    if map.is_empty() {
        return Vec::new();
    }
    let of_it = map.extract_in_any_order(|(of, _), _| *of == space);
    of_it.map(|((_, key), it)| (key, it)).collect()
}

/// An address space that stood for a process has become known: what is known of it moves to its number.
pub(super) fn move_space<K: Eq + Hash, T>(
    map: &mut Map<(SpaceId, K), T>,
    from: SpaceId,
    to: SpaceId,
) {
    let all = of_space(map, from);
    map.extend(all.into_iter().map(|(key, it)| ((to, key), it)));
}

/// Forgets what is known of the descriptors that a call gives up.
pub(super) fn without<T>(map: &mut Map<(SpaceId, u32), T>, space: SpaceId, call: &Synchronous) {
    map.retain_in_any_order(|(of, fd), _| *of != space || !gives_up(call, *fd));
}

/// Notes what is known of a descriptor. If that is of too many, all else is forgotten.
pub(super) fn note<T>(map: &mut Map<(SpaceId, u32), T>, key: (SpaceId, u32), value: T) {
    if map.len() >= MOST_DESCRIPTORS && !map.contains_key(&key) {
        map.clear();
    }
    map.insert(key, value);
}

impl Faults {
    /// The file of a descriptor was looked up: whether it is that of requests which may have been done through it.
    pub(in crate::model) fn is_file(
        &mut self,
        space: SpaceId,
        fd: u32,
        file: Option<File>,
        (began, until): (u64, u64),
    ) {
        let Self { sharers, owing, watched, .. } = self;
        if began < sharers.unbroken {
            return;
        }
        let calls = sharers.calls.remove(&(space, fd)).unwrap_or_default();
        let Some((file, id)) = file.and_then(|it| Some((it, it.id?))) else {
            sharers.ids.remove(&(space, fd));
            return;
        };
        note(&mut sharers.ids, (space, fd), (id, until));
        // Through a descriptor with O_APPEND a write goes to the end.
        let keeps_places = file.append == Some(false);
        let mut is_here = false;
        for number in owing.iter() {
            let Some(it) = watched.get_mut(number).filter(|it| it.space == space) else { continue };
            let (mut is_its, mut own_fds) = (false, Vec::new());
            it.kind.each_owed(|owed| {
                let own = sharers.ids.get(&(space, owed.request.fd));
                match own.filter(|_| owed.is_through(fd)) {
                    Some((own, of_own)) if *own != id => {
                        owed.leads(fd, false, (until, *of_own));
                    }
                    Some((_, of_own))
                        if keeps_places
                            && !calls.is_empty()
                            && owed.leads(fd, true, (until, *of_own)) =>
                    {
                        is_its = true;
                        own_fds.push((owed.request.fd, *of_own));
                    }
                    _ => (),
                }
            });
            if is_its && it.here.len() < MOST_LOOKS {
                it.here.push((fd, until));
            }
            own_fds.dedup();
            own_fds.truncate(MOST_LOOKS);
            it.here.extend(own_fds);
            is_here |= is_its;
        }
        // Nobody knows yet what the own descriptor of a request is.
        let is_open = |it: &Watched| it.space == space && it.is_through(fd);
        if !is_here && owing.iter().filter_map(|it| watched.get(it)).any(is_open) {
            return note(&mut sharers.calls, (space, fd), calls);
        }
        for (made, call) in calls.iter().filter(|_| is_here) {
            self.synchronous(space, *made, call, None);
        }
    }

    /// By what else the file of a descriptor may be read or written was looked up; the look was over then.
    pub(in crate::model) fn has_ways(&mut self, space: SpaceId, fd: u32, time: u64, ways: Ways) {
        note(&mut self.sharers.ways, (space, fd), (time, ways));
        let of_it = self.watched.values_mut().filter(|it| it.space == space);
        of_it.for_each(|it| it.unseen.looked(fd, time, ways));
    }
}

impl Model {
    /// A fault keeps the process from doing these requests: asks where writes to `written` go, and what else may do it. Returns
    /// what is known of it: why places of writes say nothing, by descriptor.
    pub(super) fn ask_who_does(
        &mut self,
        (pid, space): (u32, SpaceId),
        time: u64,
        written: &[u32],
        unseen: &mut Unseen,
    ) -> Vec<NoPlace> {
        if self.faults.owing.is_empty() {
            self.faults.sharers.ways.clear();
        }
        let placeless = self.faults.placeless.of(space, written);
        for fd in unseen.fds().to_vec().iter().chain(written) {
            let is_known = self.faults.sharers.ids.contains_key(&(space, *fd))
                && !self.faults.placeless.is_stale(space, *fd);
            let is_due = self.faults.wants_path(space, *fd, time);
            if is_due || !is_known && self.looks_at_files.take(self.now, MOST_FILES_IN_A_SECOND) {
                self.ask(Question::File { pid, fd: *fd });
            }
        }
        for fd in unseen.fds().to_vec() {
            match self.faults.sharers.ways(space, fd, time) {
                // The look may have been made after the fault, of which the model hears only now.
                Some((looked, ways)) => unseen.looked(fd, looked.max(time), ways),
                None => self.ask_for_ways(pid, fd),
            }
        }
        placeless
    }

    /// Asks the same of faults of which it has become known what they were about.
    pub(super) fn ask_of_identified(&mut self) {
        for number in std::mem::take(&mut self.faults.sharers.identified) {
            let Some(it) = self.faults.watched.get(&number) else { continue };
            let (of, time, written) = ((it.pid, it.space), it.time, it.written.clone());
            let of_requests = self.faults.unseen(time, &it.kind);
            let Some(it) = self.faults.watched.get_mut(&number) else { continue };
            let mut unseen = std::mem::take(&mut it.unseen);
            unseen.of(of_requests);
            let placeless = self.ask_who_does(of, time, &written, &mut unseen);
            if let Some(it) = self.faults.watched.get_mut(&number) {
                (it.placeless, it.unseen) = (placeless, unseen);
            }
        }
    }

    /// Asks by what else a file may be read or written. What is not asked because there were too many questions stays unknown.
    fn ask_for_ways(&mut self, pid: u32, fd: u32) {
        let ways = Question::Ways { pid, fd };
        // One look serves all faults that wait for it.
        if !self.questions.contains(&ways) && self.looks_at_ways.take(self.now, MOST_IN_A_SECOND) {
            self.ask(ways);
        }
    }

    /// Asks what those descriptors are through which a process may have done what a fault kept it from.
    pub(super) fn ask_for_others(&mut self, pid: u32) {
        for fd in std::mem::take(&mut self.faults.sharers.unlooked) {
            self.ask(Question::File { pid, fd });
        }
    }
}
