//! Which processes are to be looked up: those that are new, or that execute another program.

use std::collections::HashSet;

use crate::event::{Body, Change, Event, Process};

/// Most processes that are remembered. When there are more, all are looked up anew.
const MOST: usize = 4096;

/// The processes that were looked up.
#[derive(Debug, Default)]
pub struct Newcomers(HashSet<u32>);

impl Newcomers {
    /// What the event tells of its process, if that is to be looked up now.
    pub fn of<'a>(&mut self, event: &'a Event) -> Option<&'a Process> {
        let Body::Process(process) = &event.body else { return None };
        match process.change {
            Change::Exec { .. } => (),
            Change::Attached | Change::Seen if !self.0.contains(&event.pid) => (),
            Change::Exit { .. } => {
                self.0.remove(&event.pid);
                return None;
            }
            _ => return None,
        }
        if self.0.len() >= MOST {
            self.0.clear();
        }
        self.0.insert(event.pid);
        Some(process)
    }
}
