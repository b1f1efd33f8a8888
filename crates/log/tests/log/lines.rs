//! Two streams become whole lines, and no byte is lost or doubled.

use ally_log::Lines;
use memchr::memchr_iter;
use proptest::collection::vec;
use proptest::prelude::*;

/// What comes out, as one text.
fn merged(chunks: &[(usize, Vec<u8>)]) -> Vec<u8> {
    let mut lines = Lines::default();
    let mut out = Vec::new();
    for (stream, bytes) in chunks {
        lines.feed(*stream, bytes, &mut |piece| out.extend(piece));
    }
    lines.finish(&mut |piece| out.extend(piece));
    out
}

/// Streams with different letters, so that a line shows where its bytes are from.
fn chunk() -> impl Strategy<Value = (usize, Vec<u8>)> {
    (0..2_usize, vec((0..9_u8, 0..40_000_usize), 0..4)).prop_map(|(stream, parts)| {
        let letter = [b'a', b'b'][stream];
        let bytes = parts.into_iter().flat_map(|(kind, length)| match kind {
            0..4 => vec![b'\n'],
            4..7 => vec![letter; length % 50],
            _ => vec![letter; length],
        });
        (stream, bytes.collect())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn each_stream_comes_out_whole_and_no_line_has_bytes_of_both(chunks in vec(chunk(), 0..30)) {
        let out = merged(&chunks);
        for (stream, letter) in [(0, b'a'), (1, b'b')] {
            let sent = chunks.iter().filter(|(of, _)| *of == stream).flat_map(|(_, bytes)| bytes).filter(|byte| **byte == letter).count();
            prop_assert_eq!(memchr_iter(letter, &out).count(), sent);
        }
        for line in out.split(|byte| *byte == b'\n') {
            prop_assert!(line.windows(2).all(|pair| pair[0] == pair[1]));
        }
        // One newline is added between the last lines of both, and one for each very long line that the other stream waited for.
        let newlines = |bytes: &[u8]| memchr_iter(b'\n', bytes).count();
        let sent: usize = chunks.iter().map(|(_, bytes)| newlines(bytes)).sum();
        let length: usize = chunks.iter().map(|(_, bytes)| bytes.len()).sum();
        prop_assert!((sent..=sent + 1 + length / (256 * 1024)).contains(&newlines(&out)));
    }
}

#[test]
fn a_line_waits_for_its_newline_while_the_other_stream_goes_on() {
    let chunks = [(0, b"half".to_vec()), (1, b"error\n".to_vec()), (0, b" done\nnext".to_vec())];
    assert_eq!(merged(&chunks), b"error\nhalf done\nnext");
}

#[test]
fn a_last_line_without_newline_gets_one_only_before_the_other_stream() {
    assert_eq!(merged(&[(0, b"out".to_vec())]), b"out");
    assert_eq!(merged(&[(1, b"err".to_vec()), (0, b"out".to_vec())]), b"out\nerr");
}

#[test]
fn a_line_that_is_too_long_to_be_held_is_not_broken_by_the_other_stream() {
    let long = vec![b'a'; 100_000];
    let out = merged(&[(0, long.clone()), (1, b"error\n".to_vec()), (0, long), (0, b"\n".to_vec())]);
    assert_eq!(out.len(), 200_000 + 1 + 6);
    assert!(out.ends_with(b"a\nerror\n"));
}
