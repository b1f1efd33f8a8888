//! One question to a daemon, for readiness and for health.

use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use tokio::time::{Instant, timeout_at};

use super::ReadinessStatus;
use super::connection::Caller;
use super::daemon::ProbedDaemon;
use super::http;
use super::listen::ListenQuestion;
use super::tcp::PortCaller;
use crate::config::{HttpProbe, Probe, TcpAddress};
use crate::model::{Pid, ProbeRole};
use crate::supervisor::output::{LineMatch, LineSearch};

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
    /// A process outside the tree listens at the port of this address. The pid is 0 if it is not known.
    OtherAtPort {
        at: String,
        pid: Pid,
    },
    /// No connection to a port could be made. With the reason.
    NoConnection(String),
    /// The daemon has answered, or the command has ended, and that does not pass. With the reason.
    Answered(String),
    /// Nothing that could make the daemon pass has come. With the time at which the next look is due without news.
    NoNews {
        due: Option<Instant>,
    },
    /// A connection succeeds, and the search for the process that answers failed. With the problem.
    Unjudged(String),
    /// The question could not be put, so the state of the daemon is unknown. With the reason.
    NotMade(String),
}

/// A question that is put until an answer is good enough. For readiness it lives as long as the start, for health as long as
/// one check.
pub struct Question<'a> {
    path: &'a Path,
    probe: &'a Probe,
    role: ProbeRole,
    daemon: &'a ProbedDaemon,
    listen: ListenQuestion,
    lines: Option<Arc<LineMatch>>,
}

impl<'a> Question<'a> {
    /// `lines`: the search of probe `output`.
    pub fn new(role: ProbeRole, path: &'a Path, probe: &'a Probe, daemon: &'a ProbedDaemon, lines: Option<Arc<LineMatch>>) -> Self {
        Self { path, probe, role, daemon, listen: ListenQuestion::default(), lines }
    }

    /// Puts the question once. `status` learns of it before the question waits for the daemon, at most until `deadline`.
    pub async fn ask(&mut self, status: &ReadinessStatus, deadline: Instant) -> Answer {
        let begun = Instant::now();
        let caller = Caller { path: self.path, daemon: self.daemon, role: (*self.probe != Probe::Listen).then_some(self.role) };
        match self.probe {
            // If the kernel can't tell, a connection decides.
            Probe::Listen => self.listen.ask(self.path, self.daemon).unwrap_or_else(|| caller.ask_socket()),
            Probe::Socket => caller.ask_socket(),
            Probe::Accept => caller.ask_accept(status, deadline).await,
            Probe::Http(probe) => {
                let answer = self.ask_http(probe, &caller, status, deadline).await;
                self.told(begun, answer)
            }
            Probe::Tcp(address) => {
                status.wait(format!("no answer at port {} (probe tcp)", address.port));
                let answer = self.port(address).ask(deadline).await;
                self.told(begun, answer)
            }
            Probe::Output { .. } => match self.lines.as_ref().map_or(LineSearch::Searching(None), |lines| lines.look(begun.into_std())) {
                LineSearch::Found => Answer::Passed,
                LineSearch::Searching(due) => Answer::NoNews { due: due.map(Instant::from_std) },
            },
            Probe::Exec { command, args } => {
                let answer = self.daemon.commands.ask(command, args, status, deadline).await;
                self.told(begun, answer)
            }
            Probe::Notify => self.ask_notify(status, deadline).await,
        }
    }

    async fn ask_http(&self, probe: &HttpProbe, caller: &Caller<'_>, status: &ReadinessStatus, deadline: Instant) -> Answer {
        let connection = match &probe.address {
            Some(address) => self.port(address).connect(deadline).await,
            None => caller.connect_to_speak(),
        };
        match connection {
            Ok(connection) => {
                status.wait(format!("no answer to GET {} (probe http)", probe.path));
                http::ask(probe, connection, status, deadline).await
            }
            Err(answer) => answer,
        }
    }

    fn port(&self, address: &'a TcpAddress) -> PortCaller<'a> {
        PortCaller { address, daemon: self.daemon, role: self.role }
    }

    /// Adds to a reason which probe it is of, and how long the answer took.
    fn told(&self, begun: Instant, answer: Answer) -> Answer {
        let told = |reason: String| {
            let after = begun.elapsed().as_secs_f64() * 1e3;
            format!("{reason} (probe {}, after {after:.decimals$} ms)", self.probe.name(), decimals = usize::from(after < 10.0))
        };
        match answer {
            Answer::Failed(reason) => Answer::Failed(told(reason)),
            Answer::NoConnection(reason) => Answer::NoConnection(told(reason)),
            Answer::Answered(reason) => Answer::Answered(told(reason)),
            other => other,
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
