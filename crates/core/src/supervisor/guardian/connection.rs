//! The stream to one guardian, and the progress that the guardian has reported.

use std::collections::HashMap;
use std::io::{self, IoSlice, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ally_base::os;
use ally_base::wire::{FrameBuffer, GuardianReport, HEADER, Hello};
use nix::sys::socket::{ControlMessage, sendmsg};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::credentials::Credentials;
use crate::model::Pid;
use crate::supervisor::launch::EncodedOrder;

/// A killed guardian closes the streams of its orders in any order, so its own may end a little later.
const GONE_LIMIT: Duration = Duration::from_millis(50);
/// The exit of a guardian is known as soon as it is reaped. A failed start must not wait longer for the reason.
const REAP_LIMIT: Duration = Duration::from_secs(1);

pub struct GuardianConnection {
    stream: UnixStream,
    pub pid: Pid,
    pub credentials: Credentials,
    build: &'static str,
    /// The number of orders that were sent.
    sent: AtomicU64,
    progress: watch::Sender<Progress>,
    released: Notify,
    given_up: Notify,
}

#[derive(Clone, Default)]
struct Progress {
    /// The number of orders that the guardian has accepted.
    accepted: u64,
    /// The killed keepers with a finished sweep, and the value of `accepted` at its end.
    swept: HashMap<Pid, u64>,
    gone: bool,
    /// What happened to the guardian, after it was reaped.
    ending: Option<String>,
    /// The guardian's hello, if the guardian is of another build.
    foreign: Option<Hello>,
}

/// The handle of one order: reports its acceptance and the sweep of its keeper.
pub struct GuardianReceipt {
    pub guardian: Pid,
    progress: watch::Receiver<Progress>,
    /// The number of the order. Pids are reused, so the keeper of an earlier order may have had the same pid.
    number: u64,
}

impl GuardianReceipt {
    /// What happened to the guardian. `None` if it lives.
    pub async fn ending(&mut self) -> Option<String> {
        // An error means that the connection is closed, and so the guardian is gone.
        timeout(GONE_LIMIT, self.progress.wait_for(|progress| progress.gone)).await.ok().map(drop)?;
        let reaped = timeout(REAP_LIMIT, self.progress.wait_for(|progress| progress.ending.is_some())).await;
        let ending = reaped.ok().and_then(|reaped| reaped.ok()?.ending.clone());
        Some(ending.unwrap_or_else(|| "closed its stream".to_owned()))
    }

    /// Waits until the guardian has accepted the order, or is gone.
    pub async fn accepted(&mut self) {
        let number = self.number;
        // An error means that the guardian is gone. The keeper's end of its stream is then closed too.
        drop(self.progress.wait_for(|progress| progress.gone || progress.accepted >= number).await);
    }

    /// Waits until the sweep of that keeper is finished. False if the guardian is gone before.
    pub async fn swept(&mut self, keeper: Pid) -> bool {
        let number = self.number;
        let is_swept = |progress: &Progress| progress.swept.get(&keeper).is_some_and(|accepted| *accepted >= number);
        // An error means that the guardian is gone.
        self.progress.wait_for(|progress| progress.gone || is_swept(progress)).await.is_ok_and(|progress| is_swept(&progress))
    }
}

/// Reports what happened to a guardian.
pub struct EndReporter(watch::Sender<Progress>);

impl EndReporter {
    pub fn ended(&self, ending: String) {
        self.0.send_modify(|progress| progress.ending = Some(ending));
    }
}

/// The reason why the reports of a guardian ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Released,
    /// Its stream has ended.
    Closed,
    /// It sent bytes that no guardian of this build sends.
    Malformed,
    /// The guardian is of another build, and has ended.
    Foreign,
    /// [`GuardianConnection::give_up`].
    GivenUp,
}

impl GuardianConnection {
    pub fn new(stream: UnixStream, pid: Pid, credentials: Credentials, build: &'static str) -> Self {
        Self {
            stream,
            pid,
            credentials,
            build,
            sent: AtomicU64::new(0),
            progress: watch::Sender::default(),
            released: Notify::new(),
            given_up: Notify::new(),
        }
    }

    pub fn is_gone(&self) -> bool {
        self.progress.borrow().gone
    }

    /// The guardian's hello, if the guardian is of another build.
    pub fn foreign(&self) -> Option<Hello> {
        self.progress.borrow().foreign.clone()
    }

    /// Closes the stream. The guardian then ends as soon as its keepers have ended.
    pub fn release(&self) {
        self.released.notify_one();
    }

    /// The guardian does not act: ends [`Self::listen`] as if the guardian had been killed.
    pub fn give_up(&self) {
        self.given_up.notify_one();
    }

    /// The number of orders that the guardian has accepted.
    pub fn accepted(&self) -> u64 {
        self.progress.borrow().accepted
    }

    /// Counts a sent order, and returns its receipt.
    pub fn receipt(&self) -> GuardianReceipt {
        let number = 1 + self.sent.fetch_add(1, Ordering::Relaxed);
        GuardianReceipt { guardian: self.pid, progress: self.progress.subscribe(), number }
    }

    /// Reads reports until the guardian is gone or released.
    pub async fn listen(&self) -> End {
        let end = self.read_reports().await;
        self.progress.send_modify(|progress| progress.gone = true);
        end
    }

    async fn read_reports(&self) -> End {
        let mut received = FrameBuffer::default();
        let mut has_hello = false;
        loop {
            let ready = tokio::select! {
                ready = self.stream.readable() => ready,
                () = self.released.notified() => return End::Released,
                () = self.given_up.notified() => return End::GivenUp,
            };
            let mut bytes = [0; 256];
            match ready.and_then(|()| self.stream.try_read(&mut bytes)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Ok(count) if count > 0 => received.extend(bytes.get(..count).unwrap_or_default()),
                Ok(_) | Err(_) => return End::Closed,
            }
            if !has_hello {
                match Hello::take_from(&mut received) {
                    Ok(None) => continue,
                    Ok(Some(hello)) if hello.build == self.build => has_hello = true,
                    Ok(Some(hello)) => {
                        self.progress.send_modify(|progress| progress.foreign = Some(hello));
                        return End::Foreign;
                    }
                    Err(_) => return End::Malformed,
                }
            }
            loop {
                match received.next_frame().map(|frame| frame.map(|frame| GuardianReport::decode(&frame))) {
                    Ok(None) => break,
                    Ok(Some(Some(report))) => self.on_report(report),
                    Ok(Some(None)) | Err(_) => return End::Malformed,
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

    /// The end is known only after this connection is closed.
    pub fn reporter(&self) -> EndReporter {
        EndReporter(self.progress.clone())
    }

    /// Until the guardian is gone: then [`Self::foreign`] has its last answer.
    pub async fn wait_gone(&self) {
        // The sender lives in this connection, so the wait can't fail.
        drop(self.progress.subscribe().wait_for(|progress| progress.gone).await);
    }

    /// # Errors
    /// The errno of sendmsg(2) or write(2). If a part was written and the guardian is not gone, it is released, because it would
    /// read the next order as the rest of this one.
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
                Err(error) => {
                    if !means_gone(&error) {
                        self.release();
                    }
                    return Err(error);
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

/// Both ends of a new stream to a guardian. The first is registered with the runtime, and the hello is written.
///
/// # Errors
/// EMFILE or ENFILE.
pub fn pair(hello: &Hello) -> io::Result<(UnixStream, OwnedFd)> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    // The buffer of a new stream has room for the hello, so the write does not block.
    (&ours).write_all(&hello.encode())?;
    ours.set_nonblocking(true)?;
    Ok((UnixStream::from_std(ours)?, theirs.into()))
}
