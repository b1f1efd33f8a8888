//! What the machine asks for.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Hands, Outcome, Preparing, Task, report};
use crate::error::{Failure, Occupant};
use crate::lifecycle::{Effect, Event, Generation, Signal};
use crate::model::Pid;
use crate::supervisor::TARGET;
use crate::supervisor::daemon::Work;
use crate::supervisor::files::Identity;
use crate::supervisor::output::Pumps;
use crate::supervisor::prepare::prepare;
use crate::supervisor::probe::{Sight, await_ready, check};
use crate::supervisor::{order, runtime, socket};
use ally_base::wire::Command;

impl Task {
    pub(super) fn carry_out(&mut self, work: Work) {
        self.job = work.job;
        for effect in work.effects {
            match effect {
                Effect::Prepare { generation } => self.prepare(generation),
                Effect::CancelPrepare => self.preparing = None,
                Effect::Spawn { generation } => self.spawn(generation),
                Effect::AwaitReady { generation, .. } => self.await_ready(generation),
                Effect::StopAwaiting => self.awaiting = None,
                Effect::Signal { signal } => self.signal(signal),
                Effect::StartProbe { generation } => self.probe(generation),
                Effect::StopProbe => self.probing = None,
                Effect::Arm { timer, generation, after } if after.is_zero() => self.fire(timer, generation),
                Effect::Arm { timer, generation, after } => self.timers.arm(timer, generation, after),
                Effect::Disarm { timer } => self.timers.disarm(timer),
                Effect::Release => self.release(),
                // The keeper has the lock for as long as it takes to end the tree.
                Effect::Abandon => {
                    self.preparing = None;
                    self.hands = None;
                    self.lease = None;
                    self.shared.disclaim(&self.job.config.socket_path, &self.daemon.name);
                }
                told @ (Effect::Settle { .. } | Effect::Notify(_)) => self.daemon.tell(told, work.now),
            }
        }
        if work.rested {
            self.shared.activity_changed(false);
        }
    }

    pub(super) fn prepare(&mut self, generation: Generation) {
        let path = self.job.config.socket_path.clone();
        if let Err(plugin) = self.shared.claim(&path, &self.daemon.name) {
            let failure = Failure::SocketInUse { path: path.display().to_string(), by: Occupant::Plugin(plugin) };
            return self.feed(Event::PrepareFailed { generation, failure });
        }
        // In another folder than it was, the name is to be taken anew.
        self.lease.take_if(|lease| !lease.folder.is_in_place());
        if self.lease.is_some() {
            // A restart: the name is ours already, and there are no orphans.
            return self.feed(match socket::clear(&path) {
                Ok(()) => Event::Prepared { generation },
                Err(failure) => Event::PrepareFailed { generation, failure },
            });
        }
        let (shared, job) = (Arc::clone(&self.shared), Arc::clone(&self.job));
        let work = Box::pin(async move { prepare(&shared.options.envs_dir, &job.config, shared.id).await });
        self.preparing = Some(Preparing { generation, work });
    }

    pub(super) fn spawn(&mut self, generation: Generation) {
        let Some(lease) = &self.lease else {
            let failure = Failure::Internal { problem: "a spawn without the plugin's lock".to_owned() };
            return self.feed(Event::SpawnFailed { generation, failure });
        };
        let made = order::make(&self.job, self.shared.options.owner_death, lease);
        let made =
            made.and_then(|made| Ok((Pumps::start(made.outputs, &self.daemon.tail, &self.daemon.audience())?, made.keeper, made.order)));
        let (pumps, keeper, order) = match made {
            Ok(made) => made,
            Err(error) => return self.feed(Event::SpawnFailed { generation, failure: order::no_process(&self.job, &error) }),
        };
        self.pumps = Some(pumps);
        let (told, ordered) = oneshot::channel();
        self.hands =
            Some(Hands { generation, keeper, ordered: Some(ordered), born: None, maker: None, identity: None, leader_reaped: false });
        let guardian = Arc::clone(&self.shared.guardian);
        // Not to be broken off: half an order would be the beginning of the next one's.
        drop(runtime::spawn(async move {
            // The process may be given up meanwhile.
            drop(told.send(guardian.order(&order.bytes, &order.descriptors()).await));
        }));
    }

    /// Writes down who the process is.
    pub(super) fn record(&mut self, leader: Pid, keeper: Pid) -> Result<(), Failure> {
        self.littered = true;
        let Some(lease) = &self.lease else { return Ok(()) };
        let identified = Identity::of(leader, keeper)?;
        // One that has ended already is about to be reported, and there is nobody to identify.
        let Some(identity) = identified else { return Ok(()) };
        let recorded = lease.folder.record(&identity);
        if let Some(hands) = &mut self.hands {
            hands.identity = Some(identity);
        }
        recorded
    }

    pub(super) fn await_ready(&mut self, generation: Generation) {
        let Some(daemon) = self.hands.as_ref().and_then(|hands| hands.born.clone()) else { return };
        let (job, done) = (Arc::clone(&self.job), self.outcomes.0.clone());
        let sight = Sight::default();
        let seen = sight.clone();
        let errand = runtime::Errand::new(async move {
            let ready = await_ready(&job.config.socket_path, job.config.readiness, &daemon, &seen).await;
            report(&done, Outcome::Ready(generation, ready));
        });
        self.awaiting = Some((errand, sight));
    }

    pub(super) fn signal(&self, signal: Signal) {
        if let Some(hands) = &self.hands {
            hands.keeper.command(match signal {
                Signal::Terminate => Command::Terminate,
                Signal::Kill => Command::Kill,
            });
        }
    }

    pub(super) fn probe(&mut self, generation: Generation) {
        let (Some(daemon), Some(health)) = (self.hands.as_ref().and_then(|hands| hands.born.clone()), self.job.config.health) else {
            return;
        };
        let (job, done) = (Arc::clone(&self.job), self.outcomes.0.clone());
        self.probing = Some(runtime::Errand::new(async move {
            let checkup = check(&job.config.socket_path, health, &daemon).await;
            report(&done, Outcome::Checked(generation, checkup));
        }));
    }

    /// Removes the files of a daemon that is gone, or says why one of them stays.
    pub(super) fn clean(&mut self) -> Option<Failure> {
        if !std::mem::take(&mut self.littered) {
            return None;
        }
        let record = self.lease.as_ref().map_or(Ok(()), |lease| lease.folder.forget_record());
        if let Err(failure) = &record {
            self.warn(failure, "the record of a daemon that is gone stays");
        }
        let socket = match socket::clear(&self.job.config.socket_path) {
            // Somebody else's by now, or left alive on purpose.
            Err(Failure::SocketInUse { .. }) => Ok(()),
            cleared => cleared,
        };
        if let Err(failure) = &socket {
            self.warn(failure, "the socket of a daemon that is gone stays");
        }
        record.and(socket).err().map(|cause| Failure::Litter { cause: Box::new(cause) })
    }

    pub(super) fn warn(&self, failure: &Failure, what: &str) {
        tracing::warn!(target: TARGET, manager = self.shared.id, plugin = self.daemon.name, %failure, "{what}");
    }

    /// Nothing of the daemon is left, so the name is anybody's.
    pub(super) fn release(&mut self) {
        self.pumps = None;
        if let Some(Err(error)) = self.lease.take().map(|lease| lease.lock.release()) {
            tracing::warn!(target: TARGET, manager = self.shared.id, plugin = self.daemon.name, %error, "a plugin's lock could not be given up");
        }
        self.shared.disclaim(&self.job.config.socket_path, &self.daemon.name);
    }
}
