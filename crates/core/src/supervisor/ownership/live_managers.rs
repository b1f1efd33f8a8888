//! The live managers of this process. If a worker was terminated, its manager is gone, but the pid in its notes still lives.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use once_cell::sync::Lazy;

use crate::supervisor::report::ManagerId;

static LIVE_MANAGERS: Lazy<Mutex<HashSet<ManagerId>>> = Lazy::new(Mutex::default);

pub fn register(manager: ManagerId) {
    live().insert(manager);
}

pub fn unregister(manager: ManagerId) {
    live().remove(&manager);
}

pub fn is_live(manager: ManagerId) -> bool {
    live().contains(&manager)
}

fn live() -> MutexGuard<'static, HashSet<ManagerId>> {
    LIVE_MANAGERS.lock().unwrap_or_else(PoisonError::into_inner)
}
