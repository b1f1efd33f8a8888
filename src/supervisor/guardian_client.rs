//! The manager's guardian: spawned at the first need, sent one order per daemon, let go of when there
//! is nothing left to guard, and replaced if someone kills it.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use nix::sys::socket::{ControlMessage, sendmsg};
use nix::unistd::{Gid, Uid, getegid, geteuid, getgid, getuid};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{Mutex as AsyncMutex, Notify, watch};
use tokio::time::{Instant, sleep};

use super::TARGET;
use super::runtime;
use crate::error::{Failure, Refused, io_text};
use crate::guardian::protocol::{HEADER, Report};
use crate::lifecycle::Pid;
use crate::os;

/// How long a guardian without daemons is kept, for a next start that comes soon.
const LINGER: Duration = Duration::from_millis(400);

/// One that dies sooner than this, and in whose place another one did, is replaced only after a pause: this long, and
/// doubled from one to the next.
const SHORT_LIFE: Duration = Duration::from_millis(200);
const DOUBLINGS_MAX: u32 = 6;

pub struct GuardianClient {
    program: PathBuf,
    /// For records of what happens to it.
    manager: u64,
    /// Held while an order is written, so that orders don't mix.
    current: AsyncMutex<Option<Arc<Guardian>>>,
    /// The errand that lets go of it; none while there is something to guard.
    idle: Mutex<Option<runtime::Errand>>,
    /// How many in a row had a short life.
    short_lives: AtomicU32,
}

struct Guardian {
    stream: UnixStream,
    pid: Pid,
    credentials: Credentials,
    /// How many orders were sent.
    sent: AtomicU64,
    news: watch::Sender<News>,
    let_go: Notify,
}

/// Whose rights a process has: the user's and the group's, real and effective, and those of further groups.
#[derive(PartialEq, Eq)]
struct Credentials {
    users: [Uid; 2],
    groups: [Gid; 2],
    further: Vec<u32>,
}

impl Credentials {
    fn now() -> Self {
        Self { users: [getuid(), geteuid()], groups: [getgid(), getegid()], further: os::further_groups() }
    }
}

#[derive(Clone)]
struct News {
    /// How many orders it has taken.
    taken: u64,
    /// The keepers whose leavings were swept, and how many orders it had taken then.
    swept: HashMap<Pid, u64>,
    alive: bool,
}

/// The guardian that made a process, as far as its client may ask it.
pub struct Maker {
    news: watch::Receiver<News>,
    /// Which of its orders it was. An older one's keeper may have had the same pid.
    number: u64,
}

impl Maker {
    /// Whether what that keeper left is gone; false if the guardian can't tell any more.
    pub async fn swept(&mut self, keeper: Pid) -> bool {
        let number = self.number;
        let told = |news: &News| news.swept.get(&keeper).is_some_and(|taken| *taken >= number);
        // An error means that the guardian is gone.
        self.news.wait_for(|news| !news.alive || told(news)).await.is_ok_and(|news| told(&news))
    }
}

impl GuardianClient {
    pub fn new(program: PathBuf, manager: u64) -> Arc<Self> {
        Arc::new(Self { program, manager, current: AsyncMutex::new(None), idle: Mutex::new(None), short_lives: AtomicU32::new(0) })
    }

    /// Hands one order over, with the descriptors that go with it. Returns when the guardian has them, or is gone.
    ///
    /// # Errors
    /// `Spawn`, with the path of the guardian's program, if there is none to be had.
    pub async fn order(self: &Arc<Self>, order: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<Maker, Failure> {
        self.keep();
        let mut current = self.current.lock().await;
        let told = |error: &io::Error| {
            let program = self.program.display().to_string();
            let problem = format!("{program}: the guardian can't be told: {}", io_text(error));
            match Refused::by(error, Some("sendmsg"), Some(&program)) {
                Some(refused) => Failure::Spawn { problem, refused: Some(refused) },
                None => Failure::GuardianLost { problem },
            }
        };
        for _ in 0..2 {
            let credentials = Credentials::now();
            // One with other rights than ours would give them to its daemons.
            if let Some(other) = current.take_if(|guardian| guardian.credentials != credentials) {
                other.let_go.notify_one();
            }
            let guardian = match &*current {
                Some(guardian) if guardian.news.borrow().alive => Arc::clone(guardian),
                Some(_) | None => Arc::clone(current.insert(self.spawn(credentials)?)),
            };
            match guardian.send(order, descriptors).await {
                Ok(()) => {
                    let number = 1 + guardian.sent.fetch_add(1, Ordering::Relaxed);
                    let mut news = guardian.news.subscribe();
                    // Others may give their orders meanwhile.
                    drop(current);
                    // An error means that the guardian is gone, and with it the keeper's end of its stream.
                    drop(news.wait_for(|news| !news.alive || news.taken >= number).await);
                    return Ok(Maker { news, number });
                }
                // Killed since the last order: the next one is as good.
                Err(error) if is_gone(&error) => *current = None,
                Err(error) => return Err(told(&error)),
            }
        }
        Err(told(&io::ErrorKind::BrokenPipe.into()))
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
        *self.idle() = Some(errand);
    }

    pub fn keep(&self) {
        *self.idle() = None;
    }

    fn idle(&self) -> MutexGuard<'_, Option<runtime::Errand>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spawn(self: &Arc<Self>, credentials: Credentials) -> Result<Arc<Guardian>, Failure> {
        let failed = |error: io::Error| Failure::guardian(&self.program, &error);
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(failed)?;
        ours.set_nonblocking(true).map_err(failed)?;
        // Before there is a child: from there on nothing fails, and so it is always reaped.
        let stream = UnixStream::from_std(ours).map_err(failed)?;
        // No pre_exec, no change of user, no folder: std then takes posix_spawn, which is CLONE_VFORK and
        // copies nothing of Node's heap.
        let child = Command::new(&self.program)
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let pid = Pid::try_from(child.id()).unwrap_or_default();
        let news = watch::Sender::new(News { taken: 0, swept: HashMap::new(), alive: true });
        let guardian = Arc::new(Guardian { stream, pid, credentials, sent: AtomicU64::new(0), news, let_go: Notify::new() });
        tracing::debug!(target: TARGET, manager = self.manager, pid, "guardian started");
        drop(runtime::spawn(Self::watch(Arc::downgrade(self), Arc::clone(&guardian), child)));
        Ok(guardian)
    }

    /// Listens to a guardian until it is let go of or gone, reaps it, and replaces it if it is missed.
    async fn watch(client: Weak<Self>, guardian: Arc<Guardian>, child: Child) {
        let begun = Instant::now();
        let killed = guardian.listen().await;
        let (pid, lived) = (guardian.pid, begun.elapsed());
        // The end of the stream is what ends the guardian.
        drop(guardian);
        reap(child).await;
        let Some(pause) = client.upgrade().filter(|_| killed).map(|client| client.mourn(pid, lived)) else { return };
        sleep(pause).await;
        let Some(client) = client.upgrade() else { return };
        let mut current = client.current.lock().await;
        let replaced = current.as_ref().is_some_and(|now| now.news.borrow().alive);
        if replaced || client.idle().is_some() {
            return;
        }
        match client.spawn(Credentials::now()) {
            Ok(guardian) => *current = Some(guardian),
            Err(failure) => tracing::warn!(target: TARGET, manager = client.manager, %failure, "the guardian can't be replaced yet"),
        }
    }
}

impl GuardianClient {
    /// How long to wait with another one.
    fn mourn(&self, pid: Pid, lived: Duration) -> Duration {
        tracing::warn!(target: TARGET, manager = self.manager, pid, "the guardian was killed; the daemons' keepers go on");
        if lived >= SHORT_LIFE {
            self.short_lives.store(0, Ordering::Relaxed);
            return Duration::ZERO;
        }
        match self.short_lives.fetch_add(1, Ordering::Relaxed) {
            0 => Duration::ZERO,
            before => SHORT_LIFE * 2_u32.pow(before.min(DOUBLINGS_MAX) - 1),
        }
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
    /// Resolves when it is gone (true) or let go of (false).
    async fn listen(&self) -> bool {
        let mut unread = Vec::new();
        let killed = loop {
            let ready = tokio::select! {
                ready = self.stream.readable() => ready,
                () = self.let_go.notified() => break false,
            };
            let mut bytes = [0; 16 * Report::SIZE];
            match ready.and_then(|()| self.stream.try_read(&mut bytes)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Ok(count) if count > 0 => unread.extend(bytes.iter().take(count)),
                Ok(_) | Err(_) => break true,
            }
            while let Some(report) = Report::decode(&unread) {
                unread.drain(..Report::SIZE);
                match report {
                    Report::Taken => self.news.send_modify(|news| news.taken += 1),
                    Report::Swept { keeper } => self.news.send_modify(|news| news.swept.extend([(keeper, news.taken)])),
                    // Those are for keepers to tell.
                    Report::Spawned { .. } | Report::SpawnFailed { .. } | Report::Exited { .. } | Report::TreeGone => {}
                }
            }
        };
        self.news.send_modify(|news| news.alive = false);
        killed
    }

    async fn send(&self, order: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let (header, mut payload) = order.split_at(HEADER.min(order.len()));
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
                    // It has half an order, and would take the next one for its rest. So it is as good as gone.
                    self.let_go.notify_one();
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
            }
        }
        Ok(())
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected)
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
