//! The queue never waits for the disk: what does not fit is dropped as whole lines and counted.

use std::io;

use ally_log::{CAPACITY, Queue, Taken};
use memchr::memchr_iter;
use proptest::prelude::*;

fn queue() -> (Queue, io::PipeReader) {
    let (room, making_room) = io::pipe().unwrap();
    (Queue::new(making_room.into()), room)
}

#[test]
fn lines_that_do_not_fit_are_dropped_whole_and_counted_at_their_place() {
    let (queue, _room) = queue();
    let mut buffer = Vec::new();
    queue.push(&vec![b'x'; CAPACITY - 4]);
    queue.push(b"\n12\n");
    // One byte too many: this line and all that follow.
    queue.push(b"lost\n");
    queue.push(b"\nlost too");
    assert_eq!(queue.take(&mut buffer), Taken { dropped: 3, ..Taken::default() });
    assert_eq!((buffer.len(), buffer.ends_with(b"\n12\n")), (CAPACITY, true));
    // The rest of the dropped line is no line.
    queue.push(b" and its rest\nnext\n");
    assert_eq!(queue.take(&mut buffer), Taken::default());
    assert_eq!(buffer, b"next\n");
}

#[test]
fn the_reader_waits_for_a_full_queue_and_goes_on_after_a_second() {
    let (queue, _room) = queue();
    assert_eq!(queue.wait_for_room(), None);
    queue.push(&vec![b'\n'; CAPACITY / 2 + 1]);
    assert!(queue.wait_for_room().is_some());
    let begun = std::time::Instant::now();
    super::support::until("the writer counts as stalled", || queue.wait_for_room().is_none());
    assert!(begun.elapsed().as_millis() >= 900);
    queue.take(&mut Vec::new());
    queue.push(b"\n");
    assert_eq!(queue.wait_for_room(), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn every_line_is_taken_or_counted(lengths in proptest::collection::vec(1..90_000_usize, 1..60), cut in 1..70_000_usize) {
        let (queue, _room) = queue();
        let bytes: Vec<u8> = lengths.iter().flat_map(|length| [vec![b'x'; length - 1], vec![b'\n']].concat()).collect();
        let (mut taken, mut dropped, mut buffer) = (0, 0, Vec::new());
        for (index, piece) in bytes.chunks(cut).enumerate() {
            queue.push(piece);
            if index % 23 == 22 {
                dropped += queue.take(&mut buffer).dropped;
                taken += memchr_iter(b'\n', &buffer).count();
            }
        }
        queue.close();
        dropped += queue.take(&mut buffer).dropped;
        taken += memchr_iter(b'\n', &buffer).count();
        prop_assert_eq!(taken as u64 + dropped, lengths.len() as u64);
    }
}
