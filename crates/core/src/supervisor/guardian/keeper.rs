//! The owner's end of one keeper's stream.

use std::io;
use std::os::fd::OwnedFd;

use ally_base::wire::{FrameBuffer, KeeperCommand, KeeperReport};
use tokio::net::UnixStream;

use crate::supervisor::TARGET;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEnd {
    /// End of file: the keeper is gone.
    Closed,
    /// A frame that no keeper of this build sends.
    Malformed,
}

pub struct KeeperStream {
    stream: UnixStream,
    received: FrameBuffer,
}

impl KeeperStream {
    /// A new stream, and the keeper's end of it.
    ///
    /// # Errors
    /// EMFILE or ENFILE.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        Ok((Self { stream: UnixStream::from_std(ours)?, received: FrameBuffer::default() }, theirs.into()))
    }

    /// The next report. Cancel-safe.
    ///
    /// # Errors
    /// The stream has no further report.
    pub async fn next(&mut self) -> Result<KeeperReport, StreamEnd> {
        loop {
            if let Some(frame) = self.received.next_frame().map_err(|_| StreamEnd::Malformed)? {
                return KeeperReport::decode(&frame).ok_or(StreamEnd::Malformed);
            }
            let mut bytes = [0; 256];
            match self.stream.readable().await.and_then(|()| self.stream.try_read(&mut bytes)) {
                Ok(count) if count > 0 => self.received.extend(bytes.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(_) | Err(_) => return Err(StreamEnd::Closed),
            }
        }
    }

    /// Sends a command. An error is only logged: if the keeper is gone, the next read reports it. write(2) takes a frame of a few
    /// bytes whole.
    pub fn command(&self, command: KeeperCommand) {
        if let Err(error) = self.stream.try_write(&command.encode()) {
            tracing::debug!(target: TARGET, %error, ?command, "the keeper can't be told");
        }
    }
}
