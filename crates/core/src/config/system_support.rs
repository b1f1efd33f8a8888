//! What the system must offer for an option. A configuration is checked without a system call, so the answers are passed in.

use super::{Probe, ProcessConfig};
use crate::error::Failure;

const UNTOLD: &str = "is not supported by this system's kernel, which doesn't tell who waits in a socket's queue";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SystemSupport {
    /// The kernel tells whether a connection still waits in a listener's queue: the probe `accept` needs it.
    pub accept_queue: bool,
    /// The kernel has a score by which it chooses a process to kill: `limits.oomScoreAdj` needs it.
    pub oom_score: bool,
}

impl SystemSupport {
    /// # Errors
    /// `InvalidConfig` with the first field that this system can't carry out. `NoQueueDiag` if the field may be a default.
    pub fn check(self, config: &ProcessConfig) -> Result<(), Failure> {
        if !self.oom_score && config.limits.oom_score_adj.is_some() {
            return Err(Failure::InvalidConfig {
                field: "limits.oomScoreAdj".to_owned(),
                problem: "is not supported by this system's kernel, which has no such score".to_owned(),
            });
        }
        if self.accept_queue {
            return Ok(());
        }
        if config.idle_timeout.is_some() {
            return Err(unsupported("idleTimeout", None));
        }
        let health = config.health.as_ref().map(|health| &health.probe);
        let probes =
            [("healthcheck.probe", health, "`notify` or `exec`"), ("readiness", Some(&config.readiness), "`notify`, `output` or `exec`")];
        match probes.into_iter().find(|(_, probe, _)| *probe == Some(&Probe::Accept)) {
            // With socket 'manager' it is the default, so the configuration may not have the field.
            Some((field, _, others)) if config.holds_socket() => Err(unsupported(&format!("{field} 'accept'"), Some(others))),
            Some((field, ..)) => Err(Failure::InvalidConfig { field: format!("{field}.type"), problem: format!("'accept' {UNTOLD}") }),
            None => Ok(()),
        }
    }
}

/// `others`: what to use in its place.
fn unsupported(what: &str, others: Option<&str>) -> Failure {
    let hint = others.map(|others| format!("; use {others}")).unwrap_or_default();
    Failure::NoQueueDiag { problem: format!("{what} {UNTOLD}{hint}") }
}
