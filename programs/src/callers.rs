//! Functions that tests look for in stacks: `caller`, `other_caller`, and `leak_here`.

use std::{hint::black_box, time::Duration};

use crate::aio;

/// Makes contexts and submits in functions that a test can find. The program lives long enough for
/// a tracer to look at it.
pub fn named(count: u64) {
    for _ in 0..count {
        black_box(caller());
    }
    std::thread::sleep(Duration::from_millis(300));
}

/// Makes contexts from both callers by turns, and waits after the first of each.
pub fn by_turns(count: u64) {
    for index in 0..count {
        black_box(if index % 2 == 0 { caller() } else { other_caller() });
        match index {
            0 => std::thread::sleep(Duration::from_millis(10)),
            1 => crate::wait(),
            _ => (),
        }
    }
}

#[inline(never)]
fn caller() -> u64 {
    black_box(leak_here()) + 1
}

/// A second caller. Nothing in the registers tells it from the first one.
#[inline(never)]
fn other_caller() -> u64 {
    black_box(leak_here()) + 2
}

#[inline(never)]
fn leak_here() -> u64 {
    let ctx = aio::setup(4);
    black_box(aio::submit_at(ctx, 0, 0));
    black_box(ctx)
}
