//! The sweep: ends the processes that a killed keeper left.

use std::time::Duration;

use ally_base::os;
use ally_base::record::Identity;
use tokio::time::{sleep, timeout};

use super::GuardianReceipt;
use super::suspended::wake;
use crate::config::ProcessConfig;
use crate::lifecycle::KILL_TIMEOUT;
use crate::model::Pid;
use crate::supervisor::ownership::{SessionMembers, posix_session_members};
use crate::supervisor::report::{Reporter, log};

/// The time in which the guardian must finish the sweep before it gets SIGCONT.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// The first pause between two scans of the POSIX session. Each further pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// The longest pause. A process that survives SIGKILL may never end, and each scan reads all of /proc.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The guardian is the subreaper above the killed keeper, and ends the tree exactly. If the guardian is gone too, the members
/// of the daemon's POSIX session are killed. Returns when no process is left. The machine limits the time.
pub async fn sweep(
    mut receipt: Option<GuardianReceipt>,
    keeper: Pid,
    leader: Option<Identity>,
    config: &ProcessConfig,
    reporter: &Reporter,
) {
    if is_swept(&mut receipt, keeper, ANSWER_TIMEOUT).await {
        return;
    }
    if let Some(receipt) = &receipt {
        // The guardian may be suspended.
        wake(receipt.guardian);
    }
    if is_swept(&mut receipt, keeper, KILL_TIMEOUT.saturating_sub(ANSWER_TIMEOUT)).await {
        return;
    }
    if receipt.is_some() {
        log!(reporter, warn, keeper, "the guardian doesn't say that the tree is gone");
    }
    let mut pause = FIRST_PAUSE;
    let mut known = Vec::new();
    loop {
        match leader.as_ref().map_or(Ok(SessionMembers::default()), |leader| posix_session_members(leader, config, &known)) {
            Ok(left) if left.is_empty() && receipt.is_none() => return,
            Ok(left) => {
                for process in &left.certain {
                    if let Err(error) = os::signal(process, libc::SIGKILL) {
                        log!(reporter, debug, pid = process.pid, %error, "what a keeper left can't be killed");
                    }
                }
                known = left.certain;
            }
            Err(error) => log!(reporter, debug, keeper, %error, "what a keeper left can't be looked at"),
        }
        if receipt.is_none() {
            sleep(pause).await;
        } else if is_swept(&mut receipt, keeper, pause).await {
            return;
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Whether the guardian finishes the sweep of this keeper within `limit`. If the guardian is gone, `receipt` becomes `None`.
async fn is_swept(receipt: &mut Option<GuardianReceipt>, keeper: Pid, limit: Duration) -> bool {
    let Some(guardian) = receipt else { return false };
    match timeout(limit, guardian.swept(keeper)).await {
        Ok(true) if os::HAS_SUBREAPER => true,
        // The guardian is gone, or is no subreaper (macOS): other processes of the tree may live.
        Ok(_) => {
            *receipt = None;
            false
        }
        Err(_) => false,
    }
}
