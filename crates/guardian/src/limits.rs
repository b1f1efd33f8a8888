//! Sets the limits of a daemon, in the child between fork(2) and execve(2).

use std::fs;
use std::io;

use ally_base::os;
use ally_base::wire::{Limits, ResourceLimit, Stage};
use nix::sys::stat::{Mode, umask};

use super::sys;

/// # Errors
/// The system refuses what the configuration asks for. What the owner has is set as far as the system allows.
pub fn apply(limits: &Limits) -> Result<(), (Stage, io::Error)> {
    if let Some(mask) = limits.umask {
        umask(Mode::from_bits_truncate(mask as libc::mode_t));
    }
    if let Some(score) = limits.oom_score_adj {
        fs::write("/proc/self/oom_score_adj", score.to_string()).map_err(|error| (Stage::OomScoreAdj, error))?;
    }
    if let Some(niceness) = limits.wanted_niceness {
        set_niceness(niceness).map_err(|error| (Stage::Niceness, error))?;
    } else if let Some(niceness) = limits.niceness {
        sys::ignore(set_niceness(niceness));
    }
    for limit in &limits.resources {
        sys::ignore(set(*limit).or_else(|_| set_within_hard(*limit)));
    }
    if let Some(on) = limits.core_dumps {
        set_core_dumps(on).map_err(|error| (Stage::CoreDumps, error))?;
    }
    if let Some(count) = limits.open_files {
        // The hard limit too: programs such as Node raise their soft limit to it.
        let (resource, count) = (os::RLIMIT_OPEN_FILES, count.into());
        set(ResourceLimit { resource, soft: count, hard: count }).map_err(|error| (Stage::OpenFiles, error))?;
    }
    Ok(())
}

fn set_niceness(niceness: i32) -> io::Result<()> {
    // SAFETY: integers only.
    succeeded(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, niceness) })
}

fn set(ResourceLimit { resource, soft, hard }: ResourceLimit) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the structure outlives the call. The type of the number differs between the C libraries.
    succeeded(unsafe { libc::setrlimit(resource as _, &raw const limit) })
}

/// For a hard limit that may not be raised: the guardian's stays, and the soft limit is as near as it allows.
fn set_within_hard(limit: ResourceLimit) -> io::Result<()> {
    let hard = hard_limit(limit.resource)?.min(limit.hard);
    set(ResourceLimit { soft: limit.soft.min(hard), hard, ..limit })
}

fn set_core_dumps(on: bool) -> io::Result<()> {
    let resource = os::RLIMIT_CORE_DUMPS;
    if !on {
        return set(ResourceLimit { resource, soft: 0, hard: 0 });
    }
    set(ResourceLimit { resource, soft: libc::RLIM_INFINITY, hard: libc::RLIM_INFINITY }).or_else(|refused| {
        // As large as the hard limit allows, unless it allows none.
        let hard = hard_limit(resource)?;
        if hard == 0 { Err(refused) } else { set(ResourceLimit { resource, soft: hard, hard }) }
    })
}

fn hard_limit(resource: i32) -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure outlives the call.
    succeeded(unsafe { libc::getrlimit(resource as _, &raw mut limit) })?;
    Ok(limit.rlim_max)
}

fn succeeded(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
