//! Programs that end as if nothing were wrong after a fault, and what is known of what it left.

use aiotrace_model::{
    event::{Address, Args, Body, ExitStatus, Gone, Handle, How},
    model::{Half, Outcome},
};

use crate::{
    found::{PWRITE, request},
    verdicts::{EIO, Trace},
};

const H: Handle = Handle(0x1000);

fn submit(count: u64, opcode: u16) -> Args {
    let iocbs: Vec<_> = (1..=count).map(|it| request(it, opcode, 512 * it as i64)).collect();
    Args::Submit { ctx: H, nr: count as i64, iocbpp: Address(0), iocbs, truncated: 0 }
}

fn ends(trace: &mut Trace, status: ExitStatus) {
    let gone = Gone { ctx: H, how: How::Exit, in_flight: Some(0), at_most: false };
    trace.tell(Body::ContextGone(gone));
    trace.exit(status);
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
