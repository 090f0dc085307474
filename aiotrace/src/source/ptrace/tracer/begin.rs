//! The beginning of a trace: all targets are seized, and what exists is recorded before any of them goes on.

use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::{PAUSE, Tracer, stops::Unstopped};
use crate::{
    errand::{self, BlockedCall, Errand as _},
    proc,
    source::{
        backlog::Message,
        bpf::adopt::{self, Found},
        collector::Stop,
        ptrace::{
            StartError, Target,
            errands::{SeizeReturns, SharesSpace},
            requests::{self, Status, What},
            seizing::Seizing,
            tracee::Tracee,
        },
    },
};

/// How long we wait for threads to stop, while some of them still can.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long we wait for a process that begins a program; others are stopped in the meantime.
const LONGEST_SEIZE: Duration = Duration::from_secs(1);

/// Threads that were seized.
#[derive(Default)]
struct Seized {
    /// Threads that are still to stop.
    tids: Vec<u32>,
    /// Threads that have stopped, with their status.
    stopped: Vec<(u32, Status)>,
}

impl Tracer {
    /// Seizes all targets, and records what exists before any of them goes on.
    pub(super) fn begin(&mut self, stop: &Stop) -> Result<Vec<Found>, StartError> {
        match self.options.target.clone() {
            Target::Launched { pid, filtered } => {
                let refused = |source| StartError::Refused { pid, source };
                requests::seize(pid, self.ptrace_options()).map_err(refused)?;
                let space = self.processes.add(pid, None, !filtered, false);
                let mut tracee = Tracee::new(pid, pid, space, !filtered);
                // The thread waits for us, and is in no AIO call.
                tracee.is_fresh = false;
                self.tracees.insert(pid, tracee);
                if !filtered {
                    requests::interrupt(pid).map_err(refused)?;
                }
                Ok(Vec::new())
            }
            Target::Running(pids) => {
                let mut seized = Seized::default();
                let seizing = Seizing::new().map_err(StartError::Timer)?;
                for pid in &pids {
                    self.seize(*pid, &seizing, stop, &mut seized)?;
                }
                let Seized { tids, mut stopped } = seized;
                stopped.extend(self.await_stops(tids, stop));
                let mut found = adopt::from_proc(|pid| pids.contains(&pid));
                for it in &mut found {
                    it.space = self.processes.of(it.pid).map(|it| it.space);
                    if let (Some(space), Some(ring)) = (it.space, &it.ring) {
                        self.calls.rings.adopted(space, it.handle, ring);
                    }
                }
                for (tid, status) in stopped {
                    self.stopped(tid, status);
                }
                Ok(found)
            }
        }
    }

    /// Seizes all threads of a process, including those that appear in the meantime.
    fn seize(
        &mut self,
        pid: u32,
        seizing: &Seizing,
        stop: &Stop,
        seized: &mut Seized,
    ) -> Result<(), StartError> {
        let refused = |source| StartError::Refused { pid, source };
        let us = nix::unistd::gettid().as_raw() as u32;
        if (SeizeReturns { pid }).ask().is_none() {
            return Err(StartError::Hangs(pid));
        }
        let others: Vec<u32> = self.processes.pids().collect();
        let shares = |it: &u32| SharesSpace { pid, other: *it }.ask().flatten() == Some(true);
        let shares = others.into_iter().find(shares);
        let space = self.processes.add(pid, shares, true, false);
        let begun = Instant::now();
        loop {
            let (mut any, mut begins_program) = (false, false);
            for tid in proc::threads(pid) {
                if self.tracees.contains_key(&tid) {
                    continue;
                }
                if stop.is_asked() {
                    return Ok(());
                }
                match seizing.seize(tid, self.ptrace_options()) {
                    Ok(()) => {
                        any = true;
                        let mut tracee = Tracee::new(pid, tid, space, true);
                        let _ = tracee.interrupt();
                        self.tracees.insert(tid, tracee);
                        seized.tids.push(tid);
                    }
                    // The process begins a program, which may have to wait for threads that we trace.
                    Err(Errno::EINTR) if begun.elapsed() < LONGEST_SEIZE => {
                        (any, begins_program) = (true, true);
                        self.take_stopped(seized);
                        break;
                    }
                    Err(Errno::EINTR) => return Err(StartError::Hangs(pid)),
                    Err(Errno::ESRCH) => (),
                    // The thread is ours already, as the child of a thread that was seized; or it is the first
                    // thread, which has ended.
                    Err(Errno::EPERM) if errand::tracer_of(tid) == Some(us) => (),
                    Err(Errno::EPERM) if !errand::is_alive_thread(pid, tid) => (),
                    Err(errno) => return Err(refused(errno)),
                }
            }
            if begins_program {
                // The earlier threads of the process are gone, and one of them goes on with the id of the first
                // thread.
                let is_gone = |tid: &u32| errand::tracer_of(*tid) != Some(us);
                let of_it = self.tracees.values().filter(|it| it.pid == pid).map(|it| it.tid);
                let gone: Vec<u32> = of_it.filter(is_gone).collect();
                self.tracees.retain(|tid, _| !gone.contains(tid));
                seized.tids.retain(|tid| !gone.contains(tid));
                seized.stopped.retain(|it| !gone.contains(&it.0));
            }
            if !any {
                break;
            }
        }
        if self.tracees.values().any(|it| it.pid == pid) {
            Ok(())
        } else {
            Err(StartError::Gone(pid))
        }
    }

    /// Takes the stops and ends of the threads that were seized.
    fn take_stopped(&mut self, seized: &mut Seized) {
        while let Ok(Some((tid, status))) = requests::wait() {
            // What the thread did before does not matter any more.
            seized.tids.retain(|it| *it != tid);
            seized.stopped.retain(|it| it.0 != tid);
            match status.what() {
                // The thread that begins the program waits for the ends of these.
                What::Ended | What::Exit => self.stopped(tid, status),
                _ => seized.stopped.push((tid, status)),
            }
        }
    }

    /// Waits for the first stop of each of these threads. Threads that do not stop in time do so later.
    fn await_stops(&mut self, tids: Vec<u32>, stop: &Stop) -> Vec<(u32, Status)> {
        let mut stopped = Vec::with_capacity(tids.len());
        let patience = self.options.duration.map_or(PATIENCE, |it| it.min(PATIENCE));
        let mut unstopped = Unstopped::new(tids, patience, Instant::now());
        loop {
            let any = unstopped.round(Instant::now(), |tid| match requests::wait_for(tid) {
                Ok(Some(status)) => {
                    stopped.push((tid, status));
                    true
                }
                Ok(None) => false,
                Err(_) => true,
            });
            let is_over = unstopped.is_over(Instant::now(), |tid| self.cannot_stop(*tid));
            if is_over || stop.is_asked() {
                break;
            }
            if !any {
                std::thread::sleep(PAUSE);
            }
        }
        self.let_be(&unstopped.left().collect::<Vec<_>>());
        stopped
    }

    /// Notes that these threads have not stopped: they may be in an AIO call.
    fn let_be(&mut self, tids: &[u32]) {
        let mut count = 0;
        for tid in tids {
            let Some(pid) = self.tracees.get(tid).map(|it| it.pid) else { continue };
            count += u32::from(errand::is_alive_thread(pid, *tid));
            self.blocked.extend(BlockedCall { pid, tid: *tid }.ask().flatten().map(|it| (pid, it)));
        }
        if count > 0 {
            let text = format!(
                "threads of the target that have not stopped yet, because they wait for a disk, for a child of \
                 vfork or for a processor: {count}; each of them is traced from its first stop on"
            );
            self.calls.records.say(Message::Note(text));
        }
    }
}
