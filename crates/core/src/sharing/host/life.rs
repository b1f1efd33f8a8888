//! How long the host lives, and how it leaves.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ally_base::text::printable;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

use super::session::Session;
use super::{Class, Host, State};
use crate::error::Failure;
use crate::lifecycle::KILL_TIMEOUT;
use crate::lifecycle::holds::HoldEvent;
use crate::sharing::place::SOCKET;
use crate::sharing::protocol::{LEFT_MAX, Push, Verdict};
use crate::supervisor::TARGET;
use crate::supervisor::runtime::{self, AbortOnDrop, FolderChanges};

/// The time without anything to supervise after which the host leaves.
const LEAVE_DELAY: Duration = Duration::from_millis(400);
/// The time in which sessions can read that the host leaves.
const FAREWELL: Duration = Duration::from_millis(200);

/// What the end of a host takes beside that of its daemons.
const ENDING: Duration = Duration::from_secs(5);

#[derive(Default)]
pub struct Life {
    /// Accepts connections. A drop refuses those that wait.
    pub listening: Option<AbortOnDrop>,
    phase: Phase,
    leave: Option<AbortOnDrop>,
    /// Sends metrics while a session wants them.
    pub metrics: Option<AbortOnDrop>,
    /// The watch of the folder.
    watching: Option<AbortOnDrop>,
    /// Clients that wait for the end.
    waiting: Vec<UnixStream>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Phase {
    #[default]
    Serving,
    /// Everything is being ended, and no request is taken any more.
    Ending,
    Left,
}

impl Life {
    /// From now on no request is taken, and nothing new begins.
    pub fn begin_ending(&mut self) {
        if self.phase == Phase::Serving {
            self.phase = Phase::Ending;
            self.leave = None;
        }
    }

    pub const fn is_leaving(&self) -> bool {
        !matches!(self.phase, Phase::Serving)
    }

    /// Stops of what is being ended are still taken: they ask for nothing new.
    pub const fn is_ending(&self) -> bool {
        matches!(self.phase, Phase::Ending)
    }
}

impl State {
    /// The number of sessions that have a plugin, or whose start waits for the end of a stop.
    pub fn holding_sessions(&self) -> usize {
        self.plugins.values().flat_map(|plugin| plugin.holders().chain(plugin.holds.queued())).collect::<HashSet<_>>().len()
    }

    /// From this step on no request is taken.
    pub fn make_room(&mut self) -> Verdict {
        self.life.begin_ending();
        let graces = self.plugins.values().filter_map(|plugin| Some(plugin.serving.as_ref()?.config.shutdown_grace_period));
        Verdict::MakesRoom { within: graces.max().unwrap_or_default() + KILL_TIMEOUT + ENDING }
    }

    /// The plugins whose processes outlive the host, and why.
    fn left(&self) -> impl Iterator<Item = (&str, &Failure)> {
        self.plugins.values().filter_map(|plugin| Some((plugin.name.as_str(), plugin.holds.outlives_host()?)))
    }

    fn keeps_host(&self) -> bool {
        self.plugins.values().any(|plugin| plugin.holds.keeps_host())
    }
}

impl Host {
    /// After each step: leaves later if nothing keeps the host, or stays.
    pub(super) fn judge_life(self: &Arc<Self>, state: &mut State) {
        if state.life.phase == Phase::Left {
            return;
        }
        if state.keeps_host() {
            state.life.leave = None;
        } else if state.life.leave.is_none() {
            let host = Arc::downgrade(self);
            let delay = if state.life.phase == Phase::Ending { Duration::ZERO } else { LEAVE_DELAY };
            state.life.leave = Some(AbortOnDrop::spawn(async move {
                sleep(delay).await;
                let Some(host) = host.upgrade() else { return };
                // Not aborted by its own step.
                drop(runtime::spawn(async move { host.leave().await }));
            }));
        }
    }

    /// One step with the end of the listener: a connection is either answered, or refused and made again to the next host.
    async fn leave(self: Arc<Self>) {
        let (waiting, text) = {
            let mut state = self.lock();
            if state.keeps_host() || state.life.phase == Phase::Left {
                return;
            }
            state.life.phase = Phase::Left;
            let left: Vec<String> = state.left().map(|(name, _)| name.to_owned()).collect();
            let text = left_text(state.left());
            self.place.remove_socket(self.socket);
            state.life.listening = None;
            state.life.watching = None;
            for session in state.sessions.values_mut() {
                session.push(Class::Answer, &Push::Leaving { left: left.clone() });
            }
            (std::mem::take(&mut state.life.waiting), text)
        };
        // The task that accepts is dropped in the next turn of the runtime, and with it the listener.
        tokio::task::yield_now().await;
        let is_written = || self.lock().sessions.values().all(Session::is_drained);
        let written = async {
            while !is_written() {
                self.drained.notified().await;
            }
        };
        // A session that does not read finds the end of its connection.
        drop(timeout(FAREWELL, written).await);
        // Open until the end of this process.
        let waiting = tell_waiting(waiting, &text).await;
        self.lock().life.waiting.extend(waiting);
        if let Err(error) = self.lock.unlock() {
            tracing::debug!(target: TARGET, %error, "the lock of the host is released by the end of its process");
        }
        self.left.notify_one();
    }

    /// Ends every daemon, whoever has it, and then leaves.
    pub(super) fn end_all(self: &Arc<Self>) {
        let mut state = self.lock();
        if state.life.phase == Phase::Left {
            return;
        }
        state.life.begin_ending();
        let names: Vec<String> = state.plugins.keys().cloned().collect();
        for name in names {
            self.feed(&mut state, &name, HoldEvent::Everywhere { by: None });
        }
        self.judge_life(&mut state);
    }

    /// Keeps a connection until the host is gone.
    pub(super) fn hold_open(&self, stream: UnixStream) {
        self.lock().life.waiting.push(stream);
    }

    /// The folder, the lock or the socket of the host is gone: another host may come. Nobody can find this one any more, so it goes on
    /// only for the sessions that it has.
    fn place_lost(self: &Arc<Self>) {
        let mut state = self.lock();
        tracing::warn!(target: TARGET, "the files of the host are gone; it serves only the sessions that it has");
        state.life.listening = None;
        state.life.watching = None;
        let lingering: Vec<String> =
            state.plugins.values().filter(|plugin| plugin.holds.lingers()).map(|plugin| plugin.name.clone()).collect();
        for name in lingering {
            self.feed(&mut state, &name, HoldEvent::LingerOver);
        }
        self.judge_life(&mut state);
    }
}

/// At the end of a text that is too long.
const CUT: &str = " …";

fn left_text<'a>(left: impl Iterator<Item = (&'a str, &'a Failure)>) -> String {
    let mut text = String::new();
    for (name, failure) in left {
        let separator = if text.is_empty() { "" } else { "; " };
        text.extend([separator, &printable(name), ": ", &failure.to_string()]);
    }
    if text.len() > LEFT_MAX {
        let end = (0..=LEFT_MAX - CUT.len()).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
        text.truncate(end);
        text.push_str(CUT);
    }
    text
}

/// Tells those who wait for the end what is left. Returns their connections.
async fn tell_waiting(mut waiting: Vec<UnixStream>, text: &str) -> Vec<UnixStream> {
    for stream in &mut waiting {
        // It waits in a buffer that is empty, unless the client is gone.
        if let Ok(Err(error)) = timeout(FAREWELL, stream.write_all(text.as_bytes())).await {
            tracing::debug!(target: TARGET, %error, "a client that waited for the end has gone");
        }
    }
    waiting
}

/// Notices when the files of the host are removed or replaced, or their folder is renamed.
pub fn watch_place(host: &Arc<Host>) {
    let watch = || -> io::Result<_> {
        let socket = FolderChanges::of_socket(&host.place.path().join(SOCKET))?;
        Ok((FolderChanges::of_file(&host.lock)?, socket, FolderChanges::of_file(host.place.as_file())?))
    };
    let Ok((lock, socket, folder)) =
        watch().inspect_err(|error| tracing::warn!(target: TARGET, %error, "the files of the host can't be watched"))
    else {
        return;
    };
    let watched = Arc::downgrade(host);
    host.lock().life.watching = Some(AbortOnDrop::spawn(async move {
        loop {
            let Some(host) = watched.upgrade() else { return };
            if !host.place.is_intact(&host.lock, host.socket) {
                drop(runtime::spawn(async move { host.place_lost() }));
                return;
            }
            drop(host);
            tokio::select! {
                () = lock.next() => {}
                () = socket.next() => {}
                () = folder.next() => {}
            }
        }
    }));
}
