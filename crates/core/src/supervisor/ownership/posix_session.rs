//! The leader and the members of its POSIX session, after its keeper is gone.

use ally_base::os::{self, Process};
use ally_base::record::Identity;

use super::identity::{find_leader, is_of_this_boot, scan_failure};
use crate::config::{KillMode, ProcessConfig};
use crate::error::Failure;

#[derive(Default)]
pub struct SessionMembers {
    /// Processes that certainly belong to the tree.
    pub certain: Vec<Process>,
    /// Processes that may belong to another POSIX session, if the leader's pid was reused as a session id. They are not
    /// signalled, and the tree does not count as gone while they live.
    pub doubtful: Vec<Process>,
}

impl SessionMembers {
    pub const fn is_empty(&self) -> bool {
        self.certain.is_empty() && self.doubtful.is_empty()
    }
}

/// The leader dies with its keeper (PR_SET_PDEATHSIG), and its descendants live on. A member is certain if one of these is
/// true: the leader lives, so the session id is not reused; the member's initial environment has the plugin's SOCKET_PATH; the
/// member was `known` as certain before.
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
