//! Modes of folders and files: the user alone has access, with any umask.

use ally_core::supervisor::Folder;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::rerun::rerun;
use crate::{identity, locked, mode, temp_dir};

/// Changes the umask of the whole process. No other test of this binary depends on it.
#[test]
fn folders_have_mode_0700_and_files_0600_with_umask_0() {
    nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    let dir = temp_dir();
    let envs = dir.path().join("a/b/envs");
    let folder = Folder::open(&envs, "p").unwrap();
    folder.record(&identity()).unwrap();
    drop(locked(&folder));
    for folder in [dir.path().join("a"), dir.path().join("a/b"), envs.clone(), envs.join("p")] {
        assert_eq!(mode(&folder), 0o700, "{}", folder.display());
    }
    for name in ["daemon.pid", "daemon.id", "daemon.lock"] {
        assert_eq!(mode(&folder.join(name)), 0o600, "{name}");
    }
}

/// In a process of its own, because the umask belongs to the whole process.
#[test]
fn folders_have_mode_0700_and_files_0600_with_umask_0777() {
    const PLACE: &str = "ALLY_TEST_PLACE";
    if let Some(place) = std::env::var_os(PLACE) {
        nix::sys::stat::umask(nix::sys::stat::Mode::all());
        let folder = Folder::open(&Path::new(&place).join("a/b/envs"), "p").unwrap();
        folder.record(&identity()).unwrap();
        drop(locked(&folder));
        return;
    }
    let dir = temp_dir();
    let test = "permissions::folders_have_mode_0700_and_files_0600_with_umask_0777";
    rerun(&[], test, PLACE, dir.path());
    for folder in ["a", "a/b", "a/b/envs", "a/b/envs/p"] {
        assert_eq!(mode(&dir.path().join(folder)), 0o700, "{folder}");
    }
    for name in ["daemon.pid", "daemon.id", "daemon.lock"] {
        assert_eq!(mode(&dir.path().join("a/b/envs/p").join(name)), 0o600, "{name}");
    }
}

#[test]
fn lock_file_loses_the_permissions_of_others() {
    let dir = temp_dir();
    let folder = Folder::open(dir.path(), "p").unwrap();
    let lock = folder.join("daemon.lock");
    fs::write(&lock, "").unwrap();
    fs::set_permissions(&lock, fs::Permissions::from_mode(0o666)).unwrap();
    let _lock = locked(&folder);
    assert_eq!(mode(&lock), 0o600);
}

#[test]
fn plugin_folder_loses_the_permissions_of_others_and_gains_none() {
    let dir = temp_dir();
    for (name, found, left) in [("p", 0o777, 0o700), ("q", 0o755, 0o700), ("r", 0o500, 0o500)] {
        let place = dir.path().join(name);
        fs::create_dir(&place).unwrap();
        fs::set_permissions(&place, fs::Permissions::from_mode(found)).unwrap();
        Folder::open(dir.path(), name).unwrap();
        assert_eq!(mode(&place), left, "{name}");
    }
}

#[test]
fn envs_dir_is_not_changed_and_is_open_if_others_can_write_there_unless_sticky() {
    let dir = temp_dir();
    for (name, found, open) in [("open", 0o777, true), ("grouped", 0o2775, true), ("sticky", 0o1777, false), ("closed", 0o750, false)] {
        let envs = dir.path().join(name);
        fs::create_dir(&envs).unwrap();
        fs::set_permissions(&envs, fs::Permissions::from_mode(found)).unwrap();
        let folder = Folder::open(&envs, "p").unwrap();
        assert_eq!(mode(&envs), found, "{name}");
        assert_eq!(folder.envs_dir_open, open.then_some(found), "{name}");
    }
}
