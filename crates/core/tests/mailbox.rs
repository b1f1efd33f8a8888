//! The messages that wait for the JavaScript thread. Answers are never dropped. Events and output lines
//! are bounded, and dropped ones are counted.

#![expect(clippy::unwrap_used, reason = "a test that can't go on should panic")]

use ally_core::error::Failure;
use ally_core::lifecycle::Notice;
use ally_core::model::Stream;
use ally_core::supervisor::{Mailbox, Message, Refusal};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

const BATCH: usize = 256;
const EVENTS_MAX: usize = 10_000;
const OUTPUT_BYTES_MAX: usize = 512 * 1024;

/// A mailbox, and the number of its wake-ups.
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

/// All waiting messages, batch by batch.
fn empty(mailbox: &Mailbox) -> Vec<Message> {
    std::iter::from_fn(|| Some(mailbox.take()).filter(|batch| !batch.is_empty())).flatten().collect()
}

/// The number of dropped events, and of dropped lines.
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
fn messages_are_taken_in_the_order_in_which_they_were_posted() {
    let (mailbox, _) = mailbox();
    let refused = Refusal::new("p".to_owned(), Failure::Stopped);
    let posted = [notice(1), output(3), settled(1), log(2), Message::Settled { ticket: 2, outcome: Err(refused) }, notice(2)];
    posted.iter().for_each(|message| mailbox.post(message.clone()));
    assert_eq!(mailbox.take(), posted);
    assert_eq!(mailbox.take(), []);
}

#[test]
fn reader_is_woken_once_per_batch() {
    let (mailbox, wakes) = mailbox();
    for round in 1..=3 {
        for ticket in 0..5 {
            mailbox.post(settled(ticket));
            assert_eq!(wakes.load(Ordering::Relaxed), round, "only the first message wakes");
        }
        assert_eq!(mailbox.take().len(), 5);
    }
    assert_eq!(mailbox.take(), []);
    assert_eq!(wakes.load(Ordering::Relaxed), 3, "an empty mailbox wakes no reader");
}

#[test]
fn long_queue_is_taken_in_batches_of_256() {
    let (mailbox, wakes) = mailbox();
    (0..600).for_each(|ticket| mailbox.post(settled(ticket)));
    let mut sizes = vec![mailbox.take().len()];
    // The reader goes on without a wake-up, and a message in the meantime wakes no reader.
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
fn wake_reader_wakes_without_a_message() {
    let (mailbox, wakes) = mailbox();
    mailbox.wake_reader();
    assert_eq!(wakes.load(Ordering::Relaxed), 1);
    assert_eq!(mailbox.take(), []);
}

#[test]
fn output_lines_above_512_kib_are_dropped_and_counted() {
    for line in [output as fn(usize) -> Message, log] {
        let (mailbox, _) = mailbox();
        (0..1_000).for_each(|_| mailbox.post(line(1_024)));
        let messages = empty(&mailbox);
        assert_eq!(count(&messages, is_output), OUTPUT_BYTES_MAX / 1_024);
        assert_eq!(dropped(&messages), (0, 1_000 - (OUTPUT_BYTES_MAX / 1_024) as u64));
        // A taken line makes room again, and a dropped line is counted once.
        (0..10).for_each(|_| mailbox.post(line(1_024)));
        let messages = empty(&mailbox);
        assert_eq!((count(&messages, is_output), dropped(&messages)), (10, (0, 0)));
        // The count of a second flood needs no further message.
        (0..1_000).for_each(|_| mailbox.post(line(1_024)));
        let messages = empty(&mailbox);
        assert_eq!(dropped(&messages).1 + count(&messages, is_output) as u64, 1_000);
    }
}

#[test]
fn short_output_line_is_kept_after_a_long_line_was_dropped() {
    let (mailbox, _) = mailbox();
    mailbox.post(output(OUTPUT_BYTES_MAX - 10));
    mailbox.post(output(11));
    mailbox.post(output(10));
    let messages = empty(&mailbox);
    assert_eq!((count(&messages, is_output), dropped(&messages)), (2, (0, 1)));
}

#[test]
fn events_above_10000_are_dropped_and_counted() {
    let (mailbox, _) = mailbox();
    (0..EVENTS_MAX + 7).for_each(|_| mailbox.post(notice(0)));
    let messages = empty(&mailbox);
    assert_eq!(count(&messages, |message| matches!(message, Message::Notice { .. })), EVENTS_MAX);
    assert_eq!(dropped(&messages), (7, 0));
    mailbox.post(notice(0));
    assert_eq!(empty(&mailbox), [notice(0)]);
}

#[test]
fn answers_are_never_dropped_during_floods_of_events_and_lines() {
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
    assert_eq!(kept + events + lines, 200 * 110, "each missing message was counted");
    assert!(events > 0 && lines > 0);
}

#[test]
fn output_lines_never_take_the_room_of_events() {
    let (mailbox, _) = mailbox();
    // Empty lines are bounded in number too.
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
fn log_entries_of_error_warn_and_info_count_as_events_and_debug_as_output() {
    let (mailbox, _) = mailbox();
    (0..1_000).for_each(|_| mailbox.post(output(1_024)));
    let entry = |level| Message::Log { level, text: "x".repeat(1_024), fields: Vec::new() };
    let levels = [tracing::Level::ERROR, tracing::Level::WARN, tracing::Level::INFO, tracing::Level::DEBUG];
    levels.into_iter().for_each(|level| mailbox.post(entry(level)));
    let messages = empty(&mailbox);
    let kept: Vec<_> =
        messages.iter().filter_map(|message| if let Message::Log { level, .. } = message { Some(*level) } else { None }).collect();
    assert_eq!(kept, levels[..3]);
}

/// The reader takes messages only after a wake-up, so a lost wake-up would lose an answer.
#[test]
fn answers_and_wake_ups_of_four_threads_all_arrive() {
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
            woken.recv_timeout(Duration::from_secs(10)).expect("a wake-up while messages wait");
            loop {
                for message in mailbox.take() {
                    let Message::Settled { ticket, .. } = message else { panic!("{message:?}") };
                    assert!(answered.insert(ticket), "ticket {ticket} was settled twice");
                }
                if !mailbox.has_more() {
                    break;
                }
            }
        }
    });
}
