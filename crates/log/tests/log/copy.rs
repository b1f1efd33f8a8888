//! The owner's copy: what it does not read in time is dropped, the oldest lines first.

use std::io::{self, Read};
use std::os::fd::AsFd;

use ally_log::OwnerCopy;
use nix::fcntl::{FcntlArg, OFlag, fcntl};

fn copy() -> (OwnerCopy, io::PipeReader) {
    let (read, write) = io::pipe().unwrap();
    for end in [read.as_fd(), write.as_fd()] {
        fcntl(end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    }
    (OwnerCopy::new(write.into()), read)
}

/// Reads everything that the copy has.
fn received(copy: &mut OwnerCopy, pipe: &mut io::PipeReader) -> String {
    let mut bytes = vec![0; 1 << 20];
    let mut text = Vec::new();
    loop {
        copy.flush();
        match pipe.read(&mut bytes) {
            Ok(count) if count > 0 => text.extend(&bytes[..count]),
            _ => return String::from_utf8(text).unwrap(),
        }
    }
}

#[test]
fn an_owner_that_does_not_read_misses_the_oldest_lines_and_has_the_last_ones() {
    let (mut copy, mut pipe) = copy();
    let all: Vec<String> = (0..200_000).map(|number| format!("line {number}\n")).collect();
    for chunk in all.concat().as_bytes().chunks(10_007) {
        copy.push(chunk);
    }
    let text = received(&mut copy, &mut pipe);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.last(), Some(&"line 199999"));
    let number = |line: &&str| line.strip_prefix("line ").is_some_and(|number| number.parse::<u32>().is_ok_and(|number| number < 200_000));
    let whole = lines.iter().filter(|line| number(line)).count();
    assert!(whole >= lines.len() - 1, "at most the line at the gap is cut");
    assert!(lines.len() > 9_000, "256 KiB and a pipe: {}", lines.len());
    // A line of which the owner has the beginning is among both.
    let sum = lines.len() as u64 + copy.dropped;
    assert!((200_000..=200_001).contains(&sum), "{sum}");
}

#[test]
fn a_dead_owner_is_no_reason_to_keep_anything() {
    let (mut copy, pipe) = copy();
    copy.push(&vec![b'x'; 200_000]);
    assert!(!copy.is_delivered());
    drop(pipe);
    copy.flush();
    assert!(copy.is_delivered() && copy.pipe().is_none());
    copy.push(b"more\n");
    assert!(copy.is_delivered());
}
