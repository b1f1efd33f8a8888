//! What all daemons of one manager have in common.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::TARGET;
use super::guardian_client::GuardianClient;
use super::mailbox::{Mailbox, Message, Refusal};
use crate::lifecycle::Ticket;
use ally_base::wire::OwnerDeath;

pub struct Options {
    pub envs_dir: PathBuf,
    pub owner_death: OwnerDeath,
    /// Where the guardian's program is.
    pub guardian: PathBuf,
}

/// Whether anyone listens to these events, which come too often to be told to nobody.
#[derive(Debug, Default)]
pub struct Listeners {
    pub output: AtomicBool,
    pub health: AtomicBool,
}

pub struct Shared {
    pub id: u64,
    pub options: Options,
    pub mailbox: Arc<Mailbox>,
    pub guardian: Arc<GuardianClient>,
    pub listeners: Arc<Listeners>,
    active: AtomicUsize,
    /// Who uses which socket path, from before the spawn until rest.
    claims: Mutex<HashMap<PathBuf, String>>,
    /// stopAllProcesses waits for several tickets of its own.
    shutdowns: Mutex<HashMap<Ticket, Arc<Shutdown>>>,
}

struct Shutdown {
    ticket: Ticket,
    left: AtomicUsize,
}

impl Shared {
    pub fn new(id: u64, options: Options, wake: Box<dyn Fn() + Send + Sync>) -> Self {
        Self {
            id,
            guardian: GuardianClient::new(options.guardian.clone(), id),
            options,
            mailbox: Arc::new(Mailbox::new(wake)),
            listeners: Arc::default(),
            active: AtomicUsize::new(0),
            claims: Mutex::default(),
            shutdowns: Mutex::default(),
        }
    }

    /// Whether anything is still going to happen by itself.
    pub fn is_active(&self) -> bool {
        self.active.load(Ordering::Acquire) > 0
    }

    /// `ticket` is settled when all of its parts are.
    pub fn answer_together(&self, ticket: Ticket, parts: &[Ticket]) {
        let shutdown = Arc::new(Shutdown { ticket, left: AtomicUsize::new(parts.len()) });
        self.shutdowns().extend(parts.iter().map(|part| (*part, Arc::clone(&shutdown))));
    }

    pub fn settle(&self, ticket: Ticket, outcome: Result<(), Refusal>) {
        let shutdown = self.shutdowns().remove(&ticket);
        let Some(shutdown) = shutdown else { return self.mailbox.post(Message::Settled { ticket, outcome }) };
        if let Err(refusal) = outcome {
            let problem = refusal.failure.message(&refusal.plugin);
            tracing::error!(target: TARGET, manager = self.id, plugin = refusal.plugin, problem, "could not be stopped");
        }
        if shutdown.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.mailbox.post(Message::Settled { ticket: shutdown.ticket, outcome: Ok(()) });
        }
    }

    /// One daemon began, or came to rest.
    pub fn activity_changed(&self, active: bool) {
        if active {
            self.active.fetch_add(1, Ordering::AcqRel);
            self.guardian.keep();
        } else if self.active.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.guardian.release();
            self.mailbox.nudge();
        }
    }

    /// # Errors
    /// The plugin that uses this path.
    pub fn claim(&self, path: &Path, plugin: &str) -> Result<(), String> {
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        let claimant = claims.entry(path.to_owned()).or_insert_with(|| plugin.to_owned());
        if claimant == plugin { Ok(()) } else { Err(claimant.clone()) }
    }

    pub fn disclaim(&self, path: &Path, plugin: &str) {
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        if claims.get(path).is_some_and(|claimant| claimant == plugin) {
            claims.remove(path);
        }
    }

    fn shutdowns(&self) -> MutexGuard<'_, HashMap<Ticket, Arc<Shutdown>>> {
        self.shutdowns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
