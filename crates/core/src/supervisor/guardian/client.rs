//! The manager's guardian: spawned for the first order, released when no daemon is left, and replaced if it was killed.

use std::future::Future;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use ally_base::os;
use ally_base::text::{io_text, signal_name};
use ally_base::wire::Hello;
use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard};
use tokio::time::{Instant, sleep, timeout};

use super::connection::{End, GuardianConnection, GuardianReceipt, means_gone, pair};
use super::credentials::Credentials;
use super::suspended::{in_time, signal, wake};
use crate::error::{Failure, Refused};
use crate::model::Pid;
use crate::supervisor::TARGET;
use crate::supervisor::launch::{EncodedOrder, machine_of};
use crate::supervisor::report::ManagerId;
use crate::supervisor::runtime::{self, AbortOnDrop, exit};

/// The time that a guardian without daemons is kept, in case another start follows soon.
const IDLE_TIME: Duration = Duration::from_millis(400);

/// If two guardians in a row are killed before this age, the next guardian is spawned after a pause of this length. The pause
/// doubles with each further one, `DOUBLINGS_MAX` times at most.
const SHORT_LIFE: Duration = Duration::from_millis(200);
const DOUBLINGS_MAX: u32 = 6;

/// The time from the end of the stream in which a guardian that has ended is reaped. After it the guardian counts as alive.
const EXIT_LIMIT: Duration = Duration::from_millis(100);

/// The program of the guardian, and the build that it must have.
#[derive(Debug, Clone)]
pub struct GuardianProgram {
    pub path: PathBuf,
    pub version: &'static str,
    pub build: &'static str,
}

pub struct GuardianClient {
    program: GuardianProgram,
    /// For log entries.
    manager: ManagerId,
    /// Locked while an order is written, because a stream must not mix the bytes of two orders.
    current: AsyncMutex<Option<Arc<GuardianConnection>>>,
    /// Releases the guardian after `IDLE_TIME`. `None` while a daemon needs the guardian.
    idle: Mutex<Option<AbortOnDrop>>,
    /// The number of guardians in a row that were killed before `SHORT_LIFE`.
    short_lives: AtomicU32,
}

impl GuardianClient {
    pub fn new(program: GuardianProgram, manager: ManagerId) -> Arc<Self> {
        Arc::new(Self { program, manager, current: AsyncMutex::new(None), idle: Mutex::new(None), short_lives: AtomicU32::new(0) })
    }

    /// Sends the guardian an order. Returns when the guardian has accepted the order, or is gone.
    ///
    /// # Errors
    /// The guardian can't be spawned, or is of another build. The failure has the path of its program.
    pub async fn order(self: &Arc<Self>, order: &EncodedOrder) -> Result<GuardianReceipt, Failure> {
        self.keep();
        let mut gone = None;
        for _ in 0..2 {
            let mut current = self.current.lock().await;
            let guardian = self.current_guardian(&mut current)?;
            match self.insist(&guardian, hand_over(&guardian, order, current)).await {
                Ok(receipt) => return guardian.foreign().map_or(Ok(receipt), |hello| Err(self.foreign(&hello))),
                // The guardian was killed since the last order, or is of another build, which only its greeting tells.
                Err(error) if means_gone(&error) => {
                    guardian.wait_gone().await;
                    gone = Some(guardian.receipt());
                    self.current.lock().await.take_if(|current| Arc::ptr_eq(current, &guardian));
                    if let Some(hello) = guardian.foreign() {
                        return Err(self.foreign(&hello));
                    }
                }
                Err(error) => {
                    let program = self.program.path.display().to_string();
                    let problem = format!("the guardian {program} can't be given the order: {}", io_text(&error));
                    let refused = Refused::by(&error, Some("sendmsg"), Some(&program));
                    return Err(Failure::Spawn { problem, refused });
                }
            }
        }
        Err(self.lost(gone.as_mut()).await)
    }

    /// The guardian for the next order. Daemons inherit its credentials, so these must be the current ones of the owner.
    fn current_guardian(self: &Arc<Self>, current: &mut Option<Arc<GuardianConnection>>) -> Result<Arc<GuardianConnection>, Failure> {
        let credentials = Credentials::now();
        if let Some(other) = current.take_if(|guardian| guardian.credentials != credentials) {
            other.release();
        }
        match current {
            Some(guardian) if !guardian.is_gone() => Ok(Arc::clone(guardian)),
            Some(_) | None => Ok(Arc::clone(current.insert(self.spawn(credentials)?))),
        }
    }

    /// Waits for `handed_over`. If the guardian does not act, continues it. If it then does not act either, gives it up, which
    /// kills it. Its keepers live on, and an order that it has not accepted makes no process.
    async fn insist<T>(&self, guardian: &GuardianConnection, handed_over: impl Future<Output = T>) -> T {
        let mut handed_over = pin!(handed_over);
        let (manager, pid) = (self.manager, guardian.pid);
        if let Some(done) = in_time(guardian, handed_over.as_mut()).await {
            return done;
        }
        tracing::warn!(target: TARGET, manager, pid, "the guardian does not act; SIGCONT is sent, in case it is suspended");
        wake(pid);
        if let Some(done) = in_time(guardian, handed_over.as_mut()).await {
            return done;
        }
        tracing::warn!(target: TARGET, manager, pid, "the guardian does not act; it is replaced");
        guardian.give_up();
        handed_over.await
    }

    /// The failure after an order that no process came of. `receipt`: of that order, if the guardian got it.
    pub async fn lost(&self, receipt: Option<&mut GuardianReceipt>) -> Failure {
        let ending = match receipt {
            Some(receipt) => {
                receipt.ending().await.unwrap_or_else(|| "lives, but its keeper ended before it reported a process".to_owned())
            }
            None => "has not accepted the order".to_owned(),
        };
        Failure::GuardianLost { path: self.program.path.display().to_string(), ending }
    }

    fn foreign(&self, hello: &Hello) -> Failure {
        let GuardianProgram { path, version, build } = &self.program;
        let problem = format!(
            "{}: the guardian is of another build ({} {}) than the addon ({version} {build}); was the package updated under a running program?",
            path.display(),
            hello.version,
            hello.build,
        );
        Failure::Unsupported { problem, path: path.display().to_string(), refused: None }
    }

    /// No daemon is left: releases the guardian after `IDLE_TIME`, unless an order comes before.
    pub fn release(self: &Arc<Self>) {
        let client = Arc::clone(self);
        let release = AbortOnDrop::spawn(async move {
            sleep(IDLE_TIME).await;
            if let Some(guardian) = client.current.lock().await.take() {
                guardian.release();
            }
        });
        *self.idle() = Some(release);
    }

    /// Cancels a pending release.
    pub fn keep(&self) {
        *self.idle() = None;
    }

    fn idle(&self) -> MutexGuard<'_, Option<AbortOnDrop>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spawn(self: &Arc<Self>, credentials: Credentials) -> Result<Arc<GuardianConnection>, Failure> {
        let GuardianProgram { path, version, build } = &self.program;
        let spawn_failure = |error: io::Error| spawn_failure(path, &error);
        let hello = Hello { version: (*version).to_owned(), build: (*build).to_owned(), pid: os::own_pid() };
        // Before the spawn: after it no step can fail, so the child is always reaped.
        let (stream, theirs) = pair(&hello).map_err(spawn_failure)?;
        // Without pre_exec, user and folder std uses posix_spawn, which is CLONE_VFORK and copies no page tables of Node's
        // heap.
        let child = Command::new(path)
            .env_clear()
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(spawn_failure)?;
        let pid = Pid::try_from(child.id()).unwrap_or_default();
        let guardian = Arc::new(GuardianConnection::new(stream, pid, credentials, build));
        tracing::debug!(target: TARGET, manager = self.manager, pid, "guardian started");
        drop(runtime::spawn(Self::watch(Arc::downgrade(self), Arc::clone(&guardian), child)));
        Ok(guardian)
    }

    /// Reads reports until the guardian is released or gone, and reaps it. If it was killed while a daemon needs it, spawns the
    /// next one.
    async fn watch(client: Weak<Self>, guardian: Arc<GuardianConnection>, mut child: Child) {
        let begun = Instant::now();
        let end = guardian.listen().await;
        let (pid, lived, reporter) = (guardian.pid, begun.elapsed(), guardian.reporter());
        if let Some(client) = client.upgrade() {
            client.current.lock().await.take_if(|current| Arc::ptr_eq(current, &guardian));
        }
        // The end of its stream ends the guardian, unless it is suspended.
        drop(guardian);
        if end == End::Released {
            wake(pid);
        }
        let ending = ending(&mut child, pid, end).await;
        reporter.ended(ending.clone());
        if matches!(end, End::Released | End::Foreign) {
            return;
        }
        let Some(pause) = client.upgrade().map(|client| client.respawn_delay(pid, &ending, lived)) else { return };
        sleep(pause).await;
        let Some(client) = client.upgrade() else { return };
        let mut current = client.current.lock().await;
        let replaced = current.as_ref().is_some_and(|now| !now.is_gone());
        if replaced || client.idle().is_some() {
            return;
        }
        match client.spawn(Credentials::now()) {
            Ok(guardian) => *current = Some(guardian),
            Err(failure) => tracing::warn!(target: TARGET, manager = client.manager, %failure, "the guardian can't be replaced yet"),
        }
    }

    /// The pause before the next guardian is spawned.
    fn respawn_delay(&self, pid: Pid, ending: &str, lived: Duration) -> Duration {
        tracing::warn!(target: TARGET, manager = self.manager, pid, ending, "the guardian ended; the daemons' keepers go on");
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
            guardian.release();
        }
    }
}

/// Sends the order. Other orders may be sent meanwhile, as soon as this one is written. Returns when the guardian has accepted the
/// order, or is gone.
async fn hand_over(
    guardian: &GuardianConnection,
    order: &EncodedOrder,
    writing: AsyncMutexGuard<'_, Option<Arc<GuardianConnection>>>,
) -> io::Result<GuardianReceipt> {
    tokio::select! {
        sent = guardian.send(order) => sent?,
        // Of a guardian that is given up the stream may stay full.
        () = guardian.wait_gone() => return Err(io::ErrorKind::BrokenPipe.into()),
    }
    let mut receipt = guardian.receipt();
    drop(writing);
    receipt.accepted().await;
    Ok(receipt)
}

/// Waits until the guardian has ended, and reaps it. Returns what happened to it.
async fn ending(child: &mut Child, pid: Pid, end: End) -> String {
    if end == End::Closed {
        // It has ended, except if it closed its stream by itself.
        let status = timeout(EXIT_LIMIT, reap(child, pid)).await.ok().flatten();
        if let Some(status) = status {
            return ending_of(status);
        }
    }
    if matches!(end, End::Closed | End::Malformed | End::GivenUp) {
        // A guardian that can't be understood is of no use. Its keepers live on.
        signal(pid, libc::SIGKILL);
    }
    let status = reap(child, pid).await;
    let ending = match end {
        End::Closed => Some("closed its stream".to_owned()),
        End::Malformed => Some("sent bytes that are no message of its build".to_owned()),
        End::GivenUp => Some("did not act, and was killed".to_owned()),
        End::Released | End::Foreign => status.map(ending_of),
    };
    ending.unwrap_or_else(|| "ended".to_owned())
}

/// Waits until the guardian has ended, and reaps it. libuv reaps only its own children. A released guardian with daemons, or a
/// suspended one, may live for hours.
async fn reap(child: &mut Child, pid: Pid) -> Option<ExitStatus> {
    // If another part of the program has reaped the guardian, the pid may belong to another process by now.
    let guardian = os::identify(pid).ok().flatten().filter(|process| process.parent == os::own_pid());
    if let Some(handle) = guardian.and_then(|guardian| os::open(&guardian).ok().flatten()) {
        exit(&handle).await;
    }
    // Without an event for the exit, waitpid(2) is polled.
    let mut pause = Duration::from_millis(1);
    // ECHILD: another part of the program has reaped the guardian.
    loop {
        match child.try_wait() {
            Ok(None) => sleep(pause).await,
            reaped => return reaped.ok().flatten(),
        }
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

/// `exited with code 3`, `was killed by SIGKILL`.
fn ending_of(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => format!("was killed by {}", signal_name(signal)),
        (None, None) => "ended".to_owned(),
    }
}

fn spawn_failure(path: &Path, error: &io::Error) -> Failure {
    let failure = Failure::guardian(path, error);
    let machine = machine_of(path).filter(|machine| machine != std::env::consts::ARCH);
    match (failure, machine) {
        (Failure::Unsupported { problem, path, refused }, Some(machine)) => {
            Failure::Unsupported { problem: format!("{problem} (it is built for another machine, {machine})"), path, refused }
        }
        (failure, _) => failure,
    }
}
