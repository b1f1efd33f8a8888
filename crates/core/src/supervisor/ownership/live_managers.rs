//! The live managers of this process. If a worker was terminated, its manager is gone, but the pid in its notes still lives.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use once_cell::sync::Lazy;

use crate::supervisor::report::ManagerId;

/// Whether the manager has warned about its `envsDir`.
#[derive(Default)]
struct Warned(bool);

static LIVE_MANAGERS: Lazy<Mutex<HashMap<ManagerId, Warned>>> = Lazy::new(Mutex::default);

pub fn register(manager: ManagerId) {
    live().insert(manager, Warned::default());
}

pub fn unregister(manager: ManagerId) {
    live().remove(&manager);
}

pub fn is_live(manager: ManagerId) -> bool {
    live().contains_key(&manager)
}

/// True once for each manager.
pub(super) fn is_first_warning(manager: ManagerId) -> bool {
    live().get_mut(&manager).is_some_and(|warned| !std::mem::replace(&mut warned.0, true))
}

fn live() -> MutexGuard<'static, HashMap<ManagerId, Warned>> {
    LIVE_MANAGERS.lock().unwrap_or_else(PoisonError::into_inner)
}
