//! The files of the plugin's folder.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

pub fn other_files() -> Vec<(String, Vec<u8>)> {
    [".installed", "daemon", "daemon.pid.bak", "daemon.sock"].map(|name| (name.to_owned(), name.into())).into()
}

pub fn create_folder(folder: &Path) {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).unwrap();
    for (name, text) in other_files() {
        fs::write(folder.join(name), text).unwrap();
    }
}

/// Names and contents of the files of a folder.
pub fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let mut contents: Vec<_> = entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect();
    contents.sort_unstable();
    contents
}
