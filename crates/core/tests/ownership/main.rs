//! A plugin's folder below `envsDir`: the record, the lock, permissions, and hostile contents.

#![expect(clippy::unwrap_used, reason = "a test that can't go on should panic")]

#[path = "../../../base/tests/support/rerun.rs"]
mod rerun;

mod hostile_files;
mod lock;
mod parsing;
mod permissions;
mod place;
mod record;

use ally_base::record::{Identity, LockNote};
use ally_core::error::{Code, Failure};
use ally_core::supervisor::{Folder, Lock};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::TempDir;

fn temp_dir() -> TempDir {
    tempfile::tempdir().unwrap()
}

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

fn identity() -> Identity {
    Identity {
        leader: 4711,
        start: 815,
        boot: "a-boot pid:[4026531836]".to_owned(),
        session: 4709,
        group: 4710,
        token: Some(TOKEN.to_owned()),
        keeper: Some(4709),
        version: Some("0.1.0".to_owned()),
        grace_ms: Some(5_000),
    }
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Asserts an `Io` failure that names `path`, and returns its message.
fn refused<T: std::fmt::Debug>(result: Result<T, Failure>, path: &Path) -> String {
    let failure = result.unwrap_err();
    assert_eq!(failure.code(), Code::Io, "{failure}");
    let message = failure.message("p");
    assert!(message.contains(path.to_str().unwrap()), "{message} names {}", path.display());
    message
}

fn locked(folder: &Folder) -> Lock {
    folder.try_lock().unwrap().unwrap()
}

/// The note in a lock that is taken.
fn note_of(folder: &Folder) -> LockNote {
    folder.try_lock().unwrap().unwrap_err().note
}
