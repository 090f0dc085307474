//! Known callers: `caller` or `other_caller`, and `leak_here`.

use std::{hint::black_box, time::Duration};

use crate::aio;

/// Contexts, made where a test can find it, and submits from there. It lives long enough to be looked at.
pub fn named(count: u64) {
    for _ in 0..count {
        black_box(caller());
    }
    std::thread::sleep(Duration::from_millis(300));
}

/// By both callers in turn. After the first of each it waits.
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

/// It differs in nothing that the registers show.
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
