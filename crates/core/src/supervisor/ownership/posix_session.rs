//! The leader and the members of its POSIX sessions, after its keeper is gone.

use std::collections::BTreeSet;

use ally_base::os::{self, Process};
use ally_base::record::{Identity, SameBoot};

use super::leader::{find_leader, has_token, same_boot, scan_failure};
use crate::config::{KillMode, ProcessConfig};
use crate::error::{Failure, FileProblem};

#[derive(Default)]
pub struct SessionMembers {
    /// Processes that certainly belong to the tree.
    pub certain: Vec<Process>,
    /// Processes that may belong to another POSIX session, if the pid of leader or keeper was reused as a session id. They are
    /// not signalled, and the tree does not count as gone while they live.
    pub doubtful: Vec<Process>,
}

impl SessionMembers {
    pub const fn is_empty(&self) -> bool {
        self.certain.is_empty() && self.doubtful.is_empty()
    }
}

/// The groups that `killMode: 'group'` ends: the one of the start, and the one in which the leader is or was. If the leader has
/// left the group of the start by setpgid(2) or setsid(2), the leader's pid is the number of its group.
pub fn groups_of(leader: &Identity, living_leader: Option<&Process>) -> [i32; 3] {
    [leader.group, leader.leader, living_leader.map_or(leader.leader, |leader| leader.group)]
}

/// The members of the POSIX session that the keeper made, and of the one that the leader makes by setsid(2).
///
/// The leader dies with its keeper (PR_SET_PDEATHSIG), and its descendants live on. A member is certain if one of these is
/// true: the leader lives in the same POSIX session, so the session id is not reused; the member descends from the living
/// leader; the member began with the token of the attempt; the member was `known` as certain before. The record of an older
/// version has no token: there the plugin's SOCKET_PATH takes its place, if the boot is certain.
///
/// # Errors
/// `Io` if a scan fails.
pub fn posix_session_members(leader: &Identity, config: &ProcessConfig, known: &[Process]) -> Result<SessionMembers, Failure> {
    let mut members = SessionMembers::default();
    let same_boot = same_boot(leader)?;
    if same_boot == SameBoot::No {
        return Ok(members);
    }
    let by_socket = leader.token.is_none() && same_boot == SameBoot::Yes;
    let socket = config.socket_path.display().to_string();
    let mut sessions = vec![leader.session, leader.leader];
    sessions.dedup();
    let mut found = Vec::new();
    for session in sessions {
        found.extend(os::posix_session(session).whole().map_err(|error| scan_failure(&error))?);
    }
    let living_leader = find_leader(leader)?;
    let groups = groups_of(leader, living_leader.as_ref());
    let counts = |process: &Process| {
        // A process with the number of the POSIX session is the keeper, or made another POSIX session of this number.
        ![leader.leader, leader.session].contains(&process.pid)
            && process.start >= leader.start
            && (config.kill_mode == KillMode::Tree || groups.contains(&process.group))
    };
    for process in found.into_iter().filter(counts) {
        let certain = living_leader.is_some_and(|leader| leader.session == process.session)
            || known.iter().any(|known| known.is(&process))
            || has_token(&process, leader)?
            || by_socket && os::began_with(process.pid, "SOCKET_PATH", &socket).map_err(|error| scan_failure(&error))?
            || living_leader.is_some() && os::descends_from(process.pid, leader.leader).map_err(|error| scan_failure(&error))?;
        if certain { &mut members.certain } else { &mut members.doubtful }.push(process);
    }
    members.certain.extend(living_leader);
    if members.is_empty() {
        require_visible_groups(&groups)?;
    }
    Ok(members)
}

/// An empty scan proves nothing if /proc hides a process of the tree, for example after setuid(2).
fn require_visible_groups(groups: &[i32]) -> Result<(), Failure> {
    // Most leaders have one group, and each look may take long.
    for group in BTreeSet::from_iter(groups) {
        if os::hides_group(*group).map_err(|error| scan_failure(&error))? {
            let text = format!("EACCES: hides the processes of group {group} (hidepid)");
            return Err(Failure::Io { path: "/proc".to_owned(), problem: FileProblem::Found { text, errno: Some(libc::EACCES) } });
        }
    }
    Ok(())
}
