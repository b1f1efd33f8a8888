//! The calls that start and upgrade daemons, and wait for them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ally_base::record::is_of_record;
use ally_base::text::printable;

use super::registry::dependents;
use super::{Accepted, Manager, Member, check};
use crate::config::{Parsed, ProcessConfig, Raw};
use crate::error::{DependencyProblem, Failure};
use crate::lifecycle::dependencies::{Dependent, start_order};
use crate::lifecycle::{Event, Ticket};
use crate::supervisor::daemon::{Daemon, Job, Task};
use crate::supervisor::launch::OwnerLimits;
use crate::supervisor::output::same_log_file;
use crate::supervisor::report::log;

impl Manager {
    /// The starts that follow are made in this turn of the caller's event loop.
    pub fn enter_turn(&self, turn: u32) {
        self.turn.enter(turn);
    }

    /// # Errors
    /// `InvalidConfig`; `ShuttingDown`; `Spawn` where the supervisor's thread can't be had. All else comes
    /// with the ticket.
    pub fn start(&self, raw: &Raw, inherited: Arc<str>) -> Result<Accepted, Failure> {
        self.start_parsed(check(raw)?, inherited)
    }

    /// As [`Self::start`], of a checked configuration.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub(crate) fn start_parsed(&self, parsed: Parsed, inherited: Arc<str>) -> Result<Accepted, Failure> {
        self.must_be_open()?;
        self.check_files(&parsed.config)?;
        self.check_dependencies(&parsed)?;
        let job = self.job(parsed, inherited, None, self.context.tickets.for_caller(), None);
        Ok(self.begin(job))
    }

    /// Upgrades a known plugin to the configuration `raw`.
    ///
    /// # Errors
    /// As [`Self::start`], and `NotFound`.
    pub fn upgrade(&self, raw: &Raw, inherited: Arc<str>) -> Result<Accepted, Failure> {
        self.upgrade_parsed(check(raw)?, inherited)
    }

    /// As [`Self::upgrade`], to a checked configuration.
    ///
    /// # Errors
    /// As [`Self::upgrade`].
    pub(crate) fn upgrade_parsed(&self, parsed: Parsed, inherited: Arc<str>) -> Result<Accepted, Failure> {
        let daemon = self.context.daemons.get_known(&parsed.config.plugin_name).ok_or(Failure::NotFound)?;
        self.must_be_open()?;
        self.check_files(&parsed.config)?;
        self.check_dependencies(&parsed)?;
        let ticket = self.context.tickets.for_caller();
        let job = self.job(parsed, inherited, None, ticket, None);
        Ok(Accepted { ticket, accepted: daemon.upgrade(ticket, job) })
    }

    pub(super) fn check_dependencies(&self, Parsed { config, .. }: &Parsed) -> Result<(), Failure> {
        if config.depends_on.is_empty() {
            return Ok(());
        }
        let starting = [Dependent { name: &config.plugin_name, depends_on: &config.depends_on }];
        self.order(&starting).map(drop).map_err(|(_, problem)| Failure::Dependency { problem })
    }

    /// The order in which plugins start, beside those that the caller's managers know.
    pub(super) fn order(&self, starting: &[Dependent<'_>]) -> Result<Vec<usize>, (usize, DependencyProblem)> {
        let jobs = self.jobs();
        let shared = self.context.shared_plugins().map(|shared| shared.dependents()).unwrap_or_default();
        let mut known = dependents(&jobs);
        known.extend(shared.iter().map(|(name, depends_on)| Dependent { name, depends_on }));
        start_order(starting, &known)
    }

    /// Each known plugin with what it depends on.
    pub(crate) fn dependents(&self) -> Vec<(String, Vec<String>)> {
        self.jobs().iter().map(|job| (job.config.plugin_name.clone(), job.config.depends_on.clone())).collect()
    }

    pub(super) fn jobs(&self) -> Vec<Arc<Job>> {
        self.context.daemons.known().iter().map(|daemon| daemon.job()).collect()
    }

    pub(super) fn begin(&self, job: Job) -> Accepted {
        let ticket = job.id;
        let daemon = self.context.daemons.get_or_insert(&job.config.plugin_name, || {
            // The seed need only differ between daemons, so that their delays do.
            let seed = ticket ^ std::ptr::from_ref(self).addr() as u64;
            let first = Job { member: None, ..job.clone() };
            Daemon::new(first, Arc::clone(&self.context), seed, Task::spawn)
        });
        let accepted = daemon.start(ticket, job);
        Accepted { ticket, accepted }
    }

    /// `owner`: of another process than this one.
    pub(super) fn job(
        &self,
        parsed: Parsed,
        inherited: Arc<str>,
        member: Option<Arc<Member>>,
        ticket: Ticket,
        owner: Option<OwnerLimits>,
    ) -> Job {
        self.warn_of_unknown(&parsed);
        let Parsed { config, .. } = parsed;
        if !config.depends_on.is_empty() {
            self.context.daemons.note_dependents();
        }
        let owner = owner.unwrap_or_else(|| self.owner_limits(&config));
        Job { config, inherited, id: ticket, member, owner }
    }

    pub(crate) fn warn_of_unknown(&self, Parsed { config, unknown }: &Parsed) {
        for key in unknown {
            log!(self.context.reporter(&config.plugin_name), warn, "unknown configuration key {}", printable(key));
        }
    }

    /// The limits of this process in this turn of the caller's event loop.
    pub fn owner_limits(&self, config: &ProcessConfig) -> OwnerLimits {
        OwnerLimits::now(self.turn.read(), config.umask.is_none())
    }

    /// Socket and log file must not be files of the record, and the log file not that of another plugin. Another owner of the log file
    /// is found by its lock.
    pub(super) fn check_files(&self, config: &ProcessConfig) -> Result<(), Failure> {
        let folder = self.context.options.envs_dir.join(&config.plugin_name);
        let files = [("socketPath", Some(&config.socket_path)), ("logs.file", config.logs.as_ref().map(|logs| &logs.file))];
        for (field, path) in files {
            let name = path.filter(|path| path.parent() == Some(&folder)).and_then(|path| path.file_name());
            if name.is_some_and(|name| is_of_record(Path::new(name))) {
                let problem = "must not be a file of the manager, such as daemon.pid".to_owned();
                return Err(Failure::InvalidConfig { field: field.to_owned(), problem });
            }
        }
        let Some(logs) = &config.logs else { return Ok(()) };
        let daemons = self.context.daemons.known();
        let other = daemons.iter().find(|daemon| daemon.name != config.plugin_name && daemon.writes_log(logs));
        other.map_or(Ok(()), |other| Err(same_log_file(&other.name, logs)))
    }

    pub fn abort(&self, name: &str, ticket: Ticket) {
        if let Some(daemon) = self.context.daemons.get(name) {
            daemon.feed(Event::StartAborted { ticket });
        }
    }

    /// The start ends not before `by` from now. Without effect before its process is there.
    pub fn extend_start(&self, name: &str, ticket: Ticket, by: Duration) {
        if let Some(daemon) = self.context.daemons.get(name) {
            daemon.feed(Event::StartExtended { ticket, by });
        }
    }

    /// The start fails now, as if its startupTimeout were over. Without effect before its process is there.
    pub fn expire_start(&self, name: &str, ticket: Ticket) {
        if let Some(daemon) = self.context.daemons.get(name) {
            daemon.feed(Event::StartExpired { ticket });
        }
    }

    /// The ticket is settled when the plugin runs, or is at rest.
    pub fn when_running(&self, name: &str) -> Ticket {
        self.request(name, |ticket| Event::WaitRequested { ticket })
    }

    /// The ticket is settled when the plugin runs, is armed, or is at rest.
    pub fn when_usable(&self, name: &str) -> Ticket {
        self.request(name, |ticket| Event::UseRequested { ticket })
    }

    pub fn abort_wait(&self, name: &str, ticket: Ticket) {
        if let Some(daemon) = self.context.daemons.get(name) {
            daemon.feed(Event::WaitAborted { ticket });
        }
    }
}
