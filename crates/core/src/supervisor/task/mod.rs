//! The hands of one daemon: carries out the machine's effects in their order, and feeds back what
//! happens. It decides nothing. `effects`: what the machine asks for; `reports`: what happens.

mod effects;
mod reports;
mod timers;

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;

use crate::error::Failure;
use crate::lifecycle::{Event, Generation};
use crate::supervisor::TARGET;
use crate::supervisor::daemon::{Daemon, Job, Work};
use crate::supervisor::files::Identity;
use crate::supervisor::guardian_client::Maker;
use crate::supervisor::keeper::Keeper;
use crate::supervisor::output::Pumps;
use crate::supervisor::prepare::Lease;
use crate::supervisor::probe::{self, Checkup, Sight};
use crate::supervisor::runtime;
use crate::supervisor::shared::Shared;
use ally_base::wire::Report;
use timers::Timers;

/// What was going on beside the task and is done.
enum Outcome {
    Ready(Generation, Result<(), Failure>),
    Checked(Generation, Checkup),
    Swept(Generation),
}

/// What becomes of an order.
enum News {
    Ordered(Result<Maker, Failure>),
    /// `None`: the keeper is gone.
    Told(Option<Report>),
}

/// The way to the first spawn. No errand beside the task: called off, it has let go of the lock before anything else.
struct Preparing {
    generation: Generation,
    work: Pin<Box<dyn Future<Output = Result<Lease, Failure>> + Send>>,
}

/// One process and its keeper.
struct Hands {
    generation: Generation,
    keeper: Keeper,
    /// Until the guardian has taken the order, or is known to be gone.
    ordered: Option<oneshot::Receiver<Result<Maker, Failure>>>,
    /// Known once the keeper has told.
    born: Option<probe::Daemon>,
    maker: Option<Maker>,
    /// As it was recorded.
    identity: Option<Identity>,
    leader_reaped: bool,
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
    preparing: Option<Preparing>,
    awaiting: Option<(runtime::Errand, Sight)>,
    probing: Option<runtime::Errand>,
    /// And the leader whose keeper is gone, where it was recorded.
    sweeping: Option<(runtime::Errand, Option<Identity>)>,
    timers: Timers,
}

impl Task {
    /// `None` without a runtime.
    pub fn begin(daemon: &Arc<Daemon>, shared: &Arc<Shared>, job: &Arc<Job>) -> Option<UnboundedSender<Work>> {
        let (sender, work) = mpsc::unbounded_channel();
        let task = Self::new(Arc::clone(daemon), Arc::clone(shared), Arc::clone(job), work);
        let (watched, manager) = (Arc::clone(daemon), shared.id);
        runtime::spawn(async move {
            // A panic in a task is silent otherwise, and the daemon would seem to run for ever.
            if let Err(error) = tokio::spawn(task.run()).await {
                tracing::error!(target: TARGET, manager, plugin = watched.name, %error, "the supervisor's task broke down");
                watched.break_down(format!("the supervisor's task broke down: {error}"));
            }
        })?;
        Some(sender)
    }

    fn new(daemon: Arc<Daemon>, shared: Arc<Shared>, job: Arc<Job>, work: UnboundedReceiver<Work>) -> Self {
        Self {
            daemon,
            shared,
            job,
            work,
            outcomes: mpsc::unbounded_channel(),
            lease: None,
            hands: None,
            pumps: None,
            littered: false,
            preparing: None,
            awaiting: None,
            probing: None,
            sweeping: None,
            timers: Timers::default(),
        }
    }

    async fn run(mut self) {
        loop {
            tokio::select! {
                biased;
                work = self.work.recv() => match work {
                    Some(work) => self.carry_out(work),
                    None => return,
                },
                (generation, news) = Hands::next(&mut self.hands) => match news {
                    News::Ordered(ordered) => self.ordered(generation, ordered),
                    News::Told(report) => self.hear(generation, report),
                },
                (generation, lease) = Preparing::next(&mut self.preparing) => self.prepared(generation, lease),
                Some(outcome) = self.outcomes.1.recv() => self.conclude(outcome),
                (timer, generation) = self.timers.next() => self.fire(timer, generation),
            }
        }
    }

    fn feed(&self, event: Event) {
        self.daemon.feed(event);
    }
}

impl Hands {
    /// Who made the keeper comes before all that the keeper tells, its end too.
    async fn next(hands: &mut Option<Self>) -> (Generation, News) {
        let Some(hands) = hands else { return pending().await };
        let news = if let Some(ordered) = &mut hands.ordered {
            tokio::select! {
                biased;
                ordered = ordered => {
                    hands.ordered = None;
                    News::Ordered(ordered.unwrap_or_else(|_| Err(Failure::Internal { problem: "an order was dropped".to_owned() })))
                }
                report = hands.keeper.next() => News::Told(report),
            }
        } else {
            News::Told(hands.keeper.next().await)
        };
        (hands.generation, news)
    }
}

impl Preparing {
    async fn next(preparing: &mut Option<Self>) -> (Generation, Result<Lease, Failure>) {
        match preparing {
            Some(preparing) => (preparing.generation, preparing.work.as_mut().await),
            None => pending().await,
        }
    }
}

/// The task may have ended, and then nobody waits.
fn report(done: &UnboundedSender<Outcome>, outcome: Outcome) {
    drop(done.send(outcome));
}
