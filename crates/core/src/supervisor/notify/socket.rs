//! The socket for the daemon's notifications, and what the daemon has said.
//!
//! The owner reads the socket, and the keeper after the owner's death. The attempt's task reads when a datagram comes, and a health
//! check reads before it judges: a datagram that came before the check must count, also if the owner was suspended.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ally_base::os::Datagram;
use ally_base::text::io_text;
use ally_base::{notify_folder, os};
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tokio::sync::Notify;
use tokio::task::yield_now;

use super::message::{Notification, Watchdog};
use super::sender::{Origin, Senders};
use crate::config::Probe;
use crate::error::Failure;
use crate::model::Pid;
use crate::supervisor::daemon::Job;
use crate::supervisor::launch::no_process;
use crate::supervisor::report::{Reporter, log};

/// The longest datagram. systemd has the same limit (PIPE_BUF), and drops longer ones.
const DATAGRAM_MAX: usize = 4096;
/// The datagrams in a row before the other tasks of the thread run.
const DATAGRAMS_PER_TURN: u32 = 64;

pub struct NotifySocket {
    socket: UnixDatagram,
    path: PathBuf,
    /// The interval of the health checks, if they wait for WATCHDOG=1.
    interval: Option<Duration>,
    reporter: Reporter,
    heard: Mutex<Heard>,
    /// An update is to be taken.
    updated: Notify,
    readiness: Notify,
}

#[derive(Debug, Default)]
struct Heard {
    /// `None` before the spawn. Datagrams wait in the socket until then.
    senders: Option<Senders>,
    is_ready: bool,
    extensions: u32,
    /// The strongest one since the last check.
    watchdog: Option<Watchdog>,
    update: Update,
    has_warned: bool,
}

/// What the daemon has said since the last update, for the attempt's task.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// Empty: without a status.
    pub status: Option<String>,
    pub extend: Option<Duration>,
    /// WATCHDOG=trigger: a check is due.
    pub check: bool,
}

impl NotifySocket {
    /// `None` if no probe of the daemon is `notify`.
    ///
    /// # Errors
    /// The socket can't be made.
    pub fn bind(job: &Job, reporter: &Reporter) -> Result<Option<Arc<Self>>, Failure> {
        let config = &job.config;
        if !config.uses(&Probe::Notify) {
            return Ok(None);
        }
        let health = config.health.as_ref().filter(|health| health.probe == Probe::Notify);
        let unmade = |error: io::Error| no_process(job, &error);
        let socket = os::datagram_socket().map_err(unmade)?;
        let path = notify_folder::bind_socket(&socket).map_err(|(folder, error)| Failure::at(&folder, error))?;
        Ok(Some(Arc::new(Self {
            socket: UnixDatagram::from_std(socket.into()).map_err(unmade)?,
            path,
            interval: health.map(|health| health.interval),
            reporter: reporter.clone(),
            heard: Mutex::default(),
            updated: Notify::new(),
            readiness: Notify::new(),
        })))
    }

    /// For the keeper.
    ///
    /// # Errors
    /// EMFILE or ENFILE.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        self.socket.as_fd().try_clone_to_owned()
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The variables of sd_notify(3) and sd_watchdog_enabled(3). Without WATCHDOG_PID: every process of the tree may send.
    pub fn variables(&self) -> impl Iterator<Item = (&'static str, String)> {
        let watchdog = self.interval.map(|interval| ("WATCHDOG_USEC", interval.as_micros().to_string()));
        [("NOTIFY_SOCKET", self.path.display().to_string())].into_iter().chain(watchdog)
    }

    pub fn set_spawned(&self, leader: Pid, keeper: Pid) {
        let user = os::user_of(leader).ok().flatten().unwrap_or_else(|| nix::unistd::getuid().as_raw());
        self.heard().senders = Some(Senders { leader, keeper, user });
    }

    /// The next update. Without a socket, waits for ever. Cancel-safe.
    pub async fn next(socket: Option<&Arc<Self>>) -> Update {
        let Some(socket) = socket else { return std::future::pending().await };
        loop {
            let update = std::mem::take(&mut socket.heard().update);
            if update != Update::default() {
                return update;
            }
            tokio::select! {
                // An error means that the runtime ends.
                _ = socket.socket.readable() => {
                    socket.read_some(|bytes| socket.socket.try_io(Interest::READABLE, || socket.receive(bytes)));
                    // A daemon that notifies without end must not keep the other tasks of the thread from running.
                    yield_now().await;
                }
                () = socket.updated.notified() => {}
            }
        }
    }

    /// Whether READY=1 was sent.
    ///
    /// # Errors
    /// The reason why the daemon is not ready.
    pub fn is_ready(&self) -> Result<(), String> {
        match &*self.heard() {
            Heard { is_ready: true, .. } => Ok(()),
            Heard { extensions: 0, .. } => Err("READY=1 was not sent".to_owned()),
            Heard { extensions, .. } => Err(format!("READY=1 was not sent (extensions by EXTEND_TIMEOUT_USEC: {extensions})")),
        }
    }

    /// Waits until [`Self::is_ready`] may have another answer.
    pub async fn readiness_changed(&self) {
        self.readiness.notified().await;
    }

    /// A health check.
    ///
    /// # Errors
    /// The reason of the failure.
    pub fn check(&self) -> Result<(), String> {
        self.read_waiting();
        match self.heard().watchdog.take() {
            Some(Watchdog::Alive) => Ok(()),
            Some(Watchdog::Trigger) => Err("the daemon sent WATCHDOG=trigger".to_owned()),
            None => Err(format!("no WATCHDOG=1 within {} ms", self.interval.unwrap_or_default().as_millis())),
        }
    }

    /// The daemon is ready: WATCHDOG=1 counts from here on.
    pub fn begin_checks(&self) {
        self.read_waiting();
        let mut heard = self.heard();
        (heard.watchdog, heard.update.check) = (None, false);
    }

    /// Removes the file. Its name is random, so no other program has made a file there since.
    pub fn remove(&self) {
        if let Err(error) = std::fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            log!(self.reporter, debug, %error, "the socket for notifications stays");
        }
    }

    fn receive(&self, bytes: &mut [u8]) -> io::Result<Datagram> {
        os::receive_datagram(&self.socket.as_raw_fd(), bytes)
    }

    /// Reads what has come, also if the runtime does not know of it yet.
    fn read_waiting(&self) {
        self.read_some(|bytes| self.receive(bytes));
    }

    fn read_some(&self, receive: impl Fn(&mut [u8]) -> io::Result<Datagram>) {
        let Some(senders) = self.heard().senders else { return };
        let mut bytes = [0; DATAGRAM_MAX];
        for _ in 0..DATAGRAMS_PER_TURN {
            let datagram = match receive(&mut bytes) {
                Ok(datagram) => datagram,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => return log!(self.reporter, debug, %error, "a notification can't be read"),
            };
            if datagram.is_truncated {
                log!(self.reporter, debug, "a notification of more than 4096 bytes is dropped");
                continue;
            }
            let message = Notification::parse(bytes.get(..datagram.length).unwrap_or_default());
            match senders.origin(datagram.sender) {
                Ok(Origin::Daemon) => self.hear(message),
                Ok(Origin::Other(pid)) => self.warn_of(pid, &message),
                Err(error) => {
                    log!(self.reporter, warn, error = io_text(&error), "the sender of a notification can't be found out; it is dropped");
                }
            }
        }
    }

    fn hear(&self, message: Notification) {
        let Notification { ready, stopping, watchdog, status, extend } = message;
        let mut heard = self.heard();
        heard.is_ready |= ready;
        heard.watchdog = heard.watchdog.max(watchdog);
        heard.update.check |= watchdog == Some(Watchdog::Trigger) && self.interval.is_some();
        heard.extensions += u32::from(extend.is_some());
        if ready || extend.is_some() {
            self.readiness.notify_one();
        }
        heard.update.status = status.or_else(|| heard.update.status.take());
        heard.update.extend = extend.max(heard.update.extend);
        if heard.update != Update::default() {
            self.updated.notify_one();
        }
        drop(heard);
        if stopping {
            log!(self.reporter, debug, "the daemon says that it is stopping");
        }
    }

    /// A stranger's READY=1 is named, once, because the start may wait for it in vain.
    fn warn_of(&self, sender: Pid, message: &Notification) {
        if message.ready && !std::mem::replace(&mut self.heard().has_warned, true) {
            let name = os::command_name(sender).unwrap_or_else(|| "gone".to_owned());
            log!(self.reporter, warn, sender, "READY=1 of process {sender} ({name}), which is outside the daemon's tree, is dropped");
        }
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for NotifySocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotifySocket").field("path", &self.path).finish_non_exhaustive()
    }
}
