//! The hands of one daemon: carries out the machine's effects in their order, and feeds back what
//! happens. It decides nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::{Instant, sleep_until};

use super::announce::TARGET;
use super::daemon::{Daemon, Job};
use super::files::Identity;
use super::guardian_client::Maker;
use super::keeper::Keeper;
use super::manager::Shared;
use super::output::Pumps;
use super::prepare::{Lease, prepare};
use super::probe::{self, Checkup, await_ready, check};
use super::{order, orphan, runtime, socket};
use crate::config::KillMode;
use crate::error::{Failure, Occupant};
use crate::guardian::protocol::{Command, Report};
use crate::lifecycle::{Effect, Event, Exit, Generation, Now, Pid, Signal, Timer};
use crate::os;

/// How often an order is given again because someone killed the guardian while it had it.
const ORDERS: u32 = 3;

/// What one step of the machine asks for.
pub struct Work {
    pub effects: Vec<Effect>,
    pub job: Arc<Job>,
    pub now: Now,
}

/// What was going on beside the task and is done.
enum Outcome {
    Prepared(Generation, Result<Lease, Failure>),
    Ordered(Generation, Result<Maker, Failure>),
    Ready(Generation, Result<(), Failure>),
    Checked(Generation, Checkup),
    Swept(Generation),
}

/// One process and its keeper.
struct Hands {
    generation: Generation,
    keeper: Keeper,
    /// Known once the keeper has told.
    born: Option<probe::Daemon>,
    maker: Option<Maker>,
    /// As it was recorded.
    identity: Option<Identity>,
    leader_reaped: bool,
    orders: u32,
}

pub struct Task {
    daemon: Arc<Daemon>,
    shared: Arc<Shared>,
    job: Arc<Job>,
    work: UnboundedReceiver<Work>,
    outcomes: (UnboundedSender<Outcome>, UnboundedReceiver<Outcome>),
    lease: Option<Lease>,
    hands: Option<Hands>,
    pumps: Option<Pumps>,
    /// Whether there may be files and a socket of a process of ours.
    littered: bool,
    preparing: Option<(Generation, runtime::Errand)>,
    ordering: Option<runtime::Errand>,
    awaiting: Option<runtime::Errand>,
    probing: Option<runtime::Errand>,
    sweeping: Option<runtime::Errand>,
    timers: Timers,
}

impl Task {
    /// `None` without a runtime.
    pub fn begin(daemon: &Arc<Daemon>, shared: &Arc<Shared>) -> Option<UnboundedSender<Work>> {
        let (sender, work) = mpsc::unbounded_channel();
        let daemon = Arc::clone(daemon);
        let shared = Arc::clone(shared);
        runtime::spawn(async move {
            let watched = Arc::clone(&daemon);
            let task = tokio::spawn(async move {
                let Some(first) = work.recv_first().await else { return };
                Self::new(daemon, shared, first).run().await;
            });
            // A panic in a task is silent otherwise, and the daemon would seem to run for ever.
            if let Err(error) = task.await {
                tracing::error!(target: TARGET, plugin = watched.name, %error, "the supervisor's task broke down");
                watched.break_down(format!("the supervisor's task broke down: {error}"));
            }
        })?;
        Some(sender)
    }

    fn new(daemon: Arc<Daemon>, shared: Arc<Shared>, (first, work): (Work, UnboundedReceiver<Work>)) -> Self {
        let mut task = Self {
            daemon,
            shared,
            job: Arc::clone(&first.job),
            work,
            outcomes: mpsc::unbounded_channel(),
            lease: None,
            hands: None,
            pumps: None,
            littered: false,
            preparing: None,
            ordering: None,
            awaiting: None,
            probing: None,
            sweeping: None,
            timers: Timers::default(),
        };
        task.carry_out(first);
        task
    }

    async fn run(mut self) {
        loop {
            tokio::select! {
                biased;
                work = self.work.recv() => match work {
                    Some(work) => self.carry_out(work),
                    None => return,
                },
                (generation, report) = Hands::next(&mut self.hands) => self.hear(generation, report),
                Some(outcome) = self.outcomes.1.recv() => self.conclude(outcome),
                (timer, generation) = self.timers.next() => self.fire(timer, generation),
            }
        }
    }

    fn feed(&self, event: Event) {
        self.daemon.feed(event);
    }

    // What the machine asks for.

    fn carry_out(&mut self, work: Work) {
        self.job = work.job;
        for effect in work.effects {
            match effect {
                Effect::Prepare { generation } => self.prepare(generation),
                Effect::CancelPrepare => self.preparing = None,
                Effect::Spawn { generation } => self.spawn(generation, 1),
                Effect::Record { generation, pid } => self.record(generation, pid),
                Effect::AwaitReady { generation, .. } => self.await_ready(generation),
                Effect::StopAwaiting => self.awaiting = None,
                Effect::Signal { signal } => self.signal(signal),
                Effect::StartProbe { generation } => self.probe(generation),
                Effect::StopProbe => self.probing = None,
                Effect::Arm { timer, generation, after } if after.is_zero() => self.fire(timer, generation),
                Effect::Arm { timer, generation, after } => self.timers.arm(timer, generation, after),
                Effect::Disarm { timer } => self.timers.disarm(timer),
                Effect::Clean => self.clean(),
                Effect::Release => self.release(),
                Effect::Abandon => {
                    self.hands = None;
                    self.release();
                }
                told @ (Effect::Settle { .. } | Effect::Notify(_)) => self.daemon.tell(told, work.now),
            }
        }
    }

    fn prepare(&mut self, generation: Generation) {
        let path = self.job.config.socket_path.clone();
        if let Err(plugin) = self.shared.claim(&path, &self.daemon.name) {
            let failure = Failure::SocketInUse { path: path.display().to_string(), by: Occupant::Plugin(plugin) };
            return self.feed(Event::PrepareFailed { generation, failure });
        }
        if self.lease.is_some() {
            // A restart: the name is ours already, and there are no orphans.
            return self.feed(match socket::clear(&path) {
                Ok(()) => Event::Prepared { generation },
                Err(failure) => Event::PrepareFailed { generation, failure },
            });
        }
        let (shared, job, done) = (Arc::clone(&self.shared), Arc::clone(&self.job), self.outcomes.0.clone());
        let errand = runtime::Errand::new(async move {
            let lease = prepare(&shared.options.envs_dir, &job.config, shared.id).await;
            report(&done, Outcome::Prepared(generation, lease));
        });
        self.preparing = Some((generation, errand));
    }

    fn spawn(&mut self, generation: Generation, orders: u32) {
        let Some(lease) = &self.lease else {
            let failure = Failure::Internal { problem: "a spawn without the plugin's lock".to_owned() };
            return self.feed(Event::SpawnFailed { generation, failure });
        };
        let made = order::make(&self.job, self.shared.options.owner_death, &lease.lock);
        let made =
            made.and_then(|made| Ok((Pumps::start(made.outputs, &self.daemon.tail, &self.daemon.audience())?, made.keeper, made.order)));
        let (pumps, keeper, order) = match made {
            Ok(made) => made,
            Err(error) => {
                let failure = Failure::Spawn { problem: format!("no process can be made: {}", crate::error::io_text(&error)) };
                return self.feed(Event::SpawnFailed { generation, failure });
            }
        };
        self.daemon.tail.begin();
        self.pumps = Some(pumps);
        self.hands = Some(Hands { generation, keeper, born: None, maker: None, identity: None, leader_reaped: false, orders });
        let (guardian, done) = (Arc::clone(&self.shared.guardian), self.outcomes.0.clone());
        self.ordering = Some(runtime::Errand::new(async move {
            let ordered = guardian.order(&order.bytes, &order.descriptors()).await;
            report(&done, Outcome::Ordered(generation, ordered));
        }));
    }

    fn record(&mut self, generation: Generation, pid: Pid) {
        self.littered = true;
        let Some(lease) = &self.lease else { return };
        // One that has ended already is about to be reported; there is nobody to identify.
        let Some(identity) = Identity::of(pid) else { return };
        if let Err(failure) = lease.folder.record(&identity) {
            self.feed(Event::RecordFailed { generation, failure });
        }
        if let Some(hands) = &mut self.hands {
            hands.identity = Some(identity);
        }
    }

    fn await_ready(&mut self, generation: Generation) {
        let Some(daemon) = self.hands.as_ref().and_then(|hands| hands.born) else { return };
        let (job, done) = (Arc::clone(&self.job), self.outcomes.0.clone());
        self.awaiting = Some(runtime::Errand::new(async move {
            let ready = await_ready(&job.config.socket_path, job.config.readiness, daemon).await;
            report(&done, Outcome::Ready(generation, ready));
        }));
    }

    fn signal(&self, signal: Signal) {
        if let Some(hands) = &self.hands {
            hands.keeper.command(match signal {
                Signal::Terminate => Command::Terminate,
                Signal::Kill => Command::Kill,
            });
        }
    }

    fn probe(&mut self, generation: Generation) {
        let (Some(daemon), Some(health)) = (self.hands.as_ref().and_then(|hands| hands.born), self.job.config.health) else { return };
        let (job, done) = (Arc::clone(&self.job), self.outcomes.0.clone());
        self.probing = Some(runtime::Errand::new(async move {
            let checkup = check(&job.config.socket_path, health, daemon).await;
            report(&done, Outcome::Checked(generation, checkup));
        }));
    }

    fn clean(&mut self) {
        if !std::mem::take(&mut self.littered) {
            return;
        }
        if let Some(Err(failure)) = self.lease.as_ref().map(|lease| lease.folder.forget_record()) {
            self.warn(&failure, "the record of a daemon that is gone stays");
        }
        match socket::clear(&self.job.config.socket_path) {
            // Somebody else's by now, or left alive on purpose.
            Ok(()) | Err(Failure::SocketInUse { .. }) => {}
            Err(failure) => self.warn(&failure, "the socket of a daemon that is gone stays"),
        }
    }

    fn warn(&self, failure: &Failure, what: &str) {
        tracing::warn!(target: TARGET, manager = self.shared.id, plugin = self.daemon.name, %failure, "{what}");
    }

    fn release(&mut self) {
        self.lease = None;
        self.shared.disclaim(&self.job.config.socket_path, &self.daemon.name);
    }

    // What happens.

    fn hear(&mut self, generation: Generation, report: Option<Report>) {
        match report {
            Some(Report::Spawned { leader, keeper }) => {
                if let Some(hands) = &mut self.hands {
                    hands.born = Some(probe::Daemon { leader, keeper });
                }
                self.feed(Event::Spawned { generation, pid: leader });
            }
            Some(Report::SpawnFailed { stage, errno }) => {
                self.hands = None;
                let failure = order::explain(stage, errno, &self.job, &self.shared.options.envs_dir);
                self.feed(Event::SpawnFailed { generation, failure });
            }
            Some(Report::Exited { status, remains }) => {
                self.exited(generation, decode(status), remains);
                if !remains {
                    self.hands = None;
                }
            }
            Some(Report::TreeGone) => {
                self.hands = None;
                self.feed(Event::TreeGone { generation });
            }
            Some(Report::Swept { .. }) => {}
            None => self.lost(generation),
        }
    }

    fn exited(&mut self, generation: Generation, exit: Exit, remains: bool) {
        if let Some(hands) = &mut self.hands {
            hands.leader_reaped = true;
        }
        self.feed(Event::Exited { generation, exit, remains, tail: self.evidence() });
    }

    /// Its last lines, those included that still wait in the pipes.
    fn evidence(&self) -> String {
        if let Some(pumps) = &self.pumps {
            pumps.drain();
        }
        self.daemon.tail.evidence()
    }

    /// The keeper is gone without having said that its tree is.
    fn lost(&mut self, generation: Generation) {
        let Some(hands) = self.hands.take() else { return };
        let Some(born) = hands.born else {
            if hands.orders < ORDERS {
                tracing::warn!(target: TARGET, manager = self.shared.id, plugin = self.daemon.name, "the guardian was lost with an order; giving it again");
                return self.spawn(generation, hands.orders + 1);
            }
            let failure = Failure::Spawn { problem: "the guardian was killed while it made the process".to_owned() };
            return self.feed(Event::SpawnFailed { generation, failure });
        };
        tracing::warn!(target: TARGET, manager = self.shared.id, plugin = self.daemon.name, keeper = born.keeper, "the keeper was killed; its tree is swept");
        if !hands.leader_reaped {
            // The leader goes with its keeper (PR_SET_PDEATHSIG); its status went to the guardian.
            self.feed(Event::Exited { generation, exit: Exit::UNKNOWN, remains: true, tail: self.evidence() });
        }
        let (maker, identity) = (hands.maker, hands.identity);
        let group_only = self.job.config.kill_mode == KillMode::Group;
        let (manager, done) = (self.shared.id, self.outcomes.0.clone());
        self.sweeping = Some(runtime::Errand::new(async move {
            orphan::sweep(maker, born.keeper, identity, group_only, manager).await;
            report(&done, Outcome::Swept(generation));
        }));
    }

    fn conclude(&mut self, outcome: Outcome) {
        match outcome {
            // One that was called off in the very moment it was done is let go of again.
            Outcome::Prepared(generation, lease) => {
                if self.preparing.take_if(|(awaited, _)| *awaited == generation).is_none() {
                    return;
                }
                match lease {
                    Ok(lease) => {
                        self.lease = Some(lease);
                        self.feed(Event::Prepared { generation });
                    }
                    Err(failure) => self.feed(Event::PrepareFailed { generation, failure }),
                }
            }
            Outcome::Ordered(generation, Ok(maker)) => {
                if let Some(hands) = self.hands.as_mut().filter(|hands| hands.generation == generation) {
                    hands.maker = Some(maker);
                }
            }
            Outcome::Ordered(generation, Err(failure)) => {
                self.hands = None;
                self.feed(Event::SpawnFailed { generation, failure });
            }
            Outcome::Ready(generation, Ok(())) => self.feed(Event::Ready { generation }),
            Outcome::Ready(generation, Err(failure)) => self.feed(Event::NotReady { generation, failure }),
            Outcome::Checked(generation, Checkup { latency, outcome }) => self.feed(match outcome {
                Ok(()) => Event::ProbePassed { generation, latency },
                Err(error) => Event::ProbeFailed { generation, latency, error },
            }),
            Outcome::Swept(generation) => self.feed(Event::TreeGone { generation }),
        }
    }

    fn fire(&self, timer: Timer, generation: Generation) {
        self.feed(match timer {
            Timer::Startup => Event::StartupElapsed { generation, tail: self.evidence() },
            Timer::Grace => Event::GraceElapsed { generation },
            Timer::Kill => Event::KillElapsed { generation, survivors: self.survivors() },
            Timer::Backoff => Event::BackoffElapsed { generation },
            Timer::Probe => Event::ProbeDue { generation },
        });
    }

    fn survivors(&self) -> Vec<Pid> {
        let keeper = self.hands.as_ref().and_then(|hands| hands.born);
        keeper.map(|born| os::descendants(born.keeper).iter().map(|process| process.pid).collect()).unwrap_or_default()
    }
}

impl Hands {
    async fn next(hands: &mut Option<Self>) -> (Generation, Option<Report>) {
        match hands {
            Some(hands) => (hands.generation, hands.keeper.next().await),
            None => std::future::pending().await,
        }
    }
}

trait First {
    async fn recv_first(self) -> Option<(Work, UnboundedReceiver<Work>)>;
}

impl First for UnboundedReceiver<Work> {
    async fn recv_first(mut self) -> Option<(Work, Self)> {
        let first = self.recv().await?;
        Some((first, self))
    }
}

/// The task may have ended, and then nobody waits.
fn report(done: &UnboundedSender<Outcome>, outcome: Outcome) {
    drop(done.send(outcome));
}

fn decode(status: i32) -> Exit {
    if libc::WIFEXITED(status) {
        Exit { code: Some(libc::WEXITSTATUS(status)), signal: None }
    } else if libc::WIFSIGNALED(status) {
        Exit { code: None, signal: Some(libc::WTERMSIG(status)) }
    } else {
        Exit::UNKNOWN
    }
}

/// The machine's timers, one of a kind.
#[derive(Default)]
struct Timers(Vec<(Timer, Generation, Instant)>);

impl Timers {
    fn arm(&mut self, timer: Timer, generation: Generation, after: Duration) {
        self.disarm(timer);
        self.0.push((timer, generation, Instant::now() + after));
    }

    fn disarm(&mut self, timer: Timer) {
        self.0.retain(|(armed, ..)| *armed != timer);
    }

    /// Waits for ever where none is armed. May be dropped and called again.
    async fn next(&mut self) -> (Timer, Generation) {
        let Some((index, at)) = self.0.iter().enumerate().map(|(index, (.., at))| (index, *at)).min_by_key(|(_, at)| *at) else {
            return std::future::pending().await;
        };
        sleep_until(at).await;
        let (timer, generation, _) = self.0.swap_remove(index);
        (timer, generation)
    }
}
