//! The compression of an older file, in a thread of low priority, so that the writing goes on.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use ally_base::log_file::FileId;
use ally_base::os;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::queue::Queue;

const CHUNK: usize = 64 * 1024;
/// Lazily used. The state of the compression is made on the stack before it moves to the heap.
const STACK: usize = 1024 * 1024;

pub struct Job {
    /// The file that is compressed. Rotations, also of another log process, change its number.
    pub of: FileId,
    /// The same file. While it is open no other file gets its inode number, so `of` can't name a newer one after rotations have
    /// removed it.
    _source: File,
    /// Locked until the result has its name: what another log process can't lock, it does not touch.
    lock: File,
    cancelled: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<()>>,
}

impl Job {
    /// # Errors
    /// EAGAIN: no thread could be made. EMFILE.
    pub fn start(from: File, to: File, queue: &Arc<Queue>) -> io::Result<Self> {
        let (of, source, lock) = (FileId::of(&from)?, from.try_clone()?, to.try_clone()?);
        let cancelled = Arc::new(AtomicBool::new(false));
        let (is_cancelled, queue) = (Arc::clone(&cancelled), Arc::clone(queue));
        let thread = thread::Builder::new().stack_size(STACK).spawn(move || {
            os::lower_thread_priority();
            let compressed = compress(from, to, &is_cancelled);
            queue.report_compressed();
            compressed
        })?;
        Ok(Self { of, _source: source, lock, cancelled, thread })
    }

    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// After [`Taken::compressed`](super::queue::Taken), or to wait for the end of a cancelled job. With the lock of the result.
    pub fn join(self) -> (File, io::Result<()>) {
        (self.lock, self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the compression broke down"))))
    }
}

fn compress(mut from: File, to: File, cancelled: &AtomicBool) -> io::Result<()> {
    let mut encoder = GzEncoder::new(to, Compression::default());
    let mut buffer = vec![0; CHUNK];
    loop {
        if cancelled.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let count = from.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        io::Write::write_all(&mut encoder, buffer.get(..count).unwrap_or_default())?;
    }
    // Before the rename: after a power failure a file of this name must be whole.
    encoder.finish()?.sync_all()
}
