//! The launch of a daemon: the order to the guardian, and the owner's ends of the streams. `explain` turns an errno into a
//! failure.

mod explain;
mod limits;
mod program;
mod streams;

use std::io;
use std::os::fd::OwnedFd;

use ally_base::os;
use ally_base::record::{DAEMON_ID, token_text};
use ally_base::stop::StopSignalTo;
use ally_base::wire::{Descriptors, LogOrder, Order, OwnerDeath, PAYLOAD_MAX};

use super::daemon::Job;
use super::guardian::KeeperStream;
use super::notify::NotifySocket;
use super::output::OpenLog;
use super::ownership::Lease;
use crate::config::{KillMode, Probe, ProcessConfig};

pub use explain::{explain, no_process};
pub use limits::{OwnerLimits, TurnLimits};
pub use program::machine_of;
use streams::{LogStreams, Streams};

/// The search path of execvp(3) for an environment without PATH.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// A frame and the descriptors that travel with it.
pub struct EncodedOrder {
    pub frame: Vec<u8>,
    pub descriptors: Vec<OwnedFd>,
}

pub struct Launch {
    pub order: EncodedOrder,
    pub keeper: KeeperStream,
    /// The read ends of stdout and stderr, or of their copies.
    pub outputs: [OwnedFd; 2],
    /// With a log file: the read end of the pipe for what its process reports.
    pub log_notes: Option<OwnedFd>,
    /// The paths that the keeper tries as the program, in this order.
    pub programs: Vec<String>,
    /// The token of the attempt, which is in the environment as well.
    pub token: String,
}

impl Launch {
    /// # Errors
    /// EMFILE or ENFILE. E2BIG if the order is too large.
    pub fn build(
        job: &Job,
        owner_death: OwnerDeath,
        lease: &Lease,
        notify: Option<&NotifySocket>,
        listener: Option<OwnedFd>,
        log: Option<OpenLog>,
    ) -> io::Result<Self> {
        let (keeper, keeper_end) = KeeperStream::pair()?;
        let Streams { outputs, writers: [stdout, stderr], readers: [stdout_reader, stderr_reader], log } = Streams::make(log)?;
        let (log_file, log_folder, [stdout_copy, stderr_copy], noted, log_notes) = match log {
            Some(LogStreams { open, copies, notes, noted }) => (open.file, Some(open.folder), copies.map(Some), Some(noted), Some(notes)),
            None => (None, None, [None, None], None, None),
        };
        let (mask, descriptors) = Descriptors {
            stream: keeper_end,
            stdout,
            stderr,
            // A duplicate shares the flock(2): the name is free only when the keeper is gone too.
            lock: lease.lock.as_file().try_clone()?.into(),
            folder: lease.folder.try_clone()?,
            stdout_reader: Some(stdout_reader),
            stderr_reader: Some(stderr_reader),
            notify: notify.map(NotifySocket::descriptor).transpose()?,
            log_file,
            log_folder,
            stdout_copy,
            stderr_copy,
            log_notes: noted,
            listener,
        }
        .into_wire();
        let config = &job.config;
        let token = token_text(os::random_bytes()?);
        let (programs, mut env) = programs_and_environment(job, &token);
        env.extend(notify.into_iter().flat_map(NotifySocket::variables).map(|(key, value)| format!("{key}={value}")));
        let frame = Order {
            descriptors: mask,
            group_only: config.kill_mode == KillMode::Group,
            owner_death,
            stop_signal: config.stop_signal,
            stop_signal_to: config.stop_signal_to,
            grace_ms: u32::try_from(config.shutdown_grace_period.as_millis()).unwrap_or(u32::MAX),
            folder: config.plugin_path.as_os_str().as_encoded_bytes(),
            programs: programs.iter().map(String::as_bytes).collect(),
            args: std::iter::once(&config.command).chain(&config.args).map(String::as_bytes).collect(),
            env: env.iter().map(String::as_bytes).collect(),
            limits: job.owner.of_daemon(config),
            notify_path: notify.map_or(&[], |notify| notify.path().as_os_str().as_encoded_bytes()),
            log: config.logs.as_ref().filter(|_| log_notes.is_some()).map(|logs| LogOrder {
                folder: logs.folder().as_os_str().as_encoded_bytes(),
                name: logs.name().as_os_str().as_encoded_bytes(),
                max_size: logs.max_size,
                max_files: logs.max_files,
                compress: logs.compress,
            }),
        }
        .encode();
        if frame.len() > PAYLOAD_MAX {
            return Err(io::Error::from_raw_os_error(libc::E2BIG));
        }
        Ok(Self { order: EncodedOrder { frame, descriptors }, keeper, outputs, log_notes, programs, token })
    }
}

/// The order for a probe that runs a command in the daemon's environment and folder. `job`: the daemon's, with the command and the
/// arguments of the probe.
pub struct ProbeLaunch {
    pub frame: Vec<u8>,
    /// As [`Launch::programs`].
    pub programs: Vec<String>,
}

impl ProbeLaunch {
    /// # Errors
    /// E2BIG if the order is too large.
    pub fn build(job: &Job, token: &str) -> io::Result<Self> {
        let config = &job.config;
        let (programs, env) = programs_and_environment(job, token);
        let frame = Order {
            descriptors: 0,
            group_only: false,
            owner_death: OwnerDeath::Stop,
            stop_signal: libc::SIGKILL,
            stop_signal_to: StopSignalTo::Tree,
            grace_ms: 0,
            folder: config.plugin_path.as_os_str().as_encoded_bytes(),
            programs: programs.iter().map(String::as_bytes).collect(),
            args: std::iter::once(&config.command).chain(&config.args).map(String::as_bytes).collect(),
            env: env.iter().map(String::as_bytes).collect(),
            limits: job.owner.of_daemon(config),
            notify_path: &[],
            log: None,
        }
        .encode();
        if frame.len() > PAYLOAD_MAX {
            return Err(io::Error::from_raw_os_error(libc::E2BIG));
        }
        Ok(Self { frame, programs })
    }
}

/// Without the variables of notifications and of the listening socket, which only the daemon gets: the command of a probe must not
/// speak for the daemon, and has no such socket.
fn programs_and_environment(job: &Job, token: &str) -> (Vec<String>, Vec<String>) {
    const NOTIFICATIONS: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];
    const LISTENING: [&str; 5] = ["LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES", "ALLY_LISTEN_FD"];
    let mut env = environment(job);
    // A copy of process.env as `envVars` may have those of the owner's own supervisor.
    if job.config.uses(&Probe::Notify) {
        env.retain(|(key, _)| !NOTIFICATIONS.contains(&key.as_str()));
    }
    if job.config.holds_socket() {
        env.retain(|(key, _)| !LISTENING.contains(&key.as_str()));
    }
    env.push((DAEMON_ID.to_owned(), token.to_owned()));
    let programs = programs(&job.config, &env);
    (programs, env.iter().map(|(key, value)| format!("{key}={value}")).collect())
}

fn environment(job: &Job) -> Vec<(String, String)> {
    let entries = job.inherited.split_terminator('\0').filter_map(|entry| entry.split_once('='));
    let inherited: Vec<_> = entries.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    job.config.environment(&inherited)
}

/// A command with a slash is a path. A bare name is searched in the PATH of the daemon's environment. An empty entry of PATH
/// means the working directory.
fn programs(config: &ProcessConfig, env: &[(String, String)]) -> Vec<String> {
    if config.command.contains('/') {
        return vec![config.command.clone()];
    }
    let path = env.iter().find(|(key, _)| key == "PATH").map_or(DEFAULT_PATH, |(_, value)| value.as_str());
    path.split(':').map(|folder| format!("{}/{}", if folder.is_empty() { "." } else { folder }, config.command)).collect()
}
