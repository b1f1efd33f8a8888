//! Folder watches: a new file in a folder is reported.

use ally_base::os::FolderWatcher;
use std::fs;
use std::os::unix::net::UnixListener;

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
