//! Folder watches: a new file in a folder is reported.

use ally_base::os::{FolderWatcher, has_name};
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::mpsc::channel;

#[test]
fn folder_watcher_reports_the_folder_of_a_new_or_moved_file() {
    let home = tempfile::tempdir().unwrap();
    let watcher = FolderWatcher::new().unwrap();
    let folders = ["a", "b"].map(|name| home.path().join(name));
    let keys = folders.each_ref().map(|folder| {
        fs::create_dir(folder).unwrap();
        watcher.add(folder).unwrap()
    });
    assert_eq!(watcher.changed().unwrap(), None);
    let _socket = UnixListener::bind(folders[1].join("s")).unwrap();
    let changed = watcher.changed().unwrap().unwrap_or_default();
    assert!(!changed.is_empty() && changed.iter().all(|key| *key == Some(keys[1])));
    fs::rename(folders[1].join("s"), folders[0].join("s")).unwrap();
    assert!(watcher.changed().unwrap().is_some_and(|changed| changed.contains(&Some(keys[0]))), "a moved file is reported too");
    watcher.remove(keys[0]).unwrap();
    watcher.changed().unwrap();
    fs::write(folders[0].join("file"), "").unwrap();
    assert_eq!(watcher.changed().unwrap(), None);
    fs::remove_dir_all(&folders[1]).unwrap();
    watcher.remove(keys[1]).unwrap();
    assert!(watcher.add(&folders[1]).is_err());
}

#[test]
fn folder_watcher_reports_a_file_that_loses_or_changes_its_name() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("file");
    let other = home.path().join("other");
    let changes: [fn(&Path, &Path); 3] = [
        |path, _| fs::remove_file(path).unwrap(),
        |path, _| fs::rename(path, path.with_extension("renamed")).unwrap(),
        |path, other| fs::rename(other, path).unwrap(),
    ];
    for change in changes {
        let watcher = FolderWatcher::new().unwrap();
        let file = File::create(&path).unwrap();
        fs::write(&other, "").unwrap();
        let key = watcher.add_file(&file).unwrap();
        fs::write(&path, "text").unwrap();
        fs::write(home.path().join("another"), "").unwrap();
        assert_eq!(watcher.changed().unwrap(), None, "neither a write nor another file is reported");
        change(&path, &other);
        assert!(watcher.changed().unwrap().is_some_and(|changed| changed.contains(&Some(key))));
    }
}

#[test]
fn folder_watcher_reports_an_open_folder_that_is_renamed() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("folder");
    fs::create_dir(&path).unwrap();
    let watcher = FolderWatcher::new().unwrap();
    let key = watcher.add_file(&File::open(&path).unwrap()).unwrap();
    fs::write(path.join("file"), "").unwrap();
    assert_eq!(watcher.changed().unwrap(), None, "a new file is not reported");
    fs::rename(&path, home.path().join("renamed")).unwrap();
    assert!(watcher.changed().unwrap().is_some_and(|changed| changed.contains(&Some(key))));
}

/// On two cores, stat(2) finds the name after some of these events.
#[test]
fn a_name_that_an_event_tells_the_removal_of_is_gone_by_has_name() {
    let home = tempfile::tempdir().unwrap();
    let (path, second) = (home.path().join("s"), home.path().join("s.held"));
    let _socket = UnixListener::bind(&second).unwrap();
    let watcher = FolderWatcher::new().unwrap();
    watcher.add_socket(&second).unwrap();
    let (order, orders) = channel::<()>();
    let removed = path.clone();
    let remover = std::thread::spawn(move || orders.iter().for_each(|()| fs::remove_file(&removed).unwrap()));
    for _ in 0..5_000 {
        fs::hard_link(&second, &path).unwrap();
        while watcher.changed().unwrap().is_some() {}
        assert!(has_name(fs::File::open(home.path()).unwrap(), Path::new("s")));
        order.send(()).unwrap();
        let mut waiting = libc::pollfd { fd: watcher.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd, which lives until the return.
        assert_eq!(unsafe { libc::poll(&raw mut waiting, 1, 10_000) }, 1);
        assert!(!has_name(nix::fcntl::AT_FDCWD, &path));
    }
    drop(order);
    remover.join().unwrap();
}
