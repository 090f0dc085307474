//! The thread that collects records, whatever their source, seen from outside; and what every such thread
//! has to know: when to stop, and how to tell the end.

use std::{
    collections::VecDeque,
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering},
        mpsc::RecvError,
    },
    thread::JoinHandle,
    time::Duration,
};

use aiotrace_common::record::Thread;
use nix::{
    errno::Errno,
    sys::{
        eventfd::{EfdFlags, EventFd},
        signal::{SigHandler, SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
};

use super::{
    Losses, ProbeRuns,
    backlog::{Batch, Eater, Feeder, Message, backlog},
};
use crate::{clock::monotonic, counted::Counted, privileges};

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
    /// Calls are counted in the kernel.
    pub counting: Option<Counting>,
    /// Calls that the trampolines do not see are watched for all the time, not only until those
    /// return that had begun before the attach.
    pub unseen_exits: bool,
}

/// How calls are counted.
#[derive(Clone, Debug)]
pub struct Counting {
    /// Requests and their results are looked at, too.
    pub requests: bool,
    /// What was counted is told as often.
    pub interval: Option<Pace>,
    /// Processes that have ended are forgotten when an interval has told of them.
    pub forgets: bool,
}

/// How often what was counted is told. Who shows it may change this while the trace goes on.
#[derive(Clone, Debug)]
pub struct Pace(Arc<AtomicU64>);

impl Pace {
    /// As often as this.
    pub fn every(interval: Duration) -> Self {
        let pace = Self(Arc::default());
        pace.set(interval);
        pace
    }

    /// From the end of the current interval on, as often as this.
    pub fn set(&self, interval: Duration) {
        let nanos = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
        self.0.store(nanos, Ordering::Release);
    }

    /// The time from one count to the next.
    pub fn interval(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Acquire))
    }
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
fn ending_signals() -> SigSet {
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect()
}

/// Those, and the one that asks for a report.
pub fn all_signals() -> SigSet {
    ending_signals() | report_signal()
}

/// The signal that asks for a report. It must be blocked in every thread.
pub fn report_signal() -> SigSet {
    SigSet::from(Signal::SIGUSR1)
}

/// Signals that do not end the trace, taken one by one.
pub struct Signals {
    fd: SignalFd,
    /// Read already.
    read: VecDeque<u32>,
    /// There was no more to be read. (A tracer takes one at each stop: a second read would cost as much.)
    is_drained: bool,
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A report.
    Report,
    /// Nothing: something is to be waited for.
    Nothing,
}

impl Signals {
    /// Takes these.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn new(signals: &SigSet) -> Result<Self, Errno> {
        let fd = SignalFd::with_flags(signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Self { fd, read: VecDeque::new(), is_drained: false })
    }

    /// What the next signal asks for, if there is one.
    pub fn take(&mut self) -> Option<Asked> {
        let is_report = self.next()? == Signal::SIGUSR1 as u32;
        Some(if is_report { Asked::Report } else { Asked::Nothing })
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

/// So long after the end of the trace whoever sends a signal knows of it; nanoseconds.
const SEEN_AFTER: u64 = 500_000_000;

/// What the collecting thread is told: to end, and what it need not watch any more.
pub struct Stop {
    asked: AtomicBool,
    /// The signal that asked for the end, or 0.
    signal: AtomicI32,
    /// Since when nothing is collected any more, nanoseconds of CLOCK_MONOTONIC; 0: not yet.
    over: AtomicU64,
    settled: AtomicU64,
    looked: AtomicU64,
    known: AtomicU64,
    wake: EventFd,
    curious: EventFd,
}

impl Stop {
    /// Not asked for yet.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn new() -> Result<Arc<Self>, Errno> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let (wake, curious) = (EventFd::from_flags(flags)?, EventFd::from_flags(flags)?);
        Ok(Arc::new(Self {
            asked: AtomicBool::new(false),
            signal: AtomicI32::new(0),
            over: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            looked: AtomicU64::new(0),
            known: AtomicU64::new(0),
            wake,
            curious,
        }))
    }

    /// From now on SIGINT, SIGTERM and SIGHUP are heeded, by a thread that does nothing else: the others may be
    /// waiting for somebody who does not answer. The first one asks for the end; the next one, or one half a second
    /// after [`Self::over`], ends this process at once. `ignore_first_interrupt`: SIGINT also went to the launched
    /// program; it decides.
    ///
    /// # Errors
    /// There can be no thread.
    pub fn heed_signals(self: &Arc<Self>, ignore_first_interrupt: bool) -> io::Result<()> {
        let stop = Arc::clone(self);
        let mut left = ignore_first_interrupt;
        let heed = move || {
            privileges::drop_all();
            while let Ok(signal) = ending_signals().wait() {
                if signal == Signal::SIGINT && std::mem::take(&mut left) {
                    continue;
                }
                if stop.ends_at_once(monotonic()) {
                    die_of(signal);
                }
                stop.signal.store(signal as i32, Ordering::Release);
                stop.ask();
            }
        };
        std::thread::Builder::new().name("signals".into()).spawn(heed).map(drop)
    }

    /// A signal has asked for the end before, or nothing is collected any more and that was to be seen: a signal that
    /// comes together with the end was meant to bring it about.
    fn ends_at_once(&self, now: u64) -> bool {
        let over = self.over.load(Ordering::Acquire);
        let is_long_over = over != 0 && now.saturating_sub(over) >= SEEN_AFTER;
        is_long_over || self.signal.load(Ordering::Acquire) != 0
    }

    /// Nothing is collected any more, from the time on that this gives. What is still to be written can be given up.
    pub fn over(&self) -> u64 {
        let now = monotonic();
        self.over.store(now, Ordering::Release);
        now
    }

    /// Whether the end was asked for.
    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }

    /// Why the trace is to end, if that was asked for.
    pub fn reason(&self) -> Option<Reason> {
        if !self.is_asked() {
            return None;
        }
        let signal = Signal::try_from(self.signal.load(Ordering::Acquire));
        Some(signal.map_or(Reason::OutputClosed, Reason::Signal))
    }

    /// Up to when synchronous calls need not be watched for what happened; nanoseconds of CLOCK_MONOTONIC.
    pub fn settled(&self) -> u64 {
        self.settled.load(Ordering::Acquire)
    }

    /// Up to when all is looked up that events have given reason to; nanoseconds of CLOCK_MONOTONIC.
    pub fn looked(&self) -> u64 {
        self.looked.load(Ordering::Acquire)
    }

    /// All records of what happened up to this time, nanoseconds of CLOCK_MONOTONIC, are handed on.
    pub fn knows(&self, time: u64) {
        self.known.fetch_max(time, Ordering::AcqRel);
    }

    /// Readable when the collecting thread is to call [`Self::knows`] as soon as it can.
    pub fn curious(&self) -> BorrowedFd<'_> {
        self.curious.as_fd()
    }

    /// The collecting thread was woken for that.
    pub fn is_heard(&self) {
        let _ = self.curious.read();
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

static BEFORE_DEATH: OnceLock<fn()> = OnceLock::new();

/// What is to be put right before a second signal ends this process at once. It must not wait.
pub fn before_death(run: fn()) {
    let _ = BEFORE_DEATH.set(run);
}

/// Ends this process as this signal does where nobody heeds it.
fn die_of(signal: Signal) -> ! {
    if let Some(run) = BEFORE_DEATH.get() {
        run();
    }
    // SAFETY: the default action runs no code of ours.
    let _ = unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) };
    let _ = SigSet::from(signal).thread_unblock();
    let _ = nix::sys::signal::raise(signal);
    // SAFETY: ends the process without running anything of ours: a lock may be held.
    unsafe { libc::_exit(128 + signal as i32) }
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

    /// Asks for [`Message::Report`], as whoever sends us SIGUSR1 does.
    pub fn ask_for_report(&self) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), Signal::SIGUSR1);
    }

    /// Up to which time all that happened is in the messages so far, nanoseconds of CLOCK_MONOTONIC. What happened since
    /// may not have been collected yet: that somebody makes no call is not known.
    pub fn known(&self) -> u64 {
        self.stop.known.load(Ordering::Acquire)
    }

    /// Asks the collecting thread to bring [`Self::known`] up to date.
    pub fn ask_what_is_known(&self) {
        let _ = self.stop.curious.write(1);
    }

    /// For what happened up to this time, nanoseconds of CLOCK_MONOTONIC, synchronous calls need not be watched any
    /// more.
    pub fn settled(&self, time: u64) {
        self.stop.settled.fetch_max(time, Ordering::AcqRel);
    }

    /// What events up to this time, nanoseconds of CLOCK_MONOTONIC, have given reason to look up is looked up.
    pub fn looked(&self, time: u64) {
        self.stop.looked.fetch_max(time, Ordering::AcqRel);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_has_the_reason_of_who_asked() {
        let stop = Stop::new().unwrap();
        assert_eq!((stop.reason(), stop.ends_at_once(monotonic())), (None, false));
        stop.ask();
        assert_eq!(
            (stop.reason(), stop.ends_at_once(monotonic())),
            (Some(Reason::OutputClosed), false)
        );
        stop.signal.store(libc::SIGTERM, Ordering::Release);
        let reason = Some(Reason::Signal(Signal::SIGTERM));
        assert_eq!(
            (stop.reason(), stop.ends_at_once(monotonic())),
            (reason, true),
            "of a second one"
        );
        let stop = Stop::new().unwrap();
        stop.over();
        let over = monotonic();
        assert!(!stop.ends_at_once(over), "it may have been sent to bring the end about");
        assert!(stop.ends_at_once(over + SEEN_AFTER), "of the first one, too");
    }
}
