//! Fork, exec and exit of processes. This module keeps the set of targets.

use aiotrace_common::record::{Change, Header, Kind, Lost, PATH_BYTES, Process, Thread};

use super::calls::now;
use crate::{
    lost, records,
    registers::waits_for_child,
    settings::setting,
    targets,
    task::{Ids, Task, current_kernel_ids, read_exec_path},
    threads,
};

/// The running thread created `child`.
#[inline(always)]
pub fn fork(child: Task) -> Result<(), Lost> {
    let kernel = current_kernel_ids();
    let of_child = child.kernel_ids();
    // The child may have the id of a dead thread: the kernel may have skipped the probe at its exit.
    threads::remove(of_child.tid);
    if of_child.pid == kernel.pid {
        return Ok(()); // a thread
    }
    let parent = Task::current();
    let Some(ids) = parent.ids(kernel) else {
        return Ok(());
    };
    if !targets::is_known(ids.pid) {
        return Ok(());
    }
    let Some(child_ids) = child.ids(of_child) else {
        return Ok(());
    };
    let followed = setting!(follow) != 0 && targets::add(child_ids.pid);
    emit(Change::Fork, parent, uncounted(ids), |record| {
        // SAFETY: room in the ring buffer.
        unsafe {
            (*record).other = child_ids.pid;
            (*record).followed = followed as u32;
            // Who waits for its child shares its memory with it for that time only.
            let is_shared = followed || !waits_for_child();
            (*record).space = if is_shared { child.space() } else { 0 };
        }
    });
    if setting!(follow) != 0 && !followed { Err(Lost::NoTargetSlot) } else { Ok(()) }
}

/// The running thread, whose id was `old_tid` until now, executes a new program.
#[inline(always)]
pub fn exec(task: Task, old_tid: u32, binprm: *const u8) -> Result<(), Lost> {
    let kernel = current_kernel_ids();
    // The other threads are dead, and the address space is a new one.
    threads::remove(old_tid);
    threads::remove(kernel.tid);
    let Some(ids) = task.ids(kernel) else {
        return Ok(());
    };
    if !targets::is_known(ids.pid) {
        return Ok(());
    }
    emit(Change::Exec, task, uncounted(ids), |record| {
        // SAFETY: room in the ring buffer.
        unsafe {
            (*record).other = old_tid;
            read_exec_path(binprm, &mut (*record).path);
        }
    });
    Ok(())
}

/// The running thread exits.
#[inline(always)]
pub fn exit(task: Task) -> Result<(), Lost> {
    let kernel = current_kernel_ids();
    if let Some(thread) = threads::of(kernel.tid) {
        // SAFETY: the slot belongs to the running thread.
        let thread = unsafe { &mut *thread };
        if thread.syscall != 0 {
            lost::count(Lost::ExitMissed);
        }
        let header = records::header(thread, Kind::Gone, 0, now());
        // SAFETY: room in the ring buffer.
        records::emit(|record: *mut Header| unsafe { *record = header });
        threads::remove(kernel.tid);
    }
    if !task.process_is_dead() {
        return Ok(());
    }
    let Some(ids) = task.ids(kernel) else {
        return Ok(());
    };
    // Two threads may both see that none is left; only one of them removes the process.
    if targets::remove(ids.pid) {
        // The record is that of the process, whichever thread was the last.
        let process = Ids { tid: ids.pid, ..ids };
        emit(Change::Exit, task, uncounted(process), |record| {
            // SAFETY: room in the ring buffer.
            unsafe { (*record).status = task.exit_status() };
        });
    }
    Ok(())
}

/// A thread makes its first AIO call. The record counts in the thread's own sequence.
#[inline(always)]
pub fn seen(task: Task, thread: &mut Thread, time: u64) {
    let header = records::header(thread, Kind::Process, 0, time);
    emit(Change::Seen, task, header, |_| ());
}

/// The header of a change that belongs to no thread's sequence of records.
#[inline(always)]
fn uncounted(ids: Ids) -> Header {
    Header { kind: Kind::Process, flags: 0, seq: 0, time: now(), pid: ids.pid, tid: ids.tid }
}

#[inline(always)]
fn emit(change: Change, task: Task, header: Header, complete: impl FnOnce(*mut Process)) {
    let leader = task.leader();
    records::emit(|record: *mut Process| {
        // SAFETY: room in the ring buffer; every field is written.
        unsafe {
            (*record).header = header;
            (*record).started = leader.started();
            (*record).space = task.space();
            (*record).change = change;
            (*record).other = 0;
            (*record).status = 0;
            (*record).followed = 0;
            (*record).thread_name = task.name();
            (*record).name = leader.name();
            (*record).path = [0; PATH_BYTES];
        }
        complete(record);
    });
}
