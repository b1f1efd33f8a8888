//! Whether `output` and `health` have listeners. These events are frequent, so without a listener they are not made.

use std::sync::atomic::{AtomicBool, Ordering};

#[derive(Debug, Default)]
pub struct Listeners {
    output: AtomicBool,
    health: AtomicBool,
}

impl Listeners {
    pub fn set(&self, output: bool, health: bool) {
        self.output.store(output, Ordering::Relaxed);
        self.health.store(health, Ordering::Relaxed);
    }

    pub fn output(&self) -> bool {
        self.output.load(Ordering::Relaxed)
    }

    pub fn health(&self) -> bool {
        self.health.load(Ordering::Relaxed)
    }
}
