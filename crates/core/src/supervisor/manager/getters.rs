//! What callers ask about daemons.

use std::sync::Arc;

use super::Manager;
use crate::error::Failure;
use crate::model::ProcessState;
use crate::supervisor::daemon::{Daemon, Published};
use crate::supervisor::metrics::{PluginMetrics, TextFormat, text};
use crate::supervisor::output::Follower;

impl Manager {
    pub fn state(&self, name: &str) -> Option<ProcessState> {
        self.context.daemons.peek(name, |daemon| daemon.peek(|snapshot| snapshot.state))
    }

    pub fn pid(&self, name: &str) -> Option<i32> {
        self.context.daemons.peek(name, |daemon| daemon.peek(|snapshot| snapshot.pid)).flatten()
    }

    /// The version of the snapshot that `info` returns. It changes with each new snapshot.
    pub fn revision(&self, name: &str) -> Option<u64> {
        Some(self.context.daemons.get_known(name)?.revision())
    }

    pub fn info(&self, name: &str) -> Option<Published> {
        Some(self.context.daemons.get_known(name)?.published())
    }

    /// The names of all known plugins, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.context.daemons.known().iter().map(|daemon| daemon.name.clone()).collect();
        names.sort_unstable();
        names
    }

    /// The newest values. Asks for samples in the next minute.
    pub fn metrics(&self, name: &str) -> Option<PluginMetrics> {
        let metrics = self.context.daemons.get_known(name)?.metrics();
        self.context.sampler.ask(&self.context.daemons);
        Some(metrics)
    }

    /// As [`Manager::metrics`], of all known plugins, sorted by name.
    pub fn all_metrics(&self) -> Vec<PluginMetrics> {
        self.collect_metrics(Daemon::metrics)
    }

    /// As [`Manager::all_metrics`], as text.
    pub fn metrics_text(&self, format: TextFormat) -> String {
        text(&self.collect_metrics(Daemon::metrics_without_quantiles), self.context.options.guardian.version, format)
    }

    fn collect_metrics(&self, of: impl Fn(&Daemon) -> PluginMetrics) -> Vec<PluginMetrics> {
        let mut all: Vec<_> = self.context.daemons.known().iter().map(|daemon| of(daemon)).collect();
        self.context.sampler.ask(&self.context.daemons);
        all.sort_unstable_by(|one, other| one.plugin.cmp(&other.plugin));
        all
    }

    pub fn output(&self, name: &str, lines: usize) -> Vec<String> {
        self.context.daemons.get(name).map(|daemon| daemon.tail.lines(lines)).unwrap_or_default()
    }

    /// The last `lines` lines of output and, with `live`, each line after them.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn follow(&self, name: &str, lines: usize, live: bool) -> Result<Arc<Follower>, Failure> {
        let daemon = self.context.daemons.get_known(name).ok_or(Failure::NotFound)?;
        let follower = Follower::new(live, &self.context.mailbox);
        daemon.tail.follow(lines, &follower);
        Ok(follower)
    }

    /// The last lines once more, for a follower whose reader has lost some: [`Tail::repeat`](crate::supervisor::Tail::repeat).
    pub fn repeat(&self, name: &str, lines: usize, follower: &Follower) {
        if let Some(daemon) = self.context.daemons.get_known(name) {
            daemon.tail.repeat(lines, follower);
        }
    }

    /// Follows the output anew, for a follower that has parted from it.
    pub fn follow_again(&self, name: &str, lines: usize, follower: &Arc<Follower>) {
        if let Some(daemon) = self.context.daemons.get_known(name) {
            daemon.tail.follow(lines, follower);
        }
    }
}
