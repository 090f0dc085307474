//! Events without BPF: the threads of the target are traced with ptrace(2), and stop at AIO calls.
//!
//! ```text
//!  kernel: the thread stops ──> tracer thread: waits, decides, records, lets it go on
//!                                   |  the same records as the probes write
//!                                   v
//!                              bounded backlog: a queue, then a file
//!                                   |  the caller's thread: decode, show
//!                                   v
//!                                events
//! ```
//! What a stop costs, and which calls stop:
//!
//! - *Attached*: every system call of the target. When we die, the kernel lets the target go.
//! - *Launched*: AIO calls only, by a seccomp filter ([`seccomp`]), which cannot be removed: so the program
//!   dies with us, and is traced to its end, also if nothing is told of it any more.
//!
//! The target must not notice. A thread that waits in io_getevents when it is stopped would see EINTR: it
//! makes the call again instead ([`signals`]).

mod alarm;
pub mod calls;
mod errands;
mod faults;
mod heads;
mod in_flight;
pub mod memory;
mod place;
mod processes;
mod records;
pub mod refusal;
mod requests;
mod rings;
pub mod seccomp;
mod seizing;
mod signals;
mod tracee;
mod tracer;
mod untraced;

use std::{
    fs::File,
    io,
    sync::{Arc, mpsc},
    time::Duration,
};

use nix::{errno::Errno, sys::signal::Signal};

use self::alarm::Alarm;
pub use self::errands::ERRANDS;
pub use self::{place::go_to_processor_of, processes::executed_path, requests::seize_returns};
use super::{
    bpf::adopt::Found,
    collector::{Collector, Signals, Stop, report_signal},
};
use crate::{fault::Judge, proc::Blocked};

/// What cannot be seen.
pub const LACKS: [&str; 3] = [
    "exact completion times",
    "errnos of iocbs refused in a short io_submit",
    "the moment a ring is moved",
];

/// Whom to trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// These processes, with all their threads.
    Running(Vec<u32>),
    /// A process of ours that has not begun its program.
    Launched {
        /// Which.
        pid: u32,
        /// It installs the filter of [`seccomp`] before it begins.
        filtered: bool,
    },
}

/// How to trace.
#[derive(Debug)]
pub struct Options {
    /// Whom.
    pub target: Target,
    /// And the children that are created.
    pub follow: bool,
    /// For how long.
    pub duration: Option<Duration>,
    /// The stack is copied at io_submit, too.
    pub submit_stacks: bool,
    /// Faults to be made.
    pub rules: Option<Rules>,
}

/// Faults to be made.
#[derive(Debug)]
pub struct Rules {
    /// Decides.
    pub judge: Judge,
    /// They are only told.
    pub dry_run: bool,
}

/// A trace that began.
pub struct Started {
    /// Gives the records.
    pub collector: Collector,
    /// Threads that were inside a call, and their process.
    pub blocked: Vec<(u32, Blocked)>,
    /// Contexts that were there.
    pub found: Vec<Found>,
    /// The launched program's status, as wait(2) gives it: it cannot be waited for otherwise. Nothing
    /// comes if it was let go.
    pub status: Status,
}

/// The status of a launched program.
pub struct Status(mpsc::Receiver<i32>);

impl Status {
    /// Waits for it; `None`: the program was let go, and can be waited for.
    pub fn wait(self) -> Option<i32> {
        self.0.recv().ok()
    }
}

/// Why the trace could not begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The kernel refused.
    #[error("cannot trace process {pid} with ptrace")]
    Refused {
        /// Which process.
        pid: u32,
        /// Why.
        #[source]
        source: Errno,
    },
    /// It ended.
    #[error("no such process: {0}")]
    Gone(u32),
    /// It does not answer.
    #[error(
        "process {0} does not answer: perhaps it hangs where it begins a program (execve), and ptrace would hang \
         with it"
    )]
    Hangs(u32),
    /// signalfd or eventfd.
    #[error("cannot wait for signals")]
    Wait(#[from] Errno),
    /// No timer.
    #[error("cannot set a timer for PTRACE_SEIZE")]
    Timer(#[source] Errno),
    /// No thread.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

/// Seizes the targets and starts to collect. SIGCHLD and the signals of [`super::collector::all_signals`] must be
/// blocked in every thread. `spill`: an empty file for records that wait; see [`super::backlog`].
///
/// # Errors
/// What the kernel refused; then nothing is traced.
pub fn start(
    options: Options,
    stop: Arc<Stop>,
    spill: Option<File>,
) -> Result<Started, StartError> {
    let mut wanted = report_signal();
    wanted.add(Signal::SIGCHLD);
    let signals = Signals::new(&wanted)?;
    let alarm = Alarm::new()?;
    let (told, begun) = mpsc::channel();
    let (ended, status) = mpsc::channel();
    let asked = stop.clone();
    let run = move |feeder| {
        let (last, end) = mpsc::channel();
        let wakers = tracer::Wakers { signals, stop, alarm };
        let told = tracer::Told { begun: told, last, ended };
        // It must not wait for the reader: threads may be stopped until it has ended.
        let trace = move || tracer::run(options, feeder, wakers, told);
        let tracer = std::thread::Builder::new().name("ptrace".into()).spawn(trace);
        if tracer.is_ok()
            && let Ok(end) = end.recv()
        {
            end.say();
        }
    };
    let collector = Collector::spawn("last", spill, asked, run).map_err(StartError::Thread)?;
    match begun.recv() {
        Ok(Ok(tracer::Begun { blocked, found })) => {
            Ok(Started { collector, blocked, found, status: Status(status) })
        }
        Ok(Err(error)) => Err(error),
        Err(_) => Err(StartError::Thread(io::Error::other("it died"))),
    }
}
