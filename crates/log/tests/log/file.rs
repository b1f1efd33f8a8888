//! The live file: moved, removed, hostile, locked, torn, full.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};

use ally_base::log_file::{self, Unfit};
use ally_base::wire::LogNote;
use ally_log::Limits;

use crate::support::{LIMITS, Place, until};

const LARGE: Limits = Limits { max_size: 1 << 30, ..LIMITS };

#[test]
fn a_file_is_made_for_its_owner_alone_and_an_existing_one_is_closed_and_appended_to() {
    let place = Place::new();
    place.open(&LARGE).write(b"one\n");
    assert_eq!(fs::metadata(place.path("log")).unwrap().permissions().mode() & 0o777, 0o600);
    fs::set_permissions(place.path("log"), fs::Permissions::from_mode(0o644)).unwrap();
    place.open(&LARGE).write(b"two\n");
    assert_eq!(fs::metadata(place.path("log")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(place.read("log"), "one\ntwo\n");
}

#[test]
fn a_line_that_an_earlier_process_left_unfinished_gets_a_newline_before_the_next_line() {
    let place = Place::new();
    fs::write(place.path("log"), "unfinished").unwrap();
    drop(place.open(&LARGE));
    assert_eq!(place.read("log"), "unfinished", "nothing is added before there is a next line");
    place.open(&LARGE).write(b"next\n");
    assert_eq!(place.read("log"), "unfinished\nnext\n");
}

#[test]
fn a_file_that_was_moved_or_removed_is_made_anew_within_a_second() {
    let place = Place::new();
    let mut log = place.open(&LARGE);
    log.write(b"before\n");
    fs::rename(place.path("log"), place.path("moved")).unwrap();
    let begun = std::time::Instant::now();
    until("a new file", || {
        log.write(b"line\n");
        place.path("log").exists()
    });
    assert!(begun.elapsed().as_millis() < 1000);
    fs::remove_file(place.path("log")).unwrap();
    until("a new file", || {
        log.write(b"after\n");
        place.path("log").exists()
    });
    assert_eq!(place.read("moved"), "before\n");
    assert!(place.read("log").starts_with("after\n"));
}

#[test]
fn a_file_that_another_process_has_locked_is_not_written() {
    let mut place = Place::new();
    let mut log = place.open(&LARGE);
    log.write(b"own\n");
    fs::rename(place.path("log"), place.path("moved")).unwrap();
    let other = log_file::open(File::open(place.dir.path()).unwrap(), "log".as_ref()).unwrap();
    other.try_lock().unwrap();
    until("the refusal", || {
        log.write(b"line\n");
        place.notes() == [LogNote::FileFailed { errno: libc::EWOULDBLOCK }]
    });
    assert_eq!(place.read("log"), "");
    other.unlock().unwrap();
    until("the file is free", || {
        log.write(b"again\n");
        !place.read("log").is_empty()
    });
    let text = place.read("log");
    assert!(text.starts_with("[ally] ") && text.contains(" lines were dropped: EAGAIN\nagain\n"), "{text}");
}

#[test]
fn a_link_a_pipe_a_folder_and_a_file_with_two_names_are_no_log_file() {
    let place = Place::new();
    let folder = File::open(place.dir.path()).unwrap();
    let unfit = |name: &str| log_file::open(&folder, name.as_ref()).unwrap_err();
    fs::write(place.path("target"), "").unwrap();
    symlink(place.path("target"), place.path("link")).unwrap();
    symlink(place.path("nothing"), place.path("dangling")).unwrap();
    assert_eq!([unfit("link"), unfit("dangling")], [Unfit::Link, Unfit::Link]);
    assert!(!place.path("nothing").exists());
    fs::create_dir(place.path("folder")).unwrap();
    nix::unistd::mkfifo(&place.path("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!([unfit("folder"), unfit("pipe")], [Unfit::NotPlain, Unfit::NotPlain]);
    fs::hard_link(place.path("target"), place.path("name")).unwrap();
    assert_eq!(unfit("name"), Unfit::Named);
}

/// RLIMIT_FSIZE stands for a full disk: the write that passes it is cut, and the next one fails.
#[test]
fn lines_that_can_not_be_written_are_dropped_whole_and_a_marker_says_how_many() {
    const ROLE: &str = "ALLY_TEST_FSIZE";
    if std::env::var_os(ROLE).is_none() {
        let this = std::env::current_exe().unwrap();
        let name = "file::lines_that_can_not_be_written_are_dropped_whole_and_a_marker_says_how_many";
        let status = std::process::Command::new(this).args(["--exact", name]).env(ROLE, "1").status().unwrap();
        assert!(status.success());
        return;
    }
    let mut place = Place::new();
    let mut log = place.open(&LARGE);
    let limit = |bytes| {
        let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
        // SAFETY: the structure outlives the call. SIG_IGN is a valid disposition.
        unsafe {
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit), 0);
        }
    };
    limit(20);
    log.write(b"0123456\n0123456\nthis one is cut\nlost\n");
    assert_eq!(place.read("log"), "0123456\n0123456\n");
    log.write(b"lost as well\nand the beginning");
    limit(libc::RLIM_INFINITY);
    until("the next try", || {
        log.write(b" of this\nnext\n");
        place.read("log").len() > 16
    });
    let text = place.read("log");
    let marker = text.lines().nth(2).unwrap();
    let lines: u64 = marker.strip_prefix("[ally] ").unwrap().strip_suffix(" lines were dropped: EFBIG").unwrap().parse().unwrap();
    assert!(lines >= 4 && text.ends_with("next\n"), "{text}");
    assert_eq!(place.notes(), [LogNote::FileFailed { errno: libc::EFBIG }, LogNote::FileDropped { lines, errno: libc::EFBIG }]);
}
