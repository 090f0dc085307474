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
//! - *Attached*: every system call of the target stops. When we die, the kernel lets the target go.
//! - *Launched*: only AIO calls stop, by a seccomp filter ([`seccomp`]). It cannot be removed: so the program dies
//!   with us, and is traced until it ends, even when the trace is over and nothing is recorded any more.
//!
//! The target must not notice that it is traced. A thread that waits in io_getevents when it is stopped would see
//! EINTR: it is made to repeat the call instead ([`signals`]).

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
mod sites;
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
pub use self::sites::{Reader, Unwound};
pub use self::{place::go_to_processor_of, processes::executed_path, requests::seize_returns};
use super::{
    bpf::adopt::Found,
    collector::{Collector, Signals, Stop, report_signal},
};
use crate::{fault::Judge, proc::Blocked, stacks::OpenFiles};

/// What this source cannot see.
pub const LACKS: [&str; 3] = [
    "exact completion times",
    "errnos of iocbs refused in a short io_submit",
    "the moment a ring is moved",
];

/// The processes to be traced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// These running processes, with all their threads.
    Running(Vec<u32>),
    /// A child of ours that has not begun its program.
    Launched {
        /// Its process id.
        pid: u32,
        /// It installs the filter of [`seccomp`] before it begins its program.
        filtered: bool,
    },
}

/// How to trace.
#[derive(Debug)]
pub struct Options {
    /// The processes to be traced.
    pub target: Target,
    /// Whether the children that they create are traced, too.
    pub follow: bool,
    /// How long the trace lasts, if it has an end.
    pub duration: Option<Duration>,
    /// The stack is copied at each call, and not only at io_setup.
    pub all_stacks: bool,
    /// Where the files of stacks are put.
    pub files: OpenFiles,
    /// Where stacks are put that are unwound at once.
    pub unwound: Unwound,
    /// The faults to be made.
    pub rules: Option<Rules>,
}

/// The faults to be made.
#[derive(Debug)]
pub struct Rules {
    /// Decides about each call and completion.
    pub judge: Judge,
    /// The faults are only reported, not made.
    pub dry_run: bool,
}

/// A trace that has begun.
pub struct Started {
    /// Gives the records of the trace.
    pub collector: Collector,
    /// Threads that were inside a call when the trace began, each with its process.
    pub blocked: Vec<(u32, Blocked)>,
    /// Contexts that existed when the trace began.
    pub found: Vec<Found>,
    /// The launched program's status, as wait(2) gives it; it cannot be waited for in another way. Nothing comes if
    /// the program was let go.
    pub status: Status,
}

/// The status of a launched program.
pub struct Status(mpsc::Receiver<i32>);

impl Status {
    /// Waits for the end of the program; `None`: it was let go, and can be waited for as usual.
    pub fn wait(self) -> Option<i32> {
        self.0.recv().ok()
    }
}

/// Why the trace could not begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The kernel refused to trace a process.
    #[error("cannot trace process {pid} with ptrace")]
    Refused {
        /// Which process.
        pid: u32,
        /// The errno of the refusal.
        #[source]
        source: Errno,
    },
    /// The process ended.
    #[error("no such process: {0}")]
    Gone(u32),
    /// The process does not answer.
    #[error(
        "process {0} does not answer: perhaps it hangs where it begins a program (execve), and ptrace would hang \
         with it"
    )]
    Hangs(u32),
    /// No signalfd or eventfd could be made.
    #[error("cannot wait for signals")]
    Wait(#[from] Errno),
    /// No timer could be made.
    #[error("cannot set a timer for PTRACE_SEIZE")]
    Timer(#[source] Errno),
    /// No thread could be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

/// Seizes the targets and starts to collect records. SIGCHLD and the signals of [`super::collector::all_signals`]
/// must be blocked in every thread. `spill`: an empty file for records that wait; see [`super::backlog`].
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
        // The tracer has a thread of its own, because it must not wait for the reader: threads of the target may be
        // stopped until it has ended. This thread sends the last message for it.
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
