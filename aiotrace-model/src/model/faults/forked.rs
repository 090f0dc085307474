//! Processes that were made while something is left to be done: they have the same files.

use super::{Faults, watched::Kind};
use crate::any_order::AnyOrder as _;
use crate::{
    event::SpaceId,
    model::{Map, Model, owed::Owed},
};

/// Children remembered.
const MOST_CHILDREN: usize = 4096;
/// Parents of a process that are looked at.
const MOST_PARENTS: usize = 8;

/// Address spaces of children that are followed: their parent's, and when they were made.
#[derive(Debug, Default)]
pub struct Children(Map<SpaceId, (SpaceId, u64)>);

impl Children {
    /// Its parents, the nearest first, and when the child was made that it is, or that it comes from.
    pub fn parents(&self, space: SpaceId) -> Vec<(SpaceId, u64)> {
        let mut found = Vec::new();
        let mut of = space;
        while let Some((parent, since)) = self.0.get(&of).filter(|_| found.len() < MOST_PARENTS) {
            found.push((*parent, *since));
            of = *parent;
        }
        found
    }

    /// An address space that stood for a process has become known.
    pub fn moved(&mut self, from: SpaceId, to: SpaceId) {
        if let Some(it) = self.0.remove(&from) {
            self.0.insert(to, it);
        }
        let all = self.0.in_any_order_mut().map(|it| it.1);
        all.filter(|it| it.0 == from).for_each(|it| it.0 = to);
    }
}

impl Model {
    /// A process was made, with this address space, if that is known and the process is followed.
    pub(in crate::model) fn forked(&mut self, parent: SpaceId, child: Option<SpaceId>, time: u64) {
        if child == Some(parent) {
            return;
        }
        let has_left = !self.faults.watched.is_empty()
            || self.spaces.get(&parent).is_some_and(|it| it.has_short())
            || !self.faults.children.0.is_empty();
        if !has_left {
            return;
        }
        let children = &mut self.faults.children.0;
        match child.filter(|_| children.len() < MOST_CHILDREN) {
            Some(child) => drop(children.insert(child, (parent, time))),
            None => self.goes_on(parent, time),
        }
    }

    /// A process has ended, or runs another program (then what it does is not known).
    pub(in crate::model) fn child_left(&mut self, space: SpaceId, is_over: bool) {
        let parents = self.faults.children.parents(space);
        if !is_over {
            parents.iter().for_each(|(parent, since)| self.goes_on(*parent, *since));
        }
        // Its own children go on.
        let own: Vec<u64> = self
            .faults
            .children
            .0
            .extract_in_any_order(|_, it| it.0 == space)
            .map(|it| it.1.1)
            .collect();
        for since in own {
            self.goes_on(space, since);
            parents.iter().for_each(|(parent, of)| self.goes_on(*parent, *of));
        }
        self.faults.children.0.remove(&space);
    }

    /// A child has submitted requests of its own, which may be what was left.
    pub(in crate::model) fn child_submitted(&mut self, space: SpaceId) {
        for (parent, since) in self.faults.children.parents(space) {
            self.goes_on(parent, since);
        }
    }

    /// A child that was made at this time may do what was left then.
    pub(in crate::model) fn goes_on(&mut self, space: SpaceId, since: u64) {
        self.faults.forked(space, since);
        if let Some(known) = self.spaces.get_mut(&space) {
            known.forked(since);
        }
    }
}

impl Faults {
    fn forked(&mut self, space: SpaceId, since: u64) {
        for number in &self.owing {
            let Some(watched) = self.watched.get_mut(number) else { continue };
            if watched.space != space || watched.time > since {
                continue;
            }
            match &mut watched.kind {
                Kind::Submit { left, .. } => left.values_mut().for_each(Owed::forked),
                Kind::Completion { owed: Some(owed), .. } => owed.forked(),
                _ => (),
            }
        }
    }
}
