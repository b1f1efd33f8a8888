//! `daemon.lock`: one owner per name.

use ally_base::os;
use ally_base::record::{LockNote, own_place};
use ally_core::supervisor::Folder;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::{identity, locked, note_of, temp_dir};

#[test]
fn lock_has_one_holder_and_its_note_names_the_holder() {
    let dir = temp_dir();
    let [first, second] = [(); 2].map(|()| Folder::open(dir.path(), "p").unwrap());
    let lock = locked(&first);
    assert_eq!(note_of(&second), LockNote::Nobody, "the note is written after the lock is taken");
    let note = LockNote::Owner { pid: os::own_pid(), start: os::start_time(os::own_pid()).unwrap(), manager: 1_234_567 };
    lock.note(&note).unwrap();
    assert_eq!(note_of(&second), note);
    // A shorter note replaces a longer note completely.
    let shorter = LockNote::Owner { pid: 2, start: 1, manager: 0 };
    lock.note(&shorter).unwrap();
    let place = own_place().unwrap().to_owned();
    assert_eq!(fs::read_to_string(first.join("daemon.lock")).unwrap(), format!("owner 2 1 0 {place}\n"));
    assert_eq!(first.try_lock().unwrap().unwrap_err().place, Some(place));
    assert_eq!(note_of(&second), shorter);
    lock.release().unwrap();
    assert_eq!(fs::read_to_string(first.join("daemon.lock")).unwrap(), "", "a released lock has no note");
    let next = locked(&second);
    next.note(&note).unwrap();
    // After its release a lock neither writes a note nor releases the lock of the next holder.
    lock.note(&LockNote::Nobody).unwrap();
    lock.release().unwrap();
    assert_eq!(note_of(&first), note);
    assert!(Folder::open(dir.path(), "p").unwrap().try_lock().unwrap().is_err());
}

#[test]
fn lock_is_held_by_the_keepers_copy_until_it_is_released() {
    let dir = temp_dir();
    let [first, second] = [(); 2].map(|()| Folder::open(dir.path(), "p").unwrap());
    let lock = locked(&first);
    let keeper_copy = lock.as_file().try_clone().unwrap();
    drop((lock, first));
    assert!(second.try_lock().unwrap().is_err(), "the keeper's copy holds the lock");
    drop(keeper_copy);
    let lock = locked(&second);
    let copy_of_a_starting_child = lock.as_file().try_clone().unwrap();
    lock.release().unwrap();
    drop(locked(&Folder::open(dir.path(), "p").unwrap()));
    drop(copy_of_a_starting_child);
}

#[test]
fn lock_file_is_never_replaced() {
    let dir = temp_dir();
    let folder = Folder::open(dir.path(), "p").unwrap();
    drop(locked(&folder));
    let inode = |path: PathBuf| fs::metadata(path).unwrap().ino();
    let before = inode(folder.join("daemon.lock"));
    folder.record(&identity()).unwrap();
    folder.remove_record().unwrap();
    drop(locked(&folder));
    assert_eq!(inode(folder.join("daemon.lock")), before);
}

#[test]
fn lock_is_held_although_the_folder_was_cleared() {
    let dir = temp_dir();
    let [first, second] = [(); 2].map(|()| Folder::open(dir.path(), "p").unwrap());
    let lock = locked(&first);
    assert!(first.has_lock_file(lock.as_file()));
    fs::remove_file(first.join("daemon.lock")).unwrap();
    assert!(!first.has_lock_file(lock.as_file()));
    let held = second.try_lock().unwrap().unwrap_err();
    assert_eq!((held.note, held.locker), (LockNote::Nobody, Some(os::own_pid())));
    // The refused one has made a file, and does not keep it locked.
    let retaken = lock.with_file(first.try_lock_file().unwrap().unwrap());
    assert!(first.has_lock_file(retaken.as_file()));
    assert!(second.try_lock().unwrap().is_err());
    let keeper_copy = first.try_clone().unwrap();
    drop((lock, retaken, first));
    assert!(second.try_lock().unwrap().is_err(), "the keeper's copy of the folder holds the name");
    drop(keeper_copy);
    drop(locked(&second));
}

#[test]
fn locks_of_two_names_are_independent() {
    let dir = temp_dir();
    let [first, second] = ["p", "q"].map(|name| Folder::open(dir.path(), name).unwrap());
    let _first = locked(&first);
    let _second = locked(&second);
}
