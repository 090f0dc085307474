//! Contexts that are lost, and contexts that are left to the kernel at exit.

use crate::{aio, alarms::Engine, basic, forget};

/// good-context-leak: calls io_destroy instead of munmap.
pub fn destroyed() {
    let ctx = aio::setup(8);
    basic::pair(ctx, 1);
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
    crate::wait();
}

/// bad-lost-handle: no variable has the handle of a context that is alive.
pub fn lost() {
    lose();
    forget::scrub_stack();
    crate::wait();
}

#[inline(never)]
fn lose() {
    let mut ctx = aio::setup(8);
    basic::pair(ctx, 1);
    forget::forget(&mut ctx);
}

/// good-lost-handle: the handle is in the heap, and only there.
pub fn kept() {
    let engine = Engine::new();
    engine.work(1);
    crate::wait();
    engine.close();
}

/// bad-released-at-exit: three contexts are left to the kernel.
pub fn alive_at_exit() {
    three();
}

/// good-released-at-exit: all contexts are destroyed.
pub fn none_at_exit() {
    for ctx in three() {
        assert_eq!(aio::destroy(ctx), 0, "io_destroy");
    }
}

fn three() -> [u64; 3] {
    [1, 2, 3].map(|data| {
        let ctx = aio::setup(8);
        basic::pair(ctx, data);
        ctx
    })
}
