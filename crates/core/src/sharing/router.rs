//! The calls of the API. A plugin is exclusive or shared by its configuration; by its name afterwards.

use std::sync::Arc;

use ally_base::wire::OwnerDeath;

use super::client::{Client, HostView};
use crate::config::{Parsed, Raw, Shared};
use crate::error::{DependencyProblem, Failure};
use crate::lifecycle::Ticket;
use crate::lifecycle::dependencies::{Dependent, start_order};
use crate::model::{Changes, ProcessState};
use crate::supervisor::{
    Accepted, AcceptedGroup, Follower, Leftovers, Mailbox, Manager, Options, PluginMetrics, Published, Refusal, TextFormat, check,
    metrics_text, runtime,
};

pub struct Router {
    own: Arc<Manager>,
    shared: Arc<Client>,
}

impl Router {
    /// `wake` is called if messages wait, from any thread.
    pub fn new(options: Options, wake: Box<dyn Fn() + Send + Sync>) -> Self {
        let own = Arc::new(Manager::new(options, wake));
        let shared = Arc::new(Client::new(own.context()));
        own.context().set_shared_plugins(Arc::downgrade(&shared.plugins()));
        Self { own, shared }
    }

    pub fn id(&self) -> u64 {
        self.own.id()
    }

    pub fn mailbox(&self) -> &Arc<Mailbox> {
        self.own.mailbox()
    }

    pub fn enter_turn(&self, turn: u32) {
        self.own.enter_turn(turn);
    }

    /// Log entries go to the mailbox, or another level of them is read.
    pub fn set_logger(&self) {
        self.own.context().set_logger();
        self.shared.listen();
    }

    /// # Errors
    /// As [`Manager::start`].
    pub fn start(&self, raw: &Raw, inherited: Arc<str>) -> Result<Accepted, Failure> {
        let parsed = check(raw)?;
        let name = parsed.config.plugin_name.clone();
        if parsed.config.shared.is_none() {
            if self.shared.holds(&name) {
                // Exclusive and shared never mix.
                return Ok(self.refused(&name, self.shared.shared_by(&name)));
            }
            return self.own.start_parsed(parsed, inherited);
        }
        Shared::check(self.own.context().options.owner_death == OwnerDeath::Keep)?;
        self.own.must_be_open()?;
        self.check_dependencies(&[&parsed])?;
        if !self.own.may_be_forgotten(&name) {
            return Ok(self.refused(&name, Failure::OwnedElsewhere { owner: Some(ally_base::os::own_pid()) }));
        }
        let ticket = self.own.context().tickets.for_caller();
        let accepted = self.start_shared(raw, parsed, inherited, ticket);
        Ok(Accepted { ticket, accepted })
    }

    pub(super) fn start_shared(&self, raw: &Raw, parsed: Parsed, inherited: Arc<str>, ticket: Ticket) -> bool {
        self.own.warn_of_unknown(&parsed);
        let owner = self.own.owner_limits(&parsed.config);
        self.shared.start(raw, parsed, inherited, owner, ticket)
    }

    fn refused(&self, name: &str, failure: Failure) -> Accepted {
        let ticket = self.own.context().tickets.for_caller();
        self.own.context().tickets.settle(ticket, Err(Refusal::new(name.to_owned(), failure)));
        Accepted { ticket, accepted: false }
    }

    /// A shared plugin depends on shared ones only: the host knows no others.
    fn check_dependencies(&self, starting: &[&Parsed]) -> Result<(), Failure> {
        if starting.iter().all(|parsed| parsed.config.depends_on.is_empty()) {
            return Ok(());
        }
        let (known, exclusive) = (self.shared.dependents(), self.own.dependents());
        for depends_on in starting.iter().map(|parsed| &parsed.config.depends_on) {
            let is_exclusive =
                |name: &&String| exclusive.iter().any(|(other, _)| other == *name) && !known.iter().any(|(other, _)| other == *name);
            if let Some(name) = depends_on.iter().find(is_exclusive) {
                return Err(Failure::Dependency { problem: DependencyProblem::NotShared { name: name.clone() } });
            }
        }
        let known: Vec<Dependent<'_>> = known.iter().map(|(name, depends_on)| Dependent { name, depends_on }).collect();
        let starting: Vec<Dependent<'_>> =
            starting.iter().map(|Parsed { config, .. }| Dependent { name: &config.plugin_name, depends_on: &config.depends_on }).collect();
        start_order(&starting, &known).map(drop).map_err(|(_, problem)| Failure::Dependency { problem })
    }

    /// `changes`: the changed fields as text, for other sessions.
    ///
    /// # Errors
    /// As [`Manager::upgrade`].
    pub fn upgrade(&self, raw: &Raw, inherited: Arc<str>, changes: Changes) -> Result<Accepted, Failure> {
        let parsed = check(raw)?;
        let name = parsed.config.plugin_name.clone();
        let is_known = self.shared.knows(&name);
        if is_known != parsed.config.shared.is_some() {
            if !is_known && self.own.state(&name).is_none() {
                return Err(Failure::NotFound);
            }
            let problem = "can't be changed by an upgrade".to_owned();
            return Err(Failure::InvalidConfig { field: "shared".to_owned(), problem });
        }
        if !is_known {
            return self.own.upgrade_parsed(parsed, inherited);
        }
        self.own.must_be_open()?;
        self.check_dependencies(&[&parsed])?;
        let ticket = self.own.context().tickets.for_caller();
        let owner = self.own.owner_limits(&parsed.config);
        self.shared.upgrade(raw, parsed, inherited, owner, changes, ticket);
        Ok(Accepted { ticket, accepted: true })
    }

    /// # Errors
    /// As [`Manager::start_group`].
    pub fn start_group(&self, configs: &[Raw], inherited: &Arc<str>) -> Result<AcceptedGroup, Box<Refusal>> {
        super::groups::start(self, configs, inherited)
    }

    /// Stops the plugins of the group, dependents first. Shared ones are let go of after exclusive ones, which may depend on them.
    pub fn stop_group(&self, group: &str) -> Ticket {
        let members = self.shared.group(group);
        if members.is_empty() {
            return self.own.stop_group(group);
        }
        super::groups::stop(self, group, members)
    }

    pub fn abort(&self, name: &str, ticket: Ticket) {
        if self.shared.knows(name) { self.shared.abort(name, ticket) } else { self.own.abort(name, ticket) }
    }

    pub fn revoke(&self, name: &str, ticket: Ticket) -> Ticket {
        if !self.shared.knows(name) {
            return self.own.revoke(name, ticket);
        }
        self.shared_call(|client, answer| client.stop(name, answer))
    }

    /// # Errors
    /// As [`Manager::end_leftovers`].
    pub fn end_leftovers(&self, name: &str, what: Leftovers) -> Result<Ticket, Failure> {
        self.own.end_leftovers(name, what)
    }

    pub fn when_running(&self, name: &str) -> Ticket {
        if !self.shared.knows(name) {
            return self.own.when_running(name);
        }
        self.shared_call(|client, ticket| client.when_running(name, ticket))
    }

    pub fn abort_wait(&self, name: &str, ticket: Ticket) {
        if self.shared.knows(name) { self.shared.abort(name, ticket) } else { self.own.abort_wait(name, ticket) }
    }

    /// `everywhere`: a shared one for all sessions.
    pub fn stop(&self, name: &str, everywhere: bool) -> Ticket {
        let is_shared = self.shared.knows(name);
        if !is_shared && (!everywhere || self.own.state(name).is_some()) {
            if self.own.state(name).is_some() {
                // Its start can't be refused any more.
                self.shared.forget(name);
            }
            return self.own.stop(name);
        }
        if everywhere {
            if let Err(failure) = self.own.must_be_open() {
                return self.refused(name, failure).ticket;
            }
            return self.shared_call(|client, ticket| client.stop_everywhere(name, ticket));
        }
        self.shared_call(|client, ticket| client.stop(name, ticket))
    }

    pub fn stop_all(&self) -> Ticket {
        if self.shared.names().iter().all(|name| !self.shared.is_to_be_stopped(name)) {
            return self.own.stop_all();
        }
        let ticket = self.own.context().tickets.for_caller();
        let (stopping, stopped) = self.own.context().tickets.for_supervisor();
        self.own.stop_all_for(stopping);
        let is_needed = self.is_needed_by_exclusive();
        let (context, client) = (Arc::clone(self.own.context()), Arc::clone(&self.shared));
        // A shared plugin is held, so the runtime exists.
        drop(runtime::spawn(async move {
            // Without an answer the manager is closed. Each failure is logged when it happens.
            if is_needed {
                drop(stopped.await);
                drop(client.stop_all().await);
            } else {
                drop(tokio::join!(stopped, client.stop_all()));
            }
            context.tickets.settle(ticket, Ok(()));
        }));
        ticket
    }

    /// Whether an exclusive plugin depends on a shared one.
    fn is_needed_by_exclusive(&self) -> bool {
        let shared = self.shared.names();
        self.own.dependents().iter().any(|(_, depends_on)| depends_on.iter().any(|name| shared.contains(name)))
    }

    pub fn restart(&self, name: &str) -> Ticket {
        if !self.shared.knows(name) {
            return self.own.restart(name);
        }
        match self.own.must_be_open() {
            Ok(()) => self.shared_call(|client, ticket| client.restart(name, ticket)),
            Err(failure) => self.shared_call(|_, ticket| {
                self.own.context().tickets.settle(ticket, Err(Refusal::new(name.to_owned(), failure)));
            }),
        }
    }

    /// What the host of shared daemons tells of itself, for a caller that may wait.
    ///
    /// # Errors
    /// `ShuttingDown`, `Spawn`; as [`look`](super::client::look).
    pub fn view_host(&self) -> Result<Option<HostView>, Failure> {
        self.own.must_be_open()?;
        self.shared.view_host()
    }

    /// Ends every daemon of the host, and the host.
    ///
    /// # Errors
    /// `ShuttingDown`, `Spawn`. All else comes with the ticket.
    pub fn end_host(&self) -> Result<Ticket, Failure> {
        self.own.must_be_open()?;
        Ok(self.shared_call(Client::end_host))
    }

    /// Restarts a shared plugin that this session need not have.
    ///
    /// # Errors
    /// `ShuttingDown`, `Spawn`. All else comes with the ticket.
    pub fn restart_shared(&self, name: &str) -> Result<Ticket, Failure> {
        self.own.must_be_open()?;
        Ok(self.shared_call(|client, ticket| client.restart_anyhow(name, ticket)))
    }

    /// The output of a shared plugin that this session need not have.
    ///
    /// # Errors
    /// `ShuttingDown`, `Spawn`.
    pub fn watch_shared(&self, name: &str, lines: usize, live: bool) -> Result<Arc<Follower>, Failure> {
        self.own.must_be_open()?;
        Ok(self.shared.watch(name, lines, live))
    }

    fn shared_call(&self, call: impl FnOnce(&Client, Ticket)) -> Ticket {
        let ticket = self.own.context().tickets.for_caller();
        call(&self.shared, ticket);
        ticket
    }

    pub fn forget(&self, name: &str) -> bool {
        // Both: a refused start of the other kind may have left something.
        let shared = self.shared.forget(name);
        self.own.forget(name) || shared
    }

    pub fn state(&self, name: &str) -> Option<ProcessState> {
        self.shared.state(name).or_else(|| self.own.state(name))
    }

    pub fn pid(&self, name: &str) -> Option<i32> {
        if self.shared.knows(name) { self.shared.pid(name) } else { self.own.pid(name) }
    }

    pub fn revision(&self, name: &str) -> Option<u64> {
        self.shared.revision(name).or_else(|| self.own.revision(name))
    }

    pub fn info(&self, name: &str) -> Option<Published> {
        self.shared.info(name).or_else(|| self.own.info(name))
    }

    pub fn names(&self) -> Vec<String> {
        let mut names = self.own.names();
        let shared = self.shared.names();
        if shared.is_empty() {
            return names;
        }
        names.extend(shared);
        names.sort_unstable();
        names.dedup();
        names
    }

    pub fn metrics(&self, name: &str) -> Option<PluginMetrics> {
        self.shared.metrics(name).or_else(|| self.own.metrics(name))
    }

    pub fn all_metrics(&self) -> Vec<PluginMetrics> {
        let mut all = self.own_metrics();
        all.extend(self.shared.all_metrics(false));
        all.sort_unstable_by(|one, other| one.plugin.cmp(&other.plugin));
        all
    }

    pub fn metrics_text(&self, format: TextFormat) -> String {
        let shared = self.shared.all_metrics(true);
        if shared.is_empty() {
            return self.own.metrics_text(format);
        }
        let version = self.own.context().options.guardian.version;
        metrics_text(&[self.own_metrics(), shared].concat(), version, format)
    }

    fn own_metrics(&self) -> Vec<PluginMetrics> {
        self.own.all_metrics().into_iter().filter(|metrics| !self.shared.knows(&metrics.plugin)).collect()
    }

    pub fn output(&self, name: &str, lines: usize) -> Vec<String> {
        self.shared.output(name, lines).unwrap_or_else(|| self.own.output(name, lines))
    }

    /// # Errors
    /// `NotFound`.
    pub fn follow(&self, name: &str, lines: usize, live: bool) -> Result<Arc<Follower>, Failure> {
        self.shared.follow(name, lines, live).map_or_else(|| self.own.follow(name, lines, live), Ok)
    }

    pub fn listen(&self, output: bool, health: bool) {
        self.own.listen(output, health);
        self.shared.listen();
    }

    pub fn log_dropped(&self, events: u64, lines: u64) {
        self.own.log_dropped(events, lines);
    }

    pub fn is_pending(&self) -> bool {
        self.own.is_pending()
    }

    pub fn close(&self) {
        self.shared.close();
        self.own.close();
    }

    pub(super) const fn parts(&self) -> (&Arc<Manager>, &Arc<Client>) {
        (&self.own, &self.shared)
    }
}
