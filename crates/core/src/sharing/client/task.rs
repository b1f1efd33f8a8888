//! The task of a session: its connection to the host, and the calls that are not answered.

use std::collections::BTreeMap;
use std::future::{pending, ready};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ally_base::os::{self, Process};
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::link::{self, Existing, Link};
use super::plugin::{OwnStart, Plugin};
use super::{Asked, Command, Inner, What};
use crate::error::{Facts, Failure};
use crate::model::Pid;
use crate::sharing::protocol::{self, BadMessage, Call, Inbound, Interest, LogLevel, Parts, Push, RequestId, TO_HOST_MAX, encode};
use crate::sharing::stream::read_some;
use crate::supervisor::{Message, TARGET, check};

/// A host that has not answered a call after this time gets SIGCONT. If it has not read the call after the second one, the call fails.
const WAKE_AFTER: Duration = Duration::from_secs(2);
const GIVE_UP_AFTER: Duration = Duration::from_secs(10);

/// The time in which a host takes the last call of a connection.
const FAREWELL: Duration = Duration::from_millis(500);

/// A call that is not answered.
pub(super) struct Pending {
    pub asked: Asked,
    /// When it was sent, and whether the host has read it.
    sent: Option<Instant>,
    read: bool,
    woken: bool,
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
    /// The host has said that it leaves.
    is_leaving: bool,
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
    let mut task =
        Task { inner, calls: BTreeMap::new(), host: None, host_pid: 0, dead: None, token: None, is_leaving: false, out: Vec::new() };
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
        if task.is_leaving {
            task.is_leaving = false;
            task.host_left();
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
        let id = self.inner.next_request();
        self.calls.insert(id, Pending { asked, sent: None, read: false, woken: false });
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

    /// A link to the host, or none: then every call was answered, or the manager has ended.
    async fn connect(&mut self, commands: &mut mpsc::UnboundedReceiver<Command>) -> Option<Link> {
        let target = self.inner.target.clone();
        let needs_host = self.calls.values().any(|call| call.asked.what.needs_host());
        let linking = async move {
            if needs_host { link::connect(&target).await.map(Existing::Linked) } else { link::connect_to_existing(&target).await }
        };
        tokio::pin!(linking);
        let linked = loop {
            tokio::select! {
                biased;
                linked = &mut linking => break linked,
                command = commands.recv() => match command {
                    Some(Command::Ask(asked)) => self.note(asked),
                    Some(Command::Listen) => {}
                    None => return None,
                },
            }
        };
        let failure = match linked {
            Ok(Existing::Linked(link)) => {
                self.shift_starts(link.waited);
                return Some(link);
            }
            // Nothing is shared, so there is nothing to stop.
            Ok(Existing::Nobody) => None,
            Ok(Existing::Died(host)) => {
                self.dead = Some(host);
                for call in self.calls.values_mut() {
                    if matches!(call.asked.what, What::Everywhere { .. }) {
                        call.asked.what = What::Everywhere { after: Some(host) };
                    }
                }
                None
            }
            Err(failure) => Some(failure),
        };
        self.answer_without_host(failure.as_ref());
        None
    }

    /// The time in which a former host ended its daemons is none of a start.
    fn shift_starts(&mut self, by: Duration) {
        for call in self.calls.values_mut() {
            if let What::Start { begun, .. } = &mut call.asked.what {
                *begun = (*begun + by).min(Instant::now());
            }
        }
    }

    fn answer_without_host(&mut self, failure: Option<&Failure>) {
        for (id, call) in std::mem::take(&mut self.calls) {
            let outcome = match (failure, &call.asked.what, self.dead) {
                (Some(failure), ..) => Err(failure.clone()),
                // It needs a host of its own.
                (None, what, _) if what.needs_host() => {
                    self.calls.insert(id, call);
                    continue;
                }
                (None, What::LetGo | What::Everywhere { .. }, Some(dead)) => {
                    self.answer_at_tree_end(call.asked, dead);
                    continue;
                }
                (None, What::Restart | What::Upgrade { .. }, _) => Err(Failure::NotFound),
                (None, ..) => Ok(()),
            };
            self.inner.answered(call.asked, outcome);
        }
    }

    /// Another connection to a host that lives, and does not understand this process, or the other way round: once.
    async fn resume(&mut self) -> Option<Link> {
        let lives = self.host.as_ref().is_some_and(|host| host.lives().unwrap_or(false));
        let token = self.token.take().filter(|_| lives && !self.is_leaving)?;
        let link = link::resume(&self.inner.target, token).await?;
        for call in self.calls.values_mut().filter(|call| !matches!(call.asked.what, What::Abandon)) {
            (call.read, call.woken) = (false, false);
        }
        Some(link)
    }

    /// Serves one connection. False if the manager has ended.
    async fn serve(&mut self, link: Link, commands: &mut mpsc::UnboundedReceiver<Command>) -> bool {
        let Link { host, mut read, write, mut inbound, .. } = link;
        let mut parts = Parts::default();
        self.host_pid = host;
        self.host = os::look_up(host);
        self.out.clear();
        self.listen();
        let ids: Vec<RequestId> = self.calls.keys().copied().collect();
        ids.into_iter().for_each(|id| self.send(id));
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
                written = write_some(&write, &self.out), if !self.out.is_empty() => Turn::Written(match written {
                    Ok(count) => { self.out.drain(..count); Ok(()) }
                    Err(error) => Err(error),
                }),
                () = async { match late { Some(at) => sleep_until(at).await, None => pending().await } } => Turn::Late,
            };
            match turn {
                Turn::Command(None) => return false,
                Turn::Command(Some(Command::Listen)) => self.listen(),
                Turn::Command(Some(Command::Ask(asked))) => self.ask(asked),
                Turn::Read(Ok(0) | Err(_)) | Turn::Written(Err(_)) => return true,
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

    fn ask(&mut self, asked: Asked) {
        if let What::Abort(ticket) = asked.what {
            let call = self.calls.iter().find(|(_, call)| call.asked.ticket == Some(ticket));
            if let Some((request, call)) = call {
                let (request, plugin) = (*request, call.asked.plugin.clone());
                if matches!(call.asked.what, What::Start { .. }) {
                    self.inner.change(&plugin, Plugin::abort_start);
                }
                self.write(Call::Abort { plugin, request });
            }
            return;
        }
        let id = self.inner.next_request();
        self.calls.insert(id, Pending { asked, sent: None, read: false, woken: false });
        self.send(id);
    }

    /// A call without an answer of its own.
    fn write(&mut self, call: Call) {
        let id = self.inner.next_request();
        self.out.extend(encode(&protocol::Request { id, call }, TO_HOST_MAX).unwrap_or_default());
    }

    fn listen(&mut self) {
        let health = self.inner.context.listeners.health();
        let debug = tracing::enabled!(target: TARGET, tracing::Level::DEBUG);
        self.write(Call::Listen(Interest { health, debug }));
    }

    fn send(&mut self, id: RequestId) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let plugin = call.asked.plugin.clone();
        let wire = match &call.asked.what {
            What::Start { begun, after } => {
                let start = self.inner.lock().get(&plugin).map(|plugin| Arc::clone(&plugin.start));
                start.map(|start| Call::Start(Box::new(wire_start(&start, *begun, *after))))
            }
            What::Upgrade { start, changes } => {
                let start = Box::new(wire_start(start, Instant::now(), None));
                Some(Call::Upgrade { start, changes: changes.clone() })
            }
            What::LetGo => Some(Call::LetGo { plugin }),
            What::Abandon => Some(Call::Abandon { plugin }),
            What::Everywhere { after } => Some(Call::StopEverywhere { plugin, after: *after }),
            What::Restart => Some(Call::Restart { plugin }),
            What::Wait => Some(Call::Wait { plugin }),
            What::Metrics => Some(Call::Metrics),
            What::Abort(_) => None,
        };
        // Forgotten meanwhile.
        let Some(wire) = wire else { return self.answer(id, Err(Failure::Stopped)) };
        let is_answered = !matches!(wire, Call::Metrics);
        match encode(&protocol::Request { id, call: wire }, TO_HOST_MAX) {
            Some(frame) => {
                self.out.extend(frame);
                call.sent = Some(Instant::now());
                if !is_answered {
                    self.calls.remove(&id);
                }
            }
            None => self.answer(id, Err(too_long())),
        }
    }

    pub fn answer(&mut self, id: RequestId, outcome: Result<(), Failure>) {
        let Some(Pending { asked, .. }) = self.calls.remove(&id) else { return };
        match asked.what {
            // This host will not make the daemon again, and the old tree may not be gone yet.
            What::Everywhere { after: Some(dead) } if outcome.is_ok() => self.answer_at_tree_end(asked, dead),
            _ => self.inner.answered(asked, outcome),
        }
    }

    fn receive(&mut self, push: Push) {
        let host = self.host_pid;
        match push {
            Push::Read { id } => {
                if let Some(call) = self.calls.get_mut(&id) {
                    call.read = true;
                }
            }
            Push::Answer { id, outcome } => {
                let outcome = outcome.map_err(|mut chain| {
                    // Who has the name is the host.
                    if let Some(first) = chain.first_mut().filter(|first| first.code == crate::error::Code::OwnedElsewhere) {
                        first.pid.get_or_insert(host);
                    }
                    Facts::into_failure(chain).unwrap_or(Failure::Stopped)
                });
                self.answer(id, outcome);
            }
            Push::Attached { plugin, shown, at } => self.told(&plugin, |plugin| plugin.attached(*shown, at, host)),
            Push::Detached { plugin, why } => {
                let is_awaited = self.awaits_parting(&plugin);
                self.told(&plugin, |plugin| plugin.detached(why, is_awaited));
            }
            Push::Shown { plugin, shown } => self.told(&plugin, |plugin| plugin.catch_up_or_show(*shown)),
            Push::Told { plugin, told, at } => self.told(&plugin, |plugin| plugin.tell_event(told, at)),
            Push::Lines { plugin, dropped, lines } => self.told(&plugin, |plugin| plugin.lines(dropped, lines)),
            Push::Log { plugin, level, text, fields } => self.log(&plugin, level, text, fields),
            Push::Upgraded { plugin, changes, config } => self.upgraded(&plugin, changes, config),
            Push::Resync { lost, plugins } => self.resync(lost, &plugins),
            Push::Leaving => self.is_leaving = true,
            // Of those who look; and what was put together before.
            Push::Listed(_) | Push::Part { .. } => {}
        }
    }

    fn resync(&self, lost: u64, plugins: &[String]) {
        let manager = self.inner.context.id;
        if lost > 0 {
            tracing::warn!(target: TARGET, manager, "{lost} messages of the host of shared daemons were lost: this process did not read them");
        }
        for plugin in self.inner.lock().values_mut().filter(|plugin| !plugin.is_abandoned()) {
            let is_held = plugins.contains(&plugin.name);
            self.inner.change_in(plugin, |plugin| plugin.resync(is_held));
        }
    }

    fn upgraded(&self, name: &str, changes: String, config: crate::config::Raw) {
        let Ok(parsed) = check(&config) else { return };
        self.inner.change(name, |plugin| {
            let start = OwnStart::new(config, parsed, Arc::clone(&plugin.start.inherited), plugin.start.owner.clone(), plugin.start.job);
            plugin.upgraded(start);
        });
        self.inner.context.mailbox.post(Message::Upgraded { plugin: name.to_owned(), changes });
    }

    /// An entry of the host goes where an entry of this process would.
    fn log(&self, plugin: &str, level: LogLevel, text: String, fields: Vec<(String, crate::supervisor::LogValue)>) {
        let level = match level {
            LogLevel::Error => tracing::Level::ERROR,
            LogLevel::Warn => tracing::Level::WARN,
            LogLevel::Info => tracing::Level::INFO,
            LogLevel::Debug => tracing::Level::DEBUG,
        };
        let context = &self.inner.context;
        if context.has_logger() {
            let fields = fields.into_iter().map(|(name, value)| (name.into(), value)).collect();
            return context.mailbox.post(Message::Log { level, text, fields });
        }
        let manager = context.id;
        match level {
            tracing::Level::ERROR => tracing::error!(target: TARGET, manager, plugin, "{text}"),
            tracing::Level::WARN => tracing::warn!(target: TARGET, manager, plugin, "{text}"),
            tracing::Level::INFO => tracing::info!(target: TARGET, manager, plugin, "{text}"),
            _ => tracing::debug!(target: TARGET, manager, plugin, "{text}"),
        }
    }

    /// When a call must be looked at: once if it is not answered, and again if it is not even read.
    fn next_check(&self) -> Option<Instant> {
        let due = |call: &Pending| match (call.woken, call.read) {
            (false, _) => Some(call.sent? + WAKE_AFTER),
            (true, false) => Some(call.sent? + GIVE_UP_AFTER),
            (true, true) => None,
        };
        self.calls.values().filter_map(due).min()
    }

    fn check_late(&mut self) {
        let now = Instant::now();
        let late: Vec<RequestId> = self
            .calls
            .iter_mut()
            .filter(|(_, call)| call.sent.is_some_and(|sent| now >= sent + WAKE_AFTER))
            .filter_map(|(id, call)| (std::mem::replace(&mut call.woken, true) && !call.read).then_some((*id, call.sent?)))
            .filter(|(_, sent)| now >= *sent + GIVE_UP_AFTER)
            .map(|(id, _)| id)
            .collect();
        // Also one that has read the call: it may have been suspended since then. A host that runs does not notice.
        link::wake(self.host_pid);
        for id in late {
            let problem = format!("the host of shared daemons (process {}) does not act", self.host_pid);
            self.give_up(id, Failure::HostSilent { problem });
        }
    }
}

impl Task {
    fn give_up(&mut self, id: RequestId, failure: Failure) {
        let start = self.calls.get(&id).filter(|call| matches!(call.asked.what, What::Start { .. }));
        let abandoned = start.map(|call| call.asked.plugin.clone());
        self.answer(id, Err(failure));
        // A stop that follows the start takes it back as well.
        let is_stopped = |name: &str| {
            self.calls
                .range(id..)
                .any(|(_, call)| call.asked.plugin == name && matches!(call.asked.what, What::LetGo | What::Everywhere { .. }))
        };
        if let Some(plugin) = abandoned.filter(|name| !is_stopped(name)) {
            self.abandon(plugin);
        }
    }

    /// The host may read the start that was given up, so this follows it. What the host tells in between is of nobody.
    fn abandon(&mut self, plugin: String) {
        self.inner.change(&plugin, Plugin::abandon);
        let id = self.inner.next_request();
        let asked = Asked { plugin, ticket: None, what: What::Abandon };
        // Nobody waits for it, so it does not become late.
        self.calls.insert(id, Pending { asked, sent: None, read: true, woken: false });
        self.send(id);
    }

    /// Changes a plugin by what the host tells of it.
    fn told<T>(&self, name: &str, change: impl FnOnce(&mut Plugin) -> T) {
        let mut plugins = self.inner.lock();
        if let Some(plugin) = plugins.get_mut(name).filter(|plugin| !plugin.is_abandoned()) {
            self.inner.change_in(plugin, change);
        }
    }

    /// Whether the answer of a call will tell how the session parts from the plugin.
    fn awaits_parting(&self, name: &str) -> bool {
        let parts = |call: &Pending| call.asked.plugin == name && matches!(call.asked.what, What::Start { .. } | What::LetGo);
        self.calls.values().any(parts)
    }
}

fn wire_start(start: &OwnStart, begun: Instant, after: Option<Pid>) -> protocol::Start {
    protocol::Start {
        plugin: start.config.plugin_name.clone(),
        config: start.raw.clone(),
        inherited: start.inherited.as_ref().to_owned(),
        owner: start.owner.clone(),
        timeout: start.config.startup_timeout.saturating_sub(begun.elapsed()),
        after,
    }
}

/// execve(2) would not take it either.
fn too_long() -> Failure {
    let error = io::Error::from_raw_os_error(libc::E2BIG);
    let problem = format!("configuration and environment are too large: {}", ally_base::text::io_text(&error));
    Failure::Spawn { problem, refused: crate::error::Refused::by(&error, Some("execve"), None) }
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
