//! `run --timeout`: ends the launched program and its descendants when its time is over.

use std::time::{Duration, Instant};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::session::{Plan, Scope};

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
    /// The program is asked to end at once.
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
        Self { of, began: Instant::now(), step: Step::Waits }
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
                self.step = Step::Looks;
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

    /// Whether what the program is doing is looked at now.
    pub fn looks(&self) -> bool {
        self.step == Step::Looks
    }

    /// That was looked at: asks the program to end.
    pub fn looked(&mut self) {
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

/// Sends a signal to the program and to all its descendants.
fn signal(pid: u32, signal: Signal) {
    let mut all = vec![pid];
    let mut next = 0;
    while let Some(of) = all.get(next).copied() {
        next += 1;
        all.extend(crate::proc::children(of));
    }
    for pid in all {
        let _ = kill(Pid::from_raw(pid as i32), signal);
    }
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
}
