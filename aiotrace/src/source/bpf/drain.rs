//! The drain thread, which empties the ring buffer. It also decides when the trace is over, because
//! it is the one that waits: for records, signals, deaths of targets, and time.
//!
//! While records come, the drain looks every [`PAUSE`], and no record wakes it: a busy target costs
//! two hundred looks a second, and not one for each call. When no record has come for [`QUIET`]
//! looks, it sleeps until one wakes it.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    time::{Duration, Instant},
};

use aiotrace_common::{
    names::Feature,
    record::{Change, Header, Kind, Process},
};
use aya::maps::{MapData, RingBuf};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use zerocopy::TryFromBytes as _;

use super::{counts::Counts, error::Error, load::Probes, touch::Touch};
use crate::{
    clock::{monotonic, timeout},
    proc::{self, system::go_first},
    source::{
        Losses,
        backlog::{Feeder, Message},
        collector::{
            Asked, Collector, Deaths, End, Pace, Reason, Signals, Stop, Until, report_signal,
        },
    },
};

/// How long records gather before the drain looks.
const PAUSE: Duration = Duration::from_millis(5);
/// After this many looks without a record, which take 100 ms, the drain sleeps.
const QUIET: u32 = 20;
/// How often the drain looks whether any target is left, in case the record of its end was lost.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How often aiotrace gives the fault rules a sign of life: together with [`LOOK_AGAIN`], well
/// within the time for which they wait.
const BEAT: Duration = Duration::from_millis(400);

/// How often counts are read and sent on; the model learns from them which contexts are in use.
const COUNT: Duration = Duration::from_secs(1);
/// How often rows of threads that are gone are looked for.
const SWEEP: Duration = Duration::from_millis(50);

/// When the drain last did its work for counting: when it freed rows, and when it sent counts.
struct Tick {
    swept: Instant,
    told: Instant,
}

/// Attaches the probes, calls `before_arming`, which returns the threads that are inside of a call,
/// lets the probes record, and starts the drain. `spill` is an empty file for records that wait;
/// see [`crate::source::backlog`].
///
/// # Errors
/// The error of the kernel.
pub fn start(
    mut probes: Probes,
    until: Until,
    stop: Arc<Stop>,
    spill: Option<File>,
    before_arming: impl FnOnce(&mut Probes) -> Result<Vec<u32>, Error>,
) -> Result<Collector, StartError> {
    let counts = until.counting.as_ref().map(|it| Counts::new(&mut probes, it)).transpose()?;
    let signals = Signals::new(&report_signal())?;
    probes.attach()?;
    // The ring buffer is mapped when the memory that attaching took is free again, and before
    // contexts are looked at: from then on, nothing may take long until recording begins.
    let records = probes.records()?;
    let blocked = before_arming(&mut probes)?;
    probes.arm(true)?;
    let asked = Arc::clone(&stop);
    let reads_rings = counts.is_none() && !probes.set().has(Feature::Completions);
    let touch = reads_rings.then(Touch::new);
    let run = move |feeder| {
        let process_exited = false;
        Drain {
            probes,
            records,
            signals,
            until,
            feeder,
            stop,
            blocked,
            process_exited,
            counts,
            touch,
            ended: None,
        }
        .run();
    };
    Collector::spawn("drain", spill, asked, run).map_err(StartError::Thread)
}

/// Why collecting could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The probes cannot be used.
    #[error(transparent)]
    Probes(#[from] Error),
    /// The kernel gave no signalfd or eventfd.
    #[error("cannot wait for signals")]
    Wait(#[from] Errno),
    /// The kernel gave no thread.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

struct Drain {
    probes: Probes,
    records: RingBuf<MapData>,
    signals: Signals,
    until: Until,
    feeder: Feeder,
    stop: Arc<Stop>,
    /// Threads whose call began before the attach and, as far as aiotrace knows, has not returned.
    blocked: Vec<u32>,
    process_exited: bool,
    counts: Option<Counts>,
    /// Only where the probes read the entries of rings.
    touch: Option<Touch>,
    /// When the trace ended. From then on the probes record no calls; they record completions until
    /// they are detached, and the drain drops those that are later than this.
    ended: Option<u64>,
}

impl Drain {
    fn run(mut self) {
        before_all();
        crate::privileges::drop_after_attach();
        let start = Instant::now();
        self.look_at_blocked();
        let reason = self.collect(start);
        self.ended = Some(self.stop.over());
        // If this fails, calls that end in the next moment are counted as missed.
        let _ = self.probes.arm(false);
        self.probes.detach();
        let duration = start.elapsed();
        // The probes are detached, so nothing is added to the ring buffer any more.
        while self.empty() == Taken::Some {}
        let mut losses = self.losses();
        let Self { feeder, mut probes, counts, .. } = self;
        let counted = counts.map(|mut it| Box::new(it.read(&mut probes)));
        feeder.finish(|dropped| {
            losses.queue_full = dropped;
            let (in_calls, runs) = (probes.threads_in_calls(), probes.runs());
            End { reason, losses, in_calls, attached: duration, runs, counted }
        });
    }

    fn collect(&mut self, start: Instant) -> Reason {
        let mut looked = start;
        let mut told = Losses::default();
        // The looks without a record, and when the last record came.
        let (mut quiet, mut heard) = (0, start);
        let mut beaten = start;
        let mut tick = Tick { swept: start, told: start };
        let mut settled = 0;
        let mut taken = Taken::Nothing;
        loop {
            let now_settled = self.stop.settled();
            if now_settled > settled {
                settled = now_settled;
                self.probes.settle(settled);
            }
            self.count(&mut tick);
            self.probes.tell_stacks();
            if beaten.elapsed() > BEAT {
                beaten = Instant::now();
                self.probes.beat();
            }
            let wait = match self.until.duration.map(|it| it.saturating_sub(start.elapsed())) {
                Some(Duration::ZERO) => return Reason::TimeOver,
                Some(left) => left.min(LOOK_AGAIN),
                None => LOOK_AGAIN,
            };
            let wait = wait.min(self.until_told(&tick));
            let ready = if taken == Taken::Some {
                self.wait(Duration::ZERO, false)
            } else if quiet < QUIET {
                self.wait(wait.min(PAUSE), false)
            } else {
                // A record may have come before the switch was set.
                let _ = self.probes.wake(true);
                let nothing = self.empty() == Taken::Nothing;
                let ready = if nothing { self.wait(wait, true) } else { Ready::default() };
                let _ = self.probes.wake(false);
                ready
            };
            if let Some(reason) = self.stop.reason() {
                return reason;
            }
            self.report();
            let before = monotonic();
            taken = self.empty();
            if taken != Taken::Some && !self.feeder.holds() {
                self.stop.knows(before);
            }
            if taken != Taken::Nothing || ready.records {
                (quiet, heard) = (0, Instant::now());
            } else {
                quiet = quiet.saturating_add(1);
            }
            // Nothing has happened for a second (but that somebody asked what is known).
            let idle = quiet > QUIET && heard.elapsed() >= LOOK_AGAIN;
            if idle {
                heard = Instant::now();
            }
            if idle || looked.elapsed() > LOOK_AGAIN {
                looked = Instant::now();
                self.look_at_blocked();
                let losses = self.losses();
                if losses != told && self.feeder.say(Message::Lost(losses)) {
                    told = losses;
                }
            }
            if (idle || ready.target_gone || std::mem::take(&mut self.process_exited))
                && self.is_over(idle)
            {
                return Reason::TargetsGone;
            }
        }
    }

    /// Frees the rows of threads that are gone, and sends the counts when it is time.
    fn count(&mut self, tick: &mut Tick) {
        let is_due = self.until_told(tick).is_zero();
        let Self { probes, counts: Some(counts), until, .. } = self else { return };
        if is_due {
            tick.swept = Instant::now();
            // The times do not drift, unless this is late by more than a whole interval.
            let pace = until.counting.as_ref().and_then(|it| it.interval.as_ref());
            let step = pace.map_or(COUNT, Pace::interval);
            let next = tick.told + step;
            tick.told = if tick.swept > next + step { tick.swept } else { next };
            let mut counted = counts.read(probes);
            counted.ends_interval = pace.is_some();
            // To read it costs more than the rest, so only who shows it each interval gets it.
            counted.runs = pace.and_then(|_| probes.runs());
            let is_told = counts.has_changed(&counted) || counted.ends_interval;
            self.empty(); // Records say who did it, so they come first.
            let _ = is_told && self.feeder.say(Message::Counted(Box::new(counted)));
        } else if tick.swept.elapsed() > SWEEP {
            tick.swept = Instant::now();
            counts.sweep(probes);
        }
    }

    /// How long until it is time to send the counts.
    fn until_told(&self, tick: &Tick) -> Duration {
        match &self.until.counting {
            Some(counting) => {
                let step = counting.interval.as_ref().map_or(COUNT, Pace::interval);
                step.saturating_sub(tick.told.elapsed())
            }
            None => Duration::MAX,
        }
    }

    /// What was lost so far, except for records that still wait.
    fn losses(&self) -> Losses {
        // Only the second look at each return sees calls that were denied, or that began before the
        // attach.
        let with_second = self.until.unseen_exits || !self.blocked.is_empty();
        Losses {
            probes: self.probes.lost(),
            skipped_runs: self.probes.recursion_misses(with_second),
            queue_full: self.feeder.dropped(),
            ..Losses::default()
        }
    }

    /// Detaches the program for unseen returns once all the calls that it was for have returned:
    /// from then on, trampolines see every call.
    fn look_at_blocked(&mut self) {
        if !self.probes.watches_unseen_exits() || self.until.unseen_exits {
            return;
        }
        if !self.blocked.is_empty() {
            let known: Vec<u32> = self.probes.threads().iter().map(|it| it.tid).collect();
            self.blocked.retain(|tid| !known.contains(tid) && proc::is_alive(*tid));
        }
        if self.blocked.is_empty() {
            self.probes.stop_unseen_exits();
        }
    }

    /// Whether no target is left. `thoroughly`: the records of their ends may be missing.
    fn is_over(&mut self, thoroughly: bool) -> bool {
        let Self { until, probes, .. } = self;
        until.targets.retain(|(pid, fd)| {
            let alive = !is_dead(fd.as_fd());
            if !alive {
                probes.remove_target(*pid);
            }
            alive
        });
        if until.deaths == Deaths::Nobody || !until.targets.is_empty() {
            return false;
        }
        if thoroughly {
            probes.remove_dead_targets();
        }
        probes.has_no_targets()
    }

    /// Sends the counts and the losses so far, if a signal asks for a report.
    fn report(&mut self) {
        if self.signals.take() == Some(Asked::Report) {
            if let Self { counts: Some(counts), probes, feeder, .. } = self {
                feeder.say(Message::Counted(Box::new(counts.read(probes))));
            }
            // If the queue is full, the user has to ask again.
            let in_calls = self.probes.threads_in_calls();
            self.feeder.say(Message::Report(self.losses(), in_calls));
        }
    }

    /// Waits for a signal, the death of a target, the end of the output and, with `for_records`, a
    /// record.
    fn wait(&self, time: Duration, for_records: bool) -> Ready {
        let targets = self.until.targets.iter().map(|(_, fd)| fd.as_fd());
        let mut fds: Vec<PollFd<'_>> =
            [self.signals.as_fd(), self.stop.as_fd(), self.stop.curious()]
                .into_iter()
                .chain(targets)
                .chain(for_records.then_some(self.records.as_fd()))
                .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
                .collect();
        let _ = poll(&mut fds, timeout(time));
        let readable = |fd: &PollFd<'_>| fd.any().unwrap_or(false);
        if readable(&fds[2]) {
            self.stop.is_heard();
        }
        let records = for_records && fds.pop().as_ref().is_some_and(readable);
        Ready { records, target_gone: fds[3..].iter().any(readable) }
    }

    /// Takes records from the ring buffer, as many as a [`Turn`] allows, and hands them on.
    fn empty(&mut self) -> Taken {
        let Self { records, feeder, process_exited, touch, ended, .. } = self;
        let mut taken = Taken::Nothing;
        let mut turn = Turn::new(Instant::now());
        while let Some(record) = records.next() {
            if let Ok((header, _)) = Header::try_read_from_prefix(&record) {
                *process_exited |= matches!(header.kind, Kind::Process) && is_exit(&record);
                touch.iter_mut().for_each(|it| it.record(&header, &record));
            }
            if !ended.is_some_and(|ended| completed_after(ended, &record)) {
                feeder.push(&record);
            }
            taken = Taken::All;
            if turn.is_over(record.len(), Instant::now) {
                taken = Taken::Some;
                break;
            }
        }
        feeder.hand_on();
        taken
    }
}

/// Whether the record is a completion later than this time.
fn completed_after(time: u64, record: &[u8]) -> bool {
    let header = Header::try_read_from_prefix(record);
    header.is_ok_and(|(it, _)| matches!(it.kind, Kind::Completion) && it.time > time)
}

/// How much was taken from the ring buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    /// There was no record.
    Nothing,
    /// All records were taken.
    All,
    /// There may be more records: the turn was over.
    Some,
}

/// How much is taken before the drain looks at the time, signals and targets again: the probes may
/// go on being faster than the drain.
struct Turn {
    until: Instant,
    bytes: usize,
    records: u32,
}

impl Turn {
    const TIME: Duration = Duration::from_millis(5);
    const BYTES: usize = 16 << 20;

    fn new(now: Instant) -> Self {
        Self { until: now + Self::TIME, bytes: 0, records: 0 }
    }

    /// Counts one more record of this size. Returns whether the turn is over.
    fn is_over(&mut self, bytes: usize, now: impl FnOnce() -> Instant) -> bool {
        self.bytes += bytes;
        self.records = self.records.wrapping_add(1);
        // Reading the clock costs as much as a short record, so it is not read for each record.
        self.bytes >= Self::BYTES || (self.records.is_multiple_of(16) && now() >= self.until)
    }
}

#[derive(Default)]
struct Ready {
    records: bool,
    target_gone: bool,
}

/// The drain must not wait for a processor: it runs before all ordinary threads, as with `perf
/// record --realtime`, or at least before others. It sleeps most of the time.
fn before_all() {
    // SAFETY: all of it are numbers; musl has more of them than glibc.
    let mut first: libc::sched_param = unsafe { std::mem::zeroed() };
    first.sched_priority = 1;
    // SAFETY: the parameter is valid.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const first) } != 0 {
        go_first();
    }
}

fn is_exit(record: &[u8]) -> bool {
    Process::try_read_from_prefix(record).is_ok_and(|(process, _)| process.change == Change::Exit)
}

fn is_dead(pidfd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(pidfd, PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_ends_however_much_there_is() {
        let start = Instant::now();
        let records_of = |bytes: usize, each: Duration| {
            let (mut turn, mut now) = (Turn::new(start), start);
            (1..).find(|_| {
                now += each;
                turn.is_over(bytes, || now)
            })
        };
        assert_eq!(records_of(1 << 20, Duration::ZERO), Some(16), "16 MiB");
        assert_eq!(records_of(64, Duration::from_millis(1)), Some(16), "time");
        assert_eq!(records_of(64, Duration::from_micros(1)), Some(5008), "time");
    }
}
