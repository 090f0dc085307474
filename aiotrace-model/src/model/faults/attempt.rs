//! A call that may be a retry of one that met a fault.

use std::collections::BTreeSet;

use crate::{
    errno::returned::EINPROGRESS,
    event::{Args, Iocb, SpaceId, Stack},
    model::{owed::Place, requests::Request},
};

/// A call that may be a retry.
pub struct Attempt<'a> {
    /// Where.
    pub space: SpaceId,
    /// By which thread.
    pub tid: u32,
    /// When it was entered.
    pub entered: u64,
    /// When it returned.
    pub time: u64,
    /// Which call.
    pub args: &'a Args,
    /// `None`: it has not returned.
    pub ret: Option<i64>,
    /// A fault met it.
    pub is_injected: bool,
    /// Where in the program it was made, if that is known.
    pub stack: Option<&'a Stack>,
}

impl Attempt<'_> {
    /// How many requests an io_submit accepted, the first ones.
    pub(super) fn accepted(&self) -> usize {
        self.ret.unwrap_or(0).clamp(0, i64::from(u32::MAX)) as usize
    }

    /// What the requests of an io_submit do, as far as they could be read.
    pub(super) fn places(&self, iocbs: &[Option<Iocb>]) -> impl Iterator<Item = Option<Place>> {
        let times = (self.entered, 0);
        iocbs.iter().map(move |it| Place::of(&Request::new(it.as_ref()?, times, (0, 0))?))
    }

    /// What met a fault in it.
    pub(super) fn refused(&self, iocbs: &[Option<Iocb>]) -> BTreeSet<Place> {
        let count = if self.is_injected { usize::MAX } else { 0 };
        self.places(iocbs).skip(self.accepted()).take(count).flatten().collect()
    }

    /// It did what it was called for.
    pub(super) fn has_succeeded(&self) -> bool {
        let is_cancel = matches!(self.args, Args::Cancel { .. });
        self.ret.is_some_and(|ret| ret >= 0 || is_cancel && ret == EINPROGRESS) && !self.is_injected
    }
}
