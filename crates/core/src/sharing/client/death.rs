//! What follows the host's death. The keepers end the daemons, as after an owner's death, and the sessions that had them start them
//! again in a new host.

use std::path::Path;
use std::time::Duration;

use ally_base::os::{self, Process};
use tokio::time::{Instant, sleep, timeout};

use super::plugin::Plugin;
use super::task::Task;
use super::{Asked, What};
use crate::error::Failure;
use crate::lifecycle::KILL_TIMEOUT;
use crate::supervisor::Folder;
use crate::supervisor::runtime::{self, exit};

/// The pause between two looks: flock(2) has no event for a release, and the host is no child of this process.
const PAUSE: Duration = Duration::from_millis(5);
/// A host that closes a connection and lives longer than this has not died.
const DEATH_LIMIT: Duration = Duration::from_secs(2);

impl Task {
    /// The host has left by itself, so no daemon is left. Calls that it has not answered are for the next one.
    pub fn host_left(&mut self) {
        for plugin in self.inner.lock().values_mut() {
            self.inner.change_in(plugin, Plugin::host_left);
        }
        self.send_again();
    }

    /// The connection has ended.
    pub async fn host_died(&mut self) {
        let has_died = match self.host.take() {
            Some(host) => is_gone(&host).await,
            None => true,
        };
        let mut again = Vec::new();
        for plugin in self.inner.lock().values_mut() {
            let restarts = self.inner.change_in(plugin, |plugin| if has_died { plugin.host_died() } else { plugin.connection_lost() });
            if restarts {
                again.push(plugin.name.clone());
            }
        }
        let calls: Vec<Asked> = std::mem::take(&mut self.calls).into_values().map(|call| call.asked).collect();
        // A start that is not answered is made again as itself.
        again.retain(|name| !calls.iter().any(|call| call.plugin == *name && matches!(call.what, What::Start { .. })));
        for plugin in again {
            self.note(Asked { plugin, ticket: None, what: What::Start { begun: Instant::now() } });
        }
        for asked in calls {
            self.repeat(asked, has_died);
        }
    }

    fn repeat(&mut self, asked: Asked, has_died: bool) {
        match asked.what {
            What::LetGo | What::Everywhere if has_died => self.answer_at_tree_end(asked),
            // The restart that happens.
            What::Restart if has_died => self.note(Asked { what: What::Wait, ..asked }),
            What::Upgrade { .. } if has_died => {
                let cause = Box::new(Failure::Internal { problem: "the host was killed".to_owned() });
                self.inner.answered(asked, Err(Failure::Upgrade { cause }));
            }
            // The hold has ended with the connection.
            What::Abandon => self.inner.answered(asked, Ok(())),
            What::Metrics | What::Abort(_) => {}
            _ => self.note(asked),
        }
    }

    /// The stop is carried out by the keeper.
    fn answer_at_tree_end(&self, asked: Asked) {
        let inner = std::sync::Arc::clone(&self.inner);
        let grace = inner.lock().get(&asked.plugin).map_or(Duration::ZERO, |plugin| plugin.start.config.shutdown_grace_period);
        drop(runtime::spawn(async move {
            let outcome = tree_end(&inner.context.options.envs_dir, &asked.plugin, grace).await;
            inner.answered(asked, outcome);
        }));
    }

    fn send_again(&mut self) {
        let calls: Vec<Asked> = std::mem::take(&mut self.calls).into_values().map(|call| call.asked).collect();
        calls.into_iter().for_each(|asked| self.note(asked));
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

/// Waits until no keeper holds the plugin's name.
async fn tree_end(envs_dir: &Path, plugin: &str, grace: Duration) -> Result<(), Failure> {
    let folder = Folder::open(envs_dir, plugin)?;
    let deadline = Instant::now() + grace + KILL_TIMEOUT;
    loop {
        if let Ok(lock) = folder.try_lock()? {
            return lock.release().map_err(|error| Failure::call("flock", folder.path(), error));
        }
        if Instant::now() > deadline {
            return Err(Failure::StopFailed { survivors: Vec::new() });
        }
        sleep(PAUSE).await;
    }
}
