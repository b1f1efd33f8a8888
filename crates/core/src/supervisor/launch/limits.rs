//! The limits in an order: those of the configuration, and those of the owner.

use ally_base::os;
use ally_base::wire::{Limits, ResourceLimit};

use crate::config::ProcessConfig;

/// The limits, the umask and the niceness of the owner. The guardian has those of its birth, and a program may change its own.
#[derive(Debug, Clone, Default)]
pub struct OwnerLimits {
    resources: Vec<ResourceLimit>,
    umask: Option<u32>,
    niceness: Option<i32>,
}

impl OwnerLimits {
    /// `umask`: whether the umask is needed, which costs most.
    pub fn now(umask: bool) -> Self {
        Self { resources: os::resource_limits(), umask: umask.then(os::umask).flatten(), niceness: os::niceness() }
    }

    pub fn of_daemon(&self, config: &ProcessConfig) -> Limits {
        let wanted = config.limits;
        Limits {
            umask: config.umask.or(self.umask),
            resources: self.resources.clone(),
            niceness: self.niceness,
            wanted_niceness: wanted.niceness,
            oom_score_adj: wanted.oom_score_adj,
            open_files: wanted.open_files,
            core_dumps: wanted.core_dumps,
        }
    }
}
