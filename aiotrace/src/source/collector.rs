//! The thread that collects records, whatever their source, seen from outside; and what every such thread
//! has to know: when to stop, and how to tell the end.

use std::{
    collections::VecDeque,
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::RecvError,
    },
    thread::JoinHandle,
    time::Duration,
};

use aiotrace_common::record::Thread;
use nix::{
    errno::Errno,
    poll::PollTimeout,
    sys::{
        eventfd::{EfdFlags, EventFd},
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
};

use super::{
    Losses, ProbeRuns,
    backlog::{Batch, Eater, Feeder, Message, backlog},
};
use crate::counted::Counted;

/// Why the trace ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No target is left.
    TargetsGone,
    /// The time given is over.
    TimeOver,
    /// Ctrl-C, SIGTERM or SIGHUP.
    Signal(Signal),
    /// Nobody reads our output any more.
    OutputClosed,
}

/// What the collector tells at the end.
#[derive(Clone, Debug)]
pub struct End {
    /// Why.
    pub reason: Reason,
    /// What never reached us.
    pub losses: Losses,
    /// Threads still inside a call.
    pub in_calls: Vec<Thread>,
    /// How long we were attached.
    pub attached: Duration,
    /// What the probes cost, if the kernel kept count.
    pub runs: Option<ProbeRuns>,
    /// What was counted, where calls are counted.
    pub counted: Option<Box<Counted>>,
}

/// When to stop, apart from signals.
pub struct Until {
    /// Stop this long after the attach.
    pub duration: Option<Duration>,
    /// The processes named by the user, as pidfds.
    pub targets: Vec<(u32, OwnedFd)>,
    /// Which deaths end the trace.
    pub deaths: Deaths,
    /// SIGINT also went to the launched program; it decides.
    pub ignore_first_interrupt: bool,
    /// Calls are counted in the kernel.
    pub counting: Option<Counting>,
    /// Calls that the trampolines do not see are watched for all the time, not only until those
    /// return that had begun before the attach.
    pub unseen_exits: bool,
}

/// How calls are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counting {
    /// Requests and their results are looked at, too.
    pub requests: bool,
    /// What was counted is told as often.
    pub interval: Option<Duration>,
}

/// Which deaths end a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deaths {
    /// None: a cgroup or every process is traced.
    Nobody,
    /// Of the processes named, and of all their traced children.
    All,
}

/// The signals that end a trace. They must be blocked in every thread.
pub fn ending_signals() -> SigSet {
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect()
}

/// Those, and the one that asks for a report.
pub fn all_signals() -> SigSet {
    ending_signals() | SigSet::from(Signal::SIGUSR1)
}

/// Signals, taken one by one.
pub struct Signals {
    fd: SignalFd,
    ignore_first_interrupt: bool,
    /// Read already.
    read: VecDeque<u32>,
    /// There was no more to be read. (A tracer takes one at each stop: a second read would cost as much.)
    is_drained: bool,
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The end.
    End(Signal),
    /// A report.
    Report,
    /// Nothing: something is to be waited for, or a first interrupt is left to the program.
    Nothing,
}

impl Signals {
    /// Takes these.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn new(signals: &SigSet, ignore_first_interrupt: bool) -> Result<Self, Errno> {
        let fd = SignalFd::with_flags(signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Self { fd, ignore_first_interrupt, read: VecDeque::new(), is_drained: false })
    }

    /// What the next signal asks for, if there is one.
    pub fn take(&mut self) -> Option<Asked> {
        let signal = Signal::try_from(self.next()? as i32).ok()?;
        Some(match signal {
            Signal::SIGUSR1 => Asked::Report,
            Signal::SIGINT if std::mem::take(&mut self.ignore_first_interrupt) => Asked::Nothing,
            Signal::SIGINT | Signal::SIGTERM | Signal::SIGHUP => {
                // A second one ends us at once, whatever we are waiting for.
                let _ = ending_signals().thread_unblock();
                Asked::End(signal)
            }
            _ => Asked::Nothing,
        })
    }

    fn next(&mut self) -> Option<u32> {
        const SIZE: usize = size_of::<libc::signalfd_siginfo>();
        const MOST: usize = 8;
        if self.read.is_empty() && !std::mem::take(&mut self.is_drained) {
            let mut bytes = [0; SIZE * MOST];
            let count = nix::unistd::read(&self.fd, &mut bytes).ok()? / SIZE;
            self.is_drained = count < MOST;
            // Its first field is the number.
            let numbers = bytes.chunks_exact(SIZE).take(count).filter_map(|it| it.first_chunk());
            self.read.extend(numbers.map(|it| u32::from_ne_bytes(*it)));
        }
        self.read.pop_front()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What the collecting thread is told: to end, and what it need not watch any more.
pub struct Stop {
    asked: AtomicBool,
    settled: AtomicU64,
    wake: EventFd,
}

impl Stop {
    /// Not asked for yet.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn new() -> Result<Arc<Self>, Errno> {
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let (asked, settled) = (AtomicBool::new(false), AtomicU64::new(0));
        Ok(Arc::new(Self { asked, settled, wake }))
    }

    /// Whether the end was asked for.
    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }

    /// Up to when synchronous calls need not be watched for what happened; nanoseconds of CLOCK_MONOTONIC.
    pub fn settled(&self) -> u64 {
        self.settled.load(Ordering::Acquire)
    }

    fn ask(&self) {
        self.asked.store(true, Ordering::Release);
        let _ = self.wake.write(1);
    }
}

impl AsFd for Stop {
    /// Readable when the end was asked for.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

/// The collecting thread, seen from outside.
pub struct Collector {
    eater: Eater,
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

impl Collector {
    /// Starts a thread of this name that feeds records. `spill`: an empty file for records that wait; see
    /// [`super::backlog`].
    ///
    /// # Errors
    /// There can be no thread.
    pub fn spawn(
        name: &str,
        spill: Option<File>,
        stop: Arc<Stop>,
        run: impl FnOnce(Feeder) + Send + 'static,
    ) -> io::Result<Self> {
        let (feeder, eater) = backlog(spill);
        let thread = std::thread::Builder::new().name(name.into()).spawn(move || run(feeder))?;
        Ok(Self { eater, stop, thread: Some(thread) })
    }

    /// The next message, waiting for it no longer than this.
    ///
    /// # Errors
    /// The collecting thread is dead.
    pub fn wait_next_for(&mut self, time: Duration) -> Result<Option<Message>, RecvError> {
        self.eater.wait_next_for(time)
    }

    /// The next message, if there is one already.
    ///
    /// # Errors
    /// The collecting thread is dead.
    pub fn try_next(&mut self) -> Result<Option<Message>, RecvError> {
        self.eater.try_next()
    }

    /// Gives a batch back to be filled again.
    pub fn give_back(&mut self, batch: Batch) {
        self.eater.give_back(batch);
    }

    /// Asks for the end.
    pub fn stop(&self) {
        self.stop.ask();
    }

    /// For what happened up to this time, nanoseconds of CLOCK_MONOTONIC, synchronous calls need not be watched any
    /// more.
    pub fn settled(&self, time: u64) {
        self.stop.settled.fetch_max(time, Ordering::AcqRel);
    }

    /// Lets the thread live on after its last message.
    pub fn leave_running(&mut self) {
        self.thread = None;
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.stop();
        // The thread may be waiting to hand over its last message.
        self.eater.discard();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Rounded up, so that a wait never becomes a spin.
pub fn timeout(time: Duration) -> PollTimeout {
    PollTimeout::try_from(time.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX)
}

/// The calling thread gets a processor before others (nice -20), where that is allowed.
pub fn go_first() {
    // SAFETY: no memory is involved.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) };
}
