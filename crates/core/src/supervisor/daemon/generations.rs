//! Two generations at once: the change-over of an upgrade, and what each generation leaves.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ally_base::os;
use ally_base::record::Identity;
use tokio::time::{Instant, sleep};

use super::Task;
use super::attempt::{Attempt, Completion, CountedTree, Queue};
use super::socket_place::SecondName;
use crate::error::Failure;
use crate::lifecycle::{Event, Generation};
use crate::supervisor::metrics::sample_at_ready;
use crate::supervisor::report::log;
use crate::supervisor::runtime::{self, AbortOnDrop, FolderChanges};
use crate::supervisor::socket;

/// How long an old generation may take to work off its queue.
const DRAIN_MAX: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(10);

impl Task {
    /// From here on `self.job` is that of the generation that serves next.
    pub(super) fn adopt(&mut self) {
        let Some(other) = &mut self.other_job else { return };
        std::mem::swap(&mut self.job, other);
    }

    /// Brings clients and the record over to this generation.
    pub(super) fn change_over(&mut self, generation: Generation) {
        let event = match self.try_change_over(generation) {
            Ok(()) => Event::ChangedOver { generation },
            Err(failure) => Event::ChangeOverFailed { generation, failure },
        };
        self.feed(event);
    }

    fn try_change_over(&mut self, generation: Generation) -> Result<(), Failure> {
        let former = self.identity(self.serving);
        self.record_serving(self.identity(generation).as_ref())?;
        if let Err(failure) = self.publish(generation) {
            // The old generation serves on.
            if let Err(failure) = self.record_serving(former.as_ref()) {
                log!(self.daemon.reporter, warn, %failure, "the record names a generation that does not serve");
            }
            return Err(failure);
        }
        self.serving = generation;
        self.socket_lost = None;
        self.put_log_path(generation);
        let counters = &self.daemon.counters;
        let Some(attempt) = self.attempts.iter_mut().find(|attempt| attempt.generation == generation) else { return Ok(()) };
        self.daemon.set_status(attempt.status.take());
        if let Some(tree) = attempt.tree {
            let counted = counters.change_tree(tree.id, tree.spawned);
            for former in self.attempts.iter_mut().filter(|attempt| attempt.generation != generation) {
                former.tree = former.tree.map(|tree| CountedTree { counted, ..tree });
            }
            let counters = Arc::clone(counters);
            drop(runtime::spawn(async move { sample_at_ready(&counters).await }));
        }
        Ok(())
    }

    fn identity(&self, generation: Generation) -> Option<Identity> {
        self.attempts.iter().find(|attempt| attempt.generation == generation)?.identity.clone()
    }

    fn record_serving(&mut self, identity: Option<&Identity>) -> Result<(), Failure> {
        let (Some(lease), Some(identity)) = (&mut self.lease, identity) else { return Ok(()) };
        lease.change_over(identity)
    }

    /// Clients find the socket of this generation at `socketPath` from now on.
    pub(super) fn publish(&mut self, generation: Generation) -> Result<(), Failure> {
        let Some(attempt) = self.attempts.iter().find(|attempt| attempt.generation == generation) else { return Ok(()) };
        let (place, is_public, path) = (attempt.place.clone(), attempt.is_public, attempt.job.config.socket_path.clone());
        if place.is_public() {
            return if generation == self.serving { Ok(()) } else { self.promote(generation) };
        }
        let has_former = self.attempts.iter().any(|attempt| attempt.generation != generation && attempt.has_tree());
        match if is_public { SecondName::of(&path) } else { place.publish() } {
            Ok(second) if has_former => self.keep_second_name(second),
            // Nobody is left who could unlink it.
            Ok(second) => {
                self.second_name.take().into_iter().for_each(SecondName::leave);
                drop(second);
            }
            // A daemon without a socket.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.job_of(generation).config.needed_socket().is_none() => {}
            Err(error) => return Err(Failure::call("rename", &place.told(), error)),
        }
        let queue = self.former_queue.take();
        queue.into_iter().for_each(|queue| self.set_queue(generation, Queue::Own(queue)));
        self.set_public(generation);
        Ok(())
    }

    pub(super) fn set_public(&mut self, generation: Generation) {
        for attempt in &mut self.attempts {
            attempt.is_public = attempt.generation == generation;
        }
    }

    /// An older generation may unlink the socket at `socketPath` until it is gone.
    fn keep_second_name(&mut self, second: SecondName) {
        self.folder_watch = second.folder().and_then(|folder| FolderChanges::of(folder).ok());
        // Both have the same file name.
        self.second_name.replace(second).into_iter().for_each(SecondName::leave);
    }

    pub(super) fn put_socket_back(&self) {
        if !self.attempts.iter().any(|attempt| attempt.generation == self.serving && attempt.has_leader()) {
            return;
        }
        match self.second_name.as_ref().map(SecondName::put_back) {
            None | Some(Ok(false)) => {}
            Some(Ok(true)) => log!(self.daemon.reporter, info, "the socket was removed, and put back"),
            Some(Err(error)) => log!(self.daemon.reporter, warn, %error, "the socket was removed, and can't be put back"),
        }
    }

    /// Before a successor is spawned: it may unlink the socket of the generation that serves, to make its own there. It is put back
    /// if the successor fails, and not before.
    pub(super) fn guard_socket(&mut self) {
        let path = &self.job.config.socket_path;
        // The path may lead to the successor's socket later.
        self.former_queue = os::listening_socket(path).ok().flatten();
        if let Ok(second) = SecondName::of(path) {
            self.second_name.replace(second).into_iter().for_each(SecondName::leave);
        }
        self.folder_watch = None;
    }

    /// One generation of two is gone.
    pub(super) fn discard(&mut self, generation: Generation) {
        let Some(at) = self.attempts.iter().position(|attempt| attempt.generation == generation) else { return };
        let mut attempt = self.attempts.remove(at);
        let serving = self.serving;
        if generation != serving && attempt.is_public {
            // A successor that had made its socket at `socketPath`, and has failed.
            self.set_public(serving);
        }
        self.put_socket_back();
        self.drop_second_name();
        self.end_attempt(&mut attempt);
        if let Some(failure) = self.socket_lost.take() {
            // The machine could not take it during the upgrade.
            self.feed(Event::SocketLost { generation: serving, failure });
        }
    }

    pub(super) fn drop_second_name(&mut self) {
        self.second_name = None;
        self.folder_watch = None;
    }

    /// Removes the files of a generation that is gone. Returns a failure if a file stays.
    pub(super) fn remove_files(&mut self, generation: Generation) -> Option<Failure> {
        let attempt = self.attempts.iter().find(|attempt| attempt.generation == generation)?;
        let record = match (&mut self.lease, &attempt.identity) {
            (Some(lease), Some(identity)) => lease.forget(identity),
            _ => Ok(()),
        };
        if let Err(failure) = &record {
            log!(self.daemon.reporter, warn, %failure, "the record of a daemon that is gone stays");
        }
        let socket = remove_sockets(attempt);
        if let Err(failure) = &socket {
            log!(self.daemon.reporter, warn, %failure, "the socket of a daemon that is gone stays");
        }
        record.and(socket).err().map(|cause| Failure::LeftoverFile { cause: Box::new(cause) })
    }

    /// The kernel tells of no connection that is taken, so the queue is looked at again and again.
    pub(super) fn drain(&mut self, generation: Generation) {
        let Some(attempt) = self.attempt(generation) else { return };
        let (queue, done) = (attempt.drained_queue(), attempt.completion());
        attempt.draining = Some(AbortOnDrop::spawn(async move {
            let end = Instant::now() + DRAIN_MAX;
            let mut pause = FIRST_PAUSE;
            // If the kernel does not tell, nothing is waited for.
            let left = || queue.as_ref().map_or(0, |queue| queue.length().unwrap_or(0));
            let mut waiting = left();
            while waiting > 0 && Instant::now() < end {
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                waiting = left();
            }
            done(Completion::Drained(waiting));
        }));
    }
}

/// The sockets that a generation may have left. Not that of another one: of a former generation the path leads to its successor.
fn remove_sockets(attempt: &Attempt) -> Result<(), Failure> {
    let config = &attempt.job.config;
    let public = config.needed_socket().filter(|_| attempt.is_public && !config.holds_socket()).map(ToOwned::to_owned);
    let told = (!attempt.place.is_public()).then(|| attempt.place.told());
    let mut removed = Ok(());
    for path in public.into_iter().chain(told) {
        match socket::remove_dead(&path) {
            // Another process listens there by now, or a process that `killMode: 'group'` spared.
            Ok(()) | Err(Failure::SocketInUse { .. }) => {}
            Err(failure) => removed = Err(failure),
        }
    }
    removed
}
