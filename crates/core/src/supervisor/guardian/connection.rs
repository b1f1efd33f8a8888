//! One guardian, as its owner sees it: the stream to it and what it has reported.

use std::collections::HashMap;
use std::io::{self, IoSlice, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};

use ally_base::os;
use ally_base::wire::{FrameBuffer, GuardianReport, HEADER, Hello};
use nix::sys::socket::{ControlMessage, sendmsg};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{Notify, watch};

use super::credentials::Credentials;
use crate::model::Pid;
use crate::supervisor::launch::EncodedOrder;

pub struct GuardianConnection {
    stream: UnixStream,
    pub pid: Pid,
    pub credentials: Credentials,
    build: &'static str,
    /// How many orders were sent.
    sent: AtomicU64,
    progress: watch::Sender<Progress>,
    released: Notify,
}

#[derive(Clone, Default)]
struct Progress {
    /// How many orders it has accepted.
    accepted: u64,
    /// The keepers whose remains were swept, and how many orders had been accepted then.
    swept: HashMap<Pid, u64>,
    gone: bool,
    /// Its greeting, if it is of another build.
    foreign: Option<Hello>,
}

/// For one order: what the guardian that accepted it may be asked later.
pub struct GuardianReceipt {
    progress: watch::Receiver<Progress>,
    /// The number of the order. The keeper of an earlier order may have had the same pid.
    number: u64,
}

impl GuardianReceipt {
    /// Until the guardian has accepted this order, or is gone.
    pub async fn accepted(&mut self) {
        let number = self.number;
        // An error means that the guardian is gone, and with it the keeper's end of its stream.
        drop(self.progress.wait_for(|progress| progress.gone || progress.accepted >= number).await);
    }

    /// Until what that keeper left is gone; false if the guardian is gone first.
    pub async fn swept(&mut self, keeper: Pid) -> bool {
        let number = self.number;
        let is_swept = |progress: &Progress| progress.swept.get(&keeper).is_some_and(|accepted| *accepted >= number);
        // An error means that the guardian is gone.
        self.progress.wait_for(|progress| progress.gone || is_swept(progress)).await.is_ok_and(|progress| is_swept(&progress))
    }
}

/// Why a guardian that was listened to is listened to no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Released,
    Killed,
    /// It is of another build, and has ended.
    Foreign,
}

impl GuardianConnection {
    pub fn new(stream: UnixStream, pid: Pid, credentials: Credentials, build: &'static str) -> Self {
        Self { stream, pid, credentials, build, sent: AtomicU64::new(0), progress: watch::Sender::default(), released: Notify::new() }
    }

    pub fn is_gone(&self) -> bool {
        self.progress.borrow().gone
    }

    /// Its greeting, if it is of another build.
    pub fn foreign(&self) -> Option<Hello> {
        self.progress.borrow().foreign.clone()
    }

    /// Closes the stream, which ends the guardian as soon as its keepers have ended.
    pub fn release(&self) {
        self.released.notify_one();
    }

    /// Counts an order that was sent.
    pub fn receipt(&self) -> GuardianReceipt {
        let number = 1 + self.sent.fetch_add(1, Ordering::Relaxed);
        GuardianReceipt { progress: self.progress.subscribe(), number }
    }

    /// Reads reports until the guardian is gone or released.
    pub async fn listen(&self) -> End {
        let end = self.read_reports().await;
        self.progress.send_modify(|progress| progress.gone = true);
        end
    }

    async fn read_reports(&self) -> End {
        let mut received = FrameBuffer::default();
        let mut greeted = false;
        loop {
            let ready = tokio::select! {
                ready = self.stream.readable() => ready,
                () = self.released.notified() => return End::Released,
            };
            let mut bytes = [0; 256];
            match ready.and_then(|()| self.stream.try_read(&mut bytes)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Ok(count) if count > 0 => received.extend(bytes.get(..count).unwrap_or_default()),
                Ok(_) | Err(_) => return End::Killed,
            }
            if !greeted {
                match Hello::take_from(&mut received) {
                    Ok(None) => continue,
                    Ok(Some(hello)) if hello.build == self.build => greeted = true,
                    Ok(Some(hello)) => {
                        self.progress.send_modify(|progress| progress.foreign = Some(hello));
                        return End::Foreign;
                    }
                    Err(_) => return End::Killed,
                }
            }
            loop {
                match received.next_frame().map(|frame| frame.map(|frame| GuardianReport::decode(&frame))) {
                    Ok(None) => break,
                    Ok(Some(Some(report))) => self.on_report(report),
                    Ok(Some(None)) | Err(_) => return End::Killed,
                }
            }
        }
    }

    fn on_report(&self, report: GuardianReport) {
        self.progress.send_modify(|progress| match report {
            GuardianReport::Accepted => progress.accepted += 1,
            GuardianReport::Swept { keeper } => progress.swept.extend([(keeper, progress.accepted)]),
        });
    }

    /// # Errors
    /// What the system says. If a part was sent, the guardian is released: it would take the next order for the rest.
    pub async fn send(&self, order: &EncodedOrder) -> io::Result<()> {
        let raw: Vec<RawFd> = order.descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let (header, mut payload) = order.frame.split_at(HEADER.min(order.frame.len()));
        let sent = self
            .stream
            .async_io(Interest::WRITABLE, || {
                let parts = [IoSlice::new(header)];
                Ok(sendmsg::<()>(self.stream.as_fd().as_raw_fd(), &parts, &[ControlMessage::ScmRights(&raw)], os::NO_SIGPIPE, None)?)
            })
            .await?;
        if sent < header.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while !payload.is_empty() {
            match self.stream.writable().await.and_then(|()| self.stream.try_write(payload)) {
                Ok(count) => payload = payload.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => {
                    self.release();
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
            }
        }
        Ok(())
    }
}

/// Whether a failed write means that the guardian is gone.
pub fn means_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected)
}

/// Both ends of a new stream to a guardian, ours ready for the runtime.
///
/// # Errors
/// EMFILE and the like.
pub fn pair(hello: &Hello) -> io::Result<(UnixStream, OwnedFd)> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    // There is always room for the first bytes of a new stream.
    (&ours).write_all(&hello.encode())?;
    ours.set_nonblocking(true)?;
    Ok((UnixStream::from_std(ours)?, theirs.into()))
}
