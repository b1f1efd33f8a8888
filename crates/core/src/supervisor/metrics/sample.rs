//! One sample of a tree.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ally_base::os::{self, TreeUsage};

use super::counters::{Counters, TreeId};
use crate::supervisor::runtime::{Work, clock, off_thread};

/// Above this resident sum the memory of a tree is its resident sum, because the kernel needs long to tell shared pages.
const SHARING_MAX: u64 = 1 << 30;

/// The sums over a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    pub cpu: Duration,
    pub memory: u64,
    pub processes: u32,
    pub threads: u32,
    pub open_files: u32,
    /// As [`os::reserved_files`], of the whole tree.
    pub reserved_files: u64,
}

impl Sample {
    /// `former`: the sample before, of the same tree.
    fn of(tree: &TreeUsage, former: Option<&Self>) -> Self {
        let processes = u32::try_from(tree.processes.len()).unwrap_or(u32::MAX);
        // To count the open ones takes longest of all, and most daemons open none between two samples.
        let unchanged = former.filter(|former| former.reserved_files > 0 && former.processes == processes);
        let unchanged = unchanged.filter(|former| former.reserved_files == reserved_files(tree));
        let (open_files, reserved_files) = unchanged.map_or_else(|| files(tree), |former| (former.open_files, former.reserved_files));
        Self {
            cpu: tree.cpu,
            memory: quick_memory(tree),
            processes,
            threads: tree.processes.iter().map(|process| process.threads).sum(),
            open_files,
            reserved_files,
        }
    }
}

/// The descriptors of another user's process can't be listed, and only the number with the reserved ones is known. Of a process
/// that is gone there is neither.
fn files(tree: &TreeUsage) -> (u32, u64) {
    let of = |pid| os::open_files(pid).or_else(|_| os::reserved_files(pid).map(|reserved| (0, reserved)));
    let of_each = tree.processes.iter().filter_map(|process| of(process.pid).ok());
    of_each.fold((0, 0), |(open, reserved), (more_open, more_reserved)| (open + more_open, reserved + more_reserved))
}

fn reserved_files(tree: &TreeUsage) -> u64 {
    tree.processes.iter().filter_map(|process| os::reserved_files(process.pid).ok()).sum()
}

/// Samples the tree, and keeps the sample. After an error the newest sample stays.
///
/// # Errors
/// A file of /proc can't be read.
pub fn sample(counters: &Counters, id: TreeId) -> io::Result<()> {
    if let Some(tree) = os::tree_usage(id.keeper, id.keeper_start)? {
        let sample = Sample::of(&tree, counters.former_sample(id).as_ref());
        counters.keep_sample(id, sample, clock::now().mono);
    }
    Ok(())
}

/// The first sample of a tree, before its readiness is reported: who hears of the readiness finds it. A single process is
/// sampled at once. To find out what several share takes long, and happens on another thread.
pub async fn sample_at_ready(counters: &Arc<Counters>) {
    let now = clock::now().mono;
    let Some(id) = counters.tree_to_sample(Duration::ZERO, now) else { return };
    // After an error there is no sample until somebody asks.
    let Ok(Some(tree)) = os::tree_usage(id.keeper, id.keeper_start) else { return };
    let sample = match tree.processes.len() {
        0 | 1 => Sample::of(&tree, None),
        _ => off_thread(Work::Sample, move || Sample::of(&tree, None)).await,
    };
    counters.keep_sample(id, sample, now);
}

pub fn resident_sum(tree: &TreeUsage) -> u64 {
    tree.processes.iter().map(|process| process.resident).sum()
}

/// The memory of the tree, as far as the kernel tells it quickly.
pub fn quick_memory(tree: &TreeUsage) -> u64 {
    let resident = resident_sum(tree);
    if resident < SHARING_MAX { memory(tree) } else { resident }
}

/// The memory of the tree. A page that its processes share counts once.
pub fn memory(tree: &TreeUsage) -> u64 {
    match tree.processes.as_slice() {
        [process] => process.resident,
        // A process whose share can't be read counts with its resident size.
        processes => processes.iter().map(|process| os::shared_memory_size(process.pid).unwrap_or(process.resident)).sum(),
    }
}
