//! Reads a daemon's pipes until all write ends are closed.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ally_base::os;
use nix::errno::Errno;
use tokio::net::unix::pipe::Receiver;
use tokio::task::yield_now;

use super::lines::Splitter;
use super::{LineMatch, Tail};
use crate::model::{Pid, Stream};
use crate::supervisor::report::{Reporter, log};
use crate::supervisor::runtime::spawn;

/// The default capacity of a pipe: pipe(7).
const PIPE_CAPACITY: usize = 64 * 1024;
/// Of the pipe of a daemon that fills [`PIPE_CAPACITY`] before it is read. Only such a pipe is as large: all pipes of a user share
/// `pipe-user-pages-soft`.
const FLOOD_CAPACITY: usize = 256 * 1024;
/// The bytes that are read after the leader's exit, before the exit is reported. If more than the capacity of a pipe comes,
/// another process of the tree is still writing, and the exit must not wait for it.
const FINAL_READ_MAX: usize = 1024 * 1024;
/// The reads in a row before the other tasks of the thread run.
const READS_PER_TURN: usize = 8;

thread_local! {
    /// Shared by all pipes, because each read copies its bytes out, or leaves another buffer here.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; PIPE_CAPACITY]);
}

struct Pump {
    stream: Stream,
    pipe: Receiver,
    tail: Arc<Tail>,
    /// The number of the process in the tail.
    process: u64,
    reporter: Reporter,
    splitter: Mutex<Splitter>,
    /// The search of readiness `output`.
    line_match: Option<Arc<LineMatch>>,
    /// The capacity of the pipe, as far as this side has asked for it.
    capacity: AtomicUsize,
}

/// Both pipes of one process. After [`Pumps::end`] and after a drop the pipes are still read until all write ends are closed,
/// because a process that `killMode: 'group'` spares would otherwise die of SIGPIPE.
pub struct Pumps([Arc<Pump>; 2]);

impl Pumps {
    /// `beside`: another process of the plugin goes on to write.
    ///
    /// # Errors
    /// The errno of epoll_ctl(2) or kevent(2) for the two descriptors.
    pub fn start(
        outputs: [OwnedFd; 2],
        tail: &Arc<Tail>,
        beside: bool,
        reporter: &Reporter,
        line_match: Option<&Arc<LineMatch>>,
    ) -> io::Result<Self> {
        let [stdout, stderr] = outputs;
        let process = if beside { tail.begin_beside() } else { tail.begin() };
        let pump = |stream, fd| {
            let pipe = Receiver::from_owned_fd(fd)?;
            let pump = Pump {
                stream,
                pipe,
                tail: Arc::clone(tail),
                process,
                reporter: reporter.clone(),
                splitter: Mutex::default(),
                line_match: line_match.cloned(),
                capacity: AtomicUsize::new(super::QUIET_CAPACITY as usize),
            };
            Ok::<_, io::Error>(Arc::new(pump))
        };
        let pumps = [pump(Stream::Stdout, stdout)?, pump(Stream::Stderr, stderr)?];
        for pump in &pumps {
            drop(spawn(Arc::clone(pump).run()));
        }
        Ok(Self(pumps))
    }

    /// The number of the process in the tail.
    pub fn process(&self) -> u64 {
        let [pump, _] = &self.0;
        pump.process
    }

    /// The leader of this process has this pid.
    pub fn spawned(&self, pid: Pid) {
        let [pump, _] = &self.0;
        pump.tail.name_process(pump.process, pid);
    }

    /// Reads the rest after the exit of the leader, and reports an unfinished line. The end of the pipes may never come,
    /// because a descendant may hold the write ends.
    pub fn finish(&self) {
        self.drain();
        self.0.iter().for_each(|pump| pump.end_line());
    }

    /// The tree is gone: reads the rest. What another process still writes is read and dropped.
    pub fn end(self) {
        self.finish();
        self.0.iter().for_each(|pump| pump.tail.end(pump.process));
    }

    /// Reads the bytes that are in the pipes, without waiting for more.
    pub fn drain(&self) {
        for pump in &self.0 {
            let mut read = 0;
            while read < FINAL_READ_MAX {
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
            // Matching takes longer than reading.
            let is_matched = self.line_match.as_ref().is_some_and(|line_match| line_match.is_searching());
            for _ in 0..if is_matched { 1 } else { READS_PER_TURN } {
                // With try_io, so that tokio waits for the next readiness event after EAGAIN.
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

    /// Reports a line that has no newline.
    fn end_line(&self) {
        self.tail.end_line(self.process, self.stream);
        if let Some((line, _)) = self.splitter().rest() {
            self.count_dropped(u64::from(!self.reporter.line(self.stream, line)));
        }
        if let Some(line_match) = &self.line_match {
            line_match.end_line(self.stream, Instant::now());
        }
    }

    fn count_dropped(&self, lines: u64) {
        if lines > 0 {
            self.tail.count_dropped_lines(lines);
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
            self.enlarge(count);
            let wants_lines = self.reporter.wants_lines();
            if self.line_match.is_none() && !wants_lines {
                self.splitter().clear();
                self.tail.append_buffer(self.process, self.stream, buffer, count);
                return Ok(count);
            }
            let bytes = buffer.get(..count).unwrap_or_default();
            let counts = self.tail.append(self.process, self.stream, bytes);
            if counts && let Some(line_match) = &self.line_match {
                line_match.feed(self.stream, bytes, Instant::now());
            }
            if counts && wants_lines {
                let mut dropped = 0;
                self.splitter().feed(bytes, |line, _| dropped += u64::from(!self.reporter.line(self.stream, line)));
                self.count_dropped(dropped);
            } else {
                // A later listener gets lines from here on, and not the first half of an old one.
                self.splitter().clear();
            }
            Ok(count)
        })
    }

    /// If a read has met a pipe that was nearly full, the daemon writes faster than this thread reads. In a larger pipe it waits
    /// less.
    fn enlarge(&self, read: usize) {
        let capacity = self.capacity.load(Ordering::Relaxed);
        // Half the capacity, because a page may hold half of what fits.
        if capacity == FLOOD_CAPACITY || read < capacity / 2 {
            return;
        }
        let larger = if capacity < PIPE_CAPACITY { PIPE_CAPACITY } else { FLOOD_CAPACITY };
        self.capacity.store(larger, Ordering::Relaxed);
        if let Err(error) = os::resize_pipe(&self.pipe, i32::try_from(larger).unwrap_or(i32::MAX)) {
            log!(self.reporter, debug, %error, "the pipe of a daemon stays small");
        }
    }

    fn splitter(&self) -> MutexGuard<'_, Splitter> {
        self.splitter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
