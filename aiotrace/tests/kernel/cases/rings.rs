//! Rings of every size, and pools of iocbs: D4.

use super::{Case, found, ready, requests};
use crate::{
    harness::Need,
    support::{Attached, Trace},
};

/// E1: 6,000 requests, never more than one in flight. Nothing else is found, whatever the size of the ring is.
fn a_ring_of_any_size_is_read_to_its_end() {
    let of_limit = std::fs::read_to_string("/proc/sys/fs/aio-max-nr").unwrap();
    let of_limit: u64 = of_limit.trim().parse().unwrap();
    for asked in ["128", "1000", "2048", "8000", "60000"] {
        if asked.parse::<u64>().unwrap() > of_limit {
            continue;
        }
        for how in ["call", "ring"] {
            for source in [&[][..], &["--source", "ptrace"]] {
                let count = if source.is_empty() { "6000" } else { "3000" };
                let arguments = ["big-ring", asked, count, how];
                let options = [&["-q"], source].concat();
                let case = Case::of(&options, &arguments).unwrap();
                assert_nothing_is_wrong(&case.trace, &format!("{arguments:?} {source:?}"));
                let expected = (count.parse().unwrap(), 1);
                assert_eq!(requests(&case.trace), expected, "{arguments:?} {source:?}");
                let context = &case.trace.report().contexts[0];
                assert_eq!((context.failed, context.unreaped, context.in_flight), (0, Some(0), 0));
                // Every third request has 1,024 bytes, the others have 512.
                let bytes = (expected.0 * 4 / 3) * 512;
                assert_eq!(context.bytes, bytes, "{arguments:?} {source:?}");
            }
        }
    }
}

/// Nothing is found but that the file is in memory and, on a busy machine, that a call takes long.
fn assert_nothing_is_wrong(trace: &Trace, of: &str) {
    let mut found = found(trace);
    found.retain(|it| it != "info inline-completion" && it != "warning blocking-submit");
    assert!(found.is_empty(), "{of}: {found:?}");
}

fn a_healthy_database_is_healthy() {
    let case = Case::of(&["-q", "--fail-on", "warning"], &["big-ring", "2048", "6000"]).unwrap();
    assert_nothing_is_wrong(&case.trace, "a ring of 2048");
    let latency = case.trace.report().contexts[0].complete_ns.as_ref().unwrap();
    assert!(latency.p50 < 50_000_000, "it takes microseconds: {latency:?}");
}

/// E3: the same wherever the ring is in memory.
fn a_pool_of_iocbs_raises_no_alarm_whenever_one_attaches() {
    for place in ["anywhere", "across"] {
        let mut program = ready(&["shared-pool", "1000", "3", place]).unwrap();
        let pid = program.pid().to_string();
        let mut looked = 0;
        while looked < 2 {
            let trace = Attached::new(&["-q", "-p", &pid, "-d", "1"]).end();
            trace.assert_nothing_lost();
            let above_info: Vec<_> =
                found(&trace).into_iter().filter(|it| !it.starts_with("info")).collect();
            assert_eq!(above_info, Vec::<String>::new(), "{place}");
            let (requests, peak) = requests(&trace);
            assert!(peak <= 64, "{place}: {peak} at a time: {:?}", trace.report());
            // The disk may stand still for a second. (If it never moves again, the harness ends this test.)
            looked += u32::from(requests > 0);
        }
        program.go_on();
        assert!(program.line().ends_with("wrong 0"));
    }
    let case = Case::of(&["-q"], &["shared-pool", "20000"]).unwrap();
    let (requests, peak) = requests(&case.trace);
    let said = format!("submitted {requests}, wrong 0");
    assert!(case.said.contains(&said) && peak <= 64, "{said} {}", case.said);
    assert!(found(&case.trace).iter().all(|it| it.starts_with("info")), "{:?}", found(&case.trace));
}

tests![
    a_ring_of_any_size_is_read_to_its_end if Need::LONG,
    a_healthy_database_is_healthy if Need::SAME,
    a_pool_of_iocbs_raises_no_alarm_whenever_one_attaches if Need::LONG,
];
