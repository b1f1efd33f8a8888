//! The lock.

use ally_base::os;
use ally_base::record::LockNote;
use ally_core::supervisor::Folder;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::{identity, locked, note_of, own_pid, world};

#[test]
fn a_name_belongs_to_one_at_a_time_and_the_other_reads_to_whom() {
    let world = world();
    let [first, second] = [(); 2].map(|()| Folder::open(world.path(), "p").unwrap());
    let lock = locked(&first);
    assert_eq!(note_of(&second), LockNote::Nobody, "it is taken before its note is written");
    let note = LockNote::Owner { pid: own_pid(), start: os::start_time(own_pid()).unwrap(), manager: 1_234_567 };
    lock.note(&note).unwrap();
    assert_eq!(note_of(&second), note);
    // A shorter one leaves nothing of the longer one behind.
    let shorter = LockNote::Owner { pid: 2, start: 1, manager: 0 };
    lock.note(&shorter).unwrap();
    assert_eq!(fs::read_to_string(first.join("daemon.lock")).unwrap(), "owner 2 1 0\n");
    assert_eq!(note_of(&second), shorter);
    lock.release().unwrap();
    assert_eq!(fs::read_to_string(first.join("daemon.lock")).unwrap(), "", "it is nobody's");
    let next = locked(&second);
    next.note(&note).unwrap();
    // Who has released it writes no more, and takes it from nobody.
    lock.note(&LockNote::Nobody).unwrap();
    lock.release().unwrap();
    assert_eq!(note_of(&first), note);
    assert!(Folder::open(world.path(), "p").unwrap().try_lock().unwrap().is_err());
}

#[test]
fn a_keeper_s_copy_is_as_good_as_the_lock_until_that_is_released() {
    let world = world();
    let [first, second] = [(); 2].map(|()| Folder::open(world.path(), "p").unwrap());
    let lock = locked(&first);
    let keeper_s = lock.as_file().try_clone().unwrap();
    drop(lock);
    assert!(second.try_lock().unwrap().is_err(), "the owner let go, but the tree lives");
    drop(keeper_s);
    let lock = locked(&second);
    let copy_of_a_child_that_is_just_starting = lock.as_file().try_clone().unwrap();
    lock.release().unwrap();
    drop(locked(&first));
    drop(copy_of_a_child_that_is_just_starting);
}

#[test]
fn the_lock_file_stays_the_same_file_for_ever() {
    let world = world();
    let folder = Folder::open(world.path(), "p").unwrap();
    drop(locked(&folder));
    let inode = |path: PathBuf| fs::metadata(path).unwrap().ino();
    let before = inode(folder.join("daemon.lock"));
    folder.record(&identity()).unwrap();
    folder.remove_record().unwrap();
    drop(locked(&folder));
    assert_eq!(inode(folder.join("daemon.lock")), before);
}

#[test]
fn names_don_t_get_in_each_other_s_way() {
    let world = world();
    let [first, second] = ["p", "q"].map(|name| Folder::open(world.path(), name).unwrap());
    let _first = locked(&first);
    let _second = locked(&second);
}
