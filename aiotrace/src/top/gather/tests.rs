//! Rows that are put together from a list and from counts.

use super::*;
use crate::{
    counted::ContextCounts,
    output::json::{Hex, VERSION},
};

fn listing(source: &'static str) -> ListingLine {
    let context = |handle, in_flight| ListedContext {
        handle: Hex(handle),
        charge: Some(64),
        ring: Some(127),
        unreaped: Some(2),
        in_flight,
        in_flight_at_most: None,
    };
    let process = |pid: u32| ListedProcess {
        pid,
        name: "fio".into(),
        cgroup: Some("/system.slice/db.service".into()),
        unit: Some("db.service".into()),
        container: None,
        container_name: None,
        pod: None,
        who: Some("db.service".into()),
        charge: Some(128),
        unreaped: Some(4),
        in_flight: None,
        in_flight_at_most: None,
        contexts: vec![context(0x1000, Some(3)), context(0x2000, None)],
    };
    ListingLine {
        v: VERSION,
        event: "ls".into(),
        source: source.into(),
        aio_nr: 256,
        aio_max_nr: 65_536,
        accounted: None,
        changing: false,
        lost: 0,
        unknown: 0,
        processes: vec![process(7), process(8)],
        exiting: Vec::new(),
    }
}

#[test]
fn who_ended_in_the_interval_is_there_and_who_is_not_meant_is_not() {
    let mut counted = Counted { time: 10_000, ..Counted::default() };
    let counts = |accepted| ContextCounts { accepted, used: 9_000, ..ContextCounts::default() };
    counted.contexts.insert((7, Handle(0x1000)), counts(5));
    counted.contexts.insert((9, Handle(0x1000)), counts(6));
    let by = ByOwner::of(&counted);
    for (source, ended) in [("bpf", Some(0)), ("proc", None)] {
        let mut rows = Listing::of(Some(&listing(source)), Some(BTreeSet::from([7, 9])));
        rows.count(&by, &by);
        rows.idle(&counted, 4_000);
        let found: Vec<_> =
            rows.processes.values().map(|it| (it.pid, it.now.requests, it.contexts)).collect();
        assert_eq!(found, [(7, 5, Some(2)), (9, 6, ended)], "{source}");
        let idle: Vec<_> =
            rows.contexts.values().map(|it| (it.pid, it.idle, it.idle_at_least)).collect();
        assert_eq!(
            idle,
            [(7, Some(1_000), false), (7, Some(6_000), true), (9, Some(1_000), false)]
        );
        assert_eq!(rows.processes[&7].unit.as_deref(), Some("db.service"));
        assert_eq!(rows.processes[&7].in_flight, None, "it is unknown of one context");
    }
}
