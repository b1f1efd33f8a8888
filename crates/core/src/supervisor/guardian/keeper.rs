//! The owner's end of one keeper's stream.

use std::io;
use std::os::fd::OwnedFd;

use ally_base::wire::{FrameBuffer, KeeperCommand, KeeperReport};
use tokio::net::UnixStream;

use crate::supervisor::TARGET;

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

    /// The next report. `None` if the keeper is gone, or sends an invalid frame. Cancel-safe.
    pub async fn next(&mut self) -> Option<KeeperReport> {
        loop {
            if let Some(frame) = self.received.next_frame().ok()? {
                return KeeperReport::decode(&frame);
            }
            self.stream.readable().await.ok()?;
            let mut bytes = [0; 256];
            match self.stream.try_read(&mut bytes) {
                Ok(0) => return None,
                Ok(count) => self.received.extend(bytes.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return None,
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
