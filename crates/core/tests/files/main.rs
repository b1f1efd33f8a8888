//! A plugin's folder below `envsDir`: what is written there, what is believed of what is found there,
//! and what is refused.

#![expect(clippy::unwrap_used, reason = "a test that can't go on should panic")]

mod believed;
mod lock;
mod refused;
mod written;

use ally_base::record::{Identity, LockNote};
use ally_core::error::{Code, Failure};
use ally_core::supervisor::{Folder, Lock};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::TempDir;

fn world() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn identity() -> Identity {
    Identity { leader: 4711, start: 815, boot: "a-boot pid:[4026531836]".to_owned() }
}

fn own_pid() -> i32 {
    i32::try_from(std::process::id()).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

/// That it is an `Io` failure which names `path`.
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

/// What whoever has the lock says of himself.
fn note_of(folder: &Folder) -> LockNote {
    folder.try_lock().unwrap().unwrap_err().note
}
