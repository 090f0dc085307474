//! Where the tracer runs: on the processor of the thread that stopped last. Only one of the two runs at a time; from
//! another processor each stop takes six times as long, because that processor sleeps and has to be woken. The helper
//! that reads memory for the tracer goes to the same processor.

use super::errands::GoToProcessor;
use crate::{errand::Errand as _, proc::processor};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

/// Where the calling thread runs.
pub struct Place {
    /// The processors on which it may run.
    allowed: Option<CpuSet>,
    /// The processor to which it went last.
    now: Option<usize>,
}

impl Place {
    /// The calling thread runs anywhere.
    pub fn new() -> Self {
        Self { allowed: sched_getaffinity(US).ok(), now: None }
    }

    /// Goes to the processor of this thread, if we may run there.
    pub fn follow(&mut self, tid: u32) {
        if let Some(processor) = (GoToProcessor { pid: tid }).ask().flatten() {
            self.go_to(processor);
        }
    }

    fn go_to(&mut self, processor: usize) {
        let is_allowed =
            self.allowed.as_ref().is_some_and(|it| it.is_set(processor).unwrap_or(false));
        if self.now == Some(processor) || !is_allowed {
            return;
        }
        let mut one = CpuSet::new();
        if one.set(processor).is_ok() && sched_setaffinity(US, &one).is_ok() {
            self.now = Some(processor);
        }
    }
}

/// The calling thread, for the kernel.
const US: Pid = Pid::from_raw(0);

/// Goes to the processor on which a thread runs, or ran last, and says which one that is. Runs in a helper.
pub fn go_to_processor_of(tid: u32) -> Option<usize> {
    let processor = processor(tid)?;
    let mut place = Place::new();
    place.go_to(processor);
    Some(processor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_a_thread() {
        std::thread::spawn(|| {
            let mut place = Place::new();
            place.follow(nix::unistd::gettid().as_raw() as u32);
            let here = nix::sched::sched_getcpu().unwrap();
            assert_eq!(place.now, Some(here));
        })
        .join()
        .unwrap();
    }
}
