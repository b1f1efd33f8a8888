//! The owner's end of one keeper's stream.

use std::io;

use tokio::net::UnixStream;

use ally_base::wire::{Command, Report};

pub struct Keeper {
    stream: UnixStream,
    unread: Vec<u8>,
}

impl Keeper {
    /// And the end that the keeper will have.
    pub fn pair() -> io::Result<(Self, std::os::fd::OwnedFd)> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        Ok((Self { stream: UnixStream::from_std(ours)?, unread: Vec::new() }, theirs.into()))
    }

    /// `None`: the keeper is gone. May be dropped and called again without losing anything.
    pub async fn next(&mut self) -> Option<Report> {
        loop {
            if let Some(report) = Report::decode(&self.unread) {
                self.unread.drain(..Report::SIZE);
                return Some(report);
            }
            if self.unread.len() >= Report::SIZE {
                // Nothing that a keeper of our build writes.
                return None;
            }
            self.stream.readable().await.ok()?;
            let mut bytes = [0; 4 * Report::SIZE];
            match self.stream.try_read(&mut bytes) {
                Ok(0) => return None,
                Ok(count) => self.unread.extend(bytes.iter().take(count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return None,
            }
        }
    }

    /// A keeper that is gone shows at the next look.
    pub fn command(&self, command: Command) {
        if let Err(error) = self.stream.try_write(&[command.encode()]) {
            tracing::debug!(target: super::TARGET, %error, ?command, "the keeper can't be told");
        }
    }
}
