//! Events from what watches a running daemon.

use core::time::Duration;

use super::Machine;
use crate::error::Failure;
use crate::lifecycle::event::{Effect, Notice, Timer};
use crate::lifecycle::phase::{Now, Phase};
use crate::model::ExitReason;

impl Machine {
    pub(super) fn probe_due(&mut self) {
        if let Phase::Running { .. } = self.phase {
            self.effects.push(Effect::StartProbe { generation: self.generation });
        }
    }

    pub(super) fn probe_passed(&mut self, latency: Duration) {
        if let (Phase::Running { .. }, Some((interval, _))) = (&self.phase, self.plan.health) {
            self.failed_checks = 0;
            self.effects.push(Effect::Notify(Notice::Checked { healthy: true, latency, failures: 0, error: None }));
            self.arm(Timer::Probe, next_check(interval, latency));
        }
    }

    pub(super) fn probe_failed(&mut self, latency: Duration, error: String, now: Now) {
        let (Phase::Running { pid, .. }, Some((interval, retries))) = (&self.phase, self.plan.health) else { return };
        let pid = *pid;
        self.failed_checks += 1;
        let failures = self.failed_checks;
        self.effects.push(Effect::Notify(Notice::Checked { healthy: false, latency, failures, error: Some(error.clone()) }));
        if failures < retries {
            return self.arm(Timer::Probe, next_check(interval, latency));
        }
        self.disarm_reset();
        self.stop_watching();
        self.stop_watching_idle();
        self.replace_running(pid, ExitReason::Unhealthy, Failure::Unhealthy { checks: failures, last: error }, now);
    }

    pub(super) fn memory_exceeded(&mut self, memory: u64, now: Now) {
        let (Phase::Running { pid, .. }, Some(limit)) = (&self.phase, self.plan.memory) else { return };
        let pid = *pid;
        self.stop_probing();
        self.disarm_reset();
        self.stop_watching_idle();
        self.replace_running(pid, ExitReason::Memory, Failure::OverMemory { memory, limit }, now);
    }

    pub(super) fn socket_lost(&mut self, failure: Failure, now: Now) {
        let pid = match self.phase {
            Phase::Running { pid, .. } => {
                self.leave_running();
                pid
            }
            Phase::Freezing { pid, .. } => {
                self.disarm(Timer::Acknowledgement);
                self.disarm_reset();
                pid
            }
            _ => return self.boot_failed(failure, now),
        };
        self.replace_running(pid, ExitReason::Unhealthy, failure, now);
    }

    pub(super) fn reset_elapsed(&mut self) {
        if self.phase.running_since().is_some() {
            self.attempts = 0;
        }
    }
}

/// Checks begin one interval apart, whatever a check takes. A hung daemon is therefore found within `retries` intervals. If a
/// check took longer than the interval, the next one begins at once.
pub(super) const fn next_check(interval: Duration, latency: Duration) -> Duration {
    interval.saturating_sub(latency)
}
