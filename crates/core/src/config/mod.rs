//! The configuration of a daemon. A start checks its configuration whole before it changes any state or file. If the check
//! fails, the error names the first wrong field.

mod difference;
mod fields;
pub mod keys;
mod limits;
mod logs;
mod parse;
mod pattern;
mod probe;
mod raw;
mod shared;
mod system_support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use ally_base::record::DAEMON_ID;

pub use difference::difference;
pub use limits::Limits;
pub use logs::LogConfig;
pub use parse::{Parsed, name_problem, parse, path_problem};
pub use pattern::Pattern;
pub use probe::{HttpProbe, Probe, TcpAddress};
pub use raw::Raw;
pub use shared::Shared;
pub use system_support::SystemSupport;

use ally_base::stop::StopSignalTo;

use crate::lifecycle::{Plan, RestartPlan};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KillMode {
    /// The leader and all its descendants.
    Tree,
    /// The leader's process group, for plugins that start processes which outlive the daemon.
    Group,
}

/// Who makes the socket at `socketPath`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketMaker {
    Daemon,
    /// The manager listens before the daemon exists, and hands the socket over as descriptor 3.
    Manager,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartMode {
    Eager,
    /// At the first connection.
    OnConnect,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    pub interval: Duration,
    pub timeout: Duration,
    pub retries: u32,
    pub probe: Probe,
}

/// The part of the owner's environment that a daemon gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InheritEnv {
    All,
    /// A short list of variables that most programs need, and these.
    Listed(Vec<String>),
}

#[derive(Debug, Clone, PartialEq)]
pub struct ProcessConfig {
    pub plugin_name: String,
    pub plugin_path: PathBuf,
    pub command: String,
    pub args: Vec<String>,
    pub socket_path: PathBuf,
    pub socket: SocketMaker,
    pub start: StartMode,
    /// The time without a connection after which the daemon is stopped. Only with [`StartMode::OnConnect`].
    pub idle_timeout: Option<Duration>,
    pub startup_timeout: Duration,
    pub shutdown_grace_period: Duration,
    /// `None` removes the variable from the inherited environment.
    pub env_vars: Vec<(String, Option<String>)>,
    pub inherit_env: InheritEnv,
    pub health: Option<Health>,
    pub restart: RestartPlan,
    pub readiness: Probe,
    pub kill_mode: KillMode,
    pub stop_signal_to: StopSignalTo,
    pub stop_signal: i32,
    /// The name of the group that stopGroup stops.
    pub group: Option<String>,
    /// The plugins that must run before this one starts, each once.
    pub depends_on: Vec<String>,
    pub limits: Limits,
    /// `None`: the owner's.
    pub umask: Option<u32>,
    pub logs: Option<LogConfig>,
    /// `None`: the daemon is the caller's alone.
    pub shared: Option<Shared>,
}

impl ProcessConfig {
    /// The part of the configuration that the machine uses.
    pub fn plan(&self) -> Plan {
        Plan {
            socket_path: self.socket_path.display().to_string(),
            startup_timeout: self.startup_timeout,
            grace: self.shutdown_grace_period,
            health: self.health.as_ref().map(|health| (health.interval, health.retries)),
            restart: self.restart,
            memory: self.limits.memory,
            on_demand: self.start == StartMode::OnConnect,
            stops_idle: self.idle_timeout.is_some(),
        }
    }

    /// `socketPath`, if the manager makes the socket there, or a probe needs one. Otherwise the path is neither claimed nor judged
    /// nor removed.
    pub fn needed_socket(&self) -> Option<&Path> {
        (self.holds_socket() || self.probes().any(Probe::needs_socket)).then_some(self.socket_path.as_path())
    }

    /// Whether the manager makes the socket.
    pub fn holds_socket(&self) -> bool {
        self.socket == SocketMaker::Manager
    }

    /// Whether a new generation with this configuration can run beside one with the configuration `former`: the daemon takes the
    /// path of its socket from SOCKET_PATH, and the probes can tell the two apart.
    pub fn can_run_beside(&self, former: &Self) -> bool {
        let shares_port = self.probes().filter_map(Probe::port).any(|port| former.probes().filter_map(Probe::port).any(|old| old == port));
        let is_same_place = self.socket_path == former.socket_path;
        if !is_same_place || (self.holds_socket() && former.holds_socket()) {
            return !shares_port;
        }
        if self.holds_socket() || former.holds_socket() {
            return false;
        }
        let path = self.socket_path.to_string_lossy();
        let names_path = self.args.iter().any(|arg| arg.contains(&*path));
        let sets_path = self.env_vars.iter().any(|(key, _)| key == "SOCKET_PATH");
        !names_path && !sets_path && !shares_port
    }

    /// The readiness probe and the health probe.
    pub fn probes(&self) -> impl Iterator<Item = &Probe> {
        [Some(&self.readiness), self.health.as_ref().map(|health| &health.probe)].into_iter().flatten()
    }

    /// Whether one of the two probes is this one.
    pub fn uses(&self, probe: &Probe) -> bool {
        self.readiness == *probe || self.health.as_ref().is_some_and(|health| health.probe == *probe)
    }

    /// The daemon's environment in three layers: `inherited` as far as `inheritEnv` asks for it and without the variables of
    /// the owner's own supervisor, the variables of this package, `envVars`. A later layer wins.
    pub fn environment(&self, inherited: &[(String, String)]) -> Vec<(String, String)> {
        let overridden = |key: &str| self.env_vars.iter().any(|(name, _)| name == key);
        let ours = [
            ("SOCKET_PATH", self.socket_path.display().to_string()),
            ("ALLY_PLUGIN_NAME", self.plugin_name.clone()),
            ("PYTHONUNBUFFERED", "1".to_owned()),
        ];
        let mut env: Vec<(String, String)> = inherited
            .iter()
            .filter(|(key, _)| self.inherits(key) && !overridden(key) && !ours.iter().any(|(name, _)| name == key))
            .cloned()
            .collect();
        env.extend(ours.into_iter().filter(|(key, _)| !overridden(key)).map(|(key, value)| (key.to_owned(), value)));
        // A copy of process.env as `envVars` may have the identity of a daemon that the owner itself is.
        let given = self.env_vars.iter().filter(|(key, _)| key != DAEMON_ID);
        env.extend(given.filter_map(|(key, value)| Some((key.clone(), value.clone()?))));
        env
    }

    fn inherits(&self, key: &str) -> bool {
        !belongs_to_owner(key)
            && match &self.inherit_env {
                InheritEnv::All => true,
                InheritEnv::Listed(names) => is_basic(key) || names.iter().any(|name| name == key),
            }
    }
}

/// If the owner is a systemd service, these variables describe the owner's sockets, watchdog, log and memory (systemd.exec(5),
/// sd_listen_fds(3), sd_notify(3)). If the owner is a daemon of this package, two of them describe that daemon. A daemon that
/// used them would act for its owner.
fn belongs_to_owner(key: &str) -> bool {
    const PREFIXES: [&str; 3] = ["LISTEN_", "WATCHDOG_", "MEMORY_PRESSURE_"];
    const NAMES: [&str; 7] =
        ["NOTIFY_SOCKET", "JOURNAL_STREAM", "INVOCATION_ID", "MAINPID", "SYSTEMD_EXEC_PID", "ALLY_LISTEN_FD", DAEMON_ID];
    PREFIXES.iter().any(|prefix| key.starts_with(prefix)) || NAMES.contains(&key)
}

/// The variables of `inheritEnv: false`.
fn is_basic(key: &str) -> bool {
    const NAMES: [&str; 10] = ["HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER", "LANG", "TZ", "TMPDIR", "XDG_RUNTIME_DIR"];
    key.starts_with("LC_") || NAMES.contains(&key)
}
