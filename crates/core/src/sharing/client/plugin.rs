//! A shared plugin as one session sees it: its own state on top of the host's.

use std::sync::Arc;
use std::time::Duration;

use super::Joined;
use super::path::path;
use crate::config::{Parsed, ProcessConfig, Raw};
use crate::error::{Code, Failure};
use crate::lifecycle::{LastExit, Notice, Snapshot, Ticket};
use crate::model::{Exit, ExitReason, Pid, ProcessState, Stream};
use crate::sharing::protocol::{Detachment, SentLine, Shown, Told};
use crate::supervisor::runtime::clock;
use crate::supervisor::{OwnerLimits, PluginMetrics, Published, Reporter, Tail};

/// What a start was made with. It is made again after the host's death.
#[derive(Debug, Clone)]
pub struct OwnStart {
    pub raw: Raw,
    pub config: ProcessConfig,
    pub inherited: Arc<str>,
    pub owner: OwnerLimits,
    /// The ticket by which the caller knows the configuration.
    pub job: Ticket,
}

impl OwnStart {
    pub fn new(raw: Raw, parsed: Parsed, inherited: Arc<str>, owner: OwnerLimits, job: Ticket) -> Self {
        Self { raw: raw.plain(), config: parsed.config, inherited, owner, job }
    }
}

/// The session's own part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum View {
    /// It has let go of the plugin, or never had it. What the getters show does not change any more.
    Away,
    /// Its start was sent, and the host has not answered.
    Joining,
    /// It has the plugin.
    Here,
    /// It lets go. At the end its state is this one.
    Leaving(ProcessState),
}

/// What a refused start leaves in place.
#[derive(Debug)]
struct Former {
    snapshot: Snapshot,
    start: Arc<OwnStart>,
    view: View,
}

pub struct Plugin {
    pub name: String,
    pub start: Arc<OwnStart>,
    pub tail: Arc<Tail>,
    reporter: Reporter,
    view: View,
    snapshot: Snapshot,
    revision: u64,
    status: Option<String>,
    sessions: Option<u32>,
    metrics: PluginMetrics,
    /// The last state that listeners were told.
    told: Option<ProcessState>,
    former: Option<Former>,
    /// The failure of the last start.
    failure: Option<Failure>,
    /// Restarts that hosts before this one have counted.
    former_restarts: u64,
    /// The exit that was the host's death.
    former_exit: Option<LastExit>,
    /// The process of the tail, and its leader.
    process: (u64, Option<Pid>),
    /// Lines before this were written before the session had the plugin.
    attached_at: f64,
    /// The host that the tail is of.
    tail_host: Pid,
    /// What shows next follows a resync.
    resyncs: bool,
    /// The start waits for what the plugin depends on, and was not sent.
    pub is_withheld: bool,
    /// Another session has changed its configuration.
    pub is_upgraded: bool,
}

impl Plugin {
    pub fn new(start: OwnStart, reporter: Reporter) -> Self {
        let name = start.config.plugin_name.clone();
        Self {
            start: Arc::new(start),
            tail: Arc::default(),
            reporter,
            view: View::Away,
            snapshot: Snapshot::none(),
            revision: Published::next_revision(),
            status: None,
            sessions: None,
            metrics: PluginMetrics::none(&name),
            told: None,
            former: None,
            failure: None,
            former_restarts: 0,
            former_exit: None,
            process: (0, None),
            attached_at: 0.0,
            tail_host: 0,
            resyncs: false,
            is_withheld: false,
            is_upgraded: false,
            name,
        }
    }

    /// Whether callers know the plugin.
    pub const fn is_known(&self) -> bool {
        self.snapshot.known
    }

    pub const fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    pub const fn revision(&self) -> u64 {
        self.revision
    }

    pub fn published(&self) -> Published {
        let uptime = self.snapshot.running_since.map(|since| clock::since(since).as_secs_f64() * 1e3);
        Published {
            snapshot: self.snapshot.clone(),
            revision: self.revision,
            uptime,
            job: self.start.job,
            status: self.status.clone(),
            sessions: self.sessions,
        }
    }

    pub fn metrics(&self) -> PluginMetrics {
        let uptime = self.snapshot.running_since.map(|since| clock::since(since).as_secs_f64() * 1e3);
        PluginMetrics { shared: true, state: self.snapshot.state, uptime, ..self.metrics.clone() }
    }

    /// Whether the session has the plugin, or has asked for it.
    pub const fn is_held(&self) -> bool {
        !matches!(self.view, View::Away)
    }

    pub const fn is_here(&self) -> bool {
        matches!(self.view, View::Here)
    }

    pub const fn is_joining(&self) -> bool {
        matches!(self.view, View::Joining)
    }

    /// Whether the session has the plugin, for a group.
    pub const fn joined(&self) -> Joined {
        match self.view {
            View::Joining => Joined::Starting,
            View::Here if matches!(self.snapshot.state, ProcessState::Running) || self.snapshot.armed => Joined::Usable,
            View::Here if matches!(self.snapshot.state, ProcessState::Starting) => Joined::Starting,
            View::Away | View::Here | View::Leaving(_) => Joined::No,
        }
    }

    /// Whether plugins that depend on this one may start now. `None` while it is not known.
    pub fn usable(&self) -> Option<Result<(), Failure>> {
        match (self.view, self.snapshot.state) {
            (View::Joining, _) | (View::Here, ProcessState::Starting) => None,
            (View::Here, ProcessState::Running) => Some(Ok(())),
            (View::Here, _) if self.snapshot.armed => Some(Ok(())),
            _ => Some(Err(self.failure.clone().filter(|_| self.snapshot.state == ProcessState::Error).unwrap_or(Failure::AtRest))),
        }
    }

    /// Whether the plugin keeps the event loop alive.
    pub const fn is_pending(&self) -> bool {
        match self.view {
            View::Away => false,
            View::Joining | View::Leaving(_) => true,
            View::Here => match self.snapshot.state {
                ProcessState::Starting | ProcessState::Running | ProcessState::Stopping => true,
                ProcessState::Stopped => self.snapshot.armed,
                ProcessState::Error => false,
            },
        }
    }

    /// Why a start of this session is refused at once.
    pub const fn refusal(&self) -> Option<Failure> {
        match self.view {
            View::Away => None,
            View::Joining => Some(Failure::AlreadyRunning(ProcessState::Starting)),
            View::Leaving(_) => Some(Failure::AlreadyRunning(ProcessState::Stopping)),
            View::Here if self.snapshot.armed => Some(Failure::AlreadyArmed),
            View::Here => match self.snapshot.state {
                ProcessState::Stopped | ProcessState::Error => None,
                ProcessState::Starting if self.snapshot.awaits_restart => None,
                state => Some(Failure::AlreadyRunning(state)),
            },
        }
    }

    /// The outcome of a wait that the host need not be asked for.
    pub fn settled_wait(&self) -> Option<Failure> {
        match self.view {
            View::Away => Some(self.failure.clone().filter(|_| self.snapshot.state == ProcessState::Error).unwrap_or(Failure::AtRest)),
            View::Joining | View::Here | View::Leaving(_) => None,
        }
    }

    /// The start is about to be sent. The state is STARTING at once; listeners hear of it when the host has accepted the start.
    pub fn join(&mut self, start: OwnStart) {
        let former = Former { snapshot: self.snapshot.clone(), start: Arc::clone(&self.start), view: self.view };
        self.former = Some(former);
        (self.former_restarts, self.former_exit) = (0, None);
        self.is_withheld = !start.config.depends_on.is_empty();
        self.is_upgraded = false;
        self.start = Arc::new(start);
        self.view = View::Joining;
        self.snapshot = Snapshot {
            known: true,
            state: ProcessState::Starting,
            last_state_change: clock::wall(),
            last_error: None,
            ..self.frozen(ProcessState::Starting)
        };
        self.changed();
    }

    /// The start is made again: the host was killed.
    pub fn rejoin(&mut self) {
        self.view = View::Joining;
        self.former = None;
    }

    /// Whether the session has the plugin, and has asked to start it again.
    fn stays_attached(&self) -> bool {
        self.view == View::Joining && self.former.as_ref().is_some_and(|former| former.view == View::Here)
    }

    pub fn attached(&mut self, shown: Shown, at: f64, host: Pid) {
        if matches!(self.view, View::Leaving(_)) {
            return;
        }
        if self.tail_host == host && !self.stays_attached() {
            // The host sends everything that is kept, also what this session has already.
            self.tail.close();
            self.tail = Arc::default();
            self.process = (0, None);
        }
        self.tail_host = host;
        if !self.stays_attached() {
            self.attached_at = at;
        }
        self.view = View::Here;
        let is_certain = shown.snapshot.state != ProcessState::Starting || shown.snapshot.pid.is_some();
        self.show(shown);
        // A start that is being prepared may still be refused, and then listeners hear nothing.
        if is_certain {
            self.former = None;
            self.tell(self.snapshot.state, None);
        }
    }

    pub fn show(&mut self, shown: Shown) {
        if self.view != View::Here {
            return;
        }
        let Shown { mut snapshot, uptime, status, sessions, metrics } = shown;
        snapshot.running_since = uptime.map(|uptime| clock::now().mono.saturating_sub(uptime));
        if let (Some(old), Some(new)) = (self.snapshot.running_since, snapshot.running_since)
            && old.abs_diff(new) < SAME_TIME
        {
            snapshot.running_since = Some(old);
        }
        snapshot.total_restarts += self.former_restarts;
        snapshot.last_exit = snapshot.last_exit.or(self.former_exit);
        self.metrics = metrics;
        if (&self.snapshot, &self.status, self.sessions) != (&snapshot, &status, Some(sessions)) {
            (self.snapshot, self.status, self.sessions) = (snapshot, status, Some(sessions));
            self.changed();
        }
    }

    /// An event of the daemon itself.
    pub fn tell_event(&mut self, told: Told, at: f64) {
        if self.view != View::Here {
            return;
        }
        self.former = None;
        match told {
            Told::StateChanged { from, to, pid, reason } => {
                // Of a change that the host tells in whole, nothing is missing.
                let mut states = if from == self.told { vec![to] } else { path(self.told, to) };
                let last = states.pop();
                states.into_iter().for_each(|state| self.tell_state(state, None, None, at));
                if let Some(last) = last {
                    self.post_state(last, pid, reason, at);
                }
            }
            Told::Exited { pid, exit, reason } => self.reporter.event(Notice::Exited { pid, exit, reason }, at),
            Told::RestartScheduled { attempt, delay, reason } => {
                self.reporter.event(Notice::RestartScheduled { attempt, delay, reason }, at);
            }
            Told::Checked { healthy, latency, failures, error } => {
                self.reporter.event(Notice::Checked { healthy, latency, failures, error }, at);
            }
        }
    }

    /// Messages were lost. `is_held`: the host counts this session among those that have the plugin.
    pub fn resync(&mut self, is_held: bool) {
        match self.view {
            View::Joining if is_held => self.view = View::Here,
            // The stop for all sessions was lost.
            View::Here if !is_held => self.leave(ProcessState::Stopped, None),
            View::Away | View::Joining | View::Here | View::Leaving(_) => {}
        }
        self.resyncs = is_held;
    }

    /// After a resync, what was lost is told as far as it changed the state.
    pub fn catch_up_or_show(&mut self, shown: Shown) {
        self.show(shown);
        if std::mem::take(&mut self.resyncs) && self.view == View::Here {
            self.tell(self.snapshot.state, None);
        }
    }

    /// stopProcess. False if the session does not have the plugin.
    pub fn let_go(&mut self) -> bool {
        match self.view {
            View::Away => return false,
            View::Leaving(_) => return true,
            View::Joining | View::Here => {}
        }
        let at_rest = matches!(self.snapshot.state, ProcessState::Stopped | ProcessState::Error);
        self.view = View::Leaving(if self.snapshot.state == ProcessState::Error { ProcessState::Error } else { ProcessState::Stopped });
        if !at_rest {
            self.begin_leaving();
        }
        true
    }

    fn begin_leaving(&mut self) {
        self.former = None;
        self.snapshot.state = ProcessState::Stopping;
        self.snapshot.last_state_change = clock::wall();
        self.changed();
        if !matches!(self.told, Some(ProcessState::Starting | ProcessState::Running)) {
            self.tell(ProcessState::Starting, None);
        }
        self.tell(ProcessState::Stopping, None);
    }

    /// The caller has aborted the start.
    pub fn abort_start(&mut self) {
        if matches!(self.view, View::Joining | View::Here) {
            self.view = View::Leaving(ProcessState::Stopped);
            self.begin_leaving();
        }
    }

    /// The caller has aborted a start that waits for what the plugin depends on. False if it was sent.
    pub fn abort_withheld(&mut self) -> bool {
        let is_withheld = self.is_joining() && std::mem::take(&mut self.is_withheld);
        if is_withheld {
            self.abort_start();
        }
        is_withheld
    }

    /// Whether no process of it is left, as far as this session knows.
    pub const fn may_be_forgotten(&self) -> bool {
        match self.view {
            View::Away => true,
            View::Joining | View::Leaving(_) => false,
            View::Here => self.snapshot.forgettable,
        }
    }

    pub fn detached(&mut self, why: Detachment) {
        match (self.view, why) {
            (View::Away, _) => {}
            // The answer that follows has the failure.
            (_, Detachment::Refused) => self.view = View::Joining,
            (View::Leaving(_), Detachment::Stopped | Detachment::TimedOut) => {}
            (View::Joining | View::Here, Detachment::Stopped) => {
                self.view = View::Leaving(ProcessState::Stopped);
                self.begin_leaving();
            }
            (View::Joining | View::Here, Detachment::TimedOut) => self.view = View::Leaving(ProcessState::Error),
            (_, Detachment::Everywhere) => self.leave(ProcessState::Stopped, None),
        }
    }

    /// The host has answered the start.
    pub fn start_answered(&mut self, outcome: &Result<(), Failure>) {
        let Err(failure) = outcome else {
            self.failure = None;
            return;
        };
        match self.view {
            View::Away => {}
            // Refused before the session had the plugin.
            View::Joining if is_refusal(failure) && self.former.is_some() => self.revert(),
            View::Joining => {
                self.failure = Some(failure.clone());
                self.tell(ProcessState::Starting, None);
                self.leave(ProcessState::Error, Some(failure));
            }
            View::Leaving(state) => {
                self.failure = Some(failure.clone()).filter(|_| state == ProcessState::Error);
                let failure = self.failure.clone();
                self.leave(state, failure.as_ref());
            }
            // The daemon's state tells.
            View::Here => {
                if let Some(former) = self.former.take_if(|_| is_refusal(failure)) {
                    self.start = former.start;
                    self.changed();
                }
                self.failure = Some(failure.clone());
            }
        }
    }

    /// The host has answered the let-go.
    pub fn let_go_answered(&mut self, outcome: &Result<(), Failure>) {
        match (outcome, self.view) {
            (Ok(()), View::Leaving(state)) => self.leave(state, None),
            // It has the plugin again: processes are left.
            (Err(failure), View::Leaving(_)) => {
                self.view = View::Here;
                self.snapshot.state = ProcessState::Error;
                self.snapshot.last_error = Some(failure.to_string());
                self.snapshot.last_state_change = clock::wall();
                self.changed();
                self.tell(ProcessState::Error, Some(failure.to_string()));
            }
            _ => {}
        }
    }

    /// Nothing changes any more.
    fn leave(&mut self, state: ProcessState, failure: Option<&Failure>) {
        self.view = View::Away;
        self.former = None;
        let is_new = self.snapshot.state != state;
        let last_error = failure.map(ToString::to_string).or_else(|| self.snapshot.last_error.take());
        let changed_at = if is_new { clock::wall() } else { self.snapshot.last_state_change };
        self.snapshot = Snapshot { last_state_change: changed_at, last_error, ..self.frozen(state) };
        self.status = None;
        self.sessions = None;
        self.metrics.resources = None;
        self.tail.close();
        self.changed();
        let reason = failure.map(ToString::to_string).or_else(|| (state == ProcessState::Stopped).then(|| "stopped".to_owned()));
        self.tell(state, reason);
    }

    /// The snapshot without what only a process has.
    fn frozen(&self, state: ProcessState) -> Snapshot {
        Snapshot {
            state,
            armed: false,
            pid: None,
            forgettable: true,
            awaits_restart: false,
            running_since: None,
            next_restart_at: None,
            ..self.snapshot.clone()
        }
    }

    /// The start was refused before it changed anything.
    fn revert(&mut self) {
        let Some(Former { snapshot, start, view }) = self.former.take() else { return };
        self.snapshot = snapshot;
        self.start = start;
        self.view = view;
        if view == View::Away {
            self.sessions = None;
        }
        self.changed();
    }

    /// The host has left, because nobody has a daemon there.
    pub fn host_left(&mut self) {
        if self.view == View::Here {
            let state = if self.snapshot.state == ProcessState::Error { ProcessState::Error } else { ProcessState::Stopped };
            self.leave(state, None);
        }
    }

    /// The host has closed the connection, and lives. Returns whether a start must be made again.
    pub fn connection_lost(&mut self) -> bool {
        match self.view {
            View::Away | View::Leaving(_) => false,
            View::Joining => !self.is_withheld,
            View::Here => {
                self.rejoin();
                true
            }
        }
    }

    /// The host was killed, and the daemon with it. Returns whether a start must be made again.
    pub fn host_died(&mut self) -> bool {
        let had = self.snapshot.pid.take();
        let is_at_rest = matches!(self.snapshot.state, ProcessState::Stopped | ProcessState::Error) && !self.snapshot.armed;
        match self.view {
            View::Away => return false,
            View::Joining => return !self.is_withheld,
            View::Leaving(_) => return false,
            View::Here if is_at_rest => {
                self.leave(self.snapshot.state, None);
                return false;
            }
            View::Here => {}
        }
        let at = clock::wall();
        if let Some(pid) = had {
            self.former_exit = Some(LastExit { pid, exit: Exit::UNKNOWN, reason: ExitReason::Crashed, at, usage: None });
            self.snapshot.last_exit = self.former_exit;
            self.reporter.notice(Notice::Exited { pid, exit: Exit::UNKNOWN, reason: ExitReason::Crashed }, at);
        }
        if self.start.config.restart.max_attempts == 0 && had.is_some() {
            let failure = Failure::Internal { problem: "the host of the shared daemon was killed".to_owned() };
            self.failure = Some(failure.clone());
            self.leave(ProcessState::Error, Some(&failure));
            return false;
        }
        self.former_restarts = self.snapshot.total_restarts + u64::from(had.is_some());
        self.snapshot = Snapshot { total_restarts: self.former_restarts, ..self.frozen(ProcessState::Starting) };
        self.snapshot.forgettable = false;
        self.snapshot.last_state_change = at;
        self.changed();
        if had.is_some() {
            let reason = ExitReason::Crashed;
            self.reporter.notice(Notice::RestartScheduled { attempt: 1, delay: Duration::ZERO, reason }, at);
        }
        self.tell(ProcessState::Starting, Some(ExitReason::Crashed.as_str().to_owned()));
        self.rejoin();
        true
    }

    /// The manager ends.
    pub fn close(&mut self) {
        self.view = View::Away;
        self.tail.close();
    }

    /// Output of the daemon.
    pub fn lines(&mut self, dropped: u64, lines: Vec<SentLine>) {
        // While it lets go, the last lines come that getOutput shows afterwards.
        if !matches!(self.view, View::Here | View::Leaving(_)) && !self.stays_attached() {
            return;
        }
        self.tail.count_dropped_lines(dropped);
        for SentLine { stream, text, at, pid } in lines {
            if self.process.0 == 0 || (pid.is_some() && pid != self.process.1) {
                let process = self.tail.begin();
                if let Some(pid) = pid {
                    self.tail.name_process(process, pid);
                }
                self.process = (process, pid);
            }
            self.line(stream, text, at);
        }
    }

    /// A listener for lines comes. It does not hear those that were written before.
    pub fn listened_to(&mut self) {
        self.attached_at = clock::wall();
    }

    fn line(&self, stream: Stream, text: String, at: f64) {
        let mut bytes = text.into_bytes();
        bytes.push(b'\n');
        self.tail.append_at(self.process.0, stream, &bytes, at);
        if at >= self.attached_at && self.view == View::Here && self.reporter.wants_lines() {
            bytes.pop();
            // From a String, so nothing is lost.
            self.reporter.line(stream, String::from_utf8_lossy(&bytes).into_owned());
        }
    }

    /// This session has upgraded the daemon.
    pub fn has_upgraded(&mut self, start: OwnStart) {
        self.start = Arc::new(start);
        self.changed();
    }

    /// Another session has upgraded the daemon. What belongs to this session alone stays.
    pub fn upgraded(&mut self, mut start: OwnStart) {
        let own = &self.start;
        start.config.startup_timeout = own.config.startup_timeout;
        start.config.shared = own.config.shared;
        start.config.group.clone_from(&own.config.group);
        start.config.depends_on.clone_from(&own.config.depends_on);
        start.raw = start.raw.with_entries_of(&own.raw, &["startupTimeout", "shared", "group", "dependsOn"]);
        start.job = self.start.job;
        self.start = Arc::new(start);
        self.is_upgraded = true;
        self.changed();
    }

    fn tell(&mut self, state: ProcessState, reason: Option<String>) {
        let at = clock::wall();
        let states = path(self.told, state);
        let count = states.len();
        for (index, state) in states.into_iter().enumerate() {
            let is_last = index + 1 == count;
            self.tell_state(state, self.snapshot.pid.filter(|_| is_last), reason.clone().filter(|_| is_last), at);
        }
    }

    fn tell_state(&mut self, to: ProcessState, pid: Option<Pid>, reason: Option<String>, at: f64) {
        let from = self.told.replace(to);
        self.reporter.notice(Notice::StateChanged { at, from, to, pid, reason }, at);
    }

    /// As `tell_state`, of a change that the host has logged.
    fn post_state(&mut self, to: ProcessState, pid: Option<Pid>, reason: Option<String>, at: f64) {
        let from = self.told.replace(to);
        self.reporter.event(Notice::StateChanged { at, from, to, pid, reason }, at);
    }

    fn changed(&mut self) {
        self.revision = Published::next_revision();
    }
}

/// Two measurements of one time differ by less.
const SAME_TIME: Duration = Duration::from_millis(100);

/// Whether the start has changed nothing.
pub fn is_refusal(failure: &Failure) -> bool {
    let code = failure.code();
    matches!(code, Code::OwnedElsewhere | Code::Dependency | Code::InvalidConfig | Code::ShuttingDown | Code::AlreadyRunning)
}
