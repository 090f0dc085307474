use super::*;

const SPACE: u64 = 77;

fn ring(id: u32, tail: u32) -> Seen {
    Seen { id, nr: 127, tail }
}

#[test]
fn what_is_in_flight_when_a_context_ends_is_counted_from_its_creation() {
    let mut contexts = Contexts::default();
    contexts.uses(5, SPACE, How::Exec);
    contexts.created(SPACE, 0x1000, 5, 100);
    contexts.used(SPACE, 0x1000, 5, 4);
    contexts.entries((SPACE, 0x1000), 0, 3, 0);
    contexts.used(SPACE, 0x2000, 5, 4);
    let gone = |ctx, in_flight| Ended {
        pid: 5,
        gone: Gone { ctx: Handle(ctx), how: How::Exit, in_flight, at_most: in_flight.is_some() },
    };
    assert_eq!(contexts.exited(5), [gone(0x1000, Some(1)), gone(0x2000, None)]);
    assert!(contexts.known.is_empty());
}

#[test]
fn what_a_ring_has_and_was_not_told_is_not_in_flight() {
    let mut contexts = Contexts::default();
    contexts.created(SPACE, 0x1000, 5, 100);
    contexts.seen(SPACE, 0x1000, ring(3, 0), 5);
    contexts.used(SPACE, 0x1000, 5, 30);
    contexts.entries((SPACE, 0x1000), 0, 10, 0);
    contexts.behind(SPACE, 0x1000, 20);
    contexts.looked(SPACE, 0x1000, 30, 200);
    // The entries are read at the next look: the requests completed after the look before.
    assert_eq!(contexts.entries((SPACE, 0x1000), 10, 1, 0).since, Some(100));
    assert_eq!(contexts.gone(SPACE, 0x1000, 400), Some(0));
}

#[test]
fn after_a_loss_nothing_is_in_flight_for_sure() {
    let mut contexts = Contexts::default();
    contexts.created(SPACE, 0x1000, 5, 100);
    contexts.lost(SPACE);
    assert_eq!(contexts.gone(SPACE, 0x1000, 200), None);
}

#[test]
fn a_handle_may_be_given_away_before_io_destroy_returns() {
    let mut contexts = Contexts::default();
    contexts.created(SPACE, 0x1000, 5, 100);
    contexts.used(SPACE, 0x1000, 5, 3);
    // io_destroy is entered at 200 and waits; at 300 another context gets the handle.
    contexts.created(SPACE, 0x1000, 5, 300);
    contexts.used(SPACE, 0x1000, 5, 1);
    assert_eq!(contexts.gone(SPACE, 0x1000, 200), Some(3));
    assert_eq!(contexts.gone(SPACE, 0x1000, 400), Some(1));
    contexts.created(SPACE, 0x1000, 5, 500);
    contexts.created(SPACE, 0x1000, 5, 700);
    assert_eq!(contexts.gone(SPACE, 0x1000, 800), Some(0), "the later one may be first");
    assert_eq!(contexts.gone(SPACE, 0x1000, 600), Some(0));
}

#[test]
fn a_shared_address_space_ends_with_its_last_user() {
    let mut contexts = Contexts::default();
    contexts.uses(5, SPACE, How::Exec);
    contexts.uses(6, SPACE, How::Exec);
    contexts.created(SPACE, 0x1000, 5, 100);
    assert!(contexts.uses(6, 99, How::Exec).is_empty(), "the child of vfork runs a program");
    assert_eq!(contexts.exited(5).len(), 1);
}

#[test]
fn what_a_forked_child_inherits_is_no_context() {
    let mut contexts = Contexts::default();
    contexts.uses(6, 99, How::Exec);
    contexts.seen(99, 0x1000, ring(3, 7), 6);
    assert!(contexts.exited(6).is_empty());
}

#[test]
fn a_ring_that_is_moved_before_it_was_seen_is_the_only_one_that_can_be_meant() {
    for (is_whole, others, from) in
        [(true, 0, Some(0x1000)), (false, 0, None), (true, 1, Some(0x1000)), (true, 2, None)]
    {
        let mut contexts = Contexts::default();
        if is_whole {
            contexts.begins(SPACE);
        }
        contexts.created(SPACE, 0x1000, 5, 100);
        contexts.created(SPACE, 0x2000, 5, 100);
        if others < 2 {
            // This ring is seen.
            contexts.seen(SPACE, 0x2000, ring(1, 0), 5);
            assert_eq!(contexts.used(SPACE, 0x2000, 5, 0), None);
        }
        assert_eq!(contexts.seen(SPACE, 0x5000, ring(3, 0), 5), None);
        contexts.entries((SPACE, 0x5000), 0, 1, 0);
        assert_eq!(contexts.used(SPACE, 0x5000, 5, 3), from);
        assert_eq!(contexts.used(SPACE, 0x5000, 5, 1), None, "that is known");
        let in_flight = from.map(|_| 3);
        assert_eq!(contexts.gone(SPACE, 0x5000, 200), in_flight);
    }
}

#[test]
fn a_ring_that_is_moved_is_known_by_its_id() {
    let mut contexts = Contexts::default();
    contexts.created(SPACE, 0x1000, 5, 100);
    assert_eq!(contexts.seen(SPACE, 0x1000, ring(3, 0), 5), None);
    contexts.used(SPACE, 0x1000, 5, 2);
    contexts.entries((SPACE, 0x1000), 0, 1, 0);
    assert_eq!(contexts.seen(SPACE, 0x5000, ring(3, 1), 5), Some(0x1000));
    assert_eq!(contexts.seen(SPACE, 0x6000, ring(4, 0), 5), None, "another one");
    assert_eq!(contexts.gone(SPACE, 0x5000, 200), Some(1));
}
