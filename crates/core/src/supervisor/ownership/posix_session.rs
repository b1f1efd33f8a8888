//! What is left of a leader and of the POSIX session that it made, after its keeper is gone.

use ally_base::os::{self, Process};
use ally_base::record::Identity;

use super::identity::{find_leader, is_of_this_boot, scan_failure};
use crate::config::{KillMode, ProcessConfig};
use crate::error::Failure;

#[derive(Default)]
pub struct SessionMembers {
    /// Processes that the leader made, beyond doubt.
    pub certain: Vec<Process>,
    /// If the leader's number was given to another process, these may be that one's session: they are neither signalled nor
    /// taken for gone.
    pub doubtful: Vec<Process>,
}

impl SessionMembers {
    pub const fn is_empty(&self) -> bool {
        self.certain.is_empty() && self.doubtful.is_empty()
    }
}

/// The leader dies with its keeper; its children stay. Three things make a member certain: the leader lives, so its number is
/// no other session's; the member began with our SOCKET_PATH in its environment; or it was `known` before.
///
/// # Errors
/// `Io` if a scan fails.
pub fn posix_session_members(leader: &Identity, config: &ProcessConfig, known: &[Process]) -> Result<SessionMembers, Failure> {
    let mut members = SessionMembers::default();
    if !is_of_this_boot(leader)? {
        return Ok(members);
    }
    let socket = config.socket_path.display().to_string();
    let session = os::posix_session(leader.leader).whole().map_err(|error| scan_failure(&error))?;
    let living_leader = find_leader(leader)?;
    let counts = |process: &Process| {
        process.pid != leader.leader
            && process.start >= leader.start
            && (config.kill_mode == KillMode::Tree || process.group == leader.leader)
    };
    for process in session.into_iter().filter(counts) {
        let certain = living_leader.is_some()
            || known.iter().any(|known| known.is(&process))
            || os::began_with(process.pid, "SOCKET_PATH", &socket).map_err(|error| scan_failure(&error))?;
        if certain { &mut members.certain } else { &mut members.doubtful }.push(process);
    }
    members.certain.extend(living_leader);
    Ok(members)
}
