//! Promises about busy targets, which count by themselves what they did.

use super::{
    harness::Need,
    machine,
    support::{Attached, Program, Trace},
};

/// Real-time signals are queued with their values, so none may be missing or out of order.
fn assert_in_order(source: &[&str], attaches: usize) {
    let mut target = Program::ready(&["signals"]);
    let pid = target.pid().to_string();
    for _ in 0..attaches {
        let options = [source, &["-q", "--duration", "50ms", "-p", &pid]].concat();
        let trace = Attached::new(&options).end();
        assert!(trace.status.success(), "{source:?}: {}", trace.stderr);
    }
    target.go_on();
    let line = target.line();
    let counts: Vec<u64> = line.split(' ').map(|it| it.parse().unwrap()).collect();
    let [sent, received, wrong] = counts[..] else { panic!("{line}") };
    assert!(sent >= attaches as u64, "{source:?}: {line}");
    assert_eq!((received, wrong), (sent, 0), "{source:?}: {line}");
    assert!(target.child.wait().unwrap().success());
}

fn signals_come_in_order_while_probes_come_and_go() {
    // Loading probes takes up to seconds each time.
    assert_in_order(&[], if machine::runs_everything() { 50 } else { 8 });
}

fn signals_come_in_order_while_ptrace_comes_and_goes() {
    assert_in_order(&["--source", "ptrace"], 50);
}

/// A trace of a target that submits and reaps in four threads, as fast as it can, and the number of pairs that it
/// counted.
fn flooded(options: &[&str], pairs: u64) -> (Trace, u64) {
    let mut target = Program::ready(&["flood", &pairs.to_string()]);
    let pid = target.pid().to_string();
    let attached = Attached::new(&[options, &["-p", &pid]].concat());
    target.go_on();
    let made = target.line().parse().unwrap();
    assert!(target.child.wait().unwrap().success());
    let trace = attached.end();
    assert!(trace.status.success(), "{options:?}: {}", trace.stderr);
    (trace, made)
}

fn a_flood_is_counted_as_the_target_counts_it() {
    let ways: [(&[&str], u64); 3] = [
        (&["-q"], 8_000),
        (&["-c", "--requests"], 100_000),
        (&["--source", "ptrace", "-q"], 2_000),
    ];
    for (options, pairs) in ways {
        let (trace, made) = flooded(options, pairs);
        if machine::skips_runs() && trace.skipped() > 0 {
            continue;
        }
        trace.assert_nothing_lost();
        assert_eq!(made, 4 * pairs);
        let report = trace.report();
        let sums = &report.sums;
        if let Some(calls) = &report.calls {
            let count = |call: &str| {
                calls.iter().filter(|it| it.call == call).map(|it| it.calls).sum::<u64>()
            };
            assert_eq!((count("io_submit"), count("io_getevents")), (made, made), "{options:?}");
        } else {
            let all = (sums.accepted, sums.completed, sums.reaped);
            assert_eq!(all, (made, made, made), "{options:?}");
        }
        assert!(report.disagreements.is_empty(), "{options:?}: {:?}", report.disagreements);
    }
}

tests![
    signals_come_in_order_while_probes_come_and_go if Need::Native("it attaches many times"),
    signals_come_in_order_while_ptrace_comes_and_goes if Need::LONG,
    a_flood_is_counted_as_the_target_counts_it if Need::LONG,
];
