//! Wakes the tracer in time, although it sleeps in poll without a timeout. With a timeout, poll would set a timer of
//! the kernel and take it back at each stop; this timer is set once in 5 ms. (In a virtual machine, the host emulates
//! the processor's timer, so that setting it is slow.)

use std::{
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        time::TimeSpec,
        timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
    },
};

/// Becomes readable when its time has come, and stays so until it is set again. It may be early.
pub struct Alarm {
    timer: TimerFd,
    due: Option<Instant>,
}

impl Alarm {
    /// An alarm that is not set.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn new() -> Result<Self, Errno> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        Ok(Self { timer: TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?, due: None })
    }

    /// Sets the alarm to go off not later than `wait` after `now`.
    ///
    /// # Errors
    /// The kernel has no timers.
    pub fn set(&mut self, now: Instant, wait: Duration) -> Result<(), Errno> {
        let due = now + wait;
        if self.due.is_some_and(|it| it > now && it <= due) {
            return Ok(());
        }
        self.due = Some(due);
        // A time of zero would turn the timer off.
        let wait = TimeSpec::from_duration(wait.max(Duration::from_nanos(1)));
        self.timer.set(Expiration::OneShot(wait), TimerSetTimeFlags::empty())
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    fn is_due(alarm: &Alarm, wait: PollTimeout) -> bool {
        poll(&mut [PollFd::new(alarm.as_fd(), PollFlags::POLLIN)], wait).unwrap() == 1
    }

    #[test]
    fn it_rings_until_it_is_set_again_and_an_earlier_time_stays() {
        let mut alarm = Alarm::new().unwrap();
        assert!(!is_due(&alarm, PollTimeout::ZERO));
        let now = Instant::now();
        alarm.set(now, Duration::from_millis(1)).unwrap();
        alarm.set(now, Duration::from_secs(3600)).unwrap();
        assert!(is_due(&alarm, PollTimeout::NONE));
        assert!(is_due(&alarm, PollTimeout::ZERO), "nobody has set it");
        alarm.set(Instant::now(), Duration::from_secs(3600)).unwrap();
        assert!(!is_due(&alarm, PollTimeout::ZERO));
        alarm.set(Instant::now(), Duration::ZERO).unwrap();
        assert!(is_due(&alarm, PollTimeout::NONE), "at once");
    }
}
