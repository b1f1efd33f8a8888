//! Two log processes with one file, as during an upgrade.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ally_log::{Limits, Parts};
use flate2::read::GzDecoder;
use memchr::memchr_iter;

use crate::support::{LIMITS, Place, until};

/// Which line of which process, and as long as its number says.
fn line(letter: char, number: usize) -> String {
    format!("{letter} {number} {}\n", "x".repeat(number * 7919 % 400))
}

#[derive(Clone, Copy)]
struct Flood {
    duration_ms: u64,
    max_size: u64,
    compress: bool,
}

const ROLE: &str = "ALLY_TEST_LOG_PROCESS";

/// In a process of its own: a daemon that floods its output, and its log process. Writes the number of lines to a file.
fn run_log_process(role: &str) -> ! {
    let [letter, lines, duration_ms, max_size, compress, folder] = role.splitn(6, ' ').collect::<Vec<_>>().try_into().unwrap();
    let (letter, folder) = (letter.chars().next().unwrap(), Path::new(folder).to_owned());
    let limits = Limits { max_size: max_size.parse().unwrap(), max_files: 2000, compress: compress == "gz" };
    let lines: usize = lines.parse().unwrap();
    let end = Instant::now() + Duration::from_millis(duration_ms.parse().unwrap());
    let pipe = || std::io::pipe().unwrap();
    let [(stdout, mut writes), (stderr, stderr_end), (_, first_copy), (_, second_copy), (_, notes)] = [(); 5].map(|()| pipe());
    let (keeper, control) = UnixStream::pair().unwrap();
    let parts = Parts {
        outputs: [stdout.into(), stderr.into()],
        copies: [first_copy.into(), second_copy.into()],
        control: control.into(),
        notes: notes.into(),
        file: None,
        folder: File::open(&folder).unwrap().into(),
        folder_path: folder.clone(),
        name: "log".into(),
        limits,
        replaces: false,
    };
    thread::spawn(move || {
        let mut count = 0;
        while count < lines && Instant::now() < end {
            writes.write_all((count..count + 50).map(|number| line(letter, number)).collect::<String>().as_bytes()).unwrap();
            count += 50;
        }
        fs::write(folder.join(format!("count-{letter}")), count.to_string()).unwrap();
        drop((writes, stderr_end, keeper));
    });
    ally_log::run(parts)
}

fn start(test: &str, place: &Place, letter: char, lines: usize, limits: Flood) -> Child {
    let Flood { duration_ms, max_size, compress } = limits;
    let compress = if compress { "gz" } else { "plain" };
    let role = format!("{letter} {lines} {duration_ms} {max_size} {compress} {}", place.dir.path().display());
    Command::new(std::env::current_exe().unwrap()).args(["--exact", test, "--nocapture"]).env(ROLE, role).spawn().unwrap()
}

/// The log from the oldest file to the live one.
fn files(place: &Place) -> Vec<Vec<u8>> {
    let mut found: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    for name in place.names().into_iter().filter(|name| !name.starts_with("count-")) {
        let number = name.strip_prefix("log").unwrap_or_else(|| panic!("{name} stays"));
        let (number, is_gzip) = number.strip_suffix(".gz").map_or((number, false), |number| (number, true));
        let number = number.trim_start_matches('.');
        let mut bytes = fs::read(place.path(&name)).unwrap();
        if is_gzip {
            let packed = std::mem::take(&mut bytes);
            GzDecoder::new(packed.as_slice()).read_to_end(&mut bytes).unwrap();
        }
        let number = if number.is_empty() { 0 } else { number.parse().unwrap() };
        assert!(found.insert(number, bytes).is_none(), "{number} exists twice");
    }
    found.into_values().rev().collect()
}

/// Asserts that every byte of each process is in the log once, and in its order.
#[track_caller]
fn assert_whole(files: &[Vec<u8>], letter: char, count: usize) {
    let log = String::from_utf8(files.concat()).unwrap();
    let found: String = log.split_inclusive('\n').filter(|line| line.starts_with(letter)).collect();
    let expected: String = (0..count).map(|number| line(letter, number)).collect();
    if found != expected {
        let at = found.bytes().zip(expected.bytes()).take_while(|(found, expected)| found == expected).count();
        let near = |text: &str| text.get(at.saturating_sub(40)..).unwrap_or_default().chars().take(100).collect::<String>();
        panic!("{letter}: {} of {} bytes; {:?} in place of {:?}", found.len(), expected.len(), near(&found), near(&expected));
    }
}

fn flood(test: &str, lines: usize, limits: Flood) {
    if let Ok(role) = std::env::var(ROLE) {
        run_log_process(&role);
    }
    let place = Place::new();
    let mut both = ['a', 'b'].map(|letter| start(test, &place, letter, lines, limits));
    both.iter_mut().for_each(|process| assert!(process.wait().unwrap().success()));
    let counts = ['a', 'b'].map(|letter| place.read(&format!("count-{letter}")).parse::<usize>().unwrap());
    let files = files(&place);
    assert!(files.len() > 3 && counts.iter().all(|count| *count > 500), "{} files, {counts:?} lines", files.len());
    for file in &files {
        assert!(file.len() as u64 <= limits.max_size || memchr_iter(b'\n', file).count() == 1, "{} bytes", file.len());
    }
    let total: usize = files.iter().map(Vec::len).sum();
    let expected: usize =
        ['a', 'b'].iter().zip(counts).map(|(letter, count)| (0..count).map(|n| line(*letter, n).len()).sum::<usize>()).sum();
    assert_eq!(total, expected);
    assert_whole(&files, 'a', counts[0]);
    assert_whole(&files, 'b', counts[1]);
}

#[test]
fn two_processes_that_flood_and_rotate_one_file_lose_double_and_break_no_line() {
    flood(
        "two_processes::two_processes_that_flood_and_rotate_one_file_lose_double_and_break_no_line",
        usize::MAX,
        Flood { duration_ms: 1000, max_size: 1 << 20, compress: false },
    );
}

#[test]
fn two_processes_that_rotate_after_every_few_lines_lose_double_and_break_no_line() {
    flood(
        "two_processes::two_processes_that_rotate_after_every_few_lines_lose_double_and_break_no_line",
        1500,
        Flood { duration_ms: 60_000, max_size: 3000, compress: false },
    );
}

#[test]
fn two_processes_that_compress_what_the_other_one_rotates_lose_and_double_no_line() {
    flood(
        "two_processes::two_processes_that_compress_what_the_other_one_rotates_lose_and_double_no_line",
        8000,
        Flood { duration_ms: 60_000, max_size: 100_000, compress: true },
    );
}

fn has_line_of(place: &Place, letter: char) -> bool {
    // A rotation may rename the file between the two calls.
    let texts = place.names().into_iter().map(|name| fs::read_to_string(place.path(&name)).unwrap_or_default());
    texts.into_iter().any(|text| text.lines().any(|line| line.starts_with(letter)))
}

/// The killed one may lose lines, and the other one none.
#[test]
fn log_process_that_is_killed_while_it_rotates_costs_the_other_one_no_line() {
    const TEST: &str = "two_processes::log_process_that_is_killed_while_it_rotates_costs_the_other_one_no_line";
    if let Ok(role) = std::env::var(ROLE) {
        run_log_process(&role);
    }
    let limits = Flood { duration_ms: 60_000, max_size: 20_000, compress: false };
    for after_ms in [0, 3, 10, 25] {
        let place = Place::new();
        let mut killed = start(TEST, &place, 'a', usize::MAX, limits);
        until("the first one writes", || has_line_of(&place, 'a'));
        let mut other = start(TEST, &place, 'b', 1000, limits);
        until("both write", || has_line_of(&place, 'b'));
        thread::sleep(Duration::from_millis(after_ms));
        killed.kill().unwrap();
        killed.wait().unwrap();
        assert!(other.wait().unwrap().success());
        let count = place.read("count-b").parse().unwrap();
        // The next start tidies what is half done.
        drop(place.open(&Limits { max_size: 20_000, max_files: 2000, compress: false }));
        let files = files(&place);
        assert_whole(&files, 'b', count);
        // Of the killed one the lines are whole, and none is there twice.
        let log = String::from_utf8(files.concat()).unwrap();
        let found: Vec<_> = log.lines().filter(|line| line.starts_with('a')).collect();
        let whole = found.iter().enumerate().take_while(|(number, found)| line('a', *number).trim_end_matches('\n') == **found).count();
        // The write that the kill has cut is the last one.
        assert!(whole > 0 && found.len() <= whole + 1, "{:?}", found.get(whole..));
    }
}

#[test]
fn line_that_has_begun_is_not_broken_by_the_other_process() {
    let place = Place::new();
    let limits = Limits { max_size: 1 << 30, ..LIMITS };
    let [mut first, mut second] = [(); 2].map(|()| place.open(&limits));
    first.write(b"begun");
    assert!(first.turn_left().is_some());
    let waiting = thread::spawn(move || second.write(b"other\n"));
    first.write(b", continued\n");
    assert_eq!(first.turn_left(), None);
    waiting.join().unwrap();
    assert_eq!(place.read("log"), "begun, continued\nother\n");
}

#[test]
fn line_whose_rest_does_not_come_in_time_is_broken_and_the_other_process_writes() {
    let place = Place::new();
    let limits = Limits { max_size: 1 << 30, ..LIMITS };
    let [mut first, mut second] = [(); 2].map(|()| place.open(&limits));
    first.write(b"begun");
    // As the writer's thread does when the turn is over.
    until("the turn is over", || first.turn_left() == Some(Duration::ZERO));
    first.break_line();
    first.write(b", without haste");
    first.break_line();
    second.write(b"other\n");
    first.write(b", late\nnext\n");
    assert_eq!(place.read("log"), "begun, without haste\nother\n, late\nnext\n");
}

#[test]
fn process_that_writes_without_a_pause_leaves_every_other_turn() {
    let place = Place::new();
    let limits = Limits { max_size: 1 << 30, ..LIMITS };
    let [mut busy, mut other] = [(); 2].map(|()| place.open(&limits));
    let (turns, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut waited: Vec<u64> = thread::scope(|scope| {
        scope.spawn(|| {
            let batch = line('a', 399).repeat(100);
            while !is_over.load(Ordering::Relaxed) {
                busy.write(batch.as_bytes());
                turns.fetch_add(1, Ordering::Relaxed);
            }
        });
        let waited = (0..51).map(|_| {
            let before = turns.load(Ordering::Relaxed);
            other.write(b"b\n");
            turns.load(Ordering::Relaxed) - before
        });
        let waited = waited.collect();
        is_over.store(true, Ordering::Relaxed);
        waited
    });
    waited.sort_unstable();
    assert!(waited[25] < 50, "{waited:?}");
}

#[test]
fn rotation_of_a_killed_process_is_ended_by_the_next_rotation_of_the_other_one() {
    let place = Place::new();
    let mut log = place.open(&LIMITS);
    log.write(line('a', 10).as_bytes());
    // The other process was killed between the two renames: its last live file has the name of the next one.
    fs::rename(place.path("log"), place.path(".log.new")).unwrap();
    fs::write(place.path("log"), "").unwrap();
    for letter in ['b', 'c'] {
        log.write("y".repeat(80).replace('y', &letter.to_string()).as_bytes());
        log.write(b"\n");
    }
    let first = |name| place.read(name).chars().next().unwrap();
    assert_eq!(["log.2", "log.1", "log"].map(first), ['a', 'b', 'c']);
}
