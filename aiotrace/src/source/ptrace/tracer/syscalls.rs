//! Stops at system calls: a call begins, is judged and recorded, and ends.

use aiotrace_common::{
    abi::{Abi, Syscall},
    record::flag,
    synchronous::Does,
};
use nix::errno::Errno;

use super::{
    Tracer,
    held::{LOOKED_WITHIN, carry_out, held},
    watch,
};
use crate::{
    arch::{COMPAT, Ended, NATIVE, RESTART, Registers, aio_call},
    clock::monotonic,
    errand,
    proc::Blocked,
    source::{
        backlog::Message,
        ptrace::{
            calls::Left,
            faults::{Faults, Goes, Reaped, Seen},
            memory::Memory,
            requests,
            rings::New,
            seccomp, signals,
            tracee::{Again, Held, InCall, State, Tracee},
            untraced,
        },
    },
};

impl Tracer {
    /// Handles the first stop of a thread that was seized: it may be inside a call.
    pub(super) fn begin_thread(&mut self, tid: u32, signal: i32) -> Result<(), Errno> {
        let Some(tracee) = self.tracees.get_mut(&tid) else { return Ok(()) };
        let is_fresh = std::mem::take(&mut tracee.is_fresh);
        let pid = tracee.pid;
        let is_interrupted = std::mem::take(&mut tracee.is_interrupted);
        if !is_fresh && !self.is_leaving && !is_interrupted {
            return Ok(());
        }
        let before = tracee.before.take();
        let registers = Registers::of(tid)?;
        let Some(ended) = registers.ended(before.as_ref()) else { return Ok(()) };
        let table = if registers.is_32_bit() { COMPAT } else { NATIVE };
        let Ended { number, args, ret } = ended;
        self.cut_short += u64::from(signals::is_cut_short(&registers, Some(&ended)));
        let undone = signals::undo(pid, tid, signal, before.as_ref())?;
        let Some((syscall, abi)) = aio_call(table, number) else {
            return Ok(());
        };
        let args = abi.meant(syscall, args);
        // The kernel makes the thread repeat io_pgetevents by itself.
        let starts_again = ret == RESTART && !signals::interrupts(pid, tid, signal);
        let is_made_again = undone || starts_again;
        if is_made_again {
            self.note_stretched(tid, syscall, abi, args);
        }
        if !is_fresh {
            return Ok(());
        }
        self.blocked.push((pid, Blocked { tid, syscall, args }));
        let Some(tracee) = self.tracees.get_mut(&tid) else { return Ok(()) };
        let call = InCall { args, ..InCall::new(syscall, abi, args, 0) };
        if is_made_again {
            tracee.again = Some(Again { number, first: args[0], ret });
            tracee.call = Some(call);
        } else {
            // The call ends here, and we did not see it begin.
            self.left(tid, call, ret, flag::NOT_ENTERED);
        }
        Ok(())
    }

    /// Notes that a call waits for its whole timeout once more.
    pub(super) fn note_stretched(&mut self, tid: u32, syscall: Syscall, abi: Abi, args: [u64; 6]) {
        let waits = matches!(syscall, Syscall::Getevents | Syscall::Pgetevents);
        let pid = self.tracees.get(&tid).map_or(tid, |it| it.pid);
        let timeout = || Memory { pid, tid }.timespec(args[4], abi);
        if waits && timeout().is_some() && !self.stretched.contains(&tid) {
            const MOST: usize = 1024;
            if self.stretched.len() >= MOST {
                return;
            }
            self.stretched.push(tid);
            let text = format!(
                "thread {tid} was waiting in {} with a timeout, which begins again: the call may take \
                 longer than that",
                syscall.name()
            );
            self.calls.records.say(Message::Note(text));
        }
    }

    /// A signal is about to be delivered to a thread that makes a call again: the program expects EINTR from the
    /// call.
    pub(super) fn signalled(&mut self, tid: u32, signal: i32) -> Result<(), Errno> {
        let Some(tracee) = self.tracees.get_mut(&tid) else { return Ok(()) };
        let Some(again) = tracee.again else { return Ok(()) };
        if !signals::interrupts(tracee.pid, tid, signal) {
            return Ok(());
        }
        let ret = again.ret;
        tracee.again = None;
        if let Some(call) = tracee.call.take() {
            let flags = if call.entered == 0 { flag::NOT_ENTERED } else { 0 };
            self.left(tid, call, ret, flags);
        }
        Ok(())
    }

    /// A system call begins or ends. Returns the state in which a fault holds the thread.
    pub(super) fn at_call(&mut self, tid: u32) -> Result<Option<State>, Errno> {
        let info = requests::syscall(tid)?;
        if let Some(tracee) = self.tracees.get_mut(&tid) {
            tracee.at_entry = info.op == requests::ENTRY;
        }
        match info.op {
            requests::ENTRY => self.entry(tid, &info),
            requests::SECCOMP => self.allowed(tid, &info),
            requests::EXIT => self.exit(tid, &info),
            _ => Ok(None),
        }
    }

    pub(super) fn entry(
        &mut self,
        tid: u32,
        info: &requests::Syscall,
    ) -> Result<Option<State>, Errno> {
        let filtered = self.is_filtered();
        let Some(tracee) = self.tracees.get_mut(&tid) else { return Ok(None) };
        let Some((syscall, abi)) = aio_call(info.arch, info.number()) else {
            tracee.again = None;
            tracee.enters_synchronous(info);
            let (pid, call) = (tracee.pid, tracee.synchronous);
            let gives_up =
                call.is_some_and(|it| matches!(it.call.does(), Does::Close | Does::Unmap));
            let is_held = gives_up && self.is_to_be_looked_at(pid);
            return Ok(is_held.then(|| held(LOOKED_WITHIN, Held::ForLook)));
        };
        if filtered {
            // Our filter stops the thread next, unless another filter denies the call.
            if tracee.again.is_none() {
                let mut call = InCall::new(syscall, abi, info.args(), monotonic());
                call.is_unconfirmed = true;
                tracee.call = Some(call);
            }
            return Ok(None);
        }
        self.begin_call(tid, syscall, abi, info)
    }

    /// Our filter stopped the thread: all other filters allow the call.
    pub(super) fn allowed(
        &mut self,
        tid: u32,
        info: &requests::Syscall,
    ) -> Result<Option<State>, Errno> {
        if seccomp::installs_filter(info.arch, info.number(), &info.args()) {
            self.stop_at_all_calls(tid);
            return Ok(None);
        }
        if let Some((syscall, abi)) = aio_call(info.arch, info.number()) {
            return self.begin_call(tid, syscall, abi, info);
        }
        let pid = self.tracees.get(&tid).map_or(tid, |it| it.pid);
        let taken = untraced::take(pid, tid, info)?;
        if let Some(tracee) = self.tracees.get_mut(&tid) {
            tracee.taken = taken;
        }
        Ok(None)
    }

    /// Makes the threads of a process stop at all calls: a filter of its own may deny calls, and then ours does not
    /// stop it.
    pub(super) fn stop_at_all_calls(&mut self, tid: u32) {
        let Some(pid) = self.tracees.get(&tid).map(|it| it.pid) else { return };
        if let Some(process) = self.processes.of_mut(pid) {
            process.all_calls = true;
        }
        for tracee in self.tracees.values_mut().filter(|it| it.pid == pid) {
            tracee.all_calls = true;
        }
    }

    pub(super) fn begin_call(
        &mut self,
        tid: u32,
        syscall: Syscall,
        abi: Abi,
        info: &requests::Syscall,
    ) -> Result<Option<State>, Errno> {
        let Some(tracee) = self.tracees.get_mut(&tid) else { return Ok(None) };
        let mut call = InCall::new(syscall, abi, info.args(), monotonic());
        if let Some(again) = tracee.again.take()
            && again.number == info.number()
            && again.first == call.args[0]
            && tracee.call.is_some()
        {
            return Ok(None);
        }
        tracee.call = None;
        if self.is_silent(tid) {
            return Ok(None);
        }
        let Some(mut tracee) = self.tracees.remove(&tid) else { return Ok(None) };
        self.tell_thread(&mut tracee, call.entered);
        let place = || Registers::of(tid).ok().map(|it| it.place());
        let mut new = Vec::new();
        let wants_new = self.faults.as_ref().is_some_and(Faults::are_about_completions);
        self.calls.entered(&mut tracee, &mut call, place, |it| {
            if wants_new {
                new.push(it);
            }
        });
        self.change_completions(&mut tracee, &call, &new, None, call.entered);
        let mut goes = Ok(Goes::On);
        if let Some(faults) = &mut self.faults {
            goes = faults.call(&tracee, &mut call);
        }
        if goes != Ok(Goes::Not) {
            self.calls.destroys(&tracee, &call);
        }
        let (pid, time) = (tracee.pid, call.entered);
        tracee.call = Some(call);
        self.tracees.insert(tid, tracee);
        if self.faults.as_mut().is_some_and(Faults::take_changed) {
            self.watch(pid, tid, time);
        }
        Ok(match goes? {
            Goes::Later(time) => Some(held(time, Held::AtEntry)),
            Goes::On | Goes::Not => None,
        })
    }

    /// Makes the faults in completions that are new.
    pub(super) fn change_completions(
        &mut self,
        tracee: &mut Tracee,
        call: &InCall,
        new: &[New],
        reaped: Option<Reaped>,
        time: u64,
    ) {
        let Some(faults) = self.faults.as_mut().filter(|it| it.are_about_completions()) else {
            return;
        };
        let is_reaper = |it: &&Tracee| {
            it.space == tracee.space
                && it.call.as_ref().is_some_and(|it| {
                    matches!(it.syscall, Syscall::Getevents | Syscall::Pgetevents)
                        && it.args[0] == call.args[0]
                })
        };
        let others: Vec<u32> = self.tracees.values().filter(is_reaper).map(|it| it.tid).collect();
        faults.look_at_head(tracee, call, reaped, !others.is_empty());
        if new.is_empty() && reaped.is_none() {
            return;
        }
        let seen = Seen { call, new, reaped, others: &others, time };
        faults.completions(tracee, &mut self.calls.records, &seen);
    }

    pub(super) fn tell_thread(&mut self, tracee: &mut Tracee, time: u64) {
        if !tracee.is_told {
            tracee.is_told = true;
            self.processes.tell_thread(&mut self.calls.records, tracee, time);
        }
    }

    pub(super) fn exit(
        &mut self,
        tid: u32,
        info: &requests::Syscall,
    ) -> Result<Option<State>, Errno> {
        let Some(tracee) = self.tracees.get_mut(&tid) else { return Ok(None) };
        let (pid, mut ret) = (tracee.pid, info.ret());
        if let Some(call) = tracee.synchronous.take() {
            self.synchronous(tid, &call, ret);
        }
        let Some(tracee) = self.tracees.get_mut(&tid) else { return Ok(None) };
        if tracee.call.is_none() {
            if self.is_leaving {
                let registers = Registers::of(tid)?;
                let ended = registers.ended(None);
                self.cut_short += u64::from(signals::is_cut_short(&registers, ended.as_ref()));
                signals::undo(pid, tid, 0, None)?;
            }
            return Ok(None);
        }
        let pending = tracee.call.as_mut().and_then(|it| it.verdict.take());
        if let Some(pending) = pending
            && let Some(state) = carry_out(tid, pending, &mut ret)?
            && !self.is_leaving
        {
            return Ok(Some(state));
        }
        let undone = ret == -i64::from(libc::EINTR) && signals::undo(pid, tid, 0, None)?;
        let starts_again = ret == RESTART && !signals::interrupts(pid, tid, 0);
        let Some(tracee) = self.tracees.get_mut(&tid) else { return Ok(None) };
        if undone || starts_again {
            let Some(call) = &tracee.call else { return Ok(None) };
            let (syscall, abi, args) = (call.syscall, call.abi, call.args);
            let number = u64::try_from(Registers::of(tid)?.number()).unwrap_or(u64::MAX);
            tracee.again = Some(Again { number, first: args[0], ret });
            self.note_stretched(tid, syscall, abi, args);
            return Ok(None);
        }
        let Some(mut call) = tracee.call.take() else { return Ok(None) };
        let is_told = tracee.is_told;
        if self.is_leaving {
            return Ok(None);
        }
        let filtered = self.is_filtered();
        let mut flags = 0;
        if call.is_unconfirmed {
            // The iocbs of the call were not read yet.
            call.unread = Some(0);
        }
        if call.is_unconfirmed || !filtered && may_be_denied(pid, tid, &call, ret) {
            call.entered = 0;
            let known = if is_told { flag::KNOWN_THREAD } else { 0 };
            flags = flag::NOT_ENTERED | flag::SECCOMP | known;
        } else if call.entered == 0 {
            flags = flag::NOT_ENTERED;
        }
        self.left(tid, call, ret, flags);
        Ok(None)
    }

    /// Records the end of a call.
    pub(super) fn left(&mut self, tid: u32, call: InCall, ret: i64, flags: u16) {
        if self.is_silent(tid) {
            return;
        }
        let Some(mut tracee) = self.tracees.remove(&tid) else { return };
        let time = monotonic();
        self.tell_thread(&mut tracee, time);
        let mut new = Vec::new();
        let wants_new = self.faults.as_ref().is_some_and(Faults::are_about_completions);
        self.calls.fetch_at_exit(&tracee, &call, ret);
        let ring = self.calls.look(&mut tracee, &call, (time, ret), |it| {
            if wants_new {
                new.push(it);
            }
        });
        if wants_new {
            let reaped = Reaped::by(&call, ret);
            self.change_completions(&mut tracee, &call, &new, reaped, time);
        }
        if let Some(faults) = &mut self.faults {
            faults.returned(&tracee, &call, ret);
        }
        self.calls.left(&mut tracee, &call, &Left { time, ret, flags }, ring);
        let pid = tracee.pid;
        self.tracees.insert(tid, tracee);
        if watch::provokes(&call, ret) || self.faults.as_mut().is_some_and(Faults::take_changed) {
            self.watch(pid, tid, time);
        }
    }
}

/// Whether a filter may have answered in place of the kernel's AIO. We cannot see that here, because the filter is
/// asked after our stop.
fn may_be_denied(pid: u32, tid: u32, call: &InCall, ret: i64) -> bool {
    let is_usual = match i32::try_from(-ret) {
        Ok(libc::ENOSYS | libc::EPERM) => true,
        // Files and security modules refuse requests with this errno.
        Ok(libc::EACCES) => call.syscall != Syscall::Submit,
        _ => false,
    };
    is_usual && call.fault == 0 && errand::has_thread_filter(pid, tid) == Some(true)
}
