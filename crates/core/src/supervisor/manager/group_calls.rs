//! startGroup and stopGroup.

use std::sync::Arc;

use super::groups::{
    Begun, GroupStart, Starting, at_index, finish_group, not_started, not_stopped, parse_all, settle_group, stop_in_order,
};
use super::{AcceptedGroup, GroupOutcome, Manager};
use crate::config::{Parsed, ProcessConfig, Raw};
use crate::error::Failure;
use crate::lifecycle::dependencies::Dependent;
use crate::lifecycle::{Event, Ticket};
use crate::supervisor::daemon::Daemon;
use crate::supervisor::report::Refusal;
use crate::supervisor::runtime;

impl Manager {
    /// Starts all of `configs`, each after what it depends on. If one fails, those that were started are stopped.
    ///
    /// # Errors
    /// One cause for each configuration that is wrong. Nothing was started then.
    pub fn start_group(&self, configs: &[Raw], inherited: &Arc<str>) -> Result<AcceptedGroup, Box<Refusal>> {
        self.start_parsed_group(parse_all(configs)?, inherited)
    }

    /// As [`Self::start_group`], of checked configurations.
    ///
    /// # Errors
    /// As [`Self::start_group`].
    pub fn start_parsed_group(&self, parsed: Vec<Parsed>, inherited: &Arc<str>) -> Result<AcceptedGroup, Box<Refusal>> {
        let Begun { jobs, started, .. } = self.begin_group(parsed, inherited)?;
        let (ticket, context) = (self.context.tickets.for_caller(), Arc::clone(&self.context));
        drop(runtime::spawn(async move {
            if let Some(outcome) = started.await {
                settle_group(&context, ticket, outcome);
            }
        }));
        Ok(AcceptedGroup { ticket, jobs })
    }

    /// As [`Self::start_parsed_group`], without a ticket for the whole group.
    ///
    /// # Errors
    /// As [`Self::start_group`].
    pub(crate) fn begin_group(
        &self,
        parsed: Vec<Parsed>,
        inherited: &Arc<str>,
    ) -> Result<Begun<impl Future<Output = Option<GroupOutcome>> + Send + use<>>, Box<Refusal>> {
        self.must_be_open().map_err(|failure| Box::new(Refusal::new(String::new(), failure)))?;
        let order = self.group_order(&parsed)?;
        let mut jobs = vec![0; parsed.len()];
        let mut waiting: Vec<Option<Parsed>> = parsed.into_iter().map(Some).collect();
        let group = GroupStart::new();
        let mut starting = Vec::new();
        for index in order {
            let Some(parsed) = waiting.get_mut(index).and_then(Option::take) else { continue };
            let name = parsed.config.plugin_name.clone();
            let member = group.member();
            let (ticket, answer) = self.context.tickets.for_supervisor();
            let accepted = self.begin(self.job(parsed, Arc::clone(inherited), Some(Arc::clone(&member)), ticket, None));
            if let Some(job) = jobs.get_mut(index).filter(|_| accepted.accepted) {
                *job = accepted.ticket;
            }
            if let Some(daemon) = self.context.daemons.get(&name) {
                starting.push(Starting { daemon, member, answer });
            }
        }
        let started = finish_group(Arc::clone(&self.context), Arc::clone(&group), starting);
        Ok(Begun { jobs, group, started })
    }

    /// The indices of a group's plugins in the order of their starts.
    fn group_order(&self, parsed: &[Parsed]) -> Result<Vec<usize>, Box<Refusal>> {
        let refused = |index: usize, failure| {
            let name = parsed.get(index).map(|parsed| parsed.config.plugin_name.clone()).unwrap_or_default();
            Refusal::new(name, failure)
        };
        let starting: Vec<_> =
            parsed.iter().map(|Parsed { config, .. }| Dependent { name: &config.plugin_name, depends_on: &config.depends_on }).collect();
        let order = self
            .order(&starting)
            .map_err(|(index, problem)| Box::new(not_started(parsed.len(), vec![refused(index, Failure::Dependency { problem })])))?;
        let causes: Vec<_> = parsed.iter().enumerate().filter_map(|(index, parsed)| self.unstartable(index, &parsed.config)).collect();
        if causes.is_empty() { Ok(order) } else { Err(Box::new(not_started(parsed.len(), causes))) }
    }

    /// Why the plugin at this index of a group can't be started.
    pub(crate) fn unstartable(&self, index: usize, config: &ProcessConfig) -> Option<Refusal> {
        let refused = |failure| Some(Refusal::new(config.plugin_name.clone(), failure));
        if let Err(failure) = self.check_files(config) {
            return refused(at_index(index, failure));
        }
        let daemon = self.context.daemons.get_known(&config.plugin_name).filter(|daemon| !daemon.is_startable())?;
        refused(Failure::AlreadyRunning(daemon.peek(|snapshot| snapshot.state)))
    }

    /// Stops the plugins whose configuration has this group, dependents first.
    pub fn stop_group(&self, group: &str) -> Ticket {
        let ticket = self.context.tickets.for_caller();
        self.stop_group_for(ticket, group);
        ticket
    }

    /// As [`Self::stop_group`], for a ticket that exists.
    pub(crate) fn stop_group_for(&self, ticket: Ticket, group: &str) {
        let is_member = |daemon: &Arc<Daemon>| daemon.job().config.group.as_deref() == Some(group);
        let members: Vec<_> = self.context.daemons.known().into_iter().filter(is_member).collect();
        if members.is_empty() {
            return self.context.tickets.settle(ticket, Ok(()));
        }
        let names: Vec<String> = members.iter().map(|daemon| daemon.name.clone()).collect();
        names.iter().for_each(|name| self.warn_of_dependents(name, &names));
        let (context, count) = (Arc::clone(&self.context), members.len());
        let stopping = runtime::spawn(async move {
            let causes = stop_in_order(Arc::clone(&context), members, |ticket| Event::StopRequested { ticket }).await;
            let outcome = if causes.is_empty() { Ok(()) } else { Err(not_stopped(count, causes)) };
            context.tickets.settle(ticket, outcome);
        });
        if stopping.is_none() {
            // Without a runtime no daemon was ever started.
            self.context.tickets.settle(ticket, Ok(()));
        }
    }

    /// Stops these plugins, dependents first. Returns the failures.
    pub(crate) async fn stop_named(&self, names: &[String]) -> Vec<Refusal> {
        let daemons = names.iter().filter_map(|name| self.context.daemons.get_known(name)).collect();
        stop_in_order(Arc::clone(&self.context), daemons, |ticket| Event::StopRequested { ticket }).await
    }
}
