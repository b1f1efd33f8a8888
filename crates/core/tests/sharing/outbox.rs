//! The messages that wait for one session.

use ally_core::sharing::host::{Class, OUTBOX_MAX, Outbox};

fn frame(size: usize) -> Vec<u8> {
    vec![0; size]
}

#[test]
fn details_are_lost_first_and_without_a_resync() {
    let mut outbox = Outbox::default();
    outbox.push(Class::State, frame(10));
    outbox.push(Class::Detail, frame(OUTBOX_MAX));
    assert_eq!(outbox.take_resync(), None);
    assert_eq!(outbox.take(usize::MAX).len(), 10);
}

#[test]
fn states_are_lost_with_a_resync_and_answers_never() {
    let mut outbox = Outbox::default();
    outbox.push(Class::Answer, frame(7));
    for _ in 0..3 {
        outbox.push(Class::State, frame(OUTBOX_MAX / 2));
    }
    outbox.push(Class::State, frame(5));
    assert_eq!(outbox.take_resync(), Some(4));
    outbox.push_first(vec![frame(3)]);
    assert_eq!(outbox.take(1).len(), 3);
    assert_eq!(outbox.take(usize::MAX).len(), 7);
    assert!(outbox.is_empty());
}

/// As an upgrade by another session whose configuration is long.
#[test]
fn no_state_is_lost_behind_a_long_answer() {
    let mut outbox = Outbox::default();
    (0..3).for_each(|_| outbox.push(Class::Answer, frame(OUTBOX_MAX / 2)));
    outbox.push(Class::State, frame(5));
    outbox.push(Class::Detail, frame(6));
    assert_eq!(outbox.take_resync(), None);
    assert_eq!(outbox.take(usize::MAX).len(), OUTBOX_MAX / 2 * 3 + 11);
    // A session that does not read it loses what comes behind it, as without it.
    (0..3).for_each(|_| outbox.push(Class::Answer, frame(OUTBOX_MAX / 2)));
    outbox.push(Class::State, frame(OUTBOX_MAX));
    outbox.push(Class::State, frame(1));
    assert_eq!((outbox.take_resync(), outbox.bytes()), (Some(2), OUTBOX_MAX / 2 * 3));
}

#[test]
fn a_session_that_only_asks_is_not_read_any_more() {
    let mut outbox = Outbox::default();
    outbox.push(Class::Answer, frame(OUTBOX_MAX));
    assert!(!outbox.is_full());
    outbox.push(Class::Answer, frame(1));
    assert!(outbox.is_full());
}

#[test]
fn an_outbox_whose_connection_is_broken_has_room_and_counts_what_is_lost() {
    let mut outbox = Outbox::default();
    outbox.push(Class::Answer, frame(OUTBOX_MAX + 1));
    outbox.lose_all();
    assert!(!outbox.is_full());
    outbox.push(Class::State, frame(1));
    assert_eq!((outbox.bytes(), outbox.take_resync()), (0, Some(2)));
}

#[test]
fn a_cleared_outbox_counts_what_it_had() {
    let mut outbox = Outbox::default();
    outbox.push(Class::State, vec![0; 8]);
    outbox.push(Class::Answer, vec![0; 8]);
    assert_eq!(outbox.clear(), 2);
    assert!(outbox.is_empty() && outbox.bytes() == 0);
}
