//! The owner's end of one keeper's stream.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Weak};

use ally_base::os;
use ally_base::wire::{FrameBuffer, KeeperCommand, KeeperReport};
use nix::sys::socket::{ControlMessage, sendmsg};
use tokio::io::Interest;
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
    stream: Arc<UnixStream>,
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
        Ok((Self { stream: Arc::new(UnixStream::from_std(ours)?), received: FrameBuffer::default() }, theirs.into()))
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

    pub fn prober(&self) -> KeeperProber {
        KeeperProber(Arc::downgrade(&self.stream))
    }
}

/// Gives a keeper probes to run. It does not keep the stream open: its end ends the daemon.
#[derive(Debug, Clone)]
pub struct KeeperProber(Weak<UnixStream>);

impl KeeperProber {
    /// Sends [`KeeperCommand::Probe`]. `descriptors`: the probe keeper's end of its stream, and the write end of the output.
    ///
    /// # Errors
    /// `NotConnected` or EPIPE if the keeper is gone. EAGAIN if the keeper does not read its commands.
    pub fn probe(&self, descriptors: &[OwnedFd; KeeperCommand::PROBE_DESCRIPTORS]) -> io::Result<()> {
        let stream = self.0.upgrade().ok_or(io::ErrorKind::NotConnected)?;
        let raw = descriptors.each_ref().map(AsRawFd::as_raw_fd);
        // The kernel takes a frame of a few bytes whole.
        stream.try_io(Interest::WRITABLE, || {
            let frame = KeeperCommand::Probe.encode();
            sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(&frame)], &[ControlMessage::ScmRights(&raw)], os::NO_SIGPIPE, None)?;
            Ok(())
        })
    }
}
