//! Reads of streams and pipes, with a deadline.

use std::io::{self, PipeReader, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use ally_base::wire::{Frame, FrameBuffer, Hello};

use crate::until::DEADLINE;

/// Returns when a read will not block.
#[track_caller]
fn await_readable(fd: &impl AsRawFd, what: &str) {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let timeout = i32::try_from(DEADLINE.as_millis()).unwrap();
    // SAFETY: one pollfd, alive for the call.
    let ready = unsafe { libc::poll(&raw mut poll, 1, timeout) };
    assert_eq!(ready, 1, "not within {DEADLINE:?}: {what}");
}

#[track_caller]
pub fn read(from: &mut (impl Read + AsRawFd), bytes: &mut [u8], what: &str) -> usize {
    await_readable(from, what);
    match from.read(bytes) {
        Ok(count) => count,
        // The peer was killed with unread bytes.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
        Err(error) => panic!("{what}: {error}"),
    }
}

#[track_caller]
pub fn read_all(pipe: &mut PipeReader) -> String {
    let mut all = Vec::new();
    let mut bytes = [0; 4096];
    loop {
        match read(pipe, &mut bytes, "the end of the output") {
            0 => return String::from_utf8(all).unwrap(),
            count => all.extend(&bytes[..count]),
        }
    }
}

/// A stream of frames.
pub struct Frames {
    pub stream: UnixStream,
    received: FrameBuffer,
}

impl Frames {
    pub fn of(stream: UnixStream) -> Self {
        Self { stream, received: FrameBuffer::default() }
    }

    /// `None` at the end of the stream.
    #[track_caller]
    pub fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.received.next_frame().expect("a frame") {
                return Some(frame);
            }
            if !self.fill("a frame") {
                return None;
            }
        }
    }

    #[track_caller]
    pub fn hello(&mut self) -> Option<Hello> {
        loop {
            if let Some(hello) = Hello::take_from(&mut self.received).expect("a greeting") {
                return Some(hello);
            }
            if !self.fill("a greeting") {
                return None;
            }
        }
    }

    /// False at the end of the stream.
    #[track_caller]
    fn fill(&mut self, what: &str) -> bool {
        let mut bytes = [0; 64];
        let count = read(&mut self.stream, &mut bytes, what);
        self.received.extend(&bytes[..count]);
        count > 0
    }
}
