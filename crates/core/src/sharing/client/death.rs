//! What follows the host's death. The keepers end the daemons, as after an owner's death, and the sessions that had them start them
//! again in a new host.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ally_base::os::{self, Process};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::plugin::Plugin;
use super::task::{Pending, Task};
use super::{Asked, Command, Inner, What};
use crate::error::Failure;
use crate::model::Pid;
use crate::supervisor::await_tree_end;
use crate::supervisor::runtime::{self, exit};

/// The pause between two looks: flock(2) has no event for a release, and the host is no child of this process.
const PAUSE: Duration = Duration::from_millis(5);
/// A host that closes a connection and lives longer than this has not died.
const DEATH_LIMIT: Duration = Duration::from_secs(2);

/// The plugins of the session after the end of its connection.
#[derive(Default)]
struct Parted {
    /// They must be started again.
    again: Vec<String>,
    /// The host was stopping them for all, and nobody starts them again.
    ended: Vec<String>,
}

impl Task {
    /// The host has left by itself, so no daemon is left, except for those that it could not end. Calls that it has not answered are
    /// for the next one.
    pub fn host_left(&mut self, left: &[String]) {
        let host = self.host_pid;
        if !left.is_empty() {
            self.dead = Some(host);
        }
        let is_stop = |asked: &Asked| left.contains(&asked.plugin) && matches!(asked.what, What::LetGo | What::Everywhere { .. });
        // The next host has nothing of them.
        let (stops, calls): (BTreeMap<_, _>, _) = std::mem::take(&mut self.calls).into_iter().partition(|(_, call)| is_stop(&call.asked));
        self.calls = calls;
        for call in stops.into_values() {
            self.inner.answer_at_tree_end(call.asked, host);
        }
        for plugin in self.inner.lock().values_mut() {
            let outlives = left.contains(&plugin.name).then_some(host);
            self.inner.change_in(plugin, |plugin| plugin.host_left(outlives));
        }
        self.send_again();
    }

    /// The connection has ended.
    pub async fn host_died(&mut self, commands: &mut mpsc::UnboundedReceiver<Command>) {
        let has_died = match self.host.take() {
            Some(host) => is_gone(&host).await,
            None => true,
        };
        // A stop that was asked for meanwhile is one of this host's daemon.
        while let Ok(command) = commands.try_recv() {
            if let Command::Ask(asked) = command {
                self.note(asked);
            }
        }
        let after = has_died.then_some(self.host_pid);
        self.dead = after.or(self.dead);
        let Parted { again, ended } = self.part_from_daemons(has_died);
        let is_over = |call: &Asked| matches!(call.what, What::Wait | What::Restart) && ended.contains(&call.plugin);
        let (over, calls): (Vec<Asked>, _) = self.take_wanted().into_iter().partition(is_over);
        over.into_iter().for_each(|asked| self.inner.answered(asked, Err(Failure::Stopped)));
        // A start that is not answered is made again as itself.
        let is_asked = |name: &str| calls.iter().any(|call| call.plugin == name && matches!(call.what, What::Start { .. }));
        for plugin in again.into_iter().filter(|name| !is_asked(name)) {
            let Some(number) = self.inner.lock().get(&plugin).map(Plugin::number) else { continue };
            self.note(Asked { plugin, ticket: None, what: What::Start { number, begun: Instant::now(), after } });
        }
        // Those that this session has stopped itself end with its call.
        let is_stopped = |name: &str| calls.iter().any(|call| call.plugin == name && matches!(call.what, What::Everywhere { .. }));
        for plugin in ended.into_iter().filter(|name| !is_stopped(name)) {
            self.inner.answer_at_tree_end(Asked { plugin, ticket: None, what: What::LetGo }, self.host_pid);
        }
        for asked in calls {
            self.repeat(asked, after);
        }
    }

    fn part_from_daemons(&self, has_died: bool) -> Parted {
        let is_stopped = |name: &str| {
            let mut calls = self.calls.values().map(|call| &call.asked);
            calls.any(|asked| asked.plugin == name && matches!(asked.what, What::Everywhere { .. }))
        };
        let mut parted = Parted::default();
        for plugin in self.inner.lock().values_mut() {
            let ends_for_all = plugin.ends_for_all();
            let restarts = if !has_died {
                self.inner.change_in(plugin, Plugin::connection_lost)
            } else if ends_for_all || is_stopped(&plugin.name) {
                self.inner.change_in(plugin, |plugin| plugin.host_died_stopping(self.host_pid))
            } else {
                self.inner.change_in(plugin, |plugin| plugin.host_died(self.host_pid))
            };
            if restarts {
                parted.again.push(plugin.name.clone());
            } else if has_died && ends_for_all {
                parted.ended.push(plugin.name.clone());
            }
        }
        parted
    }

    /// `after`: the host, if it has died.
    fn repeat(&mut self, asked: Asked, after: Option<Pid>) {
        match (asked.what, after) {
            (What::LetGo, Some(dead)) => self.inner.answer_at_tree_end(Asked { what: What::LetGo, ..asked }, dead),
            // The sessions that have the daemon start it again in the next host, in which this stop precedes or follows them.
            (What::Everywhere { .. }, Some(_)) => self.note(Asked { what: What::Everywhere { after }, ..asked }),
            (What::Start { number, begun, .. }, Some(_)) => self.note(Asked { what: What::Start { number, begun, after }, ..asked }),
            // The restart that happens.
            (What::Restart, Some(_)) => self.note(Asked { what: What::Wait, ..asked }),
            (what @ What::Upgrade { .. }, Some(_)) => {
                let cause = Box::new(Failure::Internal { problem: "the host was killed".to_owned() });
                self.inner.answered(Asked { what, ..asked }, Err(Failure::Upgrade { cause }));
            }
            // The hold has ended with the connection.
            (What::Abandon, _) => self.inner.answered(Asked { what: What::Abandon, ..asked }, Ok(())),
            (What::Metrics | What::Abort(_), _) => {}
            (what, _) => self.note(Asked { what, ..asked }),
        }
    }

    /// The calls for the next host. A start whose session has let go meanwhile is none of them: nobody would take it back there. Nor is
    /// what its caller has aborted.
    fn take_wanted(&mut self) -> Vec<Asked> {
        let calls: Vec<Pending> = std::mem::take(&mut self.calls).into_values().collect();
        let is_start = |asked: &Asked| matches!(asked.what, What::Start { .. });
        let (wanted, parted): (Vec<Pending>, Vec<Pending>) = calls.into_iter().partition(|Pending { asked, aborted, .. }| {
            let is_parted = is_start(asked) && !self.inner.lock().get(&asked.plugin).is_some_and(Plugin::is_joining);
            !is_parted && !*aborted
        });
        let wanted: Vec<Asked> = wanted.into_iter().map(|call| call.asked).collect();
        for Pending { asked, .. } in parted {
            let is_stopping = |call: &Asked| call.plugin == asked.plugin && matches!(call.what, What::LetGo | What::Everywhere { .. });
            let is_ending = self.inner.lock().get(&asked.plugin).is_some_and(Plugin::is_ending_for_all);
            if is_ending || wanted.iter().any(is_stopping) {
                // The state follows with the stop.
                self.inner.settle(asked.ticket, &asked.plugin, Err(Failure::Stopped));
            } else {
                self.inner.answered(asked, Err(Failure::Stopped));
            }
        }
        wanted
    }

    fn send_again(&mut self) {
        for mut asked in self.take_wanted() {
            // The host may have ended its daemons since then.
            if let What::Start { begun, .. } = &mut asked.what {
                *begun = Instant::now();
            }
            self.note(asked);
        }
    }
}

impl Inner {
    /// The stop is carried out by the keeper of this host, which is gone.
    pub(super) fn answer_at_tree_end(self: &Arc<Self>, asked: Asked, dead: Pid) {
        let inner = Arc::clone(self);
        let grace = inner.lock().get(&asked.plugin).map_or(Duration::ZERO, |plugin| plugin.start.config.shutdown_grace_period);
        drop(runtime::spawn(async move {
            let outcome = await_tree_end(&inner.context.options.envs_dir, &asked.plugin, dead, grace).await;
            if let Err(failure) = &outcome {
                inner.change(&asked.plugin, |plugin| plugin.not_ended(failure, dead));
            }
            inner.answered(asked, outcome);
        }));
    }
}

async fn is_gone(host: &Process) -> bool {
    let begun = Instant::now();
    if let Ok(Some(handle)) = os::open(host) {
        // Without an event for the exit the process is asked.
        drop(timeout(DEATH_LIMIT, exit(&handle)).await);
    }
    while host.lives().unwrap_or(true) {
        if begun.elapsed() > DEATH_LIMIT {
            return false;
        }
        sleep(PAUSE).await;
    }
    true
}
