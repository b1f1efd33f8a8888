//! The log processes among the guardian's children. They outlive their keepers, and a sweep must spare them.

use std::collections::HashSet;
use std::os::fd::OwnedFd;

use super::sys;

/// A log process writes its pid into a pipe as its first act.
#[derive(Default)]
pub struct LogRegistry {
    /// `None` before the first daemon with a log file.
    pipe: Option<(OwnedFd, OwnedFd)>,
    pids: HashSet<i32>,
}

impl LogRegistry {
    /// The write end for a keeper's log processes. `None` without a descriptor for it (EMFILE): a sweep may then kill a log process.
    pub fn register(&mut self) -> Option<OwnedFd> {
        if self.pipe.is_none() {
            self.pipe = sys::pipe().ok();
        }
        self.pipe.as_ref()?.1.try_clone().ok()
    }

    pub fn contains(&mut self, pid: i32) -> bool {
        self.read();
        self.pids.contains(&pid)
    }

    /// For a child that was reaped. Its pid was written before, and may belong to another process from now on.
    pub fn remove(&mut self, pid: i32) {
        self.read();
        self.pids.remove(&pid);
    }

    /// In a keeper.
    pub fn close(&mut self) {
        self.pipe = None;
    }

    fn read(&mut self) {
        let Some((pipe, _)) = &self.pipe else { return };
        while sys::is_readable(pipe) {
            let mut pid = [0; size_of::<i32>()];
            // Writes of so few bytes are not split: pipe(7).
            if !matches!(nix::unistd::read(pipe, &mut pid), Ok(4)) {
                return;
            }
            self.pids.insert(i32::from_ne_bytes(pid));
        }
    }
}
