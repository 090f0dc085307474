//! Functions that tests look for in stacks: `caller`, `other_caller`, and `leak_here`.

use std::{hint::black_box, time::Duration};

use crate::{aio, arch};

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

/// Makes a context in a function that signs its return address, below [`caller_of_signed`], and
/// tells whether the processor did.
pub fn signed() {
    let address = black_box(caller_of_signed()) - 1;
    eprintln!("{}", if address >> 48 == 0 { "not signed" } else { "signed" });
    std::thread::sleep(Duration::from_millis(300));
}

#[inline(never)]
fn caller_of_signed() -> u64 {
    let setup = arch::SETUP_SIGNED.expect("an architecture whose processors sign addresses");
    let (mut ctx, mut address) = (0, 0);
    // SAFETY: the pointers are to variables of ours.
    let ret = unsafe { setup(4, &raw mut ctx, &raw mut address) };
    assert_eq!(ret, 0, "io_setup");
    black_box(address) + 1
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
