//! `run --timeout`: ends the launched program and its descendants when its time is over.

use std::{
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::session::{Plan, Scope};
use crate::proc;

/// The time from SIGTERM to SIGKILL, and from SIGKILL until aiotrace stops waiting: a process
/// inside the kernel may not end.
const GRACE: Duration = Duration::from_secs(5);
/// How long a look at what the program waits for may take, before it is asked to end.
const LOOK: Duration = Duration::from_secs(1);
/// How long to wait if nothing is due.
const NEVER: Duration = Duration::from_secs(3600);

/// Watches how long the program takes, and ends it.
pub struct Patience {
    /// The process id of the program, and its time.
    of: Option<(u32, Duration)>,
    began: Instant,
    step: Step,
    /// Whether the report that the look asked for has not come yet.
    awaits_report: bool,
    /// When the program was asked to end, if the model has not been told because records from before wait;
    /// nanoseconds of CLOCK_MONOTONIC.
    untold: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Waits,
    Looks,
    Asked,
    Killed,
    GivenUp,
}

/// What [`Patience::end`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The time is over: what the program is doing is to be looked at, and then [`Patience::looked`] called.
    Look,
    /// The look takes too long: [`Patience::looks_no_longer`] is to be called.
    Over,
    /// The program does not end, even by SIGKILL.
    Hopeless,
}

impl Patience {
    /// Watches the program if the plan says so.
    pub fn of(plan: &Plan) -> Self {
        let of = match &plan.scope {
            Scope::Processes(processes) if plan.launched => {
                processes.first().map(|it| it.pid).zip(plan.timeout)
            }
            _ => None,
        };
        let (began, step) = (Instant::now(), Step::Waits);
        Self { of, began, step, awaits_report: false, untold: None }
    }

    /// The program begins: its time counts from here.
    pub fn begin(&mut self) {
        self.began = Instant::now();
    }

    /// How long the loop may wait until the next step is due.
    pub fn left(&self) -> Duration {
        self.due().map_or(NEVER, |due| due.saturating_duration_since(Instant::now()))
    }

    fn due(&self) -> Option<Instant> {
        let (_, time) = self.of?;
        let more = match self.step {
            Step::Waits => Duration::ZERO,
            Step::Looks => LOOK,
            Step::Asked => GRACE,
            Step::Killed => 2 * GRACE,
            Step::GivenUp => return None,
        };
        self.began.checked_add(time)?.checked_add(more)
    }

    /// Takes the next step, if it is due.
    pub fn end(&mut self, now: Instant) -> Option<Ending> {
        let (pid, time) = self.of?;
        if self.due().is_none_or(|due| now < due) {
            return None;
        }
        match self.step {
            Step::Waits => {
                let seconds = time.as_secs_f64();
                eprintln!("aiotrace: the program did not end in {seconds} s (--timeout): SIGTERM");
                (self.step, self.awaits_report) = (Step::Looks, true);
                Some(Ending::Look)
            }
            // The look takes too long.
            Step::Looks => Some(Ending::Over),
            Step::Asked => {
                signal(pid, Signal::SIGKILL);
                self.step = Step::Killed;
                None
            }
            Step::Killed | Step::GivenUp => {
                self.step = Step::GivenUp;
                Some(Ending::Hopeless)
            }
        }
    }

    /// The look took too long, because records from before wait: asks the program to end now. [`Self::tells`] says
    /// when to tell the model, which knows only then what the program did until now.
    pub fn looks_no_longer(&mut self, now: u64) {
        self.ask_to_end();
        self.untold = Some(now);
    }

    /// A report has come. Returns whether the look asked for it; then asks the program to end, if that was not done yet.
    /// (The report shows what the program did when it was made. What it did since then waits behind it, so
    /// [`Self::tells`] says when to tell the model.)
    pub fn looked(&mut self, now: u64) -> bool {
        let is_ours = std::mem::take(&mut self.awaits_report);
        if is_ours && self.step == Step::Looks {
            self.looks_no_longer(now);
        }
        is_ours
    }

    /// When the program was asked to end, if the model is to be told of it before an event of this time.
    pub fn tells(&mut self, time: u64) -> Option<u64> {
        self.untold.take_if(|it| *it <= time)
    }

    /// Whether the model is still to be told.
    pub fn has_more_to_tell(&self) -> bool {
        self.untold.is_some()
    }

    fn ask_to_end(&mut self) {
        if let Some((pid, _)) = self.of {
            signal(pid, Signal::SIGTERM);
        }
        self.step = Step::Asked;
    }

    /// Whether the program had to be ended.
    pub fn is_over(&self) -> bool {
        self.step != Step::Waits
    }
}

/// Most descendants that get a signal, and how long it may take to find them: some may make others all the time.
const MOST: usize = 4096;
const LONGEST: Duration = Duration::from_secs(1);

/// Sends a signal to the program and to all its descendants.
fn signal(pid: u32, signal: Signal) {
    // They are found before: if one ends, its children are those of another process.
    let found = descendants(pid);
    // The program is our child, and nobody has waited for it.
    let _ = kill(Pid::from_raw(pid as i32), signal);
    found.iter().for_each(|it| proc::signal(it, signal as i32));
}

/// The descendants of a process, as pidfds.
fn descendants(pid: u32) -> Vec<OwnedFd> {
    let begun = Instant::now();
    let (mut all, mut found, mut next) = (vec![pid], Vec::new(), 0);
    while let Some(of) = all.get(next).copied() {
        next += 1;
        for child in proc::children(of) {
            if all.len() > MOST || begun.elapsed() >= LONGEST {
                return found;
            }
            let is_new = !all.contains(&child);
            // The number may be another process's by now: it is not, if this one is a child still.
            if let Some(pidfd) = proc::pidfd_open(child).ok().filter(|_| is_new)
                && proc::children(of).contains(&child)
            {
                all.push(child);
                found.push(pidfd);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_time_nothing_is_due() {
        let plan = Plan {
            scope: Scope::All,
            follow: false,
            launched: false,
            filtered: false,
            timeout: Some(Duration::ZERO),
        };
        let mut patience = Patience::of(&plan);
        assert_eq!(patience.left(), NEVER);
        assert_eq!(patience.end(Instant::now()), None);
        assert!(!patience.is_over());
    }

    /// One whose time is over, of a process that does not exist.
    fn over(step: Step) -> Patience {
        let of = Some((4_194_305, Duration::ZERO));
        Patience { of, began: Instant::now(), step, awaits_report: false, untold: None }
    }

    #[test]
    fn what_the_program_did_is_told_when_the_look_is_there() {
        let mut patience = over(Step::Waits);
        assert!(!patience.looked(5), "somebody asked for it by a signal");
        assert_eq!(patience.end(Instant::now()), Some(Ending::Look));
        assert_eq!((patience.tells(9), patience.looked(10)), (None, true));
        assert!(!patience.looked(11), "somebody asked for it by a signal");
        // Records that are older than the end of the time wait behind the report.
        assert_eq!(
            (patience.tells(9), patience.tells(10), patience.tells(11)),
            (None, Some(10), None)
        );
    }

    #[test]
    fn records_that_wait_are_told_before_the_end_of_the_time() {
        let late = || {
            let mut patience = over(Step::Waits);
            assert_eq!(patience.end(Instant::now()), Some(Ending::Look));
            assert_eq!(patience.end(Instant::now() + LOOK), Some(Ending::Over));
            patience.looks_no_longer(100);
            assert_eq!(patience.tells(99), None, "an event from before");
            patience
        };
        let mut patience = late();
        assert_eq!((patience.tells(100), patience.tells(101)), (Some(100), None));
        assert!(patience.looked(200) && !patience.looked(201));
        // The report comes first, and records that are older than the end of the time wait behind it.
        let mut patience = late();
        assert_eq!((patience.looked(200), patience.tells(99)), (true, None));
        assert_eq!(patience.tells(u64::MAX), Some(100));
    }
}
