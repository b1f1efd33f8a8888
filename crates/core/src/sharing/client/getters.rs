//! What callers ask about the plugins of the session.

use std::sync::{Arc, PoisonError};

use tokio::time::Instant;

use super::plugin::{Plugin, Times};
use super::{Asked, Client, Joined, METRICS_RENEWAL, What};
use crate::config::ProcessConfig;
use crate::error::Failure;
use crate::model::ProcessState;
use crate::sharing::place::differing_fields;
use crate::supervisor::{Follower, PluginMetrics, Published, SharedPlugins};

impl Client {
    /// Whether callers know this plugin as a shared one.
    pub fn knows(&self, name: &str) -> bool {
        self.known(name, |_| ()).is_some()
    }

    /// Whether the session has the plugin, or has asked for it.
    pub fn holds(&self, name: &str) -> bool {
        self.peek(name, Plugin::is_held).unwrap_or(false)
    }

    /// Whether the session has the plugin, or processes of it outlive its host.
    pub fn is_to_be_stopped(&self, name: &str) -> bool {
        self.peek(name, Plugin::is_to_be_stopped).unwrap_or(false)
    }

    /// Why a plugin that this session shares can't be started as an exclusive one.
    pub fn shared_by(&self, name: &str) -> Failure {
        self.peek(name, Plugin::sharers)
            .flatten()
            .map_or(Failure::OwnedElsewhere { owner: None }, |(host, sessions)| Failure::SharedElsewhere { host, sessions, linger: None })
    }

    pub fn joined(&self, name: &str) -> Joined {
        self.peek(name, Plugin::joined).unwrap_or(Joined::No)
    }

    /// Of the last start of the plugin.
    pub fn times(&self, name: &str) -> Times {
        self.peek(name, Plugin::times).unwrap_or_default()
    }

    /// Why a member of a group that this session has with another configuration is not the one that is asked for.
    pub fn difference(&self, config: &ProcessConfig) -> Option<Failure> {
        let has = |plugin: &Plugin| (plugin.joined() != Joined::No).then(|| (Arc::clone(&plugin.start), plugin.is_upgraded));
        let (start, upgraded) = self.peek(&config.plugin_name, has).flatten()?;
        let fields = differing_fields(&start.config, config);
        (!fields.is_empty()).then_some(Failure::SharedDiffers { fields, upgraded })
    }

    /// The plugins that this session has in the group, with what each depends on.
    pub fn group(&self, group: &str) -> Vec<(String, Vec<String>)> {
        let Some(plugins) = self.inner.lock_if_used() else { return Vec::new() };
        let members = plugins.values().filter(|plugin| self.inner.shows(plugin) && plugin.start.config.group.as_deref() == Some(group));
        members.map(|plugin| (plugin.name.clone(), plugin.start.config.depends_on.clone())).collect()
    }

    /// Each known plugin with what it depends on.
    pub fn dependents(&self) -> Vec<(String, Vec<String>)> {
        self.inner.dependents()
    }

    /// False if the plugin is unknown, or a process of it is left.
    pub fn forget(&self, name: &str) -> bool {
        let Some(mut plugins) = self.inner.lock_if_used() else { return false };
        let Some(plugin) = plugins.get_mut(name).filter(|plugin| plugin.may_be_forgotten()) else { return false };
        let (was_known, is_here) = (plugin.is_known(), plugin.is_here());
        if plugin.is_pending() {
            // What led to the shown state was not told yet, and is not told any more.
            self.inner.context.set_shared_pending(false);
        }
        plugin.tail.close();
        // Until the host has read of it, what it tells is not of a start that comes next.
        let next = plugin.forgotten(self.inner.context.reporter(name));
        plugins.remove(name);
        plugins.extend(next.map(|next| (name.to_owned(), next)));
        if !is_here {
            return was_known;
        }
        drop(plugins);
        self.inner.ask(Asked { plugin: name.to_owned(), ticket: None, what: What::Abandon });
        was_known
    }

    pub fn state(&self, name: &str) -> Option<ProcessState> {
        self.known(name, |plugin| plugin.snapshot().state)
    }

    pub fn pid(&self, name: &str) -> Option<i32> {
        self.known(name, |plugin| plugin.snapshot().pid).flatten()
    }

    pub fn revision(&self, name: &str) -> Option<u64> {
        self.known(name, Plugin::revision)
    }

    pub fn info(&self, name: &str) -> Option<Published> {
        self.known(name, Plugin::published)
    }

    pub fn names(&self) -> Vec<String> {
        let Some(plugins) = self.inner.lock_if_used() else { return Vec::new() };
        plugins.values().filter(|plugin| self.inner.shows(plugin)).map(|plugin| plugin.name.clone()).collect()
    }

    pub fn metrics(&self, name: &str) -> Option<PluginMetrics> {
        let metrics = self.known(name, Plugin::metrics)?;
        self.ask_for_metrics();
        Some(metrics)
    }

    /// Of all known plugins. `held`: only of those that the session has.
    pub fn all_metrics(&self, held: bool) -> Vec<PluginMetrics> {
        let Some(plugins) = self.inner.lock_if_used() else { return Vec::new() };
        let wanted = plugins.values().filter(|plugin| self.inner.shows(plugin) && (!held || plugin.is_held()));
        let metrics: Vec<_> = wanted.map(Plugin::metrics).collect();
        drop(plugins);
        if !metrics.is_empty() {
            self.ask_for_metrics();
        }
        metrics
    }

    pub(super) fn ask_for_metrics(&self) {
        let mut asked = self.inner.metrics_asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.is_none_or(|at| at.elapsed() > METRICS_RENEWAL) && self.inner.lock().values().any(Plugin::is_here) {
            *asked = Some(Instant::now());
            self.inner.ask(Asked { plugin: String::new(), ticket: None, what: What::Metrics });
        }
    }

    pub fn output(&self, name: &str, lines: usize) -> Option<Vec<String>> {
        self.known(name, |plugin| plugin.tail.lines(lines))
    }

    pub fn follow(&self, name: &str, lines: usize, live: bool) -> Option<Arc<Follower>> {
        let follower = self.known(name, |plugin| {
            let follower = Follower::new(live, &self.inner.context.mailbox);
            plugin.tail.follow(lines, &follower);
            follower
        });
        if live {
            self.tell_interest();
        }
        follower
    }
}
