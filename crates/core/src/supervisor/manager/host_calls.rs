//! What the host of shared daemons needs of its manager beside the calls of the API: configurations that it has checked itself, with
//! the environment and the limits of a session.

use std::sync::Arc;

use super::{Accepted, Manager, Options};
use crate::config::Parsed;
use crate::error::Failure;
use crate::supervisor::daemon::Published;
use crate::supervisor::launch::OwnerLimits;
use crate::supervisor::metrics::PluginMetrics;

/// What a session has sent with a start.
#[derive(Debug, Clone)]
pub struct SessionStart {
    pub parsed: Parsed,
    pub inherited: Arc<str>,
    pub owner: OwnerLimits,
}

impl Manager {
    /// A manager whose mailbox gets a message whenever a published snapshot has changed.
    pub fn for_host(options: Options, wake: Box<dyn Fn() + Send + Sync>) -> Self {
        let manager = Self::new(options, wake);
        manager.context.announce();
        manager
    }

    /// # Errors
    /// As [`Manager::start`].
    pub fn start_for(&self, start: SessionStart) -> Result<Accepted, Failure> {
        self.must_be_open()?;
        self.check_files(&start.parsed.config)?;
        let ticket = self.context.tickets.for_caller();
        Ok(self.begin(self.job(start.parsed, start.inherited, None, ticket, Some(start.owner))))
    }

    /// # Errors
    /// As [`Manager::upgrade`].
    pub fn upgrade_for(&self, start: SessionStart) -> Result<Accepted, Failure> {
        let daemon = self.context.daemons.get_known(&start.parsed.config.plugin_name).ok_or(Failure::NotFound)?;
        self.must_be_open()?;
        self.check_files(&start.parsed.config)?;
        let ticket = self.context.tickets.for_caller();
        let job = self.job(start.parsed, start.inherited, None, ticket, Some(start.owner));
        Ok(Accepted { ticket, accepted: daemon.upgrade(ticket, job) })
    }

    /// The last lines of the daemon's output, for a failure.
    pub fn error_excerpt(&self, name: &str) -> String {
        self.context.daemons.get(name).map(|daemon| daemon.tail.error_excerpt()).unwrap_or_default()
    }

    /// What the getters show now. The next change is announced again.
    pub fn show(&self, name: &str) -> Option<(Published, PluginMetrics)> {
        let daemon = self.context.daemons.get_known(name)?;
        daemon.was_shown();
        Some((daemon.published(), daemon.metrics()))
    }

    /// Samples the trees for the next minute.
    pub fn ask_for_samples(&self) {
        self.context.sampler.ask(&self.context.daemons);
    }
}
