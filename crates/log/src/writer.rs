//! The writer's loop. Only this thread waits for the disk.

use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ally_base::wire::LogNote;

use super::file::LogFile;
use super::notes::Notes;
use super::queue::Queue;

/// The time that a compression has at the end of the daemon. A file of the default size needs half of it.
const COMPRESSION_LIMIT: Duration = Duration::from_secs(1);

pub struct Writer {
    pub file: LogFile,
    pub queue: Arc<Queue>,
    pub notes: Notes,
    /// Opened and locked by the owner.
    pub opened: Option<File>,
    /// An earlier log process of this daemon was killed.
    pub replaces: bool,
}

impl Writer {
    /// Returns when everything is in the file. `written` is called before the last compression is awaited.
    pub fn run(mut self, written: impl FnOnce()) {
        self.file.begin(self.opened.take());
        if self.replaces {
            self.notes.send(LogNote::Replaced);
            self.file.write_marker("the log process was killed: lines may be missing here");
        }
        let mut buffer = Vec::new();
        loop {
            let Some(taken) = self.queue.take_within(&mut buffer, self.file.turn_left()) else {
                self.file.break_line();
                continue;
            };
            if taken.compressed {
                self.file.on_compressed();
            }
            if !buffer.is_empty() {
                self.file.write(&buffer);
            }
            if taken.dropped > 0 {
                self.file.write_marker(&format!("{} lines were dropped: the disk is too slow", taken.dropped));
                self.notes.send(LogNote::FileDropped { lines: taken.dropped, errno: 0 });
            }
            if taken.closed {
                break;
            }
        }
        self.file.finish();
        self.file.break_line();
        written();
        self.finish_compression();
    }

    fn finish_compression(&mut self) {
        let limit = Instant::now() + COMPRESSION_LIMIT;
        while self.file.rotation.is_compressing() {
            if !self.queue.wait_compressed(limit) {
                return self.file.rotation.cancel();
            }
            self.file.on_compressed();
        }
    }
}
