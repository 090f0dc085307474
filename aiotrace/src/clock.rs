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
    let (wall, boot) = (read(ClockId::CLOCK_REALTIME), read(ClockId::CLOCK_BOOTTIME));
    let more_than_start = |other: u64| other as i64 - start as i64;
    Clock { start, to_wall: more_than_start(wall), to_boot: more_than_start(boot) }
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
