//! The limits in an order: those of the configuration, and those of the owner.

use std::sync::{Arc, Mutex, PoisonError};

use ally_base::os;
use ally_base::wire::{Limits, ResourceLimit};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::config::ProcessConfig;

/// The limits, the umask and the niceness of the owner. The guardian has those of its birth, and a program may change its own.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OwnerLimits {
    resources: Arc<[ResourceLimit]>,
    umask: Option<u32>,
    niceness: Option<i32>,
}

impl OwnerLimits {
    /// `umask`: whether the umask is needed, which costs most. It is read at each start, as the niceness is: `process.umask()` and
    /// `os.setPriority()` count for the next line of a program.
    pub fn now(resources: Arc<[ResourceLimit]>, umask: bool) -> Self {
        Self { resources, umask: umask.then(os::umask).flatten(), niceness: os::niceness() }
    }

    pub fn of_daemon(&self, config: &ProcessConfig) -> Limits {
        let wanted = config.limits;
        Limits {
            umask: config.umask.or(self.umask),
            resources: self.resources.to_vec(),
            niceness: self.niceness,
            wanted_niceness: wanted.niceness,
            oom_score_adj: wanted.oom_score_adj,
            open_files: wanted.open_files,
            core_dumps: wanted.core_dumps,
        }
    }
}

/// Resource, soft limit, hard limit; umask; niceness.
type Sent = (Vec<(i32, u64, u64)>, Option<u32>, Option<i32>);

impl Serialize for OwnerLimits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let resources = self.resources.iter().map(|limit| (limit.resource, limit.soft, limit.hard)).collect();
        Sent::serialize(&(resources, self.umask, self.niceness), serializer)
    }
}

impl<'de> Deserialize<'de> for OwnerLimits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (resources, umask, niceness) = Sent::deserialize(deserializer)?;
        let resources = resources.into_iter().map(|(resource, soft, hard)| ResourceLimit { resource, soft, hard }).collect();
        Ok(Self { resources, umask, niceness })
    }
}

/// The owner's resource limits in one turn of the event loop. JavaScript can't change them, so many starts of a turn read them once.
#[derive(Debug, Default)]
pub struct TurnLimits(Mutex<Option<Turn>>);

#[derive(Debug)]
struct Turn {
    number: u32,
    limits: Option<Arc<[ResourceLimit]>>,
}

impl TurnLimits {
    /// The starts that follow are made in this turn.
    pub fn enter(&self, turn: u32) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref().is_none_or(|known| known.number != turn) {
            *known = Some(Turn { number: turn, limits: None });
        }
    }

    pub fn read(&self) -> Arc<[ResourceLimit]> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *known {
            Some(Turn { limits, .. }) => Arc::clone(limits.get_or_insert_with(|| os::resource_limits().into())),
            None => os::resource_limits().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resource_limits_are_read_once_in_a_turn() {
        let limits = TurnLimits::default();
        assert!(!Arc::ptr_eq(&limits.read(), &limits.read()), "without a turn");
        limits.enter(1);
        let first = limits.read();
        limits.enter(1);
        assert!(Arc::ptr_eq(&first, &limits.read()));
        limits.enter(2);
        assert!(!Arc::ptr_eq(&first, &limits.read()));
    }
}
