//! The bounded tail that `getOutput` reads.

use ally_core::model::Stream::{self, Stderr, Stdout};
use ally_core::supervisor::{LINE_MAX, Tail};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::VecDeque;

use crate::{allocator, tail_of};

const TAIL_BYTES: usize = 256 * 1024;
const TAIL_LINES: usize = 1_000;

/// The last of these lines, as many as both bounds allow.
fn within_bounds(lines: &[String], count: usize) -> Vec<String> {
    let mut kept = VecDeque::new();
    let mut bytes = 0;
    for line in lines.iter().rev().take(count.min(TAIL_LINES)) {
        bytes += line.len() + 1;
        if bytes > TAIL_BYTES {
            break;
        }
        kept.push_front(line.clone());
    }
    kept.into()
}

#[test]
fn get_output_returns_the_last_lines_oldest_first() {
    let tail = tail_of(&[(Stdout, "one\ntwo\nthree\nfour")]);
    assert_eq!(tail.lines(2), ["three", "four"]);
    assert_eq!(tail.lines(100), ["one", "two", "three", "four"]);
    assert_eq!(tail.lines(0), [""; 0]);
    assert_eq!(Tail::default().lines(5), [""; 0]);
}

#[test]
fn get_output_has_the_lines_of_both_processes_of_an_upgrade() {
    let tail = Tail::default();
    let old = tail.begin();
    tail.append(old, Stdout, b"old 1\nold ");
    let new = tail.begin_beside();
    tail.append(new, Stdout, b"new 1\n");
    tail.append(new, Stderr, b"new error\n");
    assert!(tail.append(old, Stdout, b"2\nold 3\n"));
    tail.append(old, Stderr, b"old error\n");
    assert_eq!(tail.lines(9), ["old 1", "old ", "new 1", "new error", "2", "old 3", "old error"], "the other's line is cut");
    assert_eq!((tail.error_excerpt_of(old), tail.error_excerpt_of(new)), ("old error".to_owned(), "new error".to_owned()));
    tail.end(old);
    assert!(!tail.append(old, Stdout, b"spared\n"));
    assert!(tail.append(new, Stdout, b"new 2\n"));
    let next = tail.begin();
    assert!(!tail.append(new, Stdout, b"late\n"));
    assert!(tail.append(next, Stdout, b"next\n"));
    assert_eq!(tail.lines(2), ["new 2", "next"]);
}

#[test]
fn get_output_never_mixes_stdout_and_stderr_within_a_line() {
    let tail = tail_of(&[(Stdout, "out "), (Stderr, "err\nmore "), (Stdout, "put\n"), (Stderr, "err"), (Stdout, "last")]);
    assert_eq!(tail.lines(9), ["err", "out put", "last", "more err"], "lines are in the order of their ends");
}

#[test]
fn tail_ignores_a_process_that_has_ended_and_one_with_a_successor() {
    let tail = Tail::default();
    let first = tail.begin();
    assert!(tail.append(first, Stdout, b"of the first\n"));
    tail.end(first);
    assert!(!tail.append(first, Stdout, b"of what was spared\n"));
    let second = tail.begin();
    assert!(!tail.append(first, Stderr, b"of what was spared\n"));
    assert!(tail.append(second, Stderr, b"of the second\n"));
    // A late end of the first process does not end the second.
    tail.end(first);
    assert!(tail.append(second, Stderr, b""));
    assert_eq!(tail.lines(9), ["of the first", "of the second"]);
}

#[test]
fn tail_keeps_the_first_line_of_a_process_whose_predecessor_wrote_no_newline() {
    let tail = Tail::default();
    let first = tail.begin();
    for _ in 0..2 * TAIL_BYTES / 8_000 {
        tail.append(first, Stdout, &[b'x'; 8_000]);
    }
    let second = tail.begin();
    tail.append(second, Stdout, b"hello\nworld\n");
    assert_eq!(tail.lines(2), ["hello", "world"]);
    assert_eq!(tail.lines(9).iter().rev().take(2).rev().collect::<Vec<_>>(), ["hello", "world"]);
}

#[test]
fn tail_keeps_1000_lines() {
    let lines: Vec<String> = (0..2_500).map(|number| format!("line {number}")).collect();
    let tail = tail_of(&[(Stdout, &(lines.join("\n") + "\n"))]);
    assert_eq!(tail.lines(usize::MAX), lines[1_500..]);
}

#[test]
fn tail_keeps_256_kib() {
    // With the newline, 4,095 bytes fill the tail to the last byte.
    for length in [300, 4_000, 4_095, 50_000] {
        let lines: Vec<String> = (0..4 * TAIL_BYTES / length).map(|number| format!("{number:>length$}")).collect();
        let tail = Tail::default();
        for line in &lines {
            tail.append(0, Stdout, line.as_bytes());
            tail.append(0, Stdout, b"\n");
        }
        assert_eq!(tail.lines(usize::MAX), within_bounds(&lines, usize::MAX), "lines of {length} bytes");
    }
}

#[test]
fn tail_counts_replacement_characters_as_three_bytes() {
    let tail = Tail::default();
    for _ in 0..300 {
        tail.append(0, Stderr, &[0xFF; 999]);
        tail.append(0, Stderr, b"\n");
    }
    let lines = tail.lines(usize::MAX);
    let bytes: usize = lines.iter().map(|line| line.len() + 1).sum();
    assert!(bytes <= TAIL_BYTES && bytes > TAIL_BYTES - 3_000, "{bytes}");
}

#[test]
fn tail_keeps_the_end_of_a_stream_without_newlines() {
    let tail = Tail::default();
    for _ in 0..40 {
        tail.append(0, Stdout, &[b'x'; 10_000]);
    }
    let lines = tail.lines(usize::MAX);
    assert!(lines.iter().all(|line| line.bytes().all(|byte| byte == b'x')));
    let bytes: usize = lines.iter().map(String::len).sum();
    assert!(bytes <= TAIL_BYTES && bytes > TAIL_BYTES - 2 * LINE_MAX, "{bytes}");
}

#[test]
fn tail_of_a_flood_allocates_no_more_than_its_bounds() {
    let tail = Tail::default();
    for size in [10, 100, 8_000, 64 * 1024] {
        let line = [vec![b'x'; size - 1], vec![b'\n']].concat();
        let (_, peak) = allocator::peak(|| (0..2 * 1024 * 1024 / size).all(|_| tail.append(0, Stdout, &line)));
        assert!(peak < 640 * 1024, "{peak} bytes for writes of {size}");
    }
    let mut buffer = vec![b'x'; 64 * 1024];
    // The largest waste: a taken buffer is half empty.
    for size in [32 * 1024, 64 * 1024] {
        let (_, peak) = allocator::peak(|| (0..100).all(|_| tail.append_buffer(0, Stdout, &mut buffer, size)));
        assert!(peak < 768 * 1024, "{peak} bytes for buffers with {size}");
    }
    let single_bytes = || {
        for _ in 0..200_000 {
            tail.append(0, Stdout, b"x");
            tail.append(0, Stderr, b"y");
        }
    };
    let ((), peak) = allocator::peak(single_bytes);
    assert!(peak < 1024 * 1024, "{peak} bytes for single bytes of two streams in turn");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Each line is written in two pieces, between which the other stream may write.
    #[test]
    fn tail_after_eviction_has_only_whole_lines_and_no_gap(sizes in vec((1..2_500usize, any::<bool>(), any::<bool>()), 200..600)) {
        let tail = Tail::default();
        let mut written: [Vec<String>; 2] = Default::default();
        let mut waiting: Option<(Stream, String)> = None;
        for (number, (size, to_stderr, hold)) in sizes.into_iter().enumerate() {
            let stream = if to_stderr { Stderr } else { Stdout };
            if let Some((held, rest)) = waiting.take_if(|(held, _)| *held == stream || !hold) {
                tail.append(0, held, rest.as_bytes());
            }
            let line = format!("{}{number:>size$}", if to_stderr { 'e' } else { 'o' });
            let (head, rest) = line.split_at(line.len() / 2);
            tail.append(0, stream, head.as_bytes());
            let rest = format!("{rest}\n");
            if hold && waiting.is_none() {
                waiting = Some((stream, rest));
            } else {
                tail.append(0, stream, rest.as_bytes());
            }
            written[usize::from(to_stderr)].push(line);
        }
        if let Some((held, rest)) = waiting {
            tail.append(0, held, rest.as_bytes());
        }
        let lines = tail.lines(usize::MAX);
        for (kind, written) in ['o', 'e'].into_iter().zip(written) {
            let shown: Vec<&String> = lines.iter().filter(|line| line.starts_with(kind)).collect();
            let expected: Vec<&String> = written.iter().skip(written.len() - shown.len()).collect();
            prop_assert_eq!(shown, expected);
        }
        let bytes: usize = lines.iter().map(|line| line.len() + 1).sum();
        prop_assert!(bytes <= TAIL_BYTES && lines.len() <= TAIL_LINES);
        prop_assert!(lines.iter().all(|line| line.starts_with(['o', 'e'])), "a line without its beginning");
    }

    #[test]
    fn tail_of_taken_buffers_is_that_of_copied_bytes(sizes in vec((1..65_536usize, any::<bool>(), 1..3_000usize), 1..40)) {
        let (taken, copied) = (Tail::default(), Tail::default());
        let mut buffer = vec![0; 65_536];
        for (number, (size, to_stderr, width)) in sizes.into_iter().enumerate() {
            let stream = if to_stderr { Stderr } else { Stdout };
            let text: String = (0..).map(|line| format!("{number} {line:>width$}\n")).take(size / width + 1).collect();
            let bytes = &text.as_bytes()[..size.min(text.len())];
            buffer[..bytes.len()].copy_from_slice(bytes);
            prop_assert!(taken.append_buffer(0, stream, &mut buffer, bytes.len()));
            prop_assert_eq!(buffer.len(), 65_536);
            copied.append(0, stream, bytes);
        }
        prop_assert_eq!(taken.counts(), copied.counts());
        prop_assert_eq!(taken.lines(usize::MAX), copied.lines(usize::MAX));
    }

    #[test]
    fn tail_is_the_last_lines_within_both_bounds(text in vec((0..400usize, any::<bool>()), 0..1_500), pieces in 1..9_000usize, count in 0..1_500usize) {
        let lines: Vec<String> = text.into_iter().enumerate().map(|(number, (size, _))| format!("{number:>size$}")).collect();
        let bytes = lines.join("\n").into_bytes();
        let tail = Tail::default();
        for piece in bytes.chunks(pieces) {
            tail.append(0, Stdout, piece);
        }
        prop_assert_eq!(tail.lines(count), within_bounds(&lines, count));
    }
}

proptest! {
    /// Lines arrive in pieces on both streams, the last line may have no newline, and processes change.
    #[test]
    fn get_output_with_a_count_is_the_end_of_all_lines(writes in vec((any::<bool>(), "[a-z]{0,5}(\\n[a-z]{0,5}){0,3}\\n?", 0..8u8), 0..60), count in 0..40usize) {
        let tail = Tail::default();
        let mut process = tail.begin();
        for (to_stderr, text, random) in &writes {
            tail.append(process, if *to_stderr { Stderr } else { Stdout }, text.as_bytes());
            if *random == 0 {
                process = tail.begin();
            }
        }
        let all = tail.lines(usize::MAX);
        prop_assert_eq!(tail.lines(count), &all[all.len().saturating_sub(count)..]);
    }
}
