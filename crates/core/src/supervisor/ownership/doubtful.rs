//! Processes that a dead owner may have left. If owner, guardian and keeper were killed together, no process knows their tree any
//! more, and the origin of a process may not be provable. Such a process is named in the log and not stopped.

use ally_base::os::{self, Process};
use ally_base::record::{DAEMON_ID, Identity, SameBoot};

use super::leader::same_boot;
use super::orphans::{pids, without_own_chain};
use super::{Folder, posix_session_members};
use crate::config::{KillMode, ProcessConfig};
use crate::error::Failure;
use crate::supervisor::report::{Reporter, log};

/// # Errors
/// `Io` if the record can't be read, or if a scan fails.
pub fn log_doubtful(folder: &Folder, config: &ProcessConfig, reporter: &Reporter) -> Result<(), Failure> {
    let (mut certain, mut doubtful) = (Vec::new(), Vec::new());
    for identity in folder.read_identities()? {
        if same_boot(&identity)? == SameBoot::No {
            continue;
        }
        let members = posix_session_members(&identity, config, &[])?;
        certain.extend(members.certain);
        doubtful.extend(members.doubtful);
        // With `killMode: 'group'` other processes are meant to live on.
        if config.kill_mode == KillMode::Tree {
            doubtful.extend(with_token(&identity));
        }
    }
    let is_stopped = |process: &Process| certain.iter().any(|root| os::descends_from(process.pid, root.pid).unwrap_or(false));
    doubtful.retain(|process| !is_stopped(process));
    doubtful.sort_unstable_by_key(|process| process.pid);
    doubtful.dedup_by_key(|process| process.pid);
    let doubtful = without_own_chain(doubtful)?;
    if !doubtful.is_empty() {
        let pids = pids(&doubtful);
        log!(reporter, warn, pids, "processes that a dead owner may have left go on, because their origin is not proven");
    }
    Ok(())
}

/// The processes of any POSIX session that began with the token of the attempt. A program may have copied the environment of a
/// daemon, so the token alone is no proof. An incomplete scan is enough for a log entry.
fn with_token(identity: &Identity) -> Vec<Process> {
    identity.token.as_ref().map_or_else(Vec::new, |token| os::all_that_began_with(DAEMON_ID, token).seen)
}
