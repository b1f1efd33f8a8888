//! Rotation between two lines, by rename(2), and the compression of older files.

use std::fs;
use std::io::Read;
use std::time::{Duration, Instant};

use ally_log::Limits;
use flate2::read::GzDecoder;
use memchr::memchr_iter;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::support::{LIMITS, Place, until};

fn line(length: usize, letter: char) -> Vec<u8> {
    let mut line = letter.to_string().repeat(length - 1);
    line.push('\n');
    line.into_bytes()
}

#[test]
fn max_size_is_the_size_up_to_which_whole_lines_fit() {
    let place = Place::new();
    let mut log = place.open(&LIMITS);
    log.write(&[line(50, 'a'), line(50, 'b'), line(1, '-'), line(99, 'c'), line(2, 'd')].concat());
    let lengths = ["log.2", "log.1", "log"].map(|name| place.read(name).len());
    assert_eq!(lengths, [100, 100, 2]);
}

#[test]
fn a_line_longer_than_max_size_has_a_file_of_its_own() {
    let place = Place::new();
    let mut log = place.open(&LIMITS);
    log.write(&[line(10, 'a'), line(300, 'b'), line(10, 'c')].concat());
    assert_eq!(["log.2", "log.1", "log"].map(|name| place.read(name).len()), [10, 300, 10]);
}

#[test]
fn a_long_line_that_comes_in_pieces_moves_to_a_file_of_its_own_as_a_whole() {
    let place = Place::new();
    let mut log = place.open(&LIMITS);
    log.write(&line(10, 'a'));
    for piece in ["b".repeat(60), "b".repeat(60), "b\n".to_owned()] {
        log.write(piece.as_bytes());
    }
    log.write(&line(10, 'c'));
    assert_eq!(["log.2", "log.1", "log"].map(|name| place.read(name).len()), [10, 122, 10]);
}

#[test]
fn max_files_counts_the_live_file_and_1_keeps_only_that() {
    for (max_files, names) in [(1, vec!["log"]), (2, vec!["log", "log.1"]), (4, vec!["log", "log.1", "log.2", "log.3"])] {
        let place = Place::new();
        let mut log = place.open(&Limits { max_files, ..LIMITS });
        for number in 0..10 {
            log.write(&line(60, char::from(b'0' + number)));
        }
        assert_eq!(place.names(), names);
        assert!(place.read("log").starts_with('9'));
    }
}

#[test]
fn a_hole_is_closed_by_the_next_rotation_and_the_files_behind_it_stay() {
    let place = Place::new();
    let mut log = place.open(&LIMITS);
    for letter in ['a', 'b', 'c', 'd'] {
        log.write(&line(60, letter));
    }
    fs::remove_file(place.path("log.2")).unwrap();
    log.write(&line(60, 'e'));
    let first = |name| place.read(name).chars().next().unwrap();
    assert_eq!(["log.3", "log.2", "log.1", "log"].map(first), ['a', 'c', 'd', 'e']);
}

#[test]
fn what_a_killed_process_left_half_done_is_tidied_at_the_next_opening() {
    let place = Place::new();
    fs::write(place.path(".log.new"), "").unwrap();
    for name in [".log.1.gz.new", "log.1", "log.1.gz", "log.2", "log.4", "log.5.gz", "log.20260101"] {
        fs::write(place.path(name), "x").unwrap();
    }
    drop(place.open(&LIMITS));
    assert_eq!(place.names(), ["log", "log.1.gz", "log.2", "log.20260101"]);
}

#[test]
fn a_rotation_that_was_killed_between_its_two_renames_is_ended_at_the_next_opening() {
    let place = Place::new();
    for (name, text) in [("log.1", "first\n"), (".log.new", "second\n"), ("log", "")] {
        fs::write(place.path(name), text).unwrap();
    }
    place.open(&LIMITS).write(b"third\n");
    assert_eq!(["log.2", "log.1", "log"].map(|name| place.read(name)), ["first\n", "second\n", "third\n"]);
}

#[test]
fn compress_makes_a_gzip_of_each_older_file_while_lines_come() {
    let place = Place::new();
    let limits = Limits { max_size: 100_000, compress: true, ..LIMITS };
    let mut log = place.open(&limits);
    for number in 0..3 {
        log.write(&line(90_000, char::from(b'a' + number)));
    }
    let mut buffer = Vec::new();
    until("both are compressed", || {
        if place.queue.wait_compressed(Instant::now() + Duration::from_millis(10)) {
            log.rotation.on_compressed();
        }
        place.names() == ["log", "log.1.gz", "log.2.gz"]
    });
    for (name, letter) in [("log.2.gz", b'a'), ("log.1.gz", b'b')] {
        buffer.clear();
        GzDecoder::new(fs::File::open(place.path(name)).unwrap()).read_to_end(&mut buffer).unwrap();
        assert_eq!((buffer.len(), buffer[0]), (90_000, letter));
    }
}

#[test]
fn compress_goes_on_with_the_next_file_after_rotations_have_removed_the_one_it_was_at() {
    let place = Place::new();
    let limits = Limits { max_size: 100_000, max_files: 2, compress: true };
    let mut log = place.open(&limits);
    // The second rotation removes the file of the first one, whose compression has begun.
    for letter in ['a', 'b', 'c'] {
        log.write(&line(90_000, letter));
    }
    until("the file of the last rotation is compressed, without a further one", || {
        if place.queue.wait_compressed(Instant::now() + Duration::from_millis(10)) {
            log.rotation.on_compressed();
        }
        place.names() == ["log", "log.1.gz"]
    });
    let mut bytes = Vec::new();
    GzDecoder::new(fs::File::open(place.path("log.1.gz")).unwrap()).read_to_end(&mut bytes).unwrap();
    assert_eq!((bytes.len(), bytes[0]), (90_000, b'b'));
}

#[test]
fn a_compressed_file_that_rotations_have_removed_is_not_taken_for_a_newer_one_with_its_inode_number() {
    let place = Place::new();
    let limits = Limits { max_size: 1_000, max_files: 2, compress: true };
    let mut log = place.open(&limits);
    log.write(&[line(900, 'a'), line(900, 'b')].concat());
    assert!(place.queue.wait_compressed(Instant::now() + Duration::from_secs(10)));
    // Before the writer hears of it. Many file systems give the inode number of a removed file to the next one.
    for letter in ['c', 'd', 'e'] {
        log.write(&line(900, letter));
    }
    log.rotation.on_compressed();
    until("the newest one is compressed", || {
        if place.queue.wait_compressed(Instant::now() + Duration::from_millis(10)) {
            log.rotation.on_compressed();
        }
        place.names() == ["log", "log.1.gz"]
    });
    let mut text = String::new();
    GzDecoder::new(fs::File::open(place.path("log.1.gz")).unwrap()).read_to_string(&mut text).unwrap();
    assert_eq!((text.chars().next(), place.read("log").chars().next()), (Some('d'), Some('e')));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the lengths, and however the bytes come: every byte once, in order, and no file is longer than it may be.
    #[test]
    fn no_byte_is_lost_or_doubled_by_rotations(lengths in vec(1..260_usize, 1..60), cut in 1..400_usize) {
        let place = Place::new();
        let limits = Limits { max_files: 200, ..LIMITS };
        let mut log = place.open(&limits);
        let bytes: Vec<u8> = lengths.iter().enumerate().flat_map(|(index, length)| line(*length, char::from(b'a' + (index % 26) as u8))).collect();
        for piece in bytes.chunks(cut) {
            log.write(piece);
        }
        let count = place.names().len();
        let files: Vec<Vec<u8>> = (0..count).rev().map(|number| {
            let name = if number == 0 { "log".to_owned() } else { format!("log.{number}") };
            fs::read(place.path(&name)).unwrap()
        }).collect();
        prop_assert_eq!(files.concat(), bytes);
        for file in &files {
            prop_assert!(file.len() <= 100 || memchr_iter(b'\n', file).count() <= 1, "{} bytes", file.len());
        }
    }
}
