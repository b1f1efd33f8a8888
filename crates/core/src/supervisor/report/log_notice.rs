//! The log entry of a notice.

use ally_base::text::signal_name;

use super::Reporter;
use super::log;
use crate::lifecycle::Notice;
use crate::model::{Exit, ExitReason, ProcessState};

impl Reporter {
    pub(super) fn log_notice(&self, notice: &Notice) {
        match notice {
            Notice::Spawned { pid } => log!(self, info, pid, "started"),
            Notice::StateChanged { to: ProcessState::Running, pid, .. } => log!(self, info, pid, "ready"),
            // Logged as armed, where there was no process before.
            Notice::StateChanged { from: None | Some(ProcessState::Error), to: ProcessState::Stopped, .. } => {}
            Notice::StateChanged { to: ProcessState::Stopped, .. } => log!(self, info, "stopped"),
            Notice::StateChanged { to: ProcessState::Error, reason, .. } => {
                log!(self, error, reason = reason.as_deref().unwrap_or_default(), "gave up");
            }
            Notice::StateChanged { from, to: to @ (ProcessState::Starting | ProcessState::Stopping), .. } => {
                log!(self, debug, from = from.map(ProcessState::as_str), to = to.as_str(), "state changed");
            }
            Notice::Exited { pid, exit, reason } => {
                let ending = ending(*exit);
                match reason {
                    ExitReason::Stopped | ExitReason::Upgraded | ExitReason::Idle => log!(self, info, pid, %reason, ending, "exited"),
                    ExitReason::Crashed | ExitReason::Exited | ExitReason::Unhealthy | ExitReason::Startup | ExitReason::Memory => {
                        log!(self, warn, pid, %reason, ending, "exited");
                    }
                }
            }
            Notice::RestartScheduled { attempt, delay, reason } => {
                let delay_ms = delay.as_secs_f64() * 1e3;
                log!(self, warn, attempt, delay_ms, %reason, "restart scheduled");
            }
            Notice::Armed => log!(self, info, "armed: the first connection starts it"),
            Notice::Disarmed => log!(self, info, "disarmed"),
            Notice::Connected => log!(self, info, "a connection starts it"),
            Notice::ChangedOver { former, pid } => log!(self, info, former, pid, "upgraded"),
            Notice::UpgradeFailed { failure } => log!(self, warn, %failure, "the upgrade failed"),
            Notice::NotDrained { left } => log!(self, warn, left, "the old generation is stopped with connections in its queue"),
            Notice::Checked { healthy: true, latency, .. } => {
                log!(self, debug, latency_ms = latency.as_secs_f64() * 1e3, "health check passed");
            }
            Notice::Checked { healthy: false, failures, error, .. } => {
                log!(self, warn, failures, error = error.as_deref().unwrap_or_default(), "health check failed");
            }
        }
    }
}

fn ending(exit: Exit) -> String {
    match (exit.code, exit.signal) {
        (Some(code), _) => format!("code {code}"),
        (None, Some(signal)) => signal_name(signal),
        (None, None) => "unknown".to_owned(),
    }
}
