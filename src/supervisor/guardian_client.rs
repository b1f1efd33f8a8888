//! The manager's guardian: spawned at the first need, sent one order per daemon, let go of when there
//! is nothing left to guard, and replaced if someone kills it.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{Mutex as AsyncMutex, Notify, watch};
use tokio::time::sleep;

use super::announce::TARGET;
use super::runtime;
use crate::error::{Failure, io_text};
use crate::guardian::protocol::{HEADER, Report};
use crate::lifecycle::Pid;

/// How long a guardian without daemons is kept, for a next start that comes soon.
const LINGER: Duration = Duration::from_millis(400);

pub struct GuardianClient {
    program: PathBuf,
    /// Held while an order is written, so that orders don't mix.
    current: AsyncMutex<Option<Arc<Guardian>>>,
    idle: Mutex<Option<runtime::Errand>>,
}

struct Guardian {
    stream: UnixStream,
    pid: Pid,
    /// The keepers whose leavings were swept, and whether the guardian lives.
    sweeps: watch::Sender<Sweeps>,
    let_go: Notify,
}

#[derive(Clone)]
struct Sweeps {
    done: Vec<Pid>,
    alive: bool,
}

impl GuardianClient {
    pub fn new(program: PathBuf) -> Self {
        Self { program, current: AsyncMutex::new(None), idle: Mutex::new(None) }
    }

    /// Hands one order over, with the descriptors that go with it.
    ///
    /// # Errors
    /// `Spawn`, with the path of the guardian's program, if there is none to be had.
    pub async fn order(&self, order: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), Failure> {
        self.keep();
        let mut current = self.current.lock().await;
        let told = |error: &io::Error| Failure::Spawn {
            problem: format!("{}: the guardian can't be told: {}", self.program.display(), io_text(error)),
        };
        for _ in 0..2 {
            let guardian = match &*current {
                Some(guardian) if guardian.sweeps.borrow().alive => Arc::clone(guardian),
                Some(_) | None => {
                    let guardian = Guardian::spawn(&self.program)?;
                    *current = Some(Arc::clone(&guardian));
                    guardian
                }
            };
            match guardian.send(order, descriptors).await {
                Ok(()) => return Ok(()),
                // Killed since the last order: the next one is as good.
                Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => *current = None,
                Err(error) => return Err(told(&error)),
            }
        }
        Err(told(&io::ErrorKind::BrokenPipe.into()))
    }

    /// Resolves when what that keeper left is gone, or when nobody can tell any more.
    pub async fn swept(&self, keeper: Pid) {
        let Some(mut sweeps) = self.current.lock().await.as_ref().map(|guardian| guardian.sweeps.subscribe()) else { return };
        // An error means that the guardian is gone.
        drop(sweeps.wait_for(|sweeps| !sweeps.alive || sweeps.done.contains(&keeper)).await);
    }

    /// There is nothing left to guard: let go of the guardian, unless something comes soon.
    pub fn release(self: &Arc<Self>) {
        let client = Arc::clone(self);
        let errand = runtime::Errand::new(async move {
            sleep(LINGER).await;
            if let Some(guardian) = client.current.lock().await.take() {
                guardian.let_go.notify_one();
            }
        });
        *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = Some(errand);
    }

    pub fn keep(&self) {
        *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Drop for GuardianClient {
    fn drop(&mut self) {
        if let Some(guardian) = self.current.get_mut() {
            guardian.let_go.notify_one();
        }
    }
}

impl Guardian {
    fn spawn(program: &Path) -> Result<Arc<Self>, Failure> {
        let failed = |error: io::Error| Failure::Spawn {
            problem: format!("the guardian {} can't be started: {}", program.display(), io_text(&error)),
        };
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(failed)?;
        ours.set_nonblocking(true).map_err(failed)?;
        // No pre_exec, no change of user, no folder: std then takes posix_spawn, which is CLONE_VFORK and
        // copies nothing of Node's heap.
        let child = Command::new(program)
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let pid = Pid::try_from(child.id()).unwrap_or_default();
        let stream = UnixStream::from_std(ours).map_err(failed)?;
        let guardian =
            Arc::new(Self { stream, pid, sweeps: watch::Sender::new(Sweeps { done: Vec::new(), alive: true }), let_go: Notify::new() });
        tracing::debug!(target: TARGET, pid, "guardian started");
        drop(runtime::spawn(listen(Arc::clone(&guardian), child)));
        Ok(guardian)
    }

    async fn send(&self, order: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let (header, mut payload) = order.split_at(HEADER.min(order.len()));
        let sent = self
            .stream
            .async_io(Interest::WRITABLE, || {
                let parts = [IoSlice::new(header)];
                Ok(sendmsg::<()>(
                    self.stream.as_fd().as_raw_fd(),
                    &parts,
                    &[ControlMessage::ScmRights(&raw)],
                    MsgFlags::MSG_NOSIGNAL,
                    None,
                )?)
            })
            .await?;
        if sent < header.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while !payload.is_empty() {
            self.stream.writable().await?;
            match self.stream.try_write(payload) {
                Ok(count) => payload = payload.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Hears what the guardian reports until it is let go of or gone, and reaps it then.
async fn listen(guardian: Arc<Guardian>, child: Child) {
    let mut unread = Vec::new();
    loop {
        let ready = tokio::select! {
            ready = guardian.stream.readable() => ready,
            () = guardian.let_go.notified() => break,
        };
        let mut bytes = [0; 16 * Report::SIZE];
        match ready.and_then(|()| guardian.stream.try_read(&mut bytes)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Ok(count) if count > 0 => unread.extend(bytes.iter().take(count)),
            Ok(_) | Err(_) => {
                tracing::warn!(target: TARGET, pid = guardian.pid, "the guardian is gone; the daemons' keepers go on");
                break;
            }
        }
        while let Some(report) = Report::decode(&unread) {
            unread.drain(..Report::SIZE);
            if let Report::Swept { keeper } = report {
                guardian.sweeps.send_modify(|sweeps| sweeps.done.push(keeper));
            }
        }
    }
    guardian.sweeps.send_modify(|sweeps| sweeps.alive = false);
    // The end of the stream is what ends the guardian.
    drop(guardian);
    reap(child).await;
}

/// It ends by itself at the end of its stream. Node's loop reaps only children of its own.
async fn reap(mut child: Child) {
    let mut pause = Duration::from_millis(1);
    // An error is ECHILD: somebody else took the status, and there is no zombie.
    while let Ok(None) = child.try_wait() {
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}
