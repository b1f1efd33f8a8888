//! One question to a daemon, for readiness and for health.

use std::path::Path;

use nix::errno::Errno;
use tokio::time::{Instant, timeout_at};

use super::ReadinessStatus;
use super::connection::Caller;
use super::daemon::ProbedDaemon;
use super::listen::ListenQuestion;
use crate::config::Probe;
use crate::model::{Pid, ProbeRole};

pub enum Answer {
    Passed,
    /// The daemon did not pass. With the reason.
    Failed(String),
    /// The daemon did not pass, and may pass within a millisecond: it was asked between two system calls. With the reason.
    TooEarly(String),
    /// stat(2) or connect(2) failed at the socket path.
    Unreachable(Errno),
    /// The kernel shows no listening socket for the file.
    NotListening,
    /// The connection still waits in the listener's queue.
    NotAccepted,
    /// A connection succeeds, and no process that holds the socket can be found. With the reason.
    NoHolder(String),
    /// A process outside the tree answers. The pid is 0 if the process is outside this PID namespace.
    Other(Pid),
    /// A connection succeeds, and the search for the process that answers failed. With the problem.
    Unjudged(String),
    /// The question could not be put, so the state of the daemon is unknown. With the reason.
    NotMade(String),
    /// The daemon did not pass, and a further try costs a process. With the reason.
    Refused(String),
}

/// A question that is put until an answer is good enough. For readiness it lives as long as the start, for health as long as
/// one check.
pub struct Question<'a> {
    path: &'a Path,
    probe: &'a Probe,
    role: ProbeRole,
    daemon: &'a ProbedDaemon,
    listen: ListenQuestion,
}

impl<'a> Question<'a> {
    pub fn new(role: ProbeRole, path: &'a Path, probe: &'a Probe, daemon: &'a ProbedDaemon) -> Self {
        Self { path, probe, role, daemon, listen: ListenQuestion::default() }
    }

    /// Puts the question once. `status` is set before the question waits for the daemon, at most until `deadline`.
    pub async fn ask(&mut self, status: &ReadinessStatus, deadline: Instant) -> Answer {
        let caller = Caller { path: self.path, daemon: self.daemon, role: (*self.probe != Probe::Listen).then_some(self.role) };
        match self.probe {
            // If the kernel can't tell, a connection decides.
            Probe::Listen => self.listen.ask(self.path, self.daemon).unwrap_or_else(|| caller.ask_socket()),
            Probe::Socket => caller.ask_socket(),
            Probe::Accept => caller.ask_accept(status, deadline).await,
            Probe::Exec { command, args } => self.daemon.commands.ask(command, args, status, deadline).await,
            Probe::Notify => self.ask_notify(status, deadline).await,
            // The configuration refuses these.
            Probe::Http(_) | Probe::Tcp(_) | Probe::Output { .. } => Answer::Failed("this probe is not supported yet".to_owned()),
        }
    }

    /// Readiness waits for READY=1. A health check judges the interval that is over.
    async fn ask_notify(&self, status: &ReadinessStatus, deadline: Instant) -> Answer {
        let Some(notify) = &self.daemon.notify else { return Answer::NotMade("there is no socket for notifications".to_owned()) };
        if self.role == ProbeRole::Health {
            return notify.check().map_or_else(Answer::Failed, |()| Answer::Passed);
        }
        if let Err(reason) = notify.is_ready() {
            status.set(reason);
            // After the timeout as well, the next step is a look.
            drop(timeout_at(deadline, notify.readiness_changed()).await);
        }
        notify.is_ready().map_or_else(Answer::Failed, |()| Answer::Passed)
    }
}
