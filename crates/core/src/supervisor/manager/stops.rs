//! The calls that stop, restart and forget daemons.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::groups::{in_stop_order, stop_in_order};
use super::{Leftovers, Manager};
use crate::error::Failure;
use crate::lifecycle::{Event, Ticket};
use crate::supervisor::daemon::Daemon;
use crate::supervisor::ownership::{end_by_force, stop_leftovers, tidy_leftovers};
use crate::supervisor::report::{Refusal, log};
use crate::supervisor::runtime;

impl Manager {
    /// `stopping`: the plugins that are stopped as well.
    pub(super) fn warn_of_dependents(&self, name: &str, stopping: &[String]) {
        if !self.context.daemons.has_dependents() {
            return;
        }
        let depends = |daemon: &Arc<Daemon>| {
            daemon.peek(|snapshot| snapshot.pid.is_some())
                && !stopping.contains(&daemon.name)
                && daemon.job().config.depends_on.iter().any(|other| other == name)
        };
        let mut left: Vec<String> =
            self.context.daemons.known().iter().filter(|daemon| depends(daemon)).map(|daemon| daemon.name.clone()).collect();
        if !left.is_empty() {
            left.sort_unstable();
            log!(self.context.reporter(name), warn, "is stopped while plugins that depend on it run: {}", left.join(", "));
        }
    }

    /// Stops the daemon of a start that became ready and was aborted before its promise settled. The ticket is settled at the
    /// end of the stop.
    pub fn revoke(&self, name: &str, ticket: Ticket) -> Ticket {
        self.request(name, |answer| Event::StartRevoked { ticket, answer })
    }

    /// Ends what another owner has or left of a plugin that this manager does not know. Starts nothing.
    ///
    /// # Errors
    /// As [`Self::start`], without `InvalidConfig`. All else comes with the ticket.
    pub fn end_leftovers(&self, name: &str, what: Leftovers) -> Result<Ticket, Failure> {
        self.must_be_open()?;
        let ticket = self.context.tickets.for_caller();
        let (context, reporter, name) = (Arc::clone(&self.context), self.context.reporter(name), name.to_owned());
        let ending = async move {
            let envs_dir = &context.options.envs_dir;
            let ended = match what {
                Leftovers::Stop => stop_leftovers(envs_dir, &name, &reporter).await,
                Leftovers::Tidy => tidy_leftovers(envs_dir, &name, &reporter),
                Leftovers::Force => end_by_force(envs_dir, &name).await,
            };
            context.tickets.settle(ticket, ended.map_err(|failure| Refusal::new(name, failure)));
        };
        // The supervisor's thread runs: `must_be_open`.
        drop(runtime::spawn(ending));
        Ok(ticket)
    }

    pub fn stop(&self, name: &str) -> Ticket {
        let ticket = self.context.tickets.for_caller();
        match self.context.daemons.get_known(name) {
            Some(daemon) => {
                self.warn_of_dependents(name, &[]);
                daemon.feed(Event::StopRequested { ticket });
            }
            None => self.context.tickets.settle(ticket, Ok(())),
        }
        ticket
    }

    pub fn restart(&self, name: &str) -> Ticket {
        // Before the daemons have heard of the shutdown.
        if let (Err(failure), Some(_)) = (self.must_be_open(), self.context.daemons.get_known(name)) {
            let ticket = self.context.tickets.for_caller();
            self.context.tickets.settle(ticket, Err(Refusal::new(name.to_owned(), failure)));
            return ticket;
        }
        self.request(name, |ticket| Event::RestartRequested { ticket })
    }

    /// A request of a known plugin. For an unknown one: `NotFound`.
    pub(super) fn request(&self, name: &str, event: impl FnOnce(Ticket) -> Event) -> Ticket {
        let ticket = self.context.tickets.for_caller();
        match self.context.daemons.get_known(name) {
            Some(daemon) => daemon.feed(event(ticket)),
            None => self.context.tickets.settle(ticket, Err(Refusal::new(name.to_owned(), Failure::NotFound))),
        }
        ticket
    }

    pub fn stop_all(&self) -> Ticket {
        let ticket = self.context.tickets.for_caller();
        self.stop_all_for(ticket);
        ticket
    }

    /// As [`Self::stop_all`], for a ticket that exists.
    pub(crate) fn stop_all_for(&self, ticket: Ticket) {
        self.closed.store(true, Ordering::Relaxed);
        let daemons = self.context.daemons.known();
        if daemons.is_empty() {
            return self.context.tickets.settle(ticket, Ok(()));
        }
        if self.context.daemons.has_dependents() {
            // First, so that nothing is started or restarted while others are stopped. In this order, so that a start that waits for
            // another one hears of its own end first.
            in_stop_order(&daemons).into_iter().for_each(|daemon| daemon.feed(Event::Closed));
        }
        let context = Arc::clone(&self.context);
        let stopping = runtime::spawn(async move {
            // Each failure is logged when it happens.
            drop(stop_in_order(Arc::clone(&context), daemons, |ticket| Event::ShutdownRequested { ticket }).await);
            context.tickets.settle(ticket, Ok(()));
        });
        if stopping.is_none() {
            // Without a runtime no daemon was ever started.
            self.context.tickets.settle(ticket, Ok(()));
        }
    }

    /// False if the plugin is unknown, or a process of it is left. Also removes what an unknown plugin's refused start left.
    pub fn forget(&self, name: &str) -> bool {
        self.context.forget(name)
    }

    /// Whether no process of the plugin is left.
    pub(crate) fn may_be_forgotten(&self, name: &str) -> bool {
        self.context.daemons.peek(name, |daemon| daemon.peek(|snapshot| snapshot.forgettable)).unwrap_or(true)
    }
}
