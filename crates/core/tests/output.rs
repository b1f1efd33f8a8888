//! Bytes to lines, and the bounded end of a daemon's output.

#![expect(clippy::unwrap_used, reason = "a test that can't go on should panic")]

#[path = "../../base/tests/allocator/mod.rs"]
mod allocator;

use ally_core::supervisor::Stream::{self, Stderr, Stdout};
use ally_core::supervisor::{LINE_MAX, Splitter, Tail};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::VecDeque;

const TAIL_BYTES: usize = 256 * 1024;
const TAIL_LINES: usize = 1_000;

fn split(chunks: &[&[u8]]) -> Vec<String> {
    let mut splitter = Splitter::default();
    let mut lines = Vec::new();
    for chunk in chunks {
        splitter.feed(chunk, |line| lines.push(line));
    }
    lines.extend(splitter.rest());
    lines
}

// Lines.

#[test]
fn lines_end_at_newlines_and_a_trailing_one_is_kept() {
    assert_eq!(split(&[b"one\ntwo\n\nfour"]), ["one", "two", "", "four"]);
    assert_eq!(split(&[b"one", b"", b" and\n", b"\n"]), ["one and", ""]);
    assert_eq!(split(&[b""]), [""; 0]);
}

#[test]
fn a_character_may_arrive_in_pieces() {
    for text in ["é", "€", "😀", "a\u{301}", "né€😀"] {
        let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(split(&bytes), [text]);
    }
}

#[test]
fn what_is_not_utf_8_is_replaced_and_costs_only_itself() {
    assert_eq!(split(&[b"a\xFFb\n"]), ["a\u{FFFD}b"]);
    assert_eq!(split(&[b"\xE2\x82\nnext\n"]), ["\u{FFFD}", "next"], "a character that its line ends before");
    assert_eq!(split(&[b"\xF0\x9F\x98"]), ["\u{FFFD}"]);
    assert_eq!(split(&[b"\xC0\x80\xED\xA0\x80"]).concat().chars().filter(|c| *c == '\u{FFFD}').count(), 5);
}

#[test]
fn a_carriage_return_goes_only_with_its_newline() {
    assert_eq!(split(&[b"one\r\ntwo\r", b"\n\r\n10%\r20%\n"]), ["one", "two", "", "10%\r20%"]);
    assert_eq!(split(&[b"one\r\r\n"]), ["one\r"]);
}

#[test]
fn a_long_line_is_split_between_characters() {
    for character in ["x", "é", "€", "😀"] {
        for before in 0..4 {
            let line = "-".repeat(before) + &character.repeat(3 * LINE_MAX / character.len());
            let pieces = split(&[line.as_bytes(), b"\nnext\n"]);
            assert_eq!(pieces.last().unwrap(), "next");
            let pieces = &pieces[..pieces.len() - 1];
            assert_eq!(pieces.concat(), line, "{character} after {before}");
            let mut rest = line.as_str();
            for piece in pieces {
                let end = (0..=LINE_MAX.min(rest.len())).rev().find(|at| rest.is_char_boundary(*at)).unwrap();
                let (fits, after) = rest.split_at(end);
                assert_eq!(piece.len(), fits.len(), "as much as fits, of {character} after {before}");
                rest = after;
            }
        }
    }
}

#[test]
fn a_line_of_exactly_the_limit_is_one_line() {
    let full = "x".repeat(LINE_MAX);
    for end in ["\n", "\r\n"] {
        assert_eq!(split(&[full.as_bytes(), end.as_bytes(), b"next\n"]), [full.as_str(), "next"]);
        assert_eq!(split(&[format!("{full}{end}next").as_bytes()]), [full.as_str(), "next"]);
        assert_eq!(split(&[format!("{full}y{end}next").as_bytes()]), [full.as_str(), "y", "next"]);
    }
    let returning = format!("{}\rmore\n", "x".repeat(LINE_MAX - 1));
    assert_eq!(split(&[returning.as_bytes()]), [&returning[..LINE_MAX], "more"], "a carriage return where a line is split is kept");
}

#[test]
fn a_long_line_of_rubbish_is_split_all_the_same() {
    for rubbish in [0x80, 0xBF, 0xC0, 0xF0, 0xFF] {
        let pieces = split(&[&vec![rubbish; 2 * LINE_MAX + 5]]);
        assert!(pieces.len() >= 3);
        assert!(pieces.concat().chars().all(|c| c == '\u{FFFD}'));
    }
}

#[test]
fn a_splitter_forgets_what_it_is_told_to_forget() {
    let mut splitter = Splitter::default();
    let mut lines = Vec::new();
    splitter.feed(b"half a li", |line| lines.push(line));
    splitter.clear();
    assert_eq!(splitter.rest(), None);
    splitter.feed(b"whole\nagain", |line| lines.push(line));
    assert_eq!(lines, ["whole"]);
    assert_eq!(splitter.rest().as_deref(), Some("again"));
    assert_eq!(splitter.rest(), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn how_bytes_are_cut_into_reads_makes_no_difference(bytes in vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..600), cuts in vec(0..600usize, 0..20)) {
        let mut cuts: Vec<usize> = cuts.into_iter().map(|at| at.min(bytes.len())).chain([0, bytes.len()]).collect();
        cuts.sort_unstable();
        let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        prop_assert_eq!(split(&chunks), split(&[&bytes]));
    }

    #[test]
    fn nor_near_the_limit(extra in 0..4usize, returns in any::<bool>(), ends in any::<bool>(), cuts in vec(0..8usize, 0..4)) {
        let bytes = [vec![b'x'; LINE_MAX - 2 + extra], vec![b'\r'; usize::from(returns)], vec![b'\n'; usize::from(ends)], b"next".to_vec()].concat();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|at| (LINE_MAX - 3 + at).min(bytes.len())).chain([0, bytes.len()]).collect();
        cuts.sort_unstable();
        let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        prop_assert_eq!(split(&chunks), split(&[&bytes]));
    }

    #[test]
    fn lines_are_what_a_simple_reader_sees(bytes in vec(prop_oneof![3 => Just(b'\n'), 1 => any::<u8>(), 4 => 0x20..0x7Fu8], 0..600)) {
        let bytes: Vec<u8> = bytes.into_iter().filter(|byte| *byte != b'\r').collect();
        let mut expected: Vec<String> = bytes.split(|byte| *byte == b'\n').map(|line| String::from_utf8_lossy(line).into_owned()).collect();
        // After the last newline there is no line, unless there is something.
        expected.pop_if(|last| last.is_empty());
        prop_assert_eq!(split(&[&bytes]), expected);
    }
}

// The tail.

fn tail_of(writes: &[(Stream, &str)]) -> Tail {
    let tail = Tail::default();
    for (stream, text) in writes {
        tail.append(0, *stream, text.as_bytes());
    }
    tail
}

/// What of these lines a tail shows: the last ones, as many as both bounds allow.
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
fn the_last_lines_are_given_oldest_first() {
    let tail = tail_of(&[(Stdout, "one\ntwo\nthree\nfour")]);
    assert_eq!(tail.lines(2), ["three", "four"]);
    assert_eq!(tail.lines(100), ["one", "two", "three", "four"]);
    assert_eq!(tail.lines(0), [""; 0]);
    assert_eq!(Tail::default().lines(5), [""; 0]);
}

#[test]
fn streams_don_t_mix_within_a_line() {
    let tail = tail_of(&[(Stdout, "out "), (Stderr, "err\nmore "), (Stdout, "put\n"), (Stderr, "err"), (Stdout, "last")]);
    assert_eq!(tail.lines(9), ["err", "out put", "last", "more err"], "a line stands where it ended");
}

#[test]
fn a_thousand_lines_are_kept_and_no_more() {
    let lines: Vec<String> = (0..2_500).map(|number| format!("line {number}")).collect();
    let tail = tail_of(&[(Stdout, &(lines.join("\n") + "\n"))]);
    assert_eq!(tail.lines(usize::MAX), lines[1_500..]);
}

#[test]
fn the_tail_is_bounded_in_bytes_too() {
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
fn replacements_count_as_the_bytes_that_they_are() {
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
fn a_stream_without_any_newline_is_shown_all_the_same() {
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
fn a_flood_costs_no_more_memory_than_the_tail() {
    let tail = Tail::default();
    for size in [10, 100, 8_000, 64 * 1024] {
        let line = [vec![b'x'; size - 1], vec![b'\n']].concat();
        let ((), peak) = allocator::peak(|| (0..2 * 1024 * 1024 / size).for_each(|_| tail.append(0, Stdout, &line)));
        assert!(peak < 640 * 1024, "{peak} bytes for writes of {size}");
    }
    let crumbs = || {
        for _ in 0..200_000 {
            tail.append(0, Stdout, b"x");
            tail.append(0, Stderr, b"y");
        }
    };
    let ((), peak) = allocator::peak(crumbs);
    assert!(peak < 1024 * 1024, "{peak} bytes for two streams that take turns");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Each line is written in two pieces, between which the other stream may write.
    #[test]
    fn after_eviction_every_line_is_whole_and_none_is_missing(sizes in vec((1..2_500usize, any::<bool>(), any::<bool>()), 200..600)) {
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
    fn a_tail_shows_what_the_bounds_allow(text in vec((0..400usize, any::<bool>()), 0..1_500), pieces in 1..9_000usize, count in 0..1_500usize) {
        let lines: Vec<String> = text.into_iter().enumerate().map(|(number, (size, _))| format!("{number:>size$}")).collect();
        let bytes = lines.join("\n").into_bytes();
        let tail = Tail::default();
        bytes.chunks(pieces).for_each(|piece| tail.append(0, Stdout, piece));
        prop_assert_eq!(tail.lines(count), within_bounds(&lines, count));
    }
}

proptest! {
    /// Both streams, lines in pieces, the last ones without an end, a new process now and then.
    #[test]
    fn fewer_lines_are_the_last_of_all_lines(writes in vec((any::<bool>(), "[a-z]{0,5}(\\n[a-z]{0,5}){0,3}\\n?", 0..8u8), 0..60), count in 0..40usize) {
        let tail = Tail::default();
        let mut process = tail.begin();
        for (to_stderr, text, dice) in &writes {
            tail.append(process, if *to_stderr { Stderr } else { Stdout }, text.as_bytes());
            if *dice == 0 {
                process = tail.begin();
            }
        }
        let all = tail.lines(usize::MAX);
        prop_assert_eq!(tail.lines(count), &all[all.len().saturating_sub(count)..]);
    }
}

// What goes with an error.

#[test]
fn excerpt_is_stderr_and_stdout_only_where_stderr_was_silent() {
    assert_eq!(Tail::default().error_excerpt(), "");
    assert_eq!(tail_of(&[(Stdout, "starting\nready\n")]).error_excerpt(), "starting\nready");
    assert_eq!(tail_of(&[(Stderr, "bad\n"), (Stdout, "starting\n"), (Stderr, "worse")]).error_excerpt(), "bad\nworse");
}

#[test]
fn excerpt_is_the_current_process_s_alone() {
    let tail = tail_of(&[(Stderr, "the first one's fault\n")]);
    let second = tail.begin();
    assert_eq!(tail.error_excerpt(), "");
    tail.append(second, Stdout, b"hello\n");
    assert_eq!(tail.error_excerpt(), "hello", "an older stderr doesn't silence it");
    tail.append(second, Stderr, b"the second one's fault\n");
    tail.append(0, Stderr, b"a survivor of the first goes on\n");
    assert_eq!(tail.error_excerpt(), "the second one's fault");
    assert_eq!(
        tail.lines(9),
        ["the first one's fault", "hello", "the second one's fault", "a survivor of the first goes on"],
        "getOutput has all"
    );
}

#[test]
fn the_last_words_of_one_process_are_not_joined_with_the_first_of_the_next() {
    let tail = tail_of(&[(Stdout, "cut off"), (Stderr, "in the mid")]);
    let second = tail.begin();
    tail.append(second, Stderr, b"first\n");
    tail.append(second, Stdout, b"hello\n");
    assert_eq!(tail.lines(9), ["cut off", "in the mid", "first", "hello"]);
    assert_eq!(tail.lines(1), ["hello"]);
}

#[test]
fn excerpt_has_its_first_line_though_an_older_process_lost_its_own() {
    let tail = Tail::default();
    // Less than the tail, and in the middle of a line.
    (0..40).for_each(|_| tail.append(0, Stderr, &[b'x'; 8_000]));
    let second = tail.begin();
    tail.append(second, Stderr, b"the reason\nand more\n");
    assert_eq!(tail.error_excerpt(), "the reason\nand more");
}

#[test]
fn excerpt_is_short() {
    let tail = Tail::default();
    let lines: Vec<String> = (0..200).map(|number| format!("line {number}")).collect();
    tail.append(0, Stderr, lines.join("\n").as_bytes());
    assert_eq!(tail.error_excerpt(), lines[150..].join("\n"));
    let second = tail.begin();
    let lines: Vec<String> = (0..20).map(|number| format!("{number:>1000}")).collect();
    tail.append(second, Stderr, lines.join("\n").as_bytes());
    assert_eq!(tail.error_excerpt(), lines[12..].join("\n"), "8 KiB");
}
