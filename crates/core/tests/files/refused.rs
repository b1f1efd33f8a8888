//! What is refused, and what is never followed.

use ally_core::supervisor::Folder;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::Path;

use crate::{identity, mode, refused, world};

#[test]
fn a_plugin_folder_that_is_a_link_is_refused() {
    let world = world();
    let elsewhere = world.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    for (name, target) in [("p", elsewhere.as_path()), ("dangling", Path::new("nowhere"))] {
        let place = world.path().join(name);
        symlink(target, &place).unwrap();
        let message = refused(Folder::open(world.path(), name), &place);
        assert!(message.contains("link"), "{message}");
    }
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    assert!(!world.path().join("nowhere").exists());
}

#[test]
fn the_folder_above_may_be_a_link() {
    let world = world();
    fs::create_dir(world.path().join("real")).unwrap();
    symlink("real", world.path().join("envs")).unwrap();
    Folder::open(&world.path().join("envs"), "p").unwrap();
    assert!(world.path().join("real/p").is_dir());
}

#[test]
fn a_file_where_a_folder_should_be_is_refused() {
    let world = world();
    fs::write(world.path().join("p"), "").unwrap();
    refused(Folder::open(world.path(), "p"), &world.path().join("p"));
    let envs = world.path().join("p/envs");
    refused(Folder::open(&envs, "q"), &envs);
}

#[test]
fn a_link_at_the_pid_file_is_replaced_and_not_followed() {
    let world = world();
    let folder = Folder::open(world.path(), "p").unwrap();
    let victim = world.path().join("victim");
    fs::write(&victim, "1234\n").unwrap();
    for name in ["daemon.pid", "daemon.id"] {
        symlink(&victim, folder.join(name)).unwrap();
    }
    folder.check_places().unwrap();
    assert_eq!((folder.read_pid(), folder.read_identity()), (Ok(None), Ok(None)), "what a link shows is not ours");
    folder.record(&identity()).unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "1234\n");
    for name in ["daemon.pid", "daemon.id"] {
        assert!(fs::symlink_metadata(folder.join(name)).unwrap().is_file(), "{name} is a file of its own now");
    }
}

#[test]
fn a_link_at_the_lock_is_refused() {
    let world = world();
    let folder = Folder::open(world.path(), "p").unwrap();
    let lock = folder.join("daemon.lock");
    symlink(world.path().join("victim"), &lock).unwrap();
    let message = refused(folder.try_lock(), &lock);
    assert!(message.contains("symbolic link"), "{message}");
    assert!(!world.path().join("victim").exists());
}

#[test]
fn a_lock_with_another_name_is_refused_and_left_as_it_is() {
    let world = world();
    let folder = Folder::open(world.path(), "p").unwrap();
    let [victim, lock] = [world.path().join("victim"), folder.join("daemon.lock")];
    fs::write(&victim, "precious").unwrap();
    fs::set_permissions(&victim, fs::Permissions::from_mode(0o640)).unwrap();
    fs::hard_link(&victim, &lock).unwrap();
    let message = refused(folder.try_lock(), &lock);
    assert!(message.contains("hard link"), "{message}");
    assert_eq!((fs::read_to_string(&victim).unwrap().as_str(), mode(&victim)), ("precious", 0o640));
}

#[test]
fn another_user_s_lock_is_refused_and_left_as_it_is() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can give a file away");
        return;
    }
    let world = world();
    let folder = Folder::open(world.path(), "p").unwrap();
    let lock = folder.join("daemon.lock");
    fs::write(&lock, "theirs").unwrap();
    fs::set_permissions(&lock, fs::Permissions::from_mode(0o666)).unwrap();
    std::os::unix::fs::chown(&lock, Some(1234), None).unwrap();
    let message = refused(folder.try_lock(), &lock);
    assert!(message.contains("1234"), "{message}");
    assert_eq!((fs::read_to_string(&lock).unwrap().as_str(), mode(&lock)), ("theirs", 0o666));
}

#[test]
fn a_folder_in_the_place_of_a_file_is_refused() {
    for name in ["daemon.pid", "daemon.id"] {
        let world = world();
        let folder = Folder::open(world.path(), "p").unwrap();
        fs::create_dir(folder.join(name)).unwrap();
        for message in [refused(folder.check_places(), &folder.join(name)), refused(folder.record(&identity()), &folder.join(name))] {
            assert!(message.contains("EISDIR"), "{message}");
        }
        refused(folder.remove_record(), &folder.join(name));
        assert!(folder.join(name).is_dir());
    }
}

/// What it speaks of is gone, and must not be looked for at the next start.
#[test]
fn an_identity_is_forgotten_also_where_the_pid_file_can_t_be() {
    let world = world();
    let folder = Folder::open(world.path(), "p").unwrap();
    let place = folder.join("daemon.pid");
    fs::create_dir(&place).unwrap();
    refused(folder.record(&identity()), &place);
    assert_eq!(folder.read_identity(), Ok(Some(identity())));
    refused(folder.remove_record(), &place);
    assert!(!folder.join("daemon.id").exists() && place.is_dir());
}

#[test]
fn a_pipe_in_the_place_of_a_file_blocks_nobody() {
    let world = world();
    let folder = Folder::open(world.path(), "p").unwrap();
    for name in ["daemon.pid", "daemon.id", "daemon.lock"] {
        nix::unistd::mkfifo(&folder.join(name), nix::sys::stat::Mode::S_IRWXU).unwrap();
    }
    let (sender, looked) = std::sync::mpsc::channel();
    // A thread of its own, for a read that blocks would never come back.
    std::thread::spawn(move || {
        sender.send((folder.read_pid(), folder.read_identity(), folder.try_lock().map(drop))).unwrap();
        sender.send((folder.record(&identity()).map(|()| folder.read_pid()).unwrap(), Ok(None), Ok(()))).unwrap();
    });
    let patience = std::time::Duration::from_secs(10);
    let (pid, found, lock) = looked.recv_timeout(patience).expect("an answer");
    assert_eq!((pid, found), (Ok(None), Ok(None)));
    let message = refused(lock, &world.path().join("p/daemon.lock"));
    assert!(message.contains("plain file"), "{message}");
    assert_eq!(looked.recv_timeout(patience).expect("an answer").0, Ok(Some(4711)));
}

#[test]
fn a_folder_that_is_open_to_others_is_closed_and_what_its_owner_may_not_do_stays_so() {
    let world = world();
    for (name, found, left) in [("p", 0o777, 0o700), ("q", 0o755, 0o700), ("r", 0o500, 0o500)] {
        let place = world.path().join(name);
        fs::create_dir(&place).unwrap();
        fs::set_permissions(&place, fs::Permissions::from_mode(found)).unwrap();
        Folder::open(world.path(), name).unwrap();
        assert_eq!(mode(&place), left, "{name}");
    }
}

#[test]
fn nobody_else_may_write_in_the_folder_of_folders() {
    let world = world();
    for (name, found, left) in [("open", 0o777, 0o755), ("grouped", 0o2775, 0o2755), ("sticky", 0o1777, 0o1777), ("closed", 0o750, 0o750)] {
        let envs = world.path().join(name);
        fs::create_dir(&envs).unwrap();
        fs::set_permissions(&envs, fs::Permissions::from_mode(found)).unwrap();
        Folder::open(&envs, "p").unwrap();
        assert_eq!(mode(&envs), left, "{name}");
    }
}

#[test]
fn another_user_s_folder_is_refused() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can give a folder away");
        return;
    }
    let world = world();
    let place = world.path().join("p");
    fs::DirBuilder::new().mode(0o777).create(&place).unwrap();
    std::os::unix::fs::chown(&place, Some(1234), None).unwrap();
    let message = refused(Folder::open(world.path(), "p"), &place);
    assert!(message.contains("1234"), "{message}");
    assert_eq!(fs::read_dir(&place).unwrap().count(), 0);
}
