//! The reader's loop, and the end of the process.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ally_base::os;
use ally_base::wire::LogNote;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::copy::OwnerCopy;
use super::file::{Limits, LogFile};
use super::lines::Lines;
use super::notes::Notes;
use super::queue::Queue;
use super::writer::Writer;

/// From the keeper: everything that is in the pipes must be on its way to the owner. The answer is the same byte.
pub const FLUSH: u8 = b'F';
/// From the keeper: the tree is gone. The answer comes when everything is in the file as well.
pub const END: u8 = b'E';

const CHUNK: usize = 256 * 1024;
/// A read of this many bytes met a pipe that was nearly full: half of the capacity that the owner gives it.
const NEARLY_FULL: usize = 8 * 1024;
/// The bytes of one stream that one [`FLUSH`] reads: if more come, somebody still writes.
const FLUSH_MAX: usize = 1024 * 1024;
const WRITER_STACK: usize = 128 * 1024;
/// The time after the keeper's death in which the rest of the tree is swept. What is written later comes from somebody else.
const SWEEP_TIME: Duration = Duration::from_secs(5);
/// The time that the writer has at the end. A disk may hang for ever.
const WRITER_LIMIT: Duration = Duration::from_secs(10);
const NOTE_INTERVAL: Duration = Duration::from_secs(1);

pub struct Parts {
    /// The read ends of stdout and stderr.
    pub outputs: [OwnedFd; 2],
    /// The write ends of the owner's copies.
    pub copies: [OwnedFd; 2],
    /// The keeper.
    pub control: OwnedFd,
    pub notes: OwnedFd,
    /// Opened and locked by the owner.
    pub file: Option<File>,
    pub folder: OwnedFd,
    pub folder_path: PathBuf,
    pub name: PathBuf,
    pub limits: Limits,
    /// An earlier log process of this daemon was killed.
    pub replaces: bool,
}

impl Parts {
    pub fn descriptors(&self) -> Vec<RawFd> {
        let several = self.outputs.iter().chain(&self.copies).chain([&self.control, &self.notes, &self.folder]);
        several.map(AsRawFd::as_raw_fd).chain(self.file.as_ref().map(AsRawFd::as_raw_fd)).collect()
    }
}

struct Process {
    outputs: [Option<OwnedFd>; 2],
    /// Whether the pipe of a stream was enlarged.
    enlarged: [bool; 2],
    copies: [OwnerCopy; 2],
    /// `None` after the keeper's end.
    control: Option<OwnedFd>,
    /// What the keeper waits for.
    asked: Option<u8>,
    /// The bytes of both streams that were read since the keeper asked. `None`: nothing is left, or only what somebody still writes.
    draining: Option<[usize; 2]>,
    notes: Notes,
    noted: Instant,
    lines: Lines,
    queue: Arc<Queue>,
    /// Has a byte when the queue has room again.
    room: OwnedFd,
    /// Ends when the writer has written everything. `None` after that.
    written: Option<OwnedFd>,
    /// After this the output is no longer the daemon's, and is read and dropped.
    ended: Option<Instant>,
    /// When the output ends at the latest.
    sweep_end: Option<Instant>,
}

/// Ends when the daemon has ended, everything is written, and nobody can write to the pipes any more.
pub fn run(parts: Parts) -> ! {
    let code = match Process::begin(parts) {
        Ok((mut process, writer)) => {
            process.run();
            // The rest of a compression. If the disk hangs, so does this process in any case.
            if process.written.is_none() {
                drop(writer.join());
            }
            0
        }
        // No thread: the keeper tries again.
        Err(_) => 1,
    };
    // SAFETY: _exit(2) runs no exit handlers, which belong to the keeper.
    unsafe { libc::_exit(code) }
}

impl Process {
    fn begin(parts: Parts) -> std::io::Result<(Self, thread::JoinHandle<()>)> {
        for fd in parts.outputs.iter().chain(&parts.copies).chain([&parts.notes]) {
            set_nonblocking(fd)?;
        }
        let (written, writing) = nix::unistd::pipe()?;
        let (room, making_room) = nix::unistd::pipe()?;
        set_nonblocking(&room)?;
        set_nonblocking(&making_room)?;
        let queue = Arc::new(Queue::new(making_room));
        let notes = Notes::new(parts.notes);
        let file = LogFile::new(parts.folder, parts.folder_path, parts.name, &parts.limits, notes.clone(), Arc::clone(&queue));
        let writer = Writer { file, queue: Arc::clone(&queue), notes: notes.clone(), opened: parts.file, replaces: parts.replaces };
        let writer = thread::Builder::new().stack_size(WRITER_STACK).spawn(move || writer.run(|| drop(writing)))?;
        let process = Self {
            outputs: parts.outputs.map(Some),
            enlarged: [false; 2],
            copies: parts.copies.map(OwnerCopy::new),
            control: Some(parts.control),
            asked: None,
            draining: None,
            notes,
            noted: Instant::now(),
            lines: Lines::default(),
            queue,
            room,
            written: Some(written),
            ended: None,
            sweep_end: None,
        };
        Ok((process, writer))
    }

    fn run(&mut self) {
        let mut buffer = vec![0; CHUNK];
        while !self.is_over() {
            let [stdout, stderr, control, stdout_copy, stderr_copy, room, written] = self.wait();
            for (stream, is_ready) in [stdout, stderr].into_iter().enumerate() {
                if is_ready {
                    self.read(stream, &mut buffer);
                }
            }
            for (copy, is_ready) in self.copies.iter_mut().zip([stdout_copy, stderr_copy]) {
                if is_ready && copy.is_delivered() {
                    // Without a wish for room, only the owner's death is an event.
                    copy.close();
                } else if is_ready {
                    copy.flush();
                }
            }
            if control {
                self.on_keeper();
            }
            if room && nix::unistd::read(&self.room, &mut buffer).is_err() {
                // EAGAIN: there was no byte.
            }
            if written {
                self.written = None;
            }
            self.drain(&mut buffer);
            if self.sweep_end.is_some_and(|at| Instant::now() >= at) || (self.control.is_none() && self.is_silent()) {
                self.end();
            }
            self.answer();
            self.note_dropped();
        }
    }

    fn is_silent(&self) -> bool {
        self.outputs.iter().all(Option::is_none)
    }

    fn is_over(&self) -> bool {
        self.is_silent() && self.ended.is_some_and(|at| self.written.is_none() || at.elapsed() >= WRITER_LIMIT)
    }

    /// The read ends of stdout and stderr, the keeper, the copies, the room in the queue, the writer's end.
    fn wait(&self) -> [bool; 7] {
        // What is read after the end is dropped, and needs no room.
        let until_room = if self.ended.is_some() { None } else { self.queue.wait_for_room() };
        let wish = |copy: &OwnerCopy| if copy.is_delivered() { 0 } else { libc::POLLOUT };
        let output = |output: &'_ Option<OwnedFd>| output.as_ref().filter(|_| until_room.is_none()).map(AsRawFd::as_raw_fd);
        let [stdout_copy, stderr_copy] = &self.copies;
        let of = |fd: &OwnedFd| fd.as_raw_fd();
        let all = [
            (output(&self.outputs[0]), libc::POLLIN),
            (output(&self.outputs[1]), libc::POLLIN),
            (self.control.as_ref().map(of), libc::POLLIN),
            (stdout_copy.pipe().map(|fd| fd.as_raw_fd()), wish(stdout_copy)),
            (stderr_copy.pipe().map(|fd| fd.as_raw_fd()), wish(stderr_copy)),
            (Some(of(&self.room)), libc::POLLIN),
            (self.written.as_ref().map(of), libc::POLLIN),
        ];
        // poll(2) ignores negative descriptors.
        let mut polled = all.map(|(fd, events)| libc::pollfd { fd: fd.unwrap_or(-1), events, revents: 0 });
        // SAFETY: the array has seven entries and outlives the call.
        let failed = unsafe { libc::poll(polled.as_mut_ptr(), 7, self.timeout(until_room)) } < 0;
        // All signals are blocked, so EINTR can't come. After another error each descriptor is tried.
        polled.map(|entry| entry.fd >= 0 && (failed || entry.revents != 0))
    }

    /// In milliseconds, as poll(2) takes it.
    fn timeout(&self, until_room: Option<Duration>) -> libc::c_int {
        let writer_end = self.ended.filter(|_| self.written.is_some()).map(|at| at + WRITER_LIMIT);
        let sweep_end = self.sweep_end.filter(|_| self.ended.is_none());
        let until = |at: Instant| at.saturating_duration_since(Instant::now());
        let left = writer_end.into_iter().chain(sweep_end).map(until).chain(until_room).min();
        left.map_or(-1, |left| libc::c_int::try_from(left.as_millis() + 1).unwrap_or(libc::c_int::MAX))
    }

    /// Returns the bytes that were read. 0 at the end, and if there are none now.
    fn read(&mut self, stream: usize, buffer: &mut [u8]) -> usize {
        let Some(output) = self.outputs[stream].as_ref() else { return 0 };
        let count = match nix::unistd::read(output, buffer) {
            Ok(count) if count > 0 => count,
            Err(Errno::EAGAIN | Errno::EINTR) => return 0,
            Ok(_) | Err(_) => {
                self.outputs[stream] = None;
                return 0;
            }
        };
        if self.ended.is_none() {
            let bytes = buffer.get(..count).unwrap_or_default();
            if count >= NEARLY_FULL && !std::mem::replace(&mut self.enlarged[stream], true) {
                // The daemon writes faster than this process reads. In a larger pipe it waits less. EPERM: the pipe stays as it is.
                drop(os::resize_pipe(output, i32::try_from(CHUNK).unwrap_or(i32::MAX)));
            }
            self.copies[stream].push(bytes);
            let queue = &self.queue;
            self.lines.feed(stream, bytes, &mut |piece| queue.push(piece));
        }
        count
    }

    /// Reads what was in the pipes when the keeper asked, as far as the queue has room.
    fn drain(&mut self, buffer: &mut [u8]) {
        let Some(mut drained) = self.draining else { return };
        for (stream, read) in drained.iter_mut().enumerate() {
            while *read < FLUSH_MAX {
                if self.queue.wait_for_room().is_some() {
                    self.draining = Some(drained);
                    return;
                }
                match self.read(stream, buffer) {
                    0 => *read = FLUSH_MAX,
                    count => *read += count,
                }
            }
        }
        self.draining = None;
        if self.asked == Some(END) {
            self.end();
        }
    }

    fn on_keeper(&mut self) {
        let Some(control) = &self.control else { return };
        let mut word = [0];
        match nix::unistd::read(control, &mut word) {
            Ok(1) => {
                self.asked = word.first().copied();
                self.draining = Some([0; 2]);
            }
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Ok(_) | Err(_) => {
                self.control = None;
                self.sweep_end = Some(Instant::now() + SWEEP_TIME);
            }
        }
    }

    /// The output of the daemon has ended.
    fn end(&mut self) {
        if self.ended.is_none() {
            self.ended = Some(Instant::now());
            let queue = &self.queue;
            self.lines.finish(&mut |piece| queue.push(piece));
            queue.close();
        }
    }

    fn answer(&mut self) {
        let is_done = match self.asked {
            Some(_) if self.draining.is_some() => false,
            Some(END) => self.written.is_none() && self.copies.iter().all(OwnerCopy::is_delivered),
            Some(_) => self.copies.iter().all(OwnerCopy::is_delivered),
            None => false,
        };
        if let (true, Some(word), Some(control)) = (is_done, self.asked, &self.control) {
            self.asked = None;
            if nix::sys::socket::send(control.as_raw_fd(), &[word], os::NO_SIGPIPE).is_err() {
                // EPIPE: the keeper is gone, which the next read tells.
            }
        }
    }

    fn note_dropped(&mut self) {
        let lines: u64 = self.copies.iter().map(|copy| copy.dropped).sum();
        let is_due = self.noted.elapsed() >= NOTE_INTERVAL || self.copies.iter().all(OwnerCopy::is_delivered);
        if lines > 0 && is_due && self.notes.send(LogNote::CopyDropped { lines }) {
            self.noted = Instant::now();
            self.copies.iter_mut().for_each(|copy| copy.dropped = 0);
        }
    }
}

fn set_nonblocking(fd: &OwnedFd) -> nix::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map(drop)
}
