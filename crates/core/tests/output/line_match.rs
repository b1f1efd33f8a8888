//! Readiness `output`: the search for a line that matches.

use std::time::{Duration, Instant};

use ally_core::config::{Pattern, Probe};
use ally_core::model::Stream::{Stderr, Stdout};
use ally_core::supervisor::{LineMatch, LineSearch};
use proptest::prelude::*;

fn search(pattern: &str) -> LineMatch {
    LineMatch::of(&Probe::Output { pattern: pattern.to_owned(), stream: None }).unwrap()
}

fn is_found(lines: &LineMatch) -> bool {
    lines.look(Instant::now()) == LineSearch::Found
}

#[test]
fn line_matches_across_reads_and_at_its_newline() {
    let lines = search("^ready on 80$");
    for piece in ["rea", "dy on", " 80"] {
        lines.feed(Stdout, piece.as_bytes(), Instant::now());
        assert!(!is_found(&lines), "{piece}");
    }
    lines.feed(Stdout, b"\n", Instant::now());
    assert!(is_found(&lines));
}

#[test]
fn line_end_of_windows_is_no_part_of_a_line() {
    let lines = search("^ready$");
    lines.feed(Stdout, b"ready\r\n", Instant::now());
    assert!(is_found(&lines));
}

#[test]
fn streams_are_apart() {
    let lines = search("^ready$");
    lines.feed(Stdout, b"rea", Instant::now());
    lines.feed(Stderr, b"dy\n", Instant::now());
    lines.feed(Stdout, b"\nready", Instant::now());
    assert!(!is_found(&lines));
    lines.feed(Stderr, b"ready\n", Instant::now());
    assert!(is_found(&lines));
}

#[test]
fn stream_names_the_only_stream_that_counts() {
    let lines = LineMatch::of(&Probe::Output { pattern: "ready".to_owned(), stream: Some(Stderr) }).unwrap();
    lines.feed(Stdout, b"ready\n", Instant::now());
    assert!(!is_found(&lines));
    assert_eq!(lines.problem(), "no line came on stderr");
    lines.feed(Stderr, b"ready\n", Instant::now());
    assert!(is_found(&lines));
}

#[test]
fn first_4_kib_of_a_line_are_matched_before_its_newline_comes() {
    let lines = search("ready");
    let mut line = vec![b'.'; 4091];
    line.extend(b"ready");
    lines.feed(Stdout, &line, Instant::now());
    assert!(is_found(&lines), "the last bytes that count");

    for pieces in [1, 7, 5000] {
        let lines = search("eady");
        let mut line = vec![b'.'; 4093];
        line.extend(b"ready ready\nother\n");
        line.chunks(line.len().div_ceil(pieces)).for_each(|piece| lines.feed(Stdout, piece, Instant::now()));
        assert!(!is_found(&lines), "beyond the first 4 KiB, in {pieces} pieces");
        assert_eq!(lines.problem(), "none of 2 lines of stdout and stderr matches");
    }
}

#[test]
fn first_4_kib_end_at_a_whole_character_and_other_bytes_are_replaced() {
    let lines = search("^\\.+$");
    let mut line = vec![b'.'; 4095];
    line.extend("é".as_bytes());
    line.push(b'\n');
    lines.feed(Stdout, &line, Instant::now());
    assert!(is_found(&lines));

    let lines = search("^a\u{fffd}b$");
    lines.feed(Stdout, b"a\xffb\n", Instant::now());
    assert!(is_found(&lines));
}

#[test]
fn unfinished_line_counts_after_50_ms_without_more() {
    let begun = Instant::now();
    let at = |ms| begun + Duration::from_millis(ms);
    let lines = search("^ready> $");
    lines.feed(Stdout, b"ready> ", at(0));
    assert_eq!(lines.look(at(0)), LineSearch::Searching(Some(at(50))));
    lines.feed(Stderr, b"other", at(49));
    assert_eq!(lines.look(at(49)), LineSearch::Searching(Some(at(50))));
    assert_eq!(lines.look(at(50)), LineSearch::Found);

    // More text puts it off.
    let lines = search("^rea$");
    lines.feed(Stdout, b"rea", at(0));
    lines.feed(Stdout, b"dy", at(40));
    assert_eq!(lines.look(at(80)), LineSearch::Searching(Some(at(90))));
    assert_eq!(lines.look(at(90)), LineSearch::Searching(None));
    // The whole line is matched too.
    lines.feed(Stdout, b" rea\nrea\n", at(100));
    assert_eq!(lines.look(at(100)), LineSearch::Found);
}

#[test]
fn end_of_the_stream_ends_a_line() {
    let lines = search("ready");
    lines.feed(Stdout, b"ready", Instant::now());
    assert!(!is_found(&lines));
    lines.end_line(Stderr, Instant::now());
    assert!(!is_found(&lines));
    lines.end_line(Stdout, Instant::now());
    assert!(is_found(&lines));
}

#[test]
fn more_than_1_mib_in_a_second_is_not_matched_and_the_problem_says_so() {
    let lines = search("^ready$");
    let begun = Instant::now();
    let block = "x".repeat(999) + "\n";
    for _ in 0..1100 {
        lines.feed(Stdout, block.as_bytes(), begun);
    }
    let later = begun + Duration::from_millis(999);
    lines.feed(Stdout, b"ready\n", later);
    assert_eq!(lines.look(later), LineSearch::Searching(None));
    let problem = lines.problem();
    assert_eq!(
        problem,
        "none of 1048 lines of stdout and stderr matches; 53 more were not matched: more than 1 MiB, or 200 ms of matching, in a second"
    );
    let next = begun + Duration::from_secs(1);
    lines.feed(Stdout, b"ready\n", next);
    assert_eq!(lines.look(next), LineSearch::Found);
}

#[test]
fn pattern_that_takes_long_is_matched_for_200_ms_of_a_second() {
    let begun = Instant::now();
    let lines = search("(a?){200}b");
    let line = "x".repeat(4095) + "\n";
    for _ in 0..200 {
        lines.feed(Stdout, line.as_bytes(), begun);
    }
    assert!(lines.problem().contains(" more were not matched"), "{}", lines.problem());
}

#[test]
fn closed_search_finds_nothing_more() {
    let lines = search("ready");
    lines.close();
    lines.feed(Stdout, b"ready\n", Instant::now());
    assert!(!is_found(&lines));
}

#[test]
fn other_probes_search_nothing() {
    assert!(LineMatch::of(&Probe::Listen).is_none());
}

proptest! {
    #[test]
    fn pieces_make_no_difference(pieces in prop::collection::vec("[ab\n]{0,6}", 0..12), pattern in prop::sample::select(vec!["^ab$", "b", "^$", "aab?"])) {
        let whole = pieces.concat() + "\n";
        let expected = whole.lines().any(|line| regex(pattern, line));
        let lines = search(pattern);
        pieces.iter().for_each(|piece| lines.feed(Stdout, piece.as_bytes(), Instant::now()));
        lines.feed(Stdout, b"\n", Instant::now());
        prop_assert_eq!(is_found(&lines), expected);
    }
}

fn regex(pattern: &str, line: &str) -> bool {
    Pattern::compile(pattern).unwrap().is_match(line)
}
