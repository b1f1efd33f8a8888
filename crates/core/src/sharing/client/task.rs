//! The task of a session: its connection to the host, and the calls that are not answered.

use std::collections::BTreeMap;
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ally_base::os::{self, Process};
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::link::{self, Link};
use super::plugin::{OwnStart, Plugin};
use super::{Asked, Command, Inner, What};
use crate::error::{Facts, Failure};
use crate::model::Pid;
use crate::sharing::protocol::{self, Call, Interest, LogLevel, Push, RequestId, TO_HOST_MAX, encode};
use crate::sharing::stream::read_some;
use crate::supervisor::{Message, TARGET, check};

/// A host that has not read a call after this time gets SIGCONT, and after the second one the call fails.
const WAKE_AFTER: Duration = Duration::from_secs(2);
const GIVE_UP_AFTER: Duration = Duration::from_secs(10);

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
    /// The host has said that it leaves.
    is_leaving: bool,
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
    let mut task = Task { inner, calls: BTreeMap::new(), host: None, host_pid: 0, is_leaving: false, interest: None, out: Vec::new() };
    loop {
        // Without a call nothing needs a host.
        while task.calls.is_empty() {
            match commands.recv().await {
                Some(Command::Ask(asked)) => task.note(asked),
                Some(Command::Listen) => {}
                None => return,
            }
        }
        let Some(link) = task.connect(&mut commands).await else {
            if commands.is_closed() && commands.is_empty() {
                return;
            }
            continue;
        };
        if !task.serve(link, &mut commands).await {
            return;
        }
        if task.is_leaving {
            task.is_leaving = false;
            task.host_left();
        } else {
            task.host_died().await;
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
        let needs_host = self.calls.values().any(|call| matches!(call.asked.what, What::Start { .. } | What::Wait));
        let linking =
            async move { if needs_host { link::connect(&target).await.map(Some) } else { link::connect_to_existing(&target).await } };
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
        let answer = match linked {
            Ok(Some(link)) => return Some(link),
            // Nothing is shared, so there is nothing to stop.
            Ok(None) => None,
            Err(failure) => Some(failure),
        };
        // A start that came meanwhile needs a host of its own.
        let keeps = |call: &Pending| answer.is_none() && matches!(call.asked.what, What::Start { .. } | What::Wait);
        for (id, call) in std::mem::take(&mut self.calls) {
            if keeps(&call) {
                self.calls.insert(id, call);
                continue;
            }
            let outcome = match (&answer, &call.asked.what) {
                (Some(failure), _) => Err(failure.clone()),
                (None, What::Restart | What::Upgrade { .. }) => Err(Failure::NotFound),
                (None, _) => Ok(()),
            };
            self.inner.answered(call.asked, outcome);
        }
        None
    }

    /// Serves one connection. False if the manager has ended.
    async fn serve(&mut self, link: Link, commands: &mut mpsc::UnboundedReceiver<Command>) -> bool {
        let Link { host, mut read, write, mut inbound } = link;
        self.host_pid = host;
        self.host = os::look_up(host);
        self.out.clear();
        self.interest = None;
        self.listen();
        let ids: Vec<RequestId> = self.calls.keys().copied().collect();
        ids.into_iter().for_each(|id| self.send(id));
        loop {
            loop {
                match inbound.next_message::<Push>() {
                    Ok(Some(push)) => self.receive(push),
                    Ok(None) => break,
                    Err(problem) => {
                        tracing::warn!(target: TARGET, manager = self.inner.context.id, %problem, "the host of shared daemons is not understood");
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
                Turn::Late => self.check_late(),
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
        let lines = self.inner.context.takes_lines();
        let is_followed = |plugin: &&Plugin| plugin.tail.is_followed();
        let mut followed: Vec<String> = self.inner.lock().values().filter(is_followed).map(|plugin| plugin.name.clone()).collect();
        followed.sort_unstable();
        let interest = Interest { health, debug, lines, followed };
        if self.interest.as_ref() != Some(&interest) {
            self.interest = Some(interest.clone());
            self.write(Call::Listen(interest));
        }
    }

    /// Lines came. If nobody follows them any more, the host learns it.
    fn lines_read(&mut self, name: &str) {
        let is_told = self.interest.as_ref().is_some_and(|interest| interest.followed.iter().any(|followed| followed == name));
        if is_told && !self.inner.lock().get(name).is_some_and(|plugin| plugin.tail.is_followed()) {
            self.listen();
        }
    }

    fn send(&mut self, id: RequestId) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let plugin = call.asked.plugin.clone();
        let wire = match &call.asked.what {
            What::Start { begun, .. } => {
                let start = self.inner.lock().get(&plugin).map(|plugin| Arc::clone(&plugin.start));
                start.map(|start| Call::Start(Box::new(wire_start(&start, *begun))))
            }
            What::Upgrade { start, changes } => {
                let start = Box::new(wire_start(start, Instant::now()));
                Some(Call::Upgrade { start, changes: changes.clone() })
            }
            What::LetGo => Some(Call::LetGo { plugin }),
            What::Everywhere => Some(Call::StopEverywhere { plugin }),
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
        if let Some(call) = self.calls.remove(&id) {
            self.inner.answered(call.asked, outcome);
        }
    }

    fn receive(&mut self, push: Push) {
        let host = self.host_pid;
        let inner = &self.inner;
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
            Push::Attached { plugin, shown, at } => drop(inner.change(&plugin, |plugin| plugin.attached(*shown, at, host))),
            Push::Detached { plugin, why } => drop(inner.change(&plugin, |plugin| plugin.detached(why))),
            Push::Shown { plugin, shown } => drop(inner.change(&plugin, |plugin| plugin.catch_up_or_show(*shown))),
            Push::Told { plugin, told, at } => drop(inner.change(&plugin, |plugin| plugin.tell_event(told, at))),
            Push::Lines { plugin, dropped, lines } => {
                inner.change(&plugin, |plugin| plugin.lines(dropped, lines));
                self.lines_read(&plugin);
            }
            Push::Log { plugin, level, text, fields } => self.log(&plugin, level, text, fields),
            Push::Upgraded { plugin, changes, config } => self.upgraded(&plugin, changes, config),
            Push::Resync { lost, plugins } => self.resync(lost, &plugins),
            Push::Leaving => self.is_leaving = true,
            // Of those who look.
            Push::Listed(_) => {}
        }
    }

    fn resync(&self, lost: u64, plugins: &[String]) {
        let manager = self.inner.context.id;
        tracing::warn!(target: TARGET, manager, "{lost} messages of the host of shared daemons were lost: this process did not read them");
        for plugin in self.inner.lock().values_mut() {
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

    /// When a call that the host has not read must be looked at.
    fn next_check(&self) -> Option<Instant> {
        let due = |call: &Pending| Some(call.sent? + if call.woken { GIVE_UP_AFTER } else { WAKE_AFTER });
        self.calls.values().filter(|call| !call.read).filter_map(due).min()
    }

    fn check_late(&mut self) {
        let now = Instant::now();
        let late: Vec<RequestId> = self
            .calls
            .iter_mut()
            .filter(|(_, call)| !call.read && call.sent.is_some_and(|sent| now >= sent + WAKE_AFTER))
            .filter_map(|(id, call)| std::mem::replace(&mut call.woken, true).then_some((*id, call.sent?)))
            .filter(|(_, sent)| now >= *sent + GIVE_UP_AFTER)
            .map(|(id, _)| id)
            .collect();
        link::wake(self.host_pid);
        for id in late {
            let problem = format!("the host of shared daemons (process {}) does not act", self.host_pid);
            self.answer(id, Err(Failure::HostSilent { problem }));
        }
    }
}

fn wire_start(start: &OwnStart, begun: Instant) -> protocol::Start {
    protocol::Start {
        plugin: start.config.plugin_name.clone(),
        config: start.raw.clone(),
        inherited: start.inherited.as_ref().to_owned(),
        owner: start.owner.clone(),
        timeout: start.config.startup_timeout.saturating_sub(begun.elapsed()),
    }
}

/// execve(2) would not take it either.
fn too_long() -> Failure {
    let error = io::Error::from_raw_os_error(libc::E2BIG);
    let problem = format!("configuration and environment are too large: {}", ally_base::text::io_text(&error));
    Failure::Spawn { problem, refused: crate::error::Refused::by(&error, Some("execve"), None) }
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
