//! The lives of threads and processes: they are made, run new programs, and end.

use std::time::{Duration, Instant};

use aiotrace_common::record::flag;
use nix::errno::Errno;

use super::super::errands::SharesSpace;
use super::Tracer;
use crate::{
    arch::Registers,
    clock::monotonic,
    errand::{self, Errand as _},
    proc,
    source::ptrace::{
        requests::{self, Made, Status},
        tracee::{State, Tracee},
        untraced::Taken,
    },
};

/// If the maker of a new process has not announced it after this time, it never will.
const ORPHANED: Duration = Duration::from_millis(20);

/// Whether the calling thread traces this thread.
fn is_ours(tid: u32) -> bool {
    errand::tracer_of(tid) == Some(nix::unistd::gettid().as_raw().cast_unsigned())
}

impl Tracer {
    /// A thread made another thread, or a process. `taken`: the flag that was taken from its call.
    pub(super) fn created(
        &mut self,
        tid: u32,
        made: Made,
        taken: Option<Taken>,
    ) -> Result<(), Errno> {
        let child = requests::event_message(tid)? as u32;
        self.made(tid, child, made, taken);
        Ok(())
    }

    fn made(&mut self, tid: u32, child: u32, made: Made, taken: Option<Taken>) {
        let Some(tracee) = self.tracees.get(&tid) else { return };
        let (pid, space) = (tracee.pid, tracee.space);
        let ids = [pid, tid, child];
        if self.is_known(child) {
            if self.processes.of_mut(child).is_some_and(|it| std::mem::take(&mut it.is_orphan)) {
                self.tell_fork(ids, made);
            }
            return;
        }
        let was_early = self.early.remove(&child).is_some();
        let is_thread = proc::has_thread(pid, child);
        let is_gone = !is_thread && !proc::has_thread(child, child);
        // A new thread goes on before its maker's stop announces it: so its end was handled already.
        if is_gone && made == Made::Clone {
            return;
        }
        // A process that is not to be traced was let go before its maker's stop announced it: see `adopt_orphans`.
        if !is_thread && !was_early && !is_gone && !self.traces_children() && !is_ours(child) {
            return self.tell_fork(ids, made);
        }
        let of_child = if is_thread { pid } else { child };
        let (all_calls, silent) =
            self.processes.of(pid).map_or((true, true), |it| (it.all_calls, it.is_silent));
        let mut new = Tracee::new(of_child, child, space, all_calls);
        new.is_fresh = false;
        new.taken = taken;
        new.watched = self.processes.of(of_child).is_some_and(|it| it.watched.is_some());
        if of_child != pid {
            let shares = match (SharesSpace { pid, other: child }).ask().flatten() {
                Some(true) => true,
                Some(false) => false,
                None => made == Made::Vfork,
            };
            let silent = silent || !self.options.follow;
            new.space = self.processes.add(child, shares.then_some(pid), all_calls, silent);
            // The child has the same files, and may do the requests that its parent has to do.
            let watched = self.processes.of(pid).and_then(|it| it.watched).filter(|_| !silent);
            if let Some(process) = self.processes.of_mut(child) {
                process.watched = watched;
                new.watched = watched.is_some();
            }
            self.tell_fork(ids, made);
        }
        if was_early {
            new.state = State::Stopped(0);
        }
        self.tracees.insert(child, new);
        if is_gone {
            // A process is held until its maker's stop announces it. It is gone all the same, so it was killed.
            self.ended(child, Status(libc::SIGKILL));
        } else if was_early {
            // An error means that the child is dead, and then its end comes next.
            let _ = self.give_back(child);
            self.go_on(child);
        }
    }

    fn tell_fork(&mut self, ids: [u32; 3], made: Made) {
        let [_, tid, _] = ids;
        if !self.is_silent(tid) {
            let how = (monotonic(), made == Made::Vfork);
            self.processes.tell_fork(&mut self.calls.records, ids, how);
        }
    }

    /// Adopts new processes that nobody has announced: their maker was killed before it could, or they asked for a
    /// tracer, and the kernel announces no such process. With `CLONE_PTRACE` the kernel makes us its tracer, and
    /// sends an event only if we follow children and the call has no `CLONE_UNTRACED` ([fork.c]). The announcement
    /// may still come later.
    ///
    /// [fork.c]: https://git.kernel.org/pub/scm/linux/kernel/git/stable/linux.git/tree/kernel/fork.c?h=v6.12.117#n2831
    pub(super) fn adopt_orphans(&mut self, now: Instant) {
        let is_orphan = |it: &Instant| now.duration_since(*it) >= ORPHANED;
        let orphans: Vec<u32> =
            self.early.iter().filter(|it| is_orphan(it.1)).map(|it| *it.0).collect();
        for pid in orphans {
            self.early.remove(&pid);
            // It ended before we knew it, and its end was handled then.
            if !proc::has_thread(pid, pid) {
                continue;
            }
            if !self.traces_children() {
                let _ = requests::detach(pid, 0);
                continue;
            }
            let parent = errand::parent_of(pid).filter(|it| self.processes.of(*it).is_some());
            let shares =
                |it: &u32| SharesSpace { pid: *it, other: pid }.ask().flatten() == Some(true);
            let shares = parent.filter(shares);
            let all_calls = !self.is_filtered();
            let is_silent = !self.options.follow;
            let space = self.processes.add(pid, shares, all_calls, is_silent);
            if let Some(process) = self.processes.of_mut(pid) {
                process.is_orphan = true;
            }
            let mut tracee = Tracee::new(pid, pid, space, all_calls);
            (tracee.is_fresh, tracee.state) = (false, State::Stopped(0));
            self.tracees.insert(pid, tracee);
            self.go_on(pid);
        }
    }

    /// When the next unannounced process is to be adopted.
    pub(super) fn next_orphan(&self) -> Option<Instant> {
        self.early.values().min().map(|it| *it + ORPHANED)
    }

    /// A process runs a new program: its other threads are gone, and it has another address space.
    pub(super) fn executes(&mut self, tid: u32) -> Result<(), Errno> {
        let former = requests::event_message(tid)? as u32;
        let Some(pid) = self.tracees.get(&tid).or(self.tracees.get(&former)).map(|it| it.pid)
        else {
            return Ok(());
        };
        let (space, left) = self.processes.leave_space(pid);
        self.processes.rename(pid);
        let is_silent = self.is_silent(tid);
        self.tracees.retain(|_, it| it.pid != pid);
        let all_calls = self.processes.of(pid).is_none_or(|it| it.all_calls);
        let mut tracee = Tracee::new(pid, tid, space, all_calls);
        tracee.is_fresh = false;
        self.tracees.insert(tid, tracee);
        if let Some(left) = left {
            self.calls.rings.left(left);
        }
        self.calls.forget_code(pid);
        if !is_silent {
            self.processes.tell_exec(&mut self.calls.records, pid, former, monotonic());
        }
        Ok(())
    }

    /// A thread is about to end. If it was killed inside a call, the call ends, too.
    pub(super) fn ends(&mut self, tid: u32) -> Result<(), Errno> {
        let Some(tracee) = self.tracees.get_mut(&tid) else { return Ok(()) };
        let pid = tracee.pid;
        if pid == tid {
            self.processes.rename(pid);
        }
        let Some(call) = self.tracees.get_mut(&tid).and_then(|it| it.call.take()) else {
            return Ok(());
        };
        let ret = Registers::of(tid)?.ret_of_killed(call.args[0]);
        let flags = if call.entered == 0 { flag::NOT_ENTERED } else { 0 };
        if !self.is_leaving {
            self.left(tid, call, ret, flags);
        }
        Ok(())
    }

    /// A thread is gone; with the last thread of a process, the process is gone, too.
    pub(super) fn ended(&mut self, tid: u32, status: Status) {
        self.early.remove(&tid);
        let is_silent = self.is_silent(tid);
        let Some(mut tracee) = self.tracees.remove(&tid) else { return };
        let (pid, time) = (tracee.pid, monotonic());
        if tracee.is_told && !is_silent {
            self.calls.gone(&mut tracee, time);
        }
        // The end of the first thread comes last, unless that thread was gone before we attached.
        let is_last = tid == pid || !self.tracees.values().any(|it| it.pid == pid);
        let is_over = is_last && (tid == pid || !errand::is_alive_thread(pid, pid));
        if !is_over {
            return;
        }
        if let Some(faults) = &mut self.faults {
            faults.process_ended(pid);
        }
        self.calls.forget_code(pid);
        if let Some((process, space)) = self.processes.remove(pid) {
            if let Some(space) = space {
                self.calls.rings.left(space);
            }
            if !is_silent {
                process.tell_exit(&mut self.calls.records, pid, status.0 as u32, time);
            }
        }
        if let Some((launched, ended)) = &self.launched
            && *launched == pid
        {
            let _ = ended.send(status.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use aiotrace_common::record::{Change, Process};
    use zerocopy::TryFromBytes as _;

    use super::*;
    use crate::source::{
        backlog::{Eater, Message, backlog},
        ptrace::{Options, Target},
    };

    /// An id that no thread has.
    const GONE: u32 = 4_194_305;

    /// A tracer with one tracee: the first thread of this process.
    fn tracer() -> (Tracer, Eater, u32) {
        let us = std::process::id();
        let options = Options {
            target: Target::Running(vec![us]),
            follow: true,
            duration: None,
            all_stacks: false,
            files: Default::default(),
            unwound: Default::default(),
            rules: None,
        };
        let (feeder, eater) = backlog(None);
        let mut tracer = Tracer::new(options, feeder, mpsc::channel().0, mpsc::channel().0);
        let space = tracer.processes.add(us, None, true, false);
        tracer.tracees.insert(us, Tracee::new(us, us, space, true));
        (tracer, eater, us)
    }

    fn changes(mut tracer: Tracer, mut eater: Eater) -> Vec<(Change, u32)> {
        tracer.calls.records.hand_on();
        let Ok(Some(Message::Records(batch))) = eater.try_next() else { return Vec::new() };
        let record = |bytes: &[u8]| Process::try_read_from_prefix(bytes).unwrap().0;
        batch.records().map(record).map(|it| (it.change, it.status)).collect()
    }

    #[test]
    fn a_thread_that_ended_before_its_maker_told_of_it_is_no_process() {
        let (mut tracer, eater, us) = tracer();
        for child in GONE..GONE + 1000 {
            tracer.made(us, child, Made::Clone, None);
        }
        assert_eq!(tracer.processes.pids().collect::<Vec<_>>(), [us]);
        assert_eq!(tracer.tracees.len(), 1);
        assert_eq!(changes(tracer, eater), []);
    }

    #[test]
    fn a_process_that_was_adopted_is_told_of_when_its_maker_does() {
        let (mut tracer, eater, us) = tracer();
        tracer.processes.add(GONE, Some(us), true, false);
        tracer.processes.of_mut(GONE).unwrap().is_orphan = true;
        tracer.tracees.insert(GONE, Tracee::new(GONE, GONE, 1, true));
        for _ in 0..2 {
            tracer.made(us, GONE, Made::Fork, None);
        }
        assert_eq!(changes(tracer, eater), [(Change::Fork, 0)]);
    }

    #[test]
    fn a_process_that_was_killed_before_its_maker_told_of_it_was_made_and_ended() {
        for made in [Made::Fork, Made::Vfork] {
            let (mut tracer, eater, us) = tracer();
            tracer.made(us, GONE, made, None);
            assert_eq!(tracer.processes.pids().collect::<Vec<_>>(), [us]);
            assert_eq!(tracer.tracees.len(), 1);
            let killed = libc::SIGKILL as u32;
            assert_eq!(changes(tracer, eater), [(Change::Fork, 0), (Change::Exit, killed)]);
        }
    }
}
