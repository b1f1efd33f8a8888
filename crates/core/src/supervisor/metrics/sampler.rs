//! When trees are sampled: at ready, and each second for a minute after somebody has asked for metrics.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use ally_base::text::io_text;
use tokio::time::{Instant, sleep_until};

use super::counters::{Counters, TreeId};
use super::sample::sample;
use crate::supervisor::TARGET;
use crate::supervisor::daemon::Daemon;
use crate::supervisor::manager::Registry;
use crate::supervisor::report::ManagerId;
use crate::supervisor::runtime::{self, Work, clock, off_thread};

const INTERVAL: Duration = Duration::from_secs(1);
/// A tree with a younger sample waits for the next round. Less than the interval, because a round may come early.
const AGE_MIN: Duration = Duration::from_millis(900);
/// How long samples are taken after the last question.
const INTEREST: Duration = Duration::from_secs(60);

/// The sampler of one manager.
#[derive(Debug)]
pub struct Sampler {
    manager: ManagerId,
    /// Monotonic milliseconds of the last question.
    asked: AtomicU64,
    is_running: AtomicBool,
}

impl Sampler {
    pub fn new(manager: ManagerId) -> Arc<Self> {
        Arc::new(Self { manager, asked: AtomicU64::new(0), is_running: AtomicBool::new(false) })
    }

    /// Somebody has asked for metrics. Returns at once, and samples nothing itself.
    pub fn ask(self: &Arc<Self>, daemons: &Arc<Registry>) {
        self.asked.store(now_ms(), Ordering::Relaxed);
        // Without a runtime no daemon was ever started. The next question tries again.
        if !self.is_running.swap(true, Ordering::AcqRel) && runtime::spawn(Arc::clone(self).run(Arc::downgrade(daemons))).is_none() {
            self.is_running.store(false, Ordering::Release);
        }
    }

    async fn run(self: Arc<Self>, daemons: Weak<Registry>) {
        let mut next = Instant::now();
        while let Some(trees) = daemons.upgrade().map(|daemons| trees_to_sample(&daemons)) {
            if let Err(error) = off_thread(Work::Sample, move || sample_all(&trees)).await {
                tracing::debug!(target: TARGET, manager = self.manager, error = io_text(&error), "a tree could not be sampled");
            }
            next = (next + INTERVAL).max(Instant::now());
            sleep_until(next).await;
            if self.ends() {
                return;
            }
        }
    }

    /// Whether nobody has asked for long. A question in the same instant starts the next run, or continues this one.
    fn ends(&self) -> bool {
        let is_of_interest = || now_ms().saturating_sub(self.asked.load(Ordering::Relaxed)) < INTEREST.as_millis() as u64;
        if is_of_interest() {
            return false;
        }
        self.is_running.store(false, Ordering::Release);
        !is_of_interest() || self.is_running.swap(true, Ordering::AcqRel)
    }
}

fn now_ms() -> u64 {
    clock::now().mono.as_millis() as u64
}

fn trees_to_sample(daemons: &Registry) -> Vec<(Arc<Counters>, TreeId)> {
    let now = clock::now().mono;
    let tree = |daemon: &Arc<Daemon>| Some((Arc::clone(&daemon.counters), daemon.counters.tree_to_sample(AGE_MIN, now)?));
    daemons.known().iter().filter_map(tree).collect()
}

/// Samples each tree. The first error is returned after the last tree.
fn sample_all(trees: &[(Arc<Counters>, TreeId)]) -> io::Result<()> {
    let mut first = Ok(());
    for (counters, id) in trees {
        first = first.and(sample(counters, *id));
    }
    first
}
