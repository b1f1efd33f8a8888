//! The output lines in the text of an error.

use ally_core::model::Stream::{Stderr, Stdout};
use ally_core::supervisor::Tail;

use crate::tail_of;

#[test]
fn error_excerpt_is_stderr_or_without_stderr_stdout() {
    assert_eq!(Tail::default().error_excerpt(), "");
    assert_eq!(tail_of(&[(Stdout, "starting\nready\n")]).error_excerpt(), "starting\nready");
    assert_eq!(tail_of(&[(Stderr, "bad\n"), (Stdout, "starting\n"), (Stderr, "worse")]).error_excerpt(), "bad\nworse");
}

#[test]
fn error_excerpt_has_only_lines_of_the_current_process() {
    let tail = tail_of(&[(Stderr, "fault of the first\n")]);
    let second = tail.begin();
    assert_eq!(tail.error_excerpt(), "");
    tail.append(second, Stdout, b"hello\n");
    assert_eq!(tail.error_excerpt(), "hello", "stderr of an older process does not count");
    tail.append(second, Stderr, b"fault of the second\n");
    tail.append(0, Stderr, b"a survivor of the first writes\n");
    assert_eq!(tail.error_excerpt(), "fault of the second");
    assert_eq!(tail.lines(9), ["fault of the first", "hello", "fault of the second"], "getOutput has the lines of both processes");
}

#[test]
fn tail_never_joins_the_last_line_of_a_process_with_the_first_of_the_next() {
    let tail = tail_of(&[(Stdout, "cut off"), (Stderr, "in the mid")]);
    let second = tail.begin();
    tail.append(second, Stderr, b"first\n");
    tail.append(second, Stdout, b"hello\n");
    assert_eq!(tail.lines(9), ["cut off", "in the mid", "first", "hello"]);
    assert_eq!(tail.lines(1), ["hello"]);
}

#[test]
fn error_excerpt_has_the_first_line_after_an_older_process_filled_the_tail() {
    let tail = Tail::default();
    // Below the tail's bound, and without a newline at the end.
    for _ in 0..40 {
        tail.append(0, Stderr, &[b'x'; 8_000]);
    }
    let second = tail.begin();
    tail.append(second, Stderr, b"the reason\nand more\n");
    assert_eq!(tail.error_excerpt(), "the reason\nand more");
}

#[test]
fn error_excerpt_has_at_most_50_lines_and_8_kib() {
    let tail = Tail::default();
    let lines: Vec<String> = (0..200).map(|number| format!("line {number}")).collect();
    tail.append(0, Stderr, lines.join("\n").as_bytes());
    assert_eq!(tail.error_excerpt(), lines[150..].join("\n"));
    let second = tail.begin();
    let lines: Vec<String> = (0..20).map(|number| format!("{number:>1000}")).collect();
    tail.append(second, Stderr, lines.join("\n").as_bytes());
    assert_eq!(tail.error_excerpt(), lines[12..].join("\n"), "8 KiB");
}
