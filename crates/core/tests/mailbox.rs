//! What waits for the caller's thread: answers are never lost, the rest is bounded and counted.

#![expect(clippy::unwrap_used, reason = "a test that can't go on should panic")]

use ally_core::error::Failure;
use ally_core::lifecycle::Notice;
use ally_core::supervisor::{Mailbox, Message, Refusal, Stream};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

const BATCH: usize = 256;
const EVENTS_MAX: usize = 10_000;
const OUTPUT_BYTES_MAX: usize = 512 * 1024;

/// A mailbox, and how often it woke its reader.
fn mailbox() -> (Mailbox, Arc<AtomicUsize>) {
    let wakes = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&wakes);
    let wake = move || {
        counted.fetch_add(1, Ordering::Relaxed);
    };
    (Mailbox::new(Box::new(wake)), wakes)
}

fn settled(ticket: u64) -> Message {
    Message::Settled { ticket, outcome: Ok(()) }
}

fn notice(pid: i32) -> Message {
    let notice = Notice::Spawned { pid };
    Message::Notice { plugin: "p".to_owned(), notice, at: 0.0 }
}

fn output(bytes: usize) -> Message {
    Message::Output { plugin: "p".to_owned(), stream: Stream::Stdout, line: "x".repeat(bytes) }
}

fn log(bytes: usize) -> Message {
    Message::Log { level: tracing::Level::DEBUG, text: "x".repeat(bytes), fields: Vec::new() }
}

/// All that waits, batch by batch.
fn empty(mailbox: &Mailbox) -> Vec<Message> {
    std::iter::from_fn(|| Some(mailbox.take()).filter(|batch| !batch.is_empty())).flatten().collect()
}

/// How many events, how many lines were dropped.
fn dropped(messages: &[Message]) -> (u64, u64) {
    messages.iter().fold((0, 0), |(all_events, all_lines), message| match message {
        Message::Dropped { events, lines } => (all_events + events, all_lines + lines),
        _ => (all_events, all_lines),
    })
}

fn count(messages: &[Message], of: fn(&Message) -> bool) -> usize {
    messages.iter().filter(|message| of(message)).count()
}

const fn is_output(message: &Message) -> bool {
    matches!(message, Message::Output { .. } | Message::Log { .. })
}

#[test]
fn messages_come_in_the_order_in_which_they_were_posted() {
    let (mailbox, _) = mailbox();
    let refused = Refusal::new("p".to_owned(), Failure::Stopped);
    let posted = [notice(1), output(3), settled(1), log(2), Message::Settled { ticket: 2, outcome: Err(refused) }, notice(2)];
    posted.iter().for_each(|message| mailbox.post(message.clone()));
    assert_eq!(mailbox.take(), posted);
    assert_eq!(mailbox.take(), []);
}

#[test]
fn the_reader_is_woken_once_for_what_it_takes_at_once() {
    let (mailbox, wakes) = mailbox();
    for round in 1..=3 {
        for ticket in 0..5 {
            mailbox.post(settled(ticket));
            assert_eq!(wakes.load(Ordering::Relaxed), round, "at the first one");
        }
        assert_eq!(mailbox.take().len(), 5);
    }
    assert_eq!(mailbox.take(), []);
    assert_eq!(wakes.load(Ordering::Relaxed), 3, "nobody is woken for nothing");
}

#[test]
fn a_long_queue_is_handed_over_in_turns() {
    let (mailbox, wakes) = mailbox();
    (0..600).for_each(|ticket| mailbox.post(settled(ticket)));
    let mut sizes = vec![mailbox.take().len()];
    // By itself, turn for turn, as the real reader; what comes meanwhile calls nobody.
    while mailbox.has_more() {
        sizes.push(mailbox.take().len());
        if sizes.len() == 2 {
            mailbox.post(settled(600));
        }
    }
    assert_eq!(sizes, [BATCH, BATCH, 89]);
    assert_eq!(wakes.load(Ordering::Relaxed), 1);
    mailbox.post(settled(601));
    assert_eq!(wakes.load(Ordering::Relaxed), 2);
}

#[test]
fn a_wake_reader_wakes_the_reader_without_news() {
    let (mailbox, wakes) = mailbox();
    mailbox.wake_reader();
    assert_eq!(wakes.load(Ordering::Relaxed), 1);
    assert_eq!(mailbox.take(), []);
}

#[test]
fn output_is_bounded_in_bytes_and_dropped_with_a_count() {
    for line in [output as fn(usize) -> Message, log] {
        let (mailbox, _) = mailbox();
        (0..1_000).for_each(|_| mailbox.post(line(1_024)));
        let messages = empty(&mailbox);
        assert_eq!(count(&messages, is_output), OUTPUT_BYTES_MAX / 1_024);
        assert_eq!(dropped(&messages), (0, 1_000 - (OUTPUT_BYTES_MAX / 1_024) as u64));
        // What was taken makes room again, and what was counted is not counted twice.
        (0..10).for_each(|_| mailbox.post(line(1_024)));
        let messages = empty(&mailbox);
        assert_eq!((count(&messages, is_output), dropped(&messages)), (10, (0, 0)));
        // The count of a second flood, right after the first, waits for no further message.
        (0..1_000).for_each(|_| mailbox.post(line(1_024)));
        let messages = empty(&mailbox);
        assert_eq!(dropped(&messages).1 + count(&messages, is_output) as u64, 1_000);
    }
}

#[test]
fn a_short_line_still_fits_where_a_long_one_did_not() {
    let (mailbox, _) = mailbox();
    mailbox.post(output(OUTPUT_BYTES_MAX - 10));
    mailbox.post(output(11));
    mailbox.post(output(10));
    let messages = empty(&mailbox);
    assert_eq!((count(&messages, is_output), dropped(&messages)), (2, (0, 1)));
}

#[test]
fn events_are_bounded_in_number_and_dropped_with_a_count() {
    let (mailbox, _) = mailbox();
    (0..EVENTS_MAX + 7).for_each(|_| mailbox.post(notice(0)));
    let messages = empty(&mailbox);
    assert_eq!(count(&messages, |message| matches!(message, Message::Notice { .. })), EVENTS_MAX);
    assert_eq!(dropped(&messages), (7, 0));
    mailbox.post(notice(0));
    assert_eq!(empty(&mailbox), [notice(0)]);
}

#[test]
fn answers_get_through_whatever_else_piles_up() {
    let (mailbox, wakes) = mailbox();
    for ticket in 0..200 {
        (0..100).for_each(|_| mailbox.post(notice(0)));
        (0..10).for_each(|_| mailbox.post(output(4_096)));
        mailbox.post(settled(ticket));
    }
    assert_eq!(wakes.load(Ordering::Relaxed), 1);
    let messages = empty(&mailbox);
    let tickets: Vec<u64> =
        messages.iter().filter_map(|message| if let Message::Settled { ticket, .. } = message { Some(*ticket) } else { None }).collect();
    assert_eq!(tickets, (0..200).collect::<Vec<_>>());
    let (events, lines) = dropped(&messages);
    let kept = count(&messages, |message| !matches!(message, Message::Settled { .. } | Message::Dropped { .. })) as u64;
    assert_eq!(kept + events + lines, 200 * 110, "what is not there was counted");
    assert!(events > 0 && lines > 0);
}

#[test]
fn lines_don_t_take_the_room_of_events() {
    let (mailbox, _) = mailbox();
    // Short ones are bounded in number, not only in bytes.
    (0..=EVENTS_MAX).for_each(|_| mailbox.post(output(0)));
    (0..1_000).for_each(|_| mailbox.post(output(1_024)));
    (0..EVENTS_MAX).for_each(|_| mailbox.post(notice(0)));
    let messages = empty(&mailbox);
    assert_eq!(count(&messages, |message| matches!(message, Message::Notice { .. })), EVENTS_MAX);
    let (events, lines) = dropped(&messages);
    assert_eq!((events, lines + count(&messages, is_output) as u64), (0, EVENTS_MAX as u64 + 1_001));
    assert!(lines > 1_000);
}

#[test]
fn what_the_logger_must_hear_is_an_event_and_a_daemon_s_line_is_not() {
    let (mailbox, _) = mailbox();
    (0..1_000).for_each(|_| mailbox.post(output(1_024)));
    let spoken = |level| Message::Log { level, text: "x".repeat(1_024), fields: Vec::new() };
    let levels = [tracing::Level::ERROR, tracing::Level::WARN, tracing::Level::INFO, tracing::Level::DEBUG];
    levels.into_iter().for_each(|level| mailbox.post(spoken(level)));
    let messages = empty(&mailbox);
    let heard: Vec<_> =
        messages.iter().filter_map(|message| if let Message::Log { level, .. } = message { Some(*level) } else { None }).collect();
    assert_eq!(heard, levels[..3]);
}

/// Several writers and a reader that only looks when it is woken: a lost wake-up would lose an answer.
#[test]
fn no_answer_and_no_wake_up_is_lost_between_threads() {
    const WRITERS: u64 = 4;
    const EACH: u64 = 5_000;
    let (sender, woken) = mpsc::channel();
    let mailbox = Mailbox::new(Box::new(move || sender.send(()).unwrap()));
    let mut answered = HashSet::new();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let mailbox = &mailbox;
            scope.spawn(move || (0..EACH).for_each(|number| mailbox.post(settled(writer * EACH + number))));
        }
        while answered.len() < (WRITERS * EACH) as usize {
            woken.recv_timeout(Duration::from_secs(10)).expect("the reader is woken while something waits");
            loop {
                for message in mailbox.take() {
                    let Message::Settled { ticket, .. } = message else { panic!("{message:?}") };
                    assert!(answered.insert(ticket), "ticket {ticket} was answered twice");
                }
                if !mailbox.has_more() {
                    break;
                }
            }
        }
    });
}
