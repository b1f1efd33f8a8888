//! Reads a daemon's pipes for as long as anybody holds their other ends.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use tokio::net::unix::pipe::Receiver;
use tokio::task::yield_now;

use super::lines::Splitter;
use super::{Stream, Tail};
use crate::supervisor::report::{Reporter, log};
use crate::supervisor::runtime::spawn;

/// What a pipe holds at most, unless somebody made it larger (pipe(7)).
const READ: usize = 64 * 1024;
/// How much of what a dead leader left in its pipes is read before its exit is told. More than a pipe
/// holds comes only from a survivor that goes on writing.
const LAST_WORDS: usize = 1024 * 1024;
/// Reads in a row before others get their turn.
const TURN: usize = 8;

thread_local! {
    /// One for all pipes: nothing stays in it between two reads.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ]);
}

struct Pump {
    stream: Stream,
    pipe: Receiver,
    tail: Arc<Tail>,
    /// Its number in the tail.
    process: u64,
    reporter: Reporter,
    splitter: Mutex<Splitter>,
}

/// Both outputs of one process. Reading goes on after this is dropped, until nobody holds the other
/// ends: what a plugin left alive on purpose must not die of a broken pipe.
pub struct Pumps([Arc<Pump>; 2]);

impl Pumps {
    /// # Errors
    /// What the system says to two more descriptors in its queue of events.
    pub fn start(outputs: [OwnedFd; 2], tail: &Arc<Tail>, reporter: &Reporter) -> io::Result<Self> {
        let [stdout, stderr] = outputs;
        let process = tail.begin();
        let pump = |stream, fd| {
            let pipe = Receiver::from_owned_fd(fd)?;
            let pump = Pump { stream, pipe, tail: Arc::clone(tail), process, reporter: reporter.clone(), splitter: Mutex::default() };
            Ok::<_, io::Error>(Arc::new(pump))
        };
        let pumps = [pump(Stream::Stdout, stdout)?, pump(Stream::Stderr, stderr)?];
        for pump in &pumps {
            drop(spawn(Arc::clone(pump).run()));
        }
        Ok(Self(pumps))
    }

    /// The process has ended: what is there is all that it has said, and a line without an end is a line. A grandchild may
    /// hold the other end for ever.
    pub fn finish(&self) {
        self.drain();
        self.0.iter().for_each(|pump| pump.end_line());
    }

    /// Reads what is there, without waiting for more.
    pub fn drain(&self) {
        for pump in &self.0 {
            let mut read = 0;
            while read < LAST_WORDS {
                match pump.read() {
                    Ok(count) if count > 0 => read += count,
                    Ok(_) | Err(_) => break,
                }
            }
        }
    }
}

impl Pump {
    async fn run(self: Arc<Self>) {
        'events: loop {
            if let Err(error) = self.pipe.readable().await {
                log!(self.reporter, warn, %error, "output can't be read any more");
                return;
            }
            for _ in 0..TURN {
                // Through tokio, so that it learns when the pipe is empty.
                match self.pipe.try_io(|| self.read()) {
                    Ok(0) => break 'events,
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue 'events,
                    Err(error) => {
                        log!(self.reporter, warn, %error, "output can't be read any more");
                        return;
                    }
                }
            }
            yield_now().await;
        }
        self.end_line();
    }

    /// Whatever has no end yet is told as it is.
    fn end_line(&self) {
        if let Some(line) = self.splitter().rest() {
            self.reporter.line(self.stream, line);
        }
    }

    fn read(&self) -> io::Result<usize> {
        BUFFER.with_borrow_mut(|buffer| {
            let count = loop {
                match nix::unistd::read(self.pipe.as_fd(), buffer) {
                    Ok(count) => break count,
                    Err(Errno::EINTR) => {}
                    Err(error) => return Err(error.into()),
                }
            };
            let bytes = buffer.get(..count).unwrap_or_default();
            self.tail.append(self.process, self.stream, bytes);
            if self.reporter.wants_lines() {
                self.splitter().feed(bytes, |line| self.reporter.line(self.stream, line));
            } else {
                // Whoever comes to listen later begins with a whole line, or with what is left of this one.
                self.splitter().clear();
            }
            Ok(count)
        })
    }

    fn splitter(&self) -> MutexGuard<'_, Splitter> {
        self.splitter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
