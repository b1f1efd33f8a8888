//! One notice of the lifecycle, told to listeners as an event and to the logger as a record.

use std::sync::atomic::Ordering;

use tracing::{debug, error, info, warn};

use super::TARGET;
use super::mailbox::Message;
use super::shared::Shared;
use crate::lifecycle::Notice;
use crate::model::{Exit, ProcessState};
use ally_base::text::signal_name;

/// The number of the manager routes the record to its logger.
pub fn announce(shared: &Shared, plugin: &str, notice: Notice, at: f64) {
    log(shared.id, plugin, &notice);
    let told = match notice {
        Notice::Spawned { .. } => false,
        Notice::Checked { .. } => shared.listeners.health.load(Ordering::Relaxed),
        Notice::StateChanged { .. } | Notice::Exited { .. } | Notice::RestartScheduled { .. } => true,
    };
    if told {
        shared.mailbox.post(Message::Notice { plugin: plugin.to_owned(), notice, at });
    }
}

fn log(manager: u64, plugin: &str, notice: &Notice) {
    match notice {
        Notice::Spawned { pid } => info!(target: TARGET, manager, plugin, pid, "started"),
        Notice::StateChanged { to: ProcessState::Running, pid, .. } => info!(target: TARGET, manager, plugin, pid, "ready"),
        Notice::StateChanged { to: ProcessState::Stopped, .. } => info!(target: TARGET, manager, plugin, "stopped"),
        Notice::StateChanged { to: ProcessState::Error, reason, .. } => {
            error!(target: TARGET, manager, plugin, reason = reason.as_deref().unwrap_or_default(), "gave up");
        }
        Notice::StateChanged { from, to: to @ (ProcessState::Starting | ProcessState::Stopping), .. } => {
            debug!(target: TARGET, manager, plugin, from = from.map(ProcessState::as_str), to = to.as_str(), "state changed");
        }
        Notice::Exited { pid, exit, reason } => {
            let ending = ending(*exit);
            match reason {
                crate::model::ExitReason::Stopped => info!(target: TARGET, manager, plugin, pid, %reason, ending, "exited"),
                crate::model::ExitReason::Crashed
                | crate::model::ExitReason::Exited
                | crate::model::ExitReason::Unhealthy
                | crate::model::ExitReason::Startup => warn!(target: TARGET, manager, plugin, pid, %reason, ending, "exited"),
            }
        }
        Notice::RestartScheduled { attempt, delay, reason } => {
            let delay_ms = delay.as_secs_f64() * 1e3;
            warn!(target: TARGET, manager, plugin, attempt, delay_ms, %reason, "restart scheduled");
        }
        Notice::Checked { healthy: true, latency, .. } => {
            debug!(target: TARGET, manager, plugin, latency_ms = latency.as_secs_f64() * 1e3, "health check passed");
        }
        Notice::Checked { healthy: false, failures, error, .. } => {
            warn!(target: TARGET, manager, plugin, failures, error = error.as_deref().unwrap_or_default(), "health check failed");
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
