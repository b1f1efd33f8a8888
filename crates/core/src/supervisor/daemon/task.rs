//! The task of one daemon. It carries out the machine's effects in order, and feeds the machine events. All decisions are the
//! machine's.

use std::future::pending;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use super::attempt::Attempt;
use super::socket_place::SecondName;
use super::{Daemon, EffectBatch, Job};
use crate::error::Failure;
use crate::lifecycle::{Event, Generation};
use crate::supervisor::manager::ManagerContext;
use crate::supervisor::ownership::Lease;
use crate::supervisor::report::log;
use crate::supervisor::runtime::{self, Boxed, FolderChanges};
use crate::supervisor::socket::HeldSocket;

pub struct Task {
    pub(super) daemon: Arc<Daemon>,
    pub(super) context: Arc<ManagerContext>,
    /// Of the generation that serves, or may serve.
    pub(super) job: Arc<Job>,
    /// Of the other generation of an upgrade.
    pub(super) other_job: Option<Arc<Job>>,
    /// In boxes, because a channel has room for 32 messages from the beginning.
    batches: UnboundedReceiver<Box<EffectBatch>>,
    /// Kept across restarts: this owner holds the name until the machine releases it.
    pub(super) lease: Option<Lease>,
    /// The one that serves, or may serve, and during an upgrade a second one.
    pub(super) attempts: Vec<Attempt>,
    pub(super) serving: Generation,
    /// During an upgrade: the second name of the socket that serves.
    pub(super) second_name: Option<SecondName>,
    /// The changes of its folder.
    pub(super) folder_watch: Option<FolderChanges>,
    /// During an upgrade: the kernel's number of the socket that the daemon of the old generation has made.
    pub(super) former_queue: Option<u64>,
    /// During an upgrade: why the generation that serves can't serve its socket any more.
    pub(super) socket_lost: Option<Failure>,
    /// The socket that this owner holds for the daemon, over its crashes and restarts.
    pub(super) held: Option<HeldSocket>,
    /// Whether the log has the warning about a daemon that removes the name of its socket.
    pub(super) has_warned_of_names: bool,
    /// Whether the log has the warning about a daemon that can't be suspended.
    pub(super) has_warned_of_freeze: bool,
    /// The log file of the last spawn, while this owner holds the name.
    pub(super) logged: Option<PathBuf>,
}

impl Task {
    /// `None` without a runtime.
    pub fn spawn(daemon: &Arc<Daemon>, context: &Arc<ManagerContext>, job: &Arc<Job>) -> Option<UnboundedSender<Box<EffectBatch>>> {
        let (sender, batches) = mpsc::unbounded_channel();
        let task = Self {
            daemon: Arc::clone(daemon),
            context: Arc::clone(context),
            job: Arc::clone(job),
            batches,
            lease: None,
            other_job: None,
            attempts: Vec::new(),
            serving: 0,
            second_name: None,
            folder_watch: None,
            former_queue: None,
            socket_lost: None,
            held: None,
            has_warned_of_names: false,
            has_warned_of_freeze: false,
            logged: None,
        };
        let watched = Arc::clone(daemon);
        runtime::spawn(async move {
            // Without this a panic of the task would have no effect, and the state would stay RUNNING.
            if let Err(error) = tokio::spawn(Box::pin(task.run()) as Boxed<()>).await {
                log!(watched.reporter, error, %error, "the supervisor's task broke down");
                watched.break_down(format!("the supervisor's task broke down: {error}"));
            }
        })?;
        Some(sender)
    }

    async fn run(mut self) {
        loop {
            tokio::select! {
                biased;
                batch = self.batches.recv() => match batch {
                    Some(batch) => self.carry_out(*batch),
                    None => return,
                },
                (generation, event) = Attempt::next(&mut self.attempts) => self.on_attempt_event(generation, event),
                event = HeldSocket::next(self.held.as_ref()) => self.on_held_event(event),
                () = changes(self.folder_watch.as_ref()) => self.put_socket_back(),
                () = Lease::lock_file_changed(self.lease.as_ref()) => {
                    // If the folder was replaced, the daemon goes on, and its end finds it out.
                    if self.lease.as_mut().is_some_and(Lease::is_check_due) {
                        self.keep_lock_file();
                    }
                }
            }
        }
    }

    pub(super) fn feed(&self, event: Event) {
        self.daemon.feed(event);
    }

    /// The attempt of this generation, if it is not over.
    pub(super) fn attempt(&mut self, generation: Generation) -> Option<&mut Attempt> {
        self.attempts.iter_mut().find(|attempt| attempt.generation == generation)
    }

    /// The configuration of a generation.
    pub(super) fn job_of(&self, generation: Generation) -> Arc<Job> {
        let attempt = self.attempts.iter().find(|attempt| attempt.generation == generation);
        Arc::clone(attempt.map_or(&self.job, |attempt| &attempt.job))
    }
}

async fn changes(watch: Option<&FolderChanges>) {
    match watch {
        Some(watch) => watch.next().await,
        None => pending().await,
    }
}
