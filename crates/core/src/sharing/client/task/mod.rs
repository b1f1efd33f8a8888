//! The task of a session: its connection to the host, and the calls that are not answered.
//!
//! - `reach`: the connection;
//! - `send`, `hear`: what goes to the host, and what comes from it;
//! - `late`: calls that are not answered.

mod hear;
mod late;
mod reach;
mod send;

use std::collections::BTreeMap;
use std::future::{pending, ready};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ally_base::os::{self, Process};
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::link::Link;
use super::plugin::Plugin;
use super::{Asked, Command, Inner, What};
use crate::error::Failure;
use crate::model::Pid;
use crate::sharing::protocol::{BadMessage, Call, Inbound, Interest, Parts, Push, RequestId};
use crate::sharing::stream::read_some;
use crate::supervisor::TARGET;

/// The time in which a host takes the last call of a connection.
const FAREWELL: Duration = Duration::from_millis(500);

/// A call that is not answered.
pub(super) struct Pending {
    pub asked: Asked,
    /// When it was sent, and whether the host has read it.
    sent: Option<Instant>,
    read: bool,
    /// How often the host was continued for it.
    wakes: u32,
    /// Its caller does not wait any more.
    pub aborted: bool,
}

pub(super) struct Task {
    pub inner: Arc<Inner>,
    pub calls: BTreeMap<RequestId, Pending>,
    pub host: Option<Process>,
    pub host_pid: Pid,
    /// The last host that was killed.
    pub dead: Option<Pid>,
    /// By which the session gets another connection after a protocol error. `None`: it is of no use any more.
    token: Option<u64>,
    /// The host has said that it leaves, and which plugins it could not end.
    leaving: Option<Vec<String>>,
    /// What the host knows that this session wants to hear.
    interest: Option<Interest>,
    /// Bytes that wait for the stream.
    out: Vec<u8>,
}

enum Turn {
    Command(Option<Command>),
    Read(io::Result<usize>),
    Written(io::Result<()>),
    Late,
}

/// Serves the session until its manager ends.
pub(super) async fn run(inner: Arc<Inner>, mut commands: mpsc::UnboundedReceiver<Command>) {
    let mut task = Task {
        inner,
        calls: BTreeMap::new(),
        host: None,
        host_pid: 0,
        dead: None,
        token: None,
        leaving: None,
        interest: None,
        out: Vec::new(),
    };
    loop {
        // Without a call nothing needs a host.
        while task.calls.is_empty() {
            match commands.recv().await {
                Some(Command::Ask(asked)) => task.note(asked),
                Some(Command::Listen) => {}
                None => return,
            }
        }
        let Some(mut link) = task.connect(&mut commands).await else {
            if commands.is_closed() && commands.is_empty() {
                return;
            }
            continue;
        };
        task.token = Some(link.token);
        loop {
            if !task.serve(link, &mut commands).await {
                return;
            }
            match task.resume().await {
                Some(next) => link = next,
                None => break,
            }
        }
        if let Some(left) = task.leaving.take() {
            task.host_left(&left);
        } else {
            task.host_died(&mut commands).await;
        }
    }
}

impl Task {
    pub fn note(&mut self, asked: Asked) {
        if let What::Abort(ticket) = asked.what {
            return self.abort_unsent(ticket);
        }
        self.insert(asked);
    }

    fn insert(&mut self, asked: Asked) -> RequestId {
        let id = self.inner.next_request();
        // Nobody waits for an abandonment, so it does not become late.
        let read = matches!(asked.what, What::Abandon);
        self.calls.insert(id, Pending { asked, sent: None, read, wakes: 0, aborted: false });
        id
    }

    /// The call was not sent, so nobody needs to be told.
    fn abort_unsent(&mut self, ticket: u64) {
        let id = self.calls.iter().find(|(_, call)| call.asked.ticket == Some(ticket)).map(|(id, _)| *id);
        if let Some(Pending { asked, .. }) = id.and_then(|id| self.calls.remove(&id)) {
            if matches!(asked.what, What::Start { .. }) {
                self.inner.change(&asked.plugin, Plugin::abort_start);
            }
            self.inner.answered(asked, Err(Failure::Stopped));
        }
    }

    /// Serves one connection. False if the manager has ended.
    async fn serve(&mut self, link: Link, commands: &mut mpsc::UnboundedReceiver<Command>) -> bool {
        let Link { host, mut read, write, mut inbound, .. } = link;
        let mut parts = Parts::default();
        // What the host has said before it closed the connection is still read.
        let mut is_closed = false;
        self.host_pid = host;
        self.host = os::look_up(host);
        self.out.clear();
        self.interest = None;
        self.inner.lock().values_mut().for_each(Plugin::connected);
        self.listen();
        let ids: Vec<RequestId> = self.calls.keys().copied().collect();
        ids.into_iter().for_each(|id| self.send(id));
        let aborted = self.calls.iter().filter(|(_, call)| call.aborted);
        let aborts: Vec<Call> = aborted.map(|(id, call)| Call::Abort { plugin: call.asked.plugin.clone(), request: *id }).collect();
        aborts.into_iter().for_each(|abort| self.write(abort));
        loop {
            loop {
                match next_whole(&mut inbound, &mut parts) {
                    Ok(Some(push)) => self.receive(push),
                    Ok(None) => break,
                    Err(problem) => {
                        tracing::warn!(target: TARGET, manager = self.inner.context.id, %problem, "the host of shared daemons is not understood");
                        self.write(Call::Reconnect);
                        // A host that does not take it ends the session.
                        drop(timeout(FAREWELL, write_all(&write, &self.out)).await);
                        return true;
                    }
                }
            }
            let late = self.next_check();
            let turn = tokio::select! {
                count = read_some(&mut read, &mut inbound) => Turn::Read(count),
                command = commands.recv() => Turn::Command(command),
                written = write_some(&write, &self.out), if !is_closed && !self.out.is_empty() => Turn::Written(match written {
                    Ok(count) => { self.out.drain(..count); Ok(()) }
                    Err(error) => Err(error),
                }),
                () = async { match late { Some(at) => sleep_until(at).await, None => pending().await } } => Turn::Late,
            };
            match turn {
                Turn::Command(None) => return false,
                Turn::Command(Some(Command::Listen)) => self.listen(),
                Turn::Command(Some(Command::Ask(asked))) => self.ask(asked),
                Turn::Read(Ok(0) | Err(_)) => return true,
                Turn::Written(Err(_)) => is_closed = true,
                Turn::Read(Ok(_)) | Turn::Written(Ok(())) => {}
                // If this process was suspended, what the host has said meanwhile is there.
                Turn::Late => tokio::select! {
                    biased;
                    count = read_some(&mut read, &mut inbound) => if let Ok(0) | Err(_) = count { return true },
                    () = ready(()) => self.check_late(),
                },
            }
        }
    }

    pub fn answer(&mut self, id: RequestId, outcome: Result<(), Failure>) {
        let Some(Pending { asked, .. }) = self.calls.remove(&id) else { return };
        let died_with = self.inner.lock().get(&asked.plugin).and_then(Plugin::died_with);
        match (&asked.what, died_with) {
            // This host will not make the daemon again, and the old tree may not be gone yet.
            (&What::Everywhere { after: Some(dead) }, _) if outcome.is_ok() => self.inner.answer_at_tree_end(asked, dead),
            // Nor has this host anything to wait for, if it did not make the daemon.
            (What::LetGo, Some(dead)) if outcome.is_ok() => self.inner.answer_at_tree_end(asked, dead),
            (What::Abandon, _) => {
                let name = asked.plugin.clone();
                self.inner.answered(asked, outcome);
                self.inner.change(&name, Plugin::catch_up);
            }
            _ => self.inner.answered(asked, outcome),
        }
    }
}

/// The next message, put together from its parts.
fn next_whole(inbound: &mut Inbound, parts: &mut Parts) -> Result<Option<Push>, BadMessage> {
    loop {
        match inbound.next_message()? {
            Some(Push::Part { bytes, is_last }) => {
                if let Some(whole) = parts.add(&bytes, is_last)? {
                    return Ok(Some(whole));
                }
            }
            message => return Ok(message),
        }
    }
}

async fn write_all(write: &OwnedWriteHalf, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = write_some(write, bytes).await?;
        bytes = bytes.get(count..).unwrap_or_default();
    }
    Ok(())
}

/// Waits until the stream takes bytes, and writes some.
async fn write_some(write: &OwnedWriteHalf, bytes: &[u8]) -> io::Result<usize> {
    loop {
        write.writable().await?;
        match write.try_write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            written => return written,
        }
    }
}
