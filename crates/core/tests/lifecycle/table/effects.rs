//! The words of the table for effects.

use ally_core::lifecycle::{Effect, Notice, Signal};
use ally_core::model::ProcessState;

pub fn describe_effect(effect: &Effect) -> String {
    match effect {
        Effect::Prepare { generation, succeeds: Some(former), .. } => format!("prepare #{generation} beside #{former}"),
        Effect::Prepare { generation, requested: true, succeeds: None } => format!("prepare #{generation}"),
        Effect::Prepare { generation, requested: false, succeeds: None } => format!("prepare again #{generation}"),
        Effect::CancelPrepare { generation } => format!("cancel prepare #{generation}"),
        Effect::Spawn { generation } => format!("spawn #{generation}"),
        Effect::AwaitReady { generation } => format!("await ready #{generation}"),
        Effect::StopAwaiting { generation } => format!("stop awaiting #{generation}"),
        Effect::Signal { generation, signal: Signal::Terminate } => format!("terminate #{generation}"),
        Effect::Signal { generation, signal: Signal::Kill } => format!("kill #{generation}"),
        Effect::WakeKeeper { generation } => format!("wake keeper #{generation}"),
        Effect::KillKeeper { generation } => format!("kill keeper #{generation}"),
        Effect::StartProbe { generation } => format!("probe #{generation}"),
        Effect::StopProbe { generation } => format!("stop probe #{generation}"),
        Effect::WatchMemory { generation } => format!("watch memory #{generation}"),
        Effect::StopWatching { generation } => format!("stop watching #{generation}"),
        Effect::Arm { timer, generation, after } => format!("arm {timer:?} #{generation} {after:?}").to_lowercase(),
        Effect::Disarm { timer, generation } => format!("disarm {timer:?} #{generation}").to_lowercase(),
        Effect::Extend { timer, generation, by } => format!("extend {timer:?} #{generation} {by:?}").to_lowercase(),
        Effect::Listen { generation } => format!("listen #{generation}"),
        Effect::WatchIdle { generation } => format!("watch idle #{generation}"),
        Effect::StopWatchingIdle { generation } => format!("stop watching idle #{generation}"),
        Effect::Freeze { generation } => format!("freeze #{generation}"),
        Effect::Thaw { generation } => format!("thaw #{generation}"),
        Effect::ChangeOver { generation } => format!("change over #{generation}"),
        Effect::Drain { generation } => format!("drain #{generation}"),
        Effect::StopDraining { generation } => format!("stop draining #{generation}"),
        Effect::Adopt { generation } => format!("adopt #{generation}"),
        Effect::CloseSocket { generation } => format!("close socket #{generation}"),
        Effect::Discard { generation } => format!("discard #{generation}"),
        Effect::Release { generation } => format!("release #{generation}"),
        Effect::Withdraw { generation } => format!("withdraw #{generation}"),
        Effect::Abandon { generation } => format!("abandon #{generation}"),
        Effect::Settle { ticket, outcome: Ok(()) } => format!("settle {ticket} ok"),
        Effect::Settle { ticket, outcome: Err(failure) } => format!("settle {ticket} {}", failure.code().as_str()),
        Effect::Warn { failure } => format!("warn {}", failure.code().as_str()),
        Effect::Notify(Notice::StateChanged { from, to, pid, reason, .. }) => {
            let pid = pid.map(|pid| format!(" {pid}")).unwrap_or_default();
            let reason = reason.as_ref().map(|reason| format!(" \"{reason}\"")).unwrap_or_default();
            format!("[{} > {}{pid}{reason}]", from.map_or("never", ProcessState::as_str), to.as_str())
        }
        Effect::Notify(Notice::Spawned { pid }) => format!("notify spawned {pid}"),
        Effect::Notify(Notice::Exited { pid, reason, .. }) => format!("notify exited {pid} {reason}"),
        Effect::Notify(Notice::RestartScheduled { attempt, delay, reason }) => format!("notify restart {attempt} in {delay:?} {reason}"),
        Effect::Notify(Notice::Armed) => "notify armed".to_owned(),
        Effect::Notify(Notice::Disarmed) => "notify disarmed".to_owned(),
        Effect::Notify(Notice::Connected) => "notify connected".to_owned(),
        Effect::Notify(Notice::ChangedOver { former, pid }) => {
            format!("notify changed over {} > {pid}", former.map_or("none".to_owned(), |pid| pid.to_string()))
        }
        Effect::Notify(Notice::UpgradeFailed { failure }) => format!("notify upgrade failed {}", failure.code().as_str()),
        Effect::Notify(Notice::NotDrained { left }) => format!("notify not drained {left}"),
        Effect::Notify(Notice::Checked { healthy, failures, .. }) => {
            format!("notify {} {failures}", if *healthy { "healthy" } else { "unhealthy" })
        }
    }
}
