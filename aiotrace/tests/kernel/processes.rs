//! The processes that a test has started, and their descendants.

use std::{
    fmt::Write as _,
    sync::mpsc,
    time::{Duration, Instant},
};

use aiotrace::proc::status_field;

/// Processes that have lost their parent become our children, so that they can be found.
pub fn adopt_orphans() {
    // SAFETY: the call takes no pointers.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
}

/// The processes that a process has started from any of its threads.
pub fn children_of(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        found.extend(children.split_whitespace().filter_map(|it| it.parse::<u32>().ok()));
    }
    found
}

/// The program that an aiotrace has launched; the other children of aiotrace are its helpers.
pub fn launched_by(aiotrace: u32) -> Option<u32> {
    let name = |it: u32| aiotrace::proc::name(it).unwrap_or_default();
    let is_program = |it: &u32| name(*it) == b"aio-programs";
    children_of(aiotrace).into_iter().find(is_program)
}

/// All descendants of this process, parents first.
fn all() -> Vec<u32> {
    let mut found = vec![std::process::id()];
    let mut next = 0;
    while let Some(pid) = found.get(next).copied() {
        next += 1;
        found.extend(children_of(pid));
    }
    found.remove(0);
    found
}

/// Kills all descendants but `kept` and their own, and waits until they are gone. Returns those that are left after
/// ten seconds: a process that waits in the kernel for a request does not end even then.
pub fn kill_all_but(kept: &[u32]) -> Vec<u32> {
    let start = Instant::now();
    loop {
        let doomed = all_but(kept);
        if doomed.is_empty() || start.elapsed() > Duration::from_secs(10) {
            return doomed;
        }
        for pid in doomed {
            let mut status = 0;
            // SAFETY: the process was started by a test, and there is room for a status. Both calls fail at once for
            // a process that is not our child: its parent waits for it, or we do when the parent is gone.
            unsafe {
                libc::kill(pid as i32, libc::SIGKILL);
                libc::waitpid(pid as i32, &raw mut status, libc::__WALL | libc::WNOHANG);
            }
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn all_but(kept: &[u32]) -> Vec<u32> {
    let mut kept = kept.to_vec();
    let mut others = Vec::new();
    for pid in all() {
        let status = std::fs::read(format!("/proc/{pid}/status")).unwrap_or_default();
        let parent = status_field(&status, "PPid").and_then(|it| it.parse().ok()).unwrap_or(0);
        if kept.contains(&pid) || kept.contains(&parent) {
            kept.push(pid);
        } else {
            others.push(pid);
        }
    }
    others
}

/// What each of the processes does, one thread in a line. Reading about a process that hangs in execve(2) may hang,
/// too, so this does not wait long.
pub fn state() -> String {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || tell.send(read_state()));
    let state = told.recv_timeout(Duration::from_secs(5));
    state.unwrap_or_else(|_| {
        "  what they do cannot be read: the kernel does not answer\n".to_owned()
    })
}

fn read_state() -> String {
    let mut text = String::new();
    for pid in all() {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task"));
        for thread in threads.into_iter().flatten().flatten() {
            let read = |name: &str| -> String {
                let bytes = std::fs::read(thread.path().join(name)).unwrap_or_default();
                String::from_utf8_lossy(&bytes).trim().replace('\n', " < ")
            };
            let status = std::fs::read(thread.path().join("status")).unwrap_or_default();
            let field = |name| status_field(&status, name).unwrap_or("?").to_owned();
            let tid = thread.file_name();
            let _ = writeln!(
                text,
                "  {pid}/{} {} {} parent={} tracer={} wchan={} syscall={} stack={}",
                tid.to_string_lossy(),
                field("Name"),
                field("State"),
                field("PPid"),
                field("TracerPid"),
                read("wchan"),
                read("syscall"),
                read("stack"),
            );
        }
    }
    text
}
