//! Bytes to lines.

use ally_core::supervisor::{LINE_MAX, Splitter};
use proptest::collection::vec;
use proptest::prelude::*;

fn split(chunks: &[&[u8]]) -> Vec<String> {
    let mut splitter = Splitter::default();
    let mut lines = Vec::new();
    for chunk in chunks {
        splitter.feed(chunk, |line, _| lines.push(line));
    }
    lines.extend(splitter.rest().map(|(line, _)| line));
    lines
}

#[test]
fn output_line_ends_at_a_newline_or_at_the_end_of_the_stream() {
    assert_eq!(split(&[b"one\ntwo\n\nfour"]), ["one", "two", "", "four"]);
    assert_eq!(split(&[b"one", b"", b" and\n", b"\n"]), ["one and", ""]);
    assert_eq!(split(&[b""]), [""; 0]);
}

#[test]
fn output_character_that_arrives_in_pieces_is_whole() {
    for text in ["é", "€", "😀", "a\u{301}", "né€😀"] {
        let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(split(&bytes), [text]);
    }
}

#[test]
fn output_bytes_that_are_not_utf_8_become_replacement_characters() {
    assert_eq!(split(&[b"a\xFFb\n"]), ["a\u{FFFD}b"]);
    assert_eq!(split(&[b"\xE2\x82\nnext\n"]), ["\u{FFFD}", "next"], "a character cut off by the end of its line");
    assert_eq!(split(&[b"\xF0\x9F\x98"]), ["\u{FFFD}"]);
    assert_eq!(split(&[b"\xC0\x80\xED\xA0\x80"]).concat().chars().filter(|c| *c == '\u{FFFD}').count(), 5);
}

#[test]
fn output_carriage_return_is_removed_only_before_a_newline() {
    assert_eq!(split(&[b"one\r\ntwo\r", b"\n\r\n10%\r20%\n"]), ["one", "two", "", "10%\r20%"]);
    assert_eq!(split(&[b"one\r\r\n"]), ["one\r"]);
}

#[test]
fn output_line_above_64_kib_is_split_between_characters() {
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
                assert_eq!(piece.len(), fits.len(), "a piece has as many characters as fit: {character} after {before}");
                rest = after;
            }
        }
    }
}

#[test]
fn output_line_of_exactly_the_limit_is_one_line() {
    let full = "x".repeat(LINE_MAX);
    for end in ["\n", "\r\n"] {
        assert_eq!(split(&[full.as_bytes(), end.as_bytes(), b"next\n"]), [full.as_str(), "next"]);
        assert_eq!(split(&[format!("{full}{end}next").as_bytes()]), [full.as_str(), "next"]);
        assert_eq!(split(&[format!("{full}y{end}next").as_bytes()]), [full.as_str(), "y", "next"]);
    }
    let returning = format!("{}\rmore\n", "x".repeat(LINE_MAX - 1));
    assert_eq!(split(&[returning.as_bytes()]), [&returning[..LINE_MAX], "more"], "a carriage return at the split is kept");
}

#[test]
fn output_line_of_invalid_utf_8_above_the_limit_is_split() {
    for invalid in [0x80, 0xBF, 0xC0, 0xF0, 0xFF] {
        let pieces = split(&[&vec![invalid; 2 * LINE_MAX + 5]]);
        assert!(pieces.len() >= 3);
        assert!(pieces.concat().chars().all(|c| c == '\u{FFFD}'));
    }
}

#[test]
fn splitter_clear_drops_the_unfinished_line() {
    let mut splitter = Splitter::default();
    let mut lines = Vec::new();
    splitter.feed(b"half a li", |line, _| lines.push(line));
    splitter.clear();
    assert_eq!(splitter.rest(), None);
    splitter.feed(b"whole\nagain", |line, _| lines.push(line));
    assert_eq!(lines, ["whole"]);
    assert_eq!(splitter.rest().map(|(line, _)| line).as_deref(), Some("again"));
    assert_eq!(splitter.rest(), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn output_lines_are_the_same_for_reads_of_any_size(bytes in vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..600), cuts in vec(0..600usize, 0..20)) {
        let mut cuts: Vec<usize> = cuts.into_iter().map(|at| at.min(bytes.len())).chain([0, bytes.len()]).collect();
        cuts.sort_unstable();
        let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        prop_assert_eq!(split(&chunks), split(&[&bytes]));
    }

    #[test]
    fn output_lines_near_the_limit_are_the_same_for_reads_of_any_size(extra in 0..4usize, returns in any::<bool>(), ends in any::<bool>(), cuts in vec(0..8usize, 0..4)) {
        let bytes = [vec![b'x'; LINE_MAX - 2 + extra], vec![b'\r'; usize::from(returns)], vec![b'\n'; usize::from(ends)], b"next".to_vec()].concat();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|at| (LINE_MAX - 3 + at).min(bytes.len())).chain([0, bytes.len()]).collect();
        cuts.sort_unstable();
        let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        prop_assert_eq!(split(&chunks), split(&[&bytes]));
    }

    #[test]
    fn output_lines_are_equal_to_a_split_at_newlines(bytes in vec(prop_oneof![3 => Just(b'\n'), 1 => any::<u8>(), 4 => 0x20..0x7Fu8], 0..600)) {
        let bytes: Vec<u8> = bytes.into_iter().filter(|byte| *byte != b'\r').collect();
        let mut expected: Vec<String> = bytes.split(|byte| *byte == b'\n').map(|line| String::from_utf8_lossy(line).into_owned()).collect();
        // After the last newline a line begins only with its first byte.
        expected.pop_if(|last| last.is_empty());
        prop_assert_eq!(split(&[&bytes]), expected);
    }
}

/// Bytes and end of each line, fed in two parts.
fn ends(bytes: &[u8], cut: usize) -> Vec<(usize, u64)> {
    let mut splitter = Splitter::default();
    let mut lines = Vec::new();
    let (first, second) = bytes.split_at(cut);
    for part in [first, second] {
        splitter.feed(part, |line, end| lines.push((line.len(), end)));
    }
    lines.extend(splitter.rest().map(|(line, end)| (line.len(), end)));
    lines
}

#[test]
fn the_end_of_a_piece_of_a_long_line_is_the_same_for_reads_of_any_size() {
    for (extra, ending) in [(1, "\n"), (2, "\n"), (1, "\r\n"), (70_000, "\n"), (3, "")] {
        let text = [vec![b'x'; LINE_MAX + extra], ending.into(), b"next\n".to_vec()].concat();
        let whole = ends(&text, text.len());
        assert_eq!(whole.first(), Some(&(LINE_MAX, LINE_MAX as u64)));
        for cut in [LINE_MAX, LINE_MAX + 1, LINE_MAX + 2, LINE_MAX + 3].into_iter().filter(|cut| *cut <= text.len()) {
            assert_eq!(ends(&text, cut), whole, "extra {extra}, ending {ending:?}, cut {cut}");
        }
    }
}
