use super::*;
use crate::opcode::PREAD;

fn request(iocb: u64, entered: u64, call: u64) -> Request {
    Request {
        iocb,
        data: Some(0),
        opcode: Some(PREAD),
        rw_flags: 0,
        fd: 3,
        offset: 0,
        nbytes: 8,
        buf: 0,
        vectors: None,
        entered,
        returned: entered + 10,
        call,
        index: 0,
    }
}

fn completed(obj: u64, time: u64) -> Completed {
    let event = IoEvent { data: 0, obj, res: 8, res2: 0 };
    Completed { event, after: time, time, until: time, is_late: false }
}

fn ring(head: u32, tail: u32) -> Ring {
    Ring { head, tail, nr: 10 }
}

#[test]
fn a_completion_before_the_return_proves_acceptance() {
    let mut requests = Requests::default();
    assert_eq!(requests.complete(completed(1, 5)), None);
    let found = requests.accepted(request(1, 3, 1)).unwrap();
    assert_eq!(found.completed.time, 5);
    assert_eq!(requests.in_flight(), 0);
    assert!(requests.adds_up());
}

#[test]
fn what_is_submitted_while_the_ring_is_looked_at_is_in_it() {
    // io_getevents returned at 5, io_submit was entered at 6, and the ring was read at 8: the request completed in
    // between.
    let seen = Completed { after: 4, until: 8, ..completed(1, 5) };
    let mut requests = Requests::default();
    assert_eq!(requests.complete(seen), None);
    assert!(requests.accepted(request(1, 6, 1)).is_some());
    assert!(requests.adds_up());
    // The same if io_submit returned before the completion came.
    let mut requests = Requests::default();
    assert_eq!(requests.accepted(request(1, 6, 1)), None);
    assert!(requests.complete(seen).is_some());
    assert!(requests.adds_up());
}

#[test]
fn an_iocb_that_is_used_again_by_another_thread_is_another_request() {
    // Thread A submits at 1 and returns last; the request completes at 5 and is reaped; thread B submits the iocb
    // again at 7.
    let mut requests = Requests::default();
    assert_eq!(requests.complete(completed(1, 5)), None);
    assert_eq!(requests.accepted(request(1, 7, 2)), None);
    assert!(requests.accepted(request(1, 1, 1)).is_some());
    assert_eq!(requests.in_flight(), 1);
    assert_eq!(requests.complete(completed(1, 9)).unwrap().again, None);
    assert!(requests.adds_up());
}

#[test]
fn after_the_trace_only_what_was_in_flight_is_taken_from_a_ring() {
    let mut requests = Requests::default();
    for iocb in [1, 2] {
        assert_eq!(requests.accepted(request(iocb, 1, iocb)), None);
    }
    // These were reaped, and submitted again, after the end of recording.
    let found = [2, 2, 1].map(|iocb| completed(iocb, 9).event);
    assert_eq!(requests.of_in_flight(found.iter()), 1);
    assert!(requests.complete(completed(2, 9)).is_some());
    assert_eq!(requests.as_told(ring(2, 3), 10), ring(1, 1));
    assert_eq!(requests.as_told(ring(0, 3), 10), ring(0, 1));
    assert_eq!(requests.as_told(ring(9, 1), 10), ring(9, 1));
}

#[test]
fn the_same_iocb_twice_in_a_call_is_legal_and_in_two_calls_is_not() {
    let mut requests = Requests::default();
    for call in [1, 1, 2] {
        assert_eq!(requests.accepted(request(1, call, call)), None);
    }
    assert_eq!(requests.complete(completed(1, 10)).unwrap().again, None);
    assert_eq!(requests.complete(completed(1, 11)).unwrap().again, Some(2));
    assert_eq!(requests.complete(completed(1, 12)).unwrap().again, None);
}

#[test]
fn requests_of_one_iocb_are_told_apart_by_their_data() {
    let with = |data, call| Request { data, ..request(1, call, call) };
    let done = |data, time| {
        let completed = completed(1, time);
        Completed { event: IoEvent { data, ..completed.event }, ..completed }
    };
    let mut requests = Requests::default();
    for (data, call) in [(Some(7), 1), (Some(8), 2), (None, 3), (Some(8), 4)] {
        assert_eq!(requests.accepted(with(data, call)), None);
    }
    let mut next = |data| {
        let found = requests.complete(done(data, 10))?;
        Some((found.request.call, found.again))
    };
    // As far as is known, the third may have the data 8, too.
    assert_eq!(next(8), Some((2, Some(3))));
    assert_eq!(next(8), Some((4, None)));
    assert_eq!(next(9), Some((3, None)), "that is the only one whose data is not known");
    assert_eq!(next(9), None, "one whose io_submit has not returned");
    assert_eq!(requests.in_flight(), 1);
    assert_eq!(requests.accepted(with(Some(7), 5)), None, "it is not that one's, either");
    assert!(requests.accepted(with(Some(9), 6)).is_some());
    assert_eq!(requests.in_flight(), 2);
    assert_eq!(requests.of_event(&done(7, 11).event).map(|it| it.call), Some(1));
    let found = [7, 7, 7].map(|data| done(data, 11).event);
    assert_eq!(requests.of_in_flight(found.iter()), 2);
    assert_eq!(requests.of_in_flight([done(9, 11).event].iter()), 0);
    let found = requests.complete(done(7, 11)).unwrap();
    assert_eq!((found.request.call, found.again), (1, Some(5)), "these are alike");
    assert_eq!(requests.complete(done(7, 12)).unwrap().again, None);
    assert!(requests.adds_up());
}

#[test]
fn whoever_moves_the_head_has_reaped() {
    let mut requests = Requests::default();
    for obj in 1..=4 {
        requests.accepted(request(obj, 1, obj));
        requests.complete(completed(obj, 5));
    }
    let mut reaped = Vec::new();
    // A request completed after the look.
    requests.look(ring(2, 3), 7, |it, _| reaped.push(it.place));
    assert_eq!((reaped, requests.unreaped()), (vec![0, 1], 2));
    requests.look(ring(4, 4), 8, |_, _| ());
    assert_eq!(requests.unreaped(), 0);
    requests.look(ring(4, 6), 9, |_, _| ());
    assert!(!requests.adds_up(), "two completed that were not seen");
}

#[test]
fn what_completed_and_could_not_be_read_is_not_in_flight() {
    let mut requests = Requests::default();
    for obj in 1..=3 {
        requests.accepted(request(obj, 1, obj));
    }
    requests.complete_unread(0, 5);
    requests.complete_unread(0, 5);
    assert_eq!((requests.in_flight(), requests.unknown(), requests.completed()), (1, 2, 2));
    // io_getevents returns one event, and the program uses the iocb of another request again.
    let given = IoEvent { data: 0, obj: 3, res: -5, res2: 0 };
    assert_eq!(requests.given(given, 7).unwrap().request.iocb, 3);
    assert_eq!(requests.accepted(request(2, 8, 8)), None);
    assert_eq!((requests.in_flight(), requests.unknown(), requests.unread()), (2, 1, 0));
    assert_eq!(requests.given(given, 9), None, "all others were read");
    assert_eq!(requests.complete(completed(1, 9)).unwrap().again, None);
    assert_eq!(requests.complete(completed(2, 9)).unwrap().again, None);
    assert_eq!((requests.in_flight(), requests.unknown()), (0, 1));
}

#[test]
fn what_is_read_after_it_was_reaped_has_no_time() {
    let mut requests = Requests::default();
    requests.accepted(request(1, 1, 1));
    requests.look(ring(1, 1), 5, |_, _| ());
    assert_eq!((requests.in_flight(), requests.unknown()), (0, 1), "one completed unseen");
    let found = requests.complete(completed(1, 9)).unwrap();
    assert!(found.completed.is_late);
    assert_eq!((requests.in_flight(), requests.unknown()), (0, 0));
    requests.accepted(request(1, 10, 2));
    assert!(!requests.complete(completed(1, 12)).unwrap().completed.is_late);
}

#[test]
fn what_io_getevents_gave_is_not_told_again() {
    let mut requests = Requests::default();
    let event = |obj| completed(obj, 0).event;
    for (number, after) in [(1, 1), (2, 2)] {
        requests.accepted(request(1, number * 10, number));
        requests.behind(after);
        requests.look(ring(after, after), number * 10 + 5, |_, _| ());
        let found = requests.given(event(1), number * 10 + 5).unwrap();
        assert_eq!((found.request.call, found.again), (number, None));
        assert_eq!((requests.in_flight(), requests.unknown()), (0, 0));
    }
    assert_eq!(requests.given(event(1), 30), None);
    // The other entries are read; one was overwritten.
    requests.complete_unread(0, 40);
    assert_eq!(requests.complete(completed(1, 40)), None);
    assert!(requests.adds_up());
    requests.accepted(request(1, 50, 3));
    assert_eq!(requests.complete(completed(1, 60)).unwrap().request.call, 3);
}

#[test]
fn what_an_adopted_ring_holds_is_unreaped_and_nothing_more_is_guessed() {
    let mut requests = Requests::adopted(Some(ring(8, 1)), 100);
    assert_eq!((requests.unreaped(), requests.completed(), requests.in_flight()), (3, 0, 0));
    requests.look(ring(0, 2), 101, |_, _| ());
    assert_eq!(requests.unreaped(), 1, "one of the old ones is left");
    assert_eq!(requests.complete(completed(1, 101)), None);
    assert_eq!(requests.unreaped(), 2, "and the one that completed meanwhile");
}

#[test]
fn what_was_in_the_ring_before_a_request_began_is_not_its_completion() {
    let undated = |obj| Completed { after: 0, ..completed(obj, 500) };
    let mut requests = Requests::adopted(Some(ring(0, 0)), 100);
    // They are read at once, after their iocbs were used again; a look shows that seven had come before.
    for obj in 1..=8 {
        assert_eq!(requests.complete(undated(obj)), None);
    }
    requests.look(ring(7, 7), 200, |_, _| ());
    assert_eq!((requests.unseen(), requests.unreaped()), (0, 1));
    assert_eq!(requests.accepted(request(1, 300, 1)), None);
    assert_eq!(requests.in_flight(), 1);
    // The eighth may belong to the request itself.
    assert!(requests.accepted(request(8, 300, 2)).is_some());
    // For a call that began before the trace, nobody can say.
    assert_eq!(requests.accepted(request(2, 0, 3)), None);
    assert_eq!(requests.in_flight(), 1);
}

#[test]
fn those_beyond_what_is_recorded_are_counted() {
    let mut requests = Requests::default();
    requests.complete(completed(1, 5));
    requests.accepted_unnamed(3, 4);
    assert_eq!(requests.in_flight(), 2);
    requests.complete(completed(2, 6));
    assert_eq!(requests.in_flight(), 1);
}
