//! The record: `daemon.pid` and `daemon.id`.

use ally_base::record::{Identity, RecordFiles};
use ally_core::supervisor::Folder;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::{identity, refused, temp_dir};

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
    folder.forget(&identity()).unwrap();
    assert_eq!((folder.read_pid(), folder.read_identity()), (Ok(Some(12)), Ok(Some(other.clone()))));
    folder.forget(&Identity { start: other.start + 1, ..other.clone() }).unwrap();
    assert_eq!(folder.read_identity(), Ok(Some(other.clone())), "the same pid at another time");
    folder.record(&other).unwrap();
    folder.forget(&other).unwrap();
    assert_eq!(fs::read_dir(dir.path().join("p")).unwrap().count(), 0);
    // Contents that name no process are replaced by a start, and removed by a stop.
    fs::write(folder.join("daemon.pid"), "0").unwrap();
    folder.forget(&other).unwrap();
    assert_eq!(fs::read_dir(dir.path().join("p")).unwrap().count(), 0);
}

#[test]
fn record_names_both_generations_and_the_pid_file_the_serving_one() {
    let dir = temp_dir();
    let folder = Folder::open(dir.path(), "p").unwrap();
    let (old, new) = (identity(), Identity { leader: 12, token: None, ..identity() });
    let known = [old.clone(), new.clone()];
    folder.record(&old).unwrap();
    folder.record_successor(&new, &known[..1]).unwrap();
    assert_eq!((folder.read_pid(), folder.read_identities()), (Ok(Some(4711)), Ok(known.to_vec())));
    // An older version reads the first generation, as it was written for that one alone.
    let text = fs::read_to_string(folder.join("daemon.id")).unwrap();
    assert_eq!(Identity::parse(&text).as_ref(), Some(&old));
    assert!(text.starts_with(&old.to_string()) && text[old.to_string().len()..].lines().all(|line| line.starts_with("also ")), "{text}");
    folder.record_serving(&new, &known).unwrap();
    assert_eq!((folder.read_pid(), folder.read_identities()), (Ok(Some(12)), Ok(vec![new.clone(), old.clone()])));
    folder.forget(&old).unwrap();
    assert_eq!((folder.read_pid(), folder.read_identities()), (Ok(Some(12)), Ok(vec![new.clone()])));
    folder.forget(&new).unwrap();
    assert_eq!(fs::read_dir(dir.path().join("p")).unwrap().count(), 0);
}

#[test]
fn record_a_generation_that_its_keeper_has_removed_does_not_come_back() {
    let dir = temp_dir();
    let folder = Folder::open(dir.path(), "p").unwrap();
    let [first, second, third] = [4711, 12, 13].map(|leader| Identity { leader, ..identity() });
    folder.record(&first).unwrap();
    folder.record_successor(&second, std::slice::from_ref(&first)).unwrap();
    folder.forget(&first).unwrap();
    folder.record_successor(&third, &[first.clone(), second.clone()]).unwrap();
    assert_eq!(folder.read_identities(), Ok(vec![second.clone(), third.clone()]));
    folder.record_serving(&third, &[first, second.clone()]).unwrap();
    assert_eq!(folder.read_identities(), Ok(vec![third, second]));
}

#[test]
fn record_of_a_cleared_folder_names_every_generation_again() {
    let dir = temp_dir();
    let folder = Folder::open(dir.path(), "p").unwrap();
    let [first, second] = [4711, 12].map(|leader| Identity { leader, ..identity() });
    folder.record(&first).unwrap();
    fs::remove_file(folder.join("daemon.id")).unwrap();
    folder.record_successor(&second, std::slice::from_ref(&first)).unwrap();
    assert_eq!(folder.read_identities(), Ok(vec![first, second]));
}

#[test]
fn change_over_that_fails_leaves_the_record_as_it_was_and_names_the_file() {
    let dir = temp_dir();
    let folder = Folder::open(dir.path(), "p").unwrap();
    let known = [4711, 12].map(|leader| Identity { leader, ..identity() });
    folder.record(&known[0]).unwrap();
    folder.record_successor(&known[1], &known[..1]).unwrap();
    let before = fs::read_to_string(folder.join("daemon.id")).unwrap();
    // rename(2) can't put a file in the place of a folder.
    for (place, other) in [("daemon.pid", "daemon.id"), (".daemon.pid.new", "daemon.pid"), (".daemon.id.new", "daemon.pid")] {
        let aside = folder.join("aside");
        let there = fs::rename(folder.join(place), &aside).is_ok();
        fs::create_dir_all(folder.join(place).join("full")).unwrap();
        refused(folder.record_serving(&known[1], &known), &folder.join(place));
        fs::remove_dir_all(folder.join(place)).unwrap();
        if there {
            fs::rename(&aside, folder.join(place)).unwrap();
        }
        assert!(folder.join(other).exists());
        assert_eq!(fs::read_to_string(folder.join("daemon.id")).unwrap(), before, "{place}");
        assert_eq!(folder.read_pid(), Ok(Some(4711)));
        let names: Vec<_> = fs::read_dir(dir.path().join("p")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
    }
    folder.record_serving(&known[1], &known).unwrap();
    assert_eq!(folder.read_pid(), Ok(Some(12)));
}

/// A leader of one generation may get the pid that the leader of the other one had.
#[test]
fn record_the_pid_file_of_a_leader_with_the_same_pid_stays() {
    let dir = temp_dir();
    let folder = Folder::open(dir.path(), "p").unwrap();
    let (old, new) = (identity(), Identity { start: 816, ..identity() });
    folder.record(&old).unwrap();
    folder.record_serving(&new, std::slice::from_ref(&old)).unwrap();
    folder.forget(&old).unwrap();
    assert_eq!((folder.read_pid(), folder.read_identities()), (Ok(Some(4711)), Ok(vec![new])));
}

/// A process that was suspended in the midst of a change.
#[test]
fn record_that_another_process_is_changing_is_waited_for_and_not_for_ever() {
    let dir = temp_dir();
    let folder = Folder::open(dir.path(), "p").unwrap();
    folder.record(&identity()).unwrap();
    let changing = fs::File::open(folder.join("daemon.id")).unwrap();
    changing.try_lock().unwrap();
    let message = refused(folder.forget(&identity()), &folder.join("daemon.id"));
    assert!(message.contains("EAGAIN"), "{message}");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| folder.forget(&identity()));
        changing.unlock().unwrap();
        waiting.join().unwrap().unwrap();
    });
    assert_eq!(folder.read_identities(), Ok(Vec::new()));
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

#[test]
fn log_path_is_read_as_it_was_written_and_replaces_no_other_file() {
    let dir = temp_dir();
    let folder = Folder::open(dir.path(), "p").unwrap();
    let read = || RecordFiles::of(&File::open(folder.path()).unwrap()).log_path().unwrap();
    assert_eq!(read(), None);
    for path in ["/var/log/a.log", "/with a\nnewline", &format!("/{}", "x".repeat(4_090))] {
        folder.put_log_path(Path::new(path)).unwrap();
        assert_eq!(read(), Some(PathBuf::from(path)));
    }
    for damaged in ["", "\n", "relative\n", "/no/newline"] {
        fs::write(folder.join("daemon.log-path"), damaged).unwrap();
        assert_eq!(read(), None, "{damaged:?}");
    }
    folder.remove_log_path().unwrap();
    folder.remove_log_path().unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
