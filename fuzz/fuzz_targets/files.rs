//! Any bytes in `daemon.pid`, `daemon.id` and `daemon.lock`. They give a pid above 1 or none, and a parsed
//! record is read as it was written.

#![no_main]

use std::fs;
use std::sync::LazyLock;

use ally_base::record::{Identity, LockNote, identities_text, parse_identities};
use ally_core::supervisor::Folder;
use ally_core::supervisor::leader::find_leader;
use libfuzzer_sys::fuzz_target;

/// In memory if /dev/shm exists, because each run writes files.
static FOLDER: LazyLock<Folder> = LazyLock::new(|| {
    let shared = std::path::Path::new("/dev/shm");
    let above = if shared.is_dir() { shared.to_owned() } else { std::env::temp_dir() };
    Folder::open(&above, &format!("ally-fuzz-{}", std::process::id())).expect("a folder to work in")
});

fuzz_target!(|bytes: &[u8]| {
    for name in ["daemon.pid", "daemon.id"] {
        fs::write(FOLDER.join(name), bytes).expect("a file to read");
    }
    let text = String::from_utf8_lossy(bytes);
    if let Some(pid) = FOLDER.read_pid().expect("a plain file can be read") {
        assert!(pid > 1);
        // `i32::from_str` allows a plus sign and leading zeros.
        assert_eq!(text.trim_end_matches('\n').trim_start_matches(['+', '0']), pid.to_string());
    }
    let identity = FOLDER.read_identity().expect("a plain file can be read");
    if let Some(identity) = &identity {
        assert!(identity.leader > 1);
        if !identity.boot.is_empty() {
            assert_eq!(Identity::parse(&identity.to_string()).as_ref(), Some(identity));
        }
        if let Ok(Some(found)) = find_leader(identity) {
            assert_eq!((found.pid, found.start), (identity.leader, identity.start));
        }
    }
    let identities = FOLDER.read_identities().expect("a plain file can be read");
    assert_eq!(identities.first(), identity.as_ref());
    if identities.iter().all(|identity| !identity.boot.is_empty()) {
        assert_eq!(parse_identities(&identities_text(&identities)), identities);
    }
    let note = LockNote::parse(&text);
    for note in LockNote::keepers(&text).into_iter().chain([note.clone()]) {
        if let LockNote::Keeper { pid, .. } = note {
            assert!(pid > 1, "a keeper may get a signal");
        }
    }
    assert_eq!(LockNote::parse(&note.to_string()), note);
});
