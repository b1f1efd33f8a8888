//! A shared plugin as one session sees it: its own state on top of the host's.
//!
//! - `start`, `parting`: what the session does;
//! - `told`: what the host tells;
//! - `death`: what the end of the host is;
//! - `tell`: what listeners are told.

mod death;
mod parting;
mod start;
mod tell;
mod told;

pub use start::is_refusal;

use std::sync::Arc;

use tokio::time::Instant;

use super::Joined;
use crate::config::{Parsed, ProcessConfig, Raw};
use crate::error::Failure;
use crate::lifecycle::{LastExit, Snapshot, Ticket};
use crate::model::{Pid, ProcessState};
use crate::sharing::protocol::Shown;
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
    left_by: Option<Pid>,
}

/// Messages were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Resync {
    #[default]
    No,
    /// What shows next tells what they have changed.
    Shows,
    /// The session does not have the plugin any more, and its start is still to be answered.
    Parted,
}

/// What a resync tells of a plugin.
#[derive(Debug, Clone, Copy)]
pub struct Resynced {
    /// The host counts this session among those that have the plugin.
    pub is_held: bool,
    /// The host has taken a start of this session, and its answer follows.
    pub is_started: bool,
    pub host: Pid,
}

/// An output in a host. Pids are used again, and each host numbers its outputs from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Source {
    pub host: Pid,
    pub host_start: u64,
    pub output: u64,
}

/// Of a start, for its group.
#[derive(Debug, Clone, Copy, Default)]
pub struct Times {
    /// `None` while it waits for what the plugin depends on.
    pub sent: Option<Instant>,
    pub spawned: Option<Instant>,
    pub usable: Option<Instant>,
}

impl Times {
    /// A restart begins both anew.
    fn note(&mut self, snapshot: &Snapshot) {
        let is_usable = snapshot.armed || snapshot.state == ProcessState::Running;
        for (time, is_now) in [(&mut self.spawned, snapshot.pid.is_some()), (&mut self.usable, is_usable)] {
            *time = is_now.then(|| time.unwrap_or_else(Instant::now));
        }
    }
}

pub struct Plugin {
    pub name: String,
    pub start: Arc<OwnStart>,
    /// Of the last start. 0: none.
    number: u64,
    pub tail: Arc<Tail>,
    reporter: Reporter,
    view: View,
    snapshot: Snapshot,
    revision: u64,
    status: Option<String>,
    sessions: Option<u32>,
    /// The host stops the daemon for all sessions.
    ends_for_all: bool,
    metrics: PluginMetrics,
    /// The last state that listeners were told.
    told: Option<ProcessState>,
    former: Option<Former>,
    /// What this session knows of the times of the last start.
    times: Times,
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
    /// The host that has told of the plugin last.
    host: Pid,
    /// What the newest lines of the tail have come from.
    source: Source,
    /// Per stream: the end of the last line of `source`.
    read: [u64; 2],
    resync: Resync,
    /// The start waits for what the plugin depends on, and was not sent.
    pub is_withheld: bool,
    /// The callers that wait for it.
    withheld_waits: Vec<Ticket>,
    /// Another session has changed its configuration.
    pub is_upgraded: bool,
    /// The host that was killed with the plugin's daemon, until another daemon shows that the old tree is gone.
    died_with: Option<Pid>,
    /// The host that is gone and could not end the daemon.
    left_by: Option<Pid>,
    /// The starts that were given up, and that the host may still carry out.
    abandoned: u32,
    /// What a resync has told, and what it shows, while one of those starts was not taken back.
    resynced: Option<(Resynced, Option<Shown>)>,
}

impl Plugin {
    pub fn new(start: OwnStart, reporter: Reporter) -> Self {
        let name = start.config.plugin_name.clone();
        Self {
            start: Arc::new(start),
            number: 0,
            tail: Arc::default(),
            reporter,
            view: View::Away,
            snapshot: Snapshot::none(),
            revision: Published::next_revision(),
            status: None,
            sessions: None,
            ends_for_all: false,
            metrics: PluginMetrics::none(&name),
            told: None,
            former: None,
            times: Times::default(),
            failure: None,
            former_restarts: 0,
            former_exit: None,
            process: (0, None),
            attached_at: 0.0,
            host: 0,
            source: Source::default(),
            read: [0; 2],
            resync: Resync::No,
            is_withheld: false,
            withheld_waits: Vec::new(),
            is_upgraded: false,
            died_with: None,
            left_by: None,
            abandoned: 0,
            resynced: None,
            name,
        }
    }

    /// Whether callers know the plugin.
    pub const fn is_known(&self) -> bool {
        self.snapshot.known
    }

    /// Of the last start.
    pub const fn number(&self) -> u64 {
        self.number
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

    /// The host, and the number of sessions that have the plugin. `None` until the host has told them.
    pub fn sharers(&self) -> Option<(Pid, u32)> {
        let is_told = matches!(self.view, View::Here | View::Leaving(_));
        self.sessions.filter(|_| is_told).map(|sessions| (self.host, sessions))
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

    pub const fn times(&self) -> Times {
        self.times
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

    /// Whether the session has the plugin, or processes of it outlive the host.
    pub const fn is_to_be_stopped(&self) -> bool {
        self.is_held() || self.left_by.is_some()
    }

    /// Whether the session has the plugin, and the host stops the daemon for all sessions.
    pub const fn ends_for_all(&self) -> bool {
        self.is_here() && self.ends_for_all
    }

    /// Whether the session parts from a daemon that the host was stopping for all sessions.
    pub const fn is_ending_for_all(&self) -> bool {
        matches!(self.view, View::Leaving(_)) && self.ends_for_all
    }

    /// The killed host whose keepers may still end the tree.
    pub const fn died_with(&self) -> Option<Pid> {
        self.died_with
    }

    /// Whether the plugin keeps the event loop alive.
    pub const fn is_pending(&self) -> bool {
        match self.view {
            View::Away => false,
            View::Joining | View::Leaving(_) => true,
            View::Here => match self.snapshot.state {
                ProcessState::Starting | ProcessState::Running | ProcessState::Stopping => true,
                ProcessState::Stopped => self.snapshot.armed || self.has_untold(),
                ProcessState::Error => self.has_untold(),
            },
        }
    }

    /// Whether events of the shown state are still to come. The host shows a state before it tells what led there, and the process may
    /// end as soon as nothing keeps its event loop alive.
    const fn has_untold(&self) -> bool {
        !matches!(
            (self.told, self.snapshot.state),
            (Some(ProcessState::Stopped), ProcessState::Stopped) | (Some(ProcessState::Error), ProcessState::Error)
        )
    }

    /// The outcome of a wait that the host need not be asked for.
    pub fn settled_wait(&self) -> Option<Failure> {
        match self.view {
            View::Away => Some(self.failure.clone().filter(|_| self.snapshot.state == ProcessState::Error).unwrap_or(Failure::AtRest)),
            View::Joining | View::Here | View::Leaving(_) => None,
        }
    }

    /// The snapshot without what only a process has.
    fn frozen(snapshot: &Snapshot, state: ProcessState) -> Snapshot {
        Snapshot {
            state,
            armed: false,
            pid: None,
            forgettable: true,
            awaits_restart: false,
            running_since: None,
            next_restart_at: None,
            ..snapshot.clone()
        }
    }

    /// The manager ends.
    pub fn close(&mut self) {
        self.view = View::Away;
        self.tail.close();
    }

    /// This session has upgraded the daemon. What it has started since then stays.
    pub fn has_upgraded(&mut self, start: OwnStart) {
        if self.start.job < start.job {
            self.start = Arc::new(start);
            self.changed();
        }
    }

    fn changed(&mut self) {
        self.revision = Published::next_revision();
    }
}
