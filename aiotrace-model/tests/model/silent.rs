//! Programs that end as if nothing were wrong after a fault, and what is known of what it left.

use aiotrace_model::{
    event::{Address, Args, Body, ExitStatus, Gone, Handle, How},
    model::{Doubt, Half, Outcome},
};

use crate::{
    found::{PREAD, PWRITE, request},
    verdicts::{EIO, ERROR, Trace, getevents},
};

const H: Handle = Handle(0x1000);
const EINTR: i64 = -4;

fn submit(count: u64, opcode: u16) -> Args {
    let iocbs: Vec<_> = (1..=count).map(|it| request(it, opcode, 512 * it as i64)).collect();
    Args::Submit { ctx: H, nr: count as i64, iocbpp: Address(0), iocbs, truncated: 0 }
}

fn ends(trace: &mut Trace, status: ExitStatus) {
    let gone = Gone { ctx: H, how: How::Exit, in_flight: Some(0), at_most: false };
    trace.tell(Body::ContextGone(gone));
    trace.exit(status);
}

/// A copy submits reads, takes EINTR for the end, and has read half of its input.
#[test]
fn who_leaves_completions_unreaped_has_not_given_up_the_wait_alone() {
    for (submitted, half, doubt) in
        [(0, Half::GaveUp, None), (2, Half::Unsure, Some(Doubt::Abandoned))]
    {
        let mut trace = Trace::new();
        if submitted > 0 {
            trace.call(None, submitted as i64, submit(submitted, PREAD));
            (1..=submitted).for_each(|it| trace.complete(it, 512));
        }
        trace.call(Some(ERROR), EINTR, getevents(Vec::new(), Vec::new()));
        ends(&mut trace, ExitStatus::Code(0));
        let verdict = trace.verdict();
        assert_eq!((verdict.half, verdict.doubt), (half, doubt), "{}", verdict.message());
    }
}

/// Java's virtual machine takes SIGTERM, and ends with status 143: that reports no lost write.
#[test]
fn a_status_that_stands_for_a_signal_reports_nothing() {
    let told = |status| {
        let mut trace = Trace::new();
        trace.call(None, 1, submit(1, PWRITE));
        trace.changed(1, 512, EIO);
        trace.reap(1, EIO, true);
        ends(&mut trace, status);
        let verdict = trace.verdict();
        (verdict.outcome, verdict.half)
    };
    assert_eq!(told(ExitStatus::Code(1)), (Outcome::Reported, Half::Lost));
    assert_eq!(told(ExitStatus::Code(143)), told(ExitStatus::Signal(15)));
}
