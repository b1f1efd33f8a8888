//! What the calls and the task of a session have in common.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::plugin::{Plugin, is_refusal};
use super::{Asked, Command, HostView, Inner, What, look, task};
use crate::error::{DependencyProblem, Failure};
use crate::lifecycle::Ticket;
use crate::model::Pid;
use crate::sharing::place::note;
use crate::supervisor::{Explained, Refusal, SharedPlugins, Usable, runtime};

impl SharedPlugins for Inner {
    fn dependents(&self) -> Vec<(String, Vec<String>)> {
        let Some(plugins) = self.lock_if_used() else { return Vec::new() };
        plugins
            .values()
            .filter(|plugin| self.shows(plugin))
            .map(|plugin| (plugin.name.clone(), plugin.start.config.depends_on.clone()))
            .collect()
    }

    fn until_usable(self: Arc<Self>, name: &str) -> Option<Usable> {
        let is_known = self.lock_if_used()?.get(name).is_some_and(|plugin| self.shows(plugin));
        let name = name.to_owned();
        is_known.then(|| Box::pin(async move { Self::until_usable(&self, &name).await }) as Usable)
    }

    fn explain(self: Arc<Self>, name: &str, owner: Pid) -> Explained {
        let name = name.to_owned();
        Box::pin(async move {
            if note(&self.target.envs_dir)?.pid != owner {
                return None;
            }
            let HostView { host, plugins } = look(&self.target).await.ok()??;
            let listed = plugins.into_iter().find(|listed| listed.plugin == name).filter(|_| host == owner)?;
            Some(Failure::SharedElsewhere { host, sessions: listed.shown.sessions, linger: listed.linger })
        })
    }

    fn end_following(&self, name: &str) {
        let Some(plugins) = self.lock_if_used() else { return };
        if let Some(plugin) = plugins.get(name) {
            plugin.tail.close();
        }
    }
}

impl Inner {
    /// Gives the call to the task. The first call makes it.
    pub(super) fn ask(self: &Arc<Self>, asked: Asked) {
        let refused = self.enqueue(asked);
        self.answer_refused(refused);
    }

    /// Returns the call if there is no task.
    pub(super) fn enqueue(self: &Arc<Self>, asked: Asked) -> Option<Asked> {
        let mut commands = self.commands();
        let sender = commands.get_or_insert_with(|| {
            let (sender, receiver) = mpsc::unbounded_channel();
            drop(runtime::spawn(task::run(Arc::clone(self), receiver)));
            sender
        });
        match sender.send(Command::Ask(asked)) {
            Err(mpsc::error::SendError(Command::Ask(asked))) => Some(asked),
            Ok(()) | Err(_) => None,
        }
    }

    /// What the plugin depends on runs. The start is sent in one step with the look whether it is still wanted, so that a stop precedes
    /// or follows it.
    pub(super) fn send_withheld(self: &Arc<Self>, asked: Asked) {
        let mut plugins = self.lock();
        let wanted = plugins.get_mut(&asked.plugin).filter(|plugin| Some(plugin.start.job) == asked.ticket && plugin.withholds());
        let Some(plugin) = wanted else {
            drop(plugins);
            return self.answered(asked, Err(Failure::Stopped));
        };
        plugin.withhold(false);
        let refused = self.enqueue(Asked { what: What::Start { number: plugin.number(), begun: Instant::now(), after: None }, ..asked });
        drop(plugins);
        self.changes.send_replace(());
        self.answer_refused(refused);
    }

    /// Without a runtime, or after a panic of the task.
    fn answer_refused(&self, refused: Option<Asked>) {
        if let Some(asked) = refused {
            self.answered(asked, Err(Failure::Internal { problem: "the connection to the host of shared daemons is gone".to_owned() }));
        }
    }

    /// Waits at the host until the plugin runs.
    pub(super) fn wait(self: &Arc<Self>, name: &str, ticket: Ticket) {
        let settled = self.lock().get(name).map(Plugin::settled_wait);
        match settled {
            Some(Some(failure)) => self.settle(Some(ticket), name, Err(failure)),
            Some(None) => self.ask(Asked { plugin: name.to_owned(), ticket: Some(ticket), what: What::Wait }),
            None => self.settle(Some(ticket), name, Err(Failure::NotFound)),
        }
    }

    /// A call is answered.
    pub(super) fn answered(&self, asked: Asked, outcome: Result<(), Failure>) {
        let Asked { plugin: name, ticket, what } = asked;
        match what {
            What::Start { number, .. } => {
                self.change(&name, |plugin| plugin.start_answered(number, &outcome));
                if outcome.as_ref().err().is_none_or(|failure| !is_refusal(failure)) {
                    // What it was as an exclusive plugin. Of a refused start that stays.
                    self.context.forget(&name);
                }
            }
            What::Abandon => self.abandoned(&name),
            // The host's death has made this session let go.
            What::Everywhere { after: Some(_) } => drop(self.change(&name, |plugin| plugin.let_go_answered(&outcome))),
            What::Everywhere { after: None } => {}
            What::LetGo => drop(self.change(&name, |plugin| plugin.let_go_answered(&outcome))),
            What::Upgrade { start, .. } if outcome.is_ok() => drop(self.change(&name, |plugin| plugin.has_upgraded(*start))),
            _ => {}
        }
        self.settle(ticket, &name, outcome);
    }

    fn abandoned(&self, name: &str) {
        self.change(name, Plugin::has_abandoned);
        // It was forgotten, and nothing was started since.
        self.lock().retain(|other, plugin| other != name || plugin.is_known() || plugin.is_held() || plugin.is_abandoned());
    }

    pub(super) fn settle(&self, ticket: Option<Ticket>, plugin: &str, outcome: Result<(), Failure>) {
        if let Some(ticket) = ticket {
            self.context.tickets.settle(ticket, outcome.map_err(|failure| Refusal::new(plugin.to_owned(), failure)));
        }
    }

    pub(super) fn change<T>(&self, name: &str, change: impl FnOnce(&mut Plugin) -> T) -> Option<T> {
        let mut plugins = self.lock();
        let plugin = plugins.get_mut(name)?;
        Some(self.change_in(plugin, change))
    }

    /// Whether callers see the plugin as a shared one. Of two of a name they see the shared one while the session has it, and
    /// otherwise the exclusive one, which came later: what it was as a shared one is seen again if the exclusive start is refused.
    pub(super) fn shows(&self, plugin: &Plugin) -> bool {
        plugin.is_known() && (plugin.is_held() || self.context.daemons.peek(&plugin.name, |_| ()).is_none())
    }

    /// Changes a plugin, and with it whether it keeps the event loop alive.
    pub(super) fn change_in<T>(&self, plugin: &mut Plugin, change: impl FnOnce(&mut Plugin) -> T) -> T {
        let before = plugin.is_pending();
        let value = change(plugin);
        let after = plugin.is_pending();
        if before != after {
            self.context.set_shared_pending(after);
        }
        self.changes.send_replace(());
        value
    }

    pub(super) async fn until_all_usable(&self, names: &[String]) -> Result<(), Failure> {
        for name in names {
            self.until_usable(name).await.map_err(|failure| {
                let problem = DependencyProblem::NotRunning { name: name.clone(), cause: Box::new(failure) };
                Failure::Dependency { problem }
            })?;
        }
        Ok(())
    }

    pub(super) async fn until_usable(&self, name: &str) -> Result<(), Failure> {
        let usable = || {
            let plugins = self.lock();
            plugins.get(name).filter(|plugin| self.shows(plugin)).map_or(Some(Err(Failure::NotFound)), Plugin::usable)
        };
        self.until(usable).await
    }

    /// Resolves when the session does not start the plugin with this job any more.
    pub(super) async fn until_parted(&self, name: &str, job: Ticket) {
        self.until(|| {
            let plugins = self.lock();
            let starts = plugins.get(name).is_some_and(|plugin| plugin.start.job == job && plugin.is_joining());
            (!starts).then_some(())
        })
        .await;
    }

    pub(super) async fn until<T>(&self, read: impl Fn() -> Option<T>) -> T {
        let mut changes = self.changes.subscribe();
        loop {
            changes.mark_unchanged();
            if let Some(value) = read() {
                return value;
            }
            // The sender lives as long as this session.
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    pub(super) fn next_request(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed)
    }

    /// `None` if there was never a shared plugin.
    pub(super) fn lock_if_used(&self) -> Option<MutexGuard<'_, HashMap<String, Plugin>>> {
        self.is_used.load(Ordering::Acquire).then(|| self.lock())
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, HashMap<String, Plugin>> {
        self.plugins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn commands(&self) -> MutexGuard<'_, Option<mpsc::UnboundedSender<Command>>> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
