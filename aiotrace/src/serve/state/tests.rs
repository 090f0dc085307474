use super::*;
use crate::{
    counted::{CallCounts, histogram::Histogram},
    event::Syscall,
};

/// `calls` of io_submit, each of 1 us.
fn counted(time: u64, calls: &[(u32, u64)]) -> Counted {
    let counts = |count: u64| {
        let mut durations = Histogram::default();
        (0..count).for_each(|_| durations.record(1000));
        CallCounts { durations, ..CallCounts::default() }
    };
    let calls = calls.iter().map(|(pid, count)| ((*pid, Syscall::Submit), counts(*count)));
    Counted { time, calls: calls.collect(), ..Counted::default() }
}

fn submits(state: &State) -> BTreeMap<String, u64> {
    let of = |it: &Counters| it.calls.get("io_submit").copied();
    state.series.all().filter_map(|(label, it)| Some((label.process, of(it)?))).collect()
}

fn told(pairs: &[(&str, u64)]) -> BTreeMap<String, u64> {
    pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

/// No process has ids like these, so that names are only those that are told.
const ONE: u32 = u32::MAX - 1;
const TWO: u32 = u32::MAX - 2;

#[test]
fn what_is_told_again_is_counted_once_and_an_id_may_be_given_again() {
    let mut state = State::new(Labels::default(), 9, false);
    state.name(ONE, b"fio");
    state.name(TWO, b"fio");
    state.count(&counted(1, &[(ONE, 10), (TWO, 5)]));
    state.count(&counted(2, &[(ONE, 12), (TWO, 5)]));
    assert_eq!(submits(&state), told(&[("fio", 17)]));
    let gone = BTreeSet::from([ONE]);
    state.count(&Counted { gone, ..counted(3, &[(ONE, 13), (TWO, 5)]) });
    state.name(ONE, b"mariadbd");
    state.count(&counted(4, &[(ONE, 4), (TWO, 6)]));
    assert_eq!(submits(&state), told(&[("fio", 19), ("mariadbd", 4)]));
    assert_eq!(state.machine.call_durations["io_submit"].count(), 23);
}

#[test]
fn another_program_in_the_same_process_has_series_of_its_own() {
    let mut state = State::new(Labels::default(), 9, false);
    state.name(ONE, b"sh");
    state.count(&counted(1, &[(ONE, 3)]));
    state.name(ONE, b"app");
    state.count(&counted(2, &[(ONE, 7)]));
    assert_eq!(submits(&state), told(&[("app", 4), ("sh", 3)]));
}

#[test]
fn five_hundred_processes_come_and_go_and_nothing_is_lost_or_goes_back() {
    let mut state = State::new(Labels::default(), 20, true);
    let (mut before, mut sum) = (BTreeMap::new(), 0);
    for round in 0..500u32 {
        let pid = u32::MAX - 1 - round % 50;
        state.name(pid, format!("worker{}", round % 100).as_bytes());
        let gone = BTreeSet::from([pid]);
        state.count(&Counted { gone, ..counted(u64::from(round), &[(pid, 2)]) });
        sum += 2;
        let now = submits(&state);
        assert_eq!(now.values().sum::<u64>(), sum, "none is lost");
        assert!(before.iter().all(|(name, count)| now[name] >= *count), "round {round}");
        before = now;
    }
    assert_eq!(before.len(), 21);
    assert_eq!(state.series.refused(), 80);
    assert!(state.names.is_empty() && state.known.is_empty() && state.before.calls.is_empty());
}

#[test]
fn what_is_unknown_of_a_context_is_unknown_of_its_label_set() {
    use crate::output::json::{Hex, ListedContext, ListedProcess};
    let context = |charge, unreaped| ListedContext {
        handle: Hex(1),
        charge,
        ring: None,
        unreaped,
        in_flight: charge,
        in_flight_at_most: None,
    };
    let process = |pid, contexts| ListedProcess {
        pid,
        name: "fio".into(),
        cgroup: None,
        container: None,
        unit: None,
        container_name: None,
        pod: None,
        who: None,
        charge: None,
        unreaped: None,
        in_flight: None,
        in_flight_at_most: None,
        contexts,
    };
    let listing = ListingLine {
        v: 1,
        event: "ls".into(),
        source: "bpf".into(),
        aio_nr: 0,
        aio_max_nr: 0,
        accounted: None,
        changing: false,
        lost: 0,
        unknown: 0,
        processes: vec![
            process(ONE, vec![context(Some(4), Some(2)), context(Some(3), None)]),
            process(TWO, vec![context(Some(2), Some(5))]),
        ],
        exiting: Vec::new(),
    };
    let mut state = State::new(Labels::default(), 9, false);
    let held = state.hold(&listing, 0);
    let fio = &held[&Labels::default().of(ONE, Some("fio".into()))];
    let wanted = Holding {
        charge: Some(9),
        contexts: 3,
        unreaped: 7,
        unread: 1,
        in_flight: Some(9),
        idle: None,
    };
    assert_eq!((held.len(), fio), (1, &wanted));
    let mut unknown = listing;
    unknown.processes[1].contexts[0].charge = None;
    assert_eq!(state.hold(&unknown, 0).values().next().unwrap().charge, None);
}
