//! Links, pipes, folders and other users' files in place of the files of a plugin's folder.

use ally_core::supervisor::Folder;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::Path;

use crate::{identity, mode, refused, temp_dir};

#[test]
fn plugin_folder_that_is_a_symbolic_link_is_refused() {
    let dir = temp_dir();
    let elsewhere = dir.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    for (name, target) in [("p", elsewhere.as_path()), ("dangling", Path::new("nowhere"))] {
        let place = dir.path().join(name);
        symlink(target, &place).unwrap();
        let message = refused(Folder::open(dir.path(), name), &place);
        assert!(message.contains("link"), "{message}");
    }
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    assert!(!dir.path().join("nowhere").exists());
}

#[test]
fn envs_dir_that_is_a_symbolic_link_is_allowed() {
    let dir = temp_dir();
    fs::create_dir(dir.path().join("real")).unwrap();
    symlink("real", dir.path().join("envs")).unwrap();
    Folder::open(&dir.path().join("envs"), "p").unwrap();
    assert!(dir.path().join("real/p").is_dir());
}

#[test]
fn file_in_place_of_a_folder_is_refused() {
    let dir = temp_dir();
    fs::write(dir.path().join("p"), "").unwrap();
    refused(Folder::open(dir.path(), "p"), &dir.path().join("p"));
    let envs = dir.path().join("p/envs");
    refused(Folder::open(&envs, "q"), &envs);
}

#[test]
fn symbolic_link_in_place_of_the_record_is_replaced_and_not_followed() {
    let dir = temp_dir();
    let folder = Folder::open(dir.path(), "p").unwrap();
    let victim = dir.path().join("victim");
    fs::write(&victim, "1234\n").unwrap();
    for name in ["daemon.pid", "daemon.id"] {
        symlink(&victim, folder.join(name)).unwrap();
    }
    folder.check_places().unwrap();
    assert_eq!((folder.read_pid(), folder.read_identity()), (Ok(None), Ok(None)), "the target of a link is not read");
    folder.record(&identity()).unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "1234\n");
    for name in ["daemon.pid", "daemon.id"] {
        assert!(fs::symlink_metadata(folder.join(name)).unwrap().is_file(), "{name} is a plain file");
    }
}

#[test]
fn lock_that_is_a_symbolic_link_is_refused() {
    let dir = temp_dir();
    let folder = Folder::open(dir.path(), "p").unwrap();
    let lock = folder.join("daemon.lock");
    symlink(dir.path().join("victim"), &lock).unwrap();
    let message = refused(folder.try_lock(), &lock);
    assert!(message.contains("symbolic link"), "{message}");
    assert!(!dir.path().join("victim").exists());
}

#[test]
fn lock_that_is_a_hard_link_is_refused_and_unchanged() {
    let dir = temp_dir();
    let folder = Folder::open(dir.path(), "p").unwrap();
    let [victim, lock] = [dir.path().join("victim"), folder.join("daemon.lock")];
    fs::write(&victim, "precious").unwrap();
    fs::set_permissions(&victim, fs::Permissions::from_mode(0o640)).unwrap();
    fs::hard_link(&victim, &lock).unwrap();
    let message = refused(folder.try_lock(), &lock);
    assert!(message.contains("hard link"), "{message}");
    assert_eq!((fs::read_to_string(&victim).unwrap().as_str(), mode(&victim)), ("precious", 0o640));
}

#[test]
fn lock_of_another_user_is_refused_and_unchanged() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can chown a file");
        return;
    }
    let dir = temp_dir();
    let folder = Folder::open(dir.path(), "p").unwrap();
    let lock = folder.join("daemon.lock");
    fs::write(&lock, "theirs").unwrap();
    fs::set_permissions(&lock, fs::Permissions::from_mode(0o666)).unwrap();
    std::os::unix::fs::chown(&lock, Some(1234), None).unwrap();
    let message = refused(folder.try_lock(), &lock);
    assert!(message.contains("1234"), "{message}");
    assert_eq!((fs::read_to_string(&lock).unwrap().as_str(), mode(&lock)), ("theirs", 0o666));
}

#[test]
fn folder_in_place_of_the_record_is_refused() {
    for name in ["daemon.pid", "daemon.id"] {
        let dir = temp_dir();
        let folder = Folder::open(dir.path(), "p").unwrap();
        fs::create_dir(folder.join(name)).unwrap();
        for message in [refused(folder.check_places(), &folder.join(name)), refused(folder.record(&identity()), &folder.join(name))] {
            assert!(message.contains("EISDIR"), "{message}");
        }
        refused(folder.remove_record(), &folder.join(name));
        assert!(folder.join(name).is_dir());
    }
}

/// The process of the record is gone, so the next start must not look for it.
#[test]
fn identity_is_removed_even_if_the_pid_file_can_not_be_removed() {
    let dir = temp_dir();
    let folder = Folder::open(dir.path(), "p").unwrap();
    let place = folder.join("daemon.pid");
    fs::create_dir(&place).unwrap();
    refused(folder.record(&identity()), &place);
    assert_eq!(folder.read_identity(), Ok(Some(identity())));
    refused(folder.remove_record(), &place);
    assert!(!folder.join("daemon.id").exists() && place.is_dir());
}

#[test]
fn pipe_in_place_of_a_file_is_refused_without_blocking() {
    let dir = temp_dir();
    let folder = Folder::open(dir.path(), "p").unwrap();
    for name in ["daemon.pid", "daemon.id", "daemon.lock"] {
        nix::unistd::mkfifo(&folder.join(name), nix::sys::stat::Mode::S_IRWXU).unwrap();
    }
    let (sender, results) = std::sync::mpsc::channel();
    // In a thread, because a read that blocks would never return.
    std::thread::spawn(move || {
        sender.send((folder.read_pid(), folder.read_identity(), folder.try_lock().map(drop))).unwrap();
        sender.send((folder.record(&identity()).map(|()| folder.read_pid()).unwrap(), Ok(None), Ok(()))).unwrap();
    });
    let timeout = std::time::Duration::from_secs(10);
    let (pid, found, lock) = results.recv_timeout(timeout).expect("an answer");
    assert_eq!((pid, found), (Ok(None), Ok(None)));
    let message = refused(lock, &dir.path().join("p/daemon.lock"));
    assert!(message.contains("plain file"), "{message}");
    assert_eq!(results.recv_timeout(timeout).expect("an answer").0, Ok(Some(4711)));
}

#[test]
fn plugin_folder_of_another_user_is_refused() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can chown a folder");
        return;
    }
    let dir = temp_dir();
    let place = dir.path().join("p");
    fs::DirBuilder::new().mode(0o777).create(&place).unwrap();
    std::os::unix::fs::chown(&place, Some(1234), None).unwrap();
    let message = refused(Folder::open(dir.path(), "p"), &place);
    assert!(message.contains("1234"), "{message}");
    assert_eq!(fs::read_dir(&place).unwrap().count(), 0);
}
