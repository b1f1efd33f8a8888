//! What the system must offer for an option. A configuration is checked without a system call, so the answers are passed in.

use super::{Probe, ProcessConfig};
use crate::error::Failure;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SystemSupport {
    /// The kernel tells whether a connection still waits in a listener's queue: the probe `accept` needs it.
    pub accept_queue: bool,
    /// The kernel has a score by which it chooses a process to kill: `limits.oomScoreAdj` needs it.
    pub oom_score: bool,
}

impl SystemSupport {
    /// # Errors
    /// `InvalidConfig` with the first field that this system can't carry out.
    pub fn check(self, config: &ProcessConfig) -> Result<(), Failure> {
        if !self.oom_score && config.limits.oom_score_adj.is_some() {
            return Err(Failure::InvalidConfig {
                field: "limits.oomScoreAdj".to_owned(),
                problem: "is not supported by this system's kernel, which has no such score".to_owned(),
            });
        }
        let health = config.health.as_ref().map(|health| &health.probe);
        let probes = [("healthcheck.probe.type", health), ("readiness.type", Some(&config.readiness))];
        match probes.into_iter().find(|(_, probe)| *probe == Some(&Probe::Accept)) {
            Some((field, _)) if !self.accept_queue => Err(Failure::InvalidConfig {
                field: field.to_owned(),
                problem: "'accept' is not supported by this system's kernel, which doesn't tell who waits in a socket's queue".to_owned(),
            }),
            Some(_) | None => Ok(()),
        }
    }
}
