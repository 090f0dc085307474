//! `run --timeout`: ends the launched program, with the processes that it made, when its time is over.

use std::time::{Duration, Instant};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::session::{Plan, Scope};

/// From SIGTERM to SIGKILL, and from there until nobody waits any more: a process in the kernel may not end.
const GRACE: Duration = Duration::from_secs(5);
/// Nothing is due sooner.
const NEVER: Duration = Duration::from_secs(3600);

/// How long the program may take.
pub struct Patience {
    /// The program, and its time.
    of: Option<(u32, Duration)>,
    began: Instant,
    step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Waits,
    Asked,
    Killed,
    GivenUp,
}

/// What happened just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The time is over, and the program was asked to end.
    Over,
    /// It does not end.
    Hopeless,
}

impl Patience {
    /// As the plan has it.
    pub fn of(plan: &Plan) -> Self {
        let of = match &plan.scope {
            Scope::Processes(processes) if plan.launched => {
                processes.first().map(|it| it.pid).zip(plan.timeout)
            }
            _ => None,
        };
        Self { of, began: Instant::now(), step: Step::Waits }
    }

    /// The program begins.
    pub fn begin(&mut self) {
        self.began = Instant::now();
    }

    /// How long it can be waited for what is due next.
    pub fn left(&self) -> Duration {
        self.due().map_or(NEVER, |due| due.saturating_duration_since(Instant::now()))
    }

    fn due(&self) -> Option<Instant> {
        let (_, time) = self.of?;
        let more = match self.step {
            Step::Waits => Duration::ZERO,
            Step::Asked => GRACE,
            Step::Killed => 2 * GRACE,
            Step::GivenUp => return None,
        };
        self.began.checked_add(time)?.checked_add(more)
    }

    /// Does what is due.
    pub fn end(&mut self, now: Instant) -> Option<Ending> {
        let (pid, time) = self.of?;
        if self.due().is_none_or(|due| now < due) {
            return None;
        }
        match self.step {
            Step::Waits => {
                let seconds = time.as_secs_f64();
                eprintln!("aiotrace: the program did not end in {seconds} s (--timeout): SIGTERM");
                signal(pid, Signal::SIGTERM);
                self.step = Step::Asked;
                Some(Ending::Over)
            }
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

    /// Whether the program had to be ended.
    pub fn is_over(&self) -> bool {
        self.step != Step::Waits
    }
}

/// To the program and to all that came from it.
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
