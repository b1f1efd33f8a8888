//! A log file in a temporary folder.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ally_base::wire::{FrameBuffer, LogNote};
use ally_log::{Limits, LogFile, Notes, Queue};
use tempfile::TempDir;

pub struct Place {
    pub dir: TempDir,
    pub queue: Arc<Queue>,
    notes: (File, OwnedFd),
    _room: OwnedFd,
}

pub const LIMITS: Limits = Limits { max_size: 100, max_files: 4, compress: false };

impl Place {
    pub fn new() -> Self {
        let (notes, noted) = std::io::pipe().unwrap();
        let (room, making_room) = std::io::pipe().unwrap();
        nix::fcntl::fcntl(&notes, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
        let notes = (File::from(OwnedFd::from(notes)), noted.into());
        Self { dir: tempfile::tempdir().unwrap(), queue: Arc::new(Queue::new(making_room.into())), notes, _room: room.into() }
    }

    /// Opened by the log process itself.
    pub fn open(&self, limits: &Limits) -> LogFile {
        let folder = File::open(self.dir.path()).unwrap().into();
        let notes = Notes::new(self.notes.1.try_clone().unwrap());
        let mut log = LogFile::new(folder, self.dir.path().to_owned(), "log".into(), limits, notes, Arc::clone(&self.queue));
        log.begin(None);
        log
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    pub fn notes(&mut self) -> Vec<LogNote> {
        let mut bytes = [0; 4096];
        let mut frames = FrameBuffer::default();
        if let Ok(count) = self.notes.0.read(&mut bytes) {
            frames.extend(&bytes[..count]);
        }
        std::iter::from_fn(|| frames.next_frame().unwrap()).map(|frame| LogNote::decode(&frame).unwrap()).collect()
    }
}

#[track_caller]
pub fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(10);
    while !is_true() {
        assert!(Instant::now() < limit, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
