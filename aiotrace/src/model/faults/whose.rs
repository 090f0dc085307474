//! Whose completion a fault changed. The iocb alone does not tell: it may be another request's by now, and where the
//! completion was there before io_submit returned, its own request is not known yet.

use super::{Faults, MOST_COMPLETIONS};
use crate::{event::IoEvent, model::requests::Request};

/// The last completion of an iocb that was told, until io_getevents gives it to the program.
pub struct Told {
    event: IoEvent,
    /// Whose it is; `None`: that is known when io_submit returns.
    request: Option<Request>,
}

impl Faults {
    /// A completion was told, as the kernel made it, and whose it is, if that is known.
    pub fn told(&mut self, space: u64, event: IoEvent, request: Option<&Request>) {
        if !self.rules.change_completions() {
            return;
        }
        if self.completed.len() >= MOST_COMPLETIONS {
            self.completed.clear();
        }
        let told = Told { event, request: request.cloned() };
        self.completed.insert((space, event.obj, event.data), told);
    }

    /// io_submit returned, and a completion that was told before is this request's.
    pub fn told_before(&mut self, space: u64, event: &IoEvent, request: &Request) {
        if let Some(told) = self.completed.get_mut(&(space, event.obj, event.data))
            && told.event == *event
        {
            told.request.get_or_insert_with(|| request.clone());
        }
    }

    /// io_getevents gave these to the program, which may use the iocbs again.
    pub fn given(&mut self, space: u64, list: &[Option<IoEvent>]) {
        if self.completed.is_empty() {
            return;
        }
        for it in list.iter().flatten() {
            self.completed.remove(&(space, it.obj, it.data));
        }
    }

    /// Whose this completion is, as the kernel made it; `in_flight`: the oldest request in flight that it may be of.
    pub fn whose(&self, space: u64, own: &IoEvent, in_flight: Option<Request>) -> Option<Request> {
        let told = self.completed.get(&(space, own.obj, own.data)).filter(|it| it.event == *own);
        told.map_or(in_flight, |it| it.request.clone())
    }
}
