//! The clocks of the kernel.

use std::time::Duration;

pub use aiotrace_model::trace::Clock;
use nix::{
    poll::PollTimeout,
    time::{ClockId, clock_gettime},
};

/// The clock of a trace that begins now.
pub fn now() -> Clock {
    let start = monotonic();
    let wall = read(ClockId::CLOCK_REALTIME);
    let (before, boot, after) = (monotonic(), read(ClockId::CLOCK_BOOTTIME), monotonic());
    // The two are the same until the machine sleeps.
    let has_slept = !(before..=after).contains(&boot);
    let to_boot = if has_slept { boot as i64 - before as i64 } else { 0 };
    Clock { start, to_wall: wall as i64 - start as i64, to_boot }
}

/// Nanoseconds of CLOCK_MONOTONIC.
pub fn monotonic() -> u64 {
    read(ClockId::CLOCK_MONOTONIC)
}

fn read(clock: ClockId) -> u64 {
    // The reads do not fail, as these clocks exist on every kernel.
    clock_gettime(clock).map_or(0, |time| {
        (time.tv_sec() as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec() as u64)
    })
}

/// How long to wait, rounded up: a wait of 0 ms would make a loop spin.
pub fn timeout(time: Duration) -> PollTimeout {
    PollTimeout::try_from(time.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX)
}
