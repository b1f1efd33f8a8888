//! The credentials of this process, which guardian and daemons inherit.

use ally_base::os;
use nix::unistd::{Gid, Uid, getegid, geteuid, getgid, getuid};

/// User and group, real and effective, and the supplementary groups.
#[derive(PartialEq, Eq)]
pub struct Credentials {
    users: [Uid; 2],
    groups: [Gid; 2],
    supplementary: Vec<u32>,
}

impl Credentials {
    pub fn now() -> Self {
        Self { users: [getuid(), geteuid()], groups: [getgid(), getegid()], supplementary: os::supplementary_groups() }
    }
}
