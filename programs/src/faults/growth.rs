//! A program whose contexts keep growing in number, and one with a pool of them. Both say `ready`
//! at their start and go on until a line comes on their standard input, or its end.

use std::time::Duration;

use crate::{aio, basic, tasks::is_readable_within};

/// bad-context-growth: makes a new context every 50 ms and uses it once; at most 200.
pub fn grows() {
    crate::say("ready");
    let mut contexts = Vec::new();
    while contexts.len() < 200 && !is_readable_within(0, Duration::from_millis(50)) {
        let ctx = aio::setup(8);
        basic::pair(ctx, 1);
        contexts.push(ctx);
    }
}

/// good-context-growth: makes 40 contexts at the start, and uses them by turns, one every 5 ms.
pub fn pool() {
    let contexts: Vec<u64> = (0..40).map(|_| aio::setup(8)).collect();
    crate::say("ready");
    for &ctx in contexts.iter().cycle() {
        basic::pair(ctx, 1);
        if is_readable_within(0, Duration::from_millis(5)) {
            break;
        }
    }
    for ctx in contexts {
        assert_eq!(aio::destroy(ctx), 0, "io_destroy");
    }
}
