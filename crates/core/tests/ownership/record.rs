//! The record: `daemon.pid` and `daemon.id`.

use ally_base::record::Identity;
use ally_core::supervisor::Folder;
use std::fs;
use std::os::unix::fs::symlink;

use crate::{identity, temp_dir};

#[test]
fn record_is_daemon_pid_and_daemon_id() {
    let dir = temp_dir();
    let folder = Folder::open(dir.path(), "p").unwrap();
    assert_eq!((folder.read_pid(), folder.read_identity()), (Ok(None), Ok(None)));
    folder.record(&identity()).unwrap();
    let place = dir.path().join("p");
    assert_eq!(fs::read_to_string(place.join("daemon.pid")).unwrap(), "4711\n");
    assert_eq!((folder.read_pid(), folder.read_identity()), (Ok(Some(4711)), Ok(Some(identity()))));
    folder.record(&Identity { leader: 12, ..identity() }).unwrap();
    assert_eq!(folder.read_pid(), Ok(Some(12)));
    let names: Vec<_> = fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "no temporary file is left: {names:?}");
    folder.remove_record().unwrap();
    assert_eq!(fs::read_dir(&place).unwrap().count(), 0);
    folder.remove_record().unwrap();
}

#[test]
fn record_of_another_leader_is_not_removed() {
    let dir = temp_dir();
    let folder = Folder::open(dir.path(), "p").unwrap();
    let other = Identity { leader: 12, ..identity() };
    folder.record(&other).unwrap();
    folder.remove_record_of(&identity()).unwrap();
    assert_eq!((folder.read_pid(), folder.read_identity()), (Ok(Some(12)), Ok(Some(other.clone()))));
    folder.remove_record_of(&Identity { start: other.start + 1, ..other.clone() }).unwrap();
    assert_eq!(folder.read_identity(), Ok(Some(other.clone())), "the same pid at another time");
    folder.record(&other).unwrap();
    folder.remove_record_of(&other).unwrap();
    assert_eq!(fs::read_dir(dir.path().join("p")).unwrap().count(), 0);
    // Contents that name no process are replaced by a start, and removed by a stop.
    fs::write(folder.join("daemon.pid"), "0").unwrap();
    folder.remove_record_of(&other).unwrap();
    assert_eq!(fs::read_dir(dir.path().join("p")).unwrap().count(), 0);
}

#[test]
fn temporary_file_of_a_killed_writer_is_replaced_and_not_followed() {
    let dir = temp_dir();
    let folder = Folder::open(dir.path(), "p").unwrap();
    let victim = dir.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    fs::write(folder.join(".daemon.pid.new"), "half a reco").unwrap();
    symlink(&victim, folder.join(".daemon.id.new")).unwrap();
    folder.record(&identity()).unwrap();
    assert_eq!((folder.read_pid(), folder.read_identity()), (Ok(Some(4711)), Ok(Some(identity()))));
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
}

#[test]
fn record_is_replaced_atomically() {
    let dir = temp_dir();
    let folder = Folder::open(dir.path(), "p").unwrap();
    folder.record(&identity()).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for leader in 2..1_000 {
                folder.record(&Identity { leader, ..identity() }).unwrap();
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        while !done.load(std::sync::atomic::Ordering::Relaxed) {
            assert!(fs::read_to_string(folder.join("daemon.pid")).unwrap().ends_with('\n'));
            assert_ne!(folder.read_identity(), Ok(None));
        }
    });
}
