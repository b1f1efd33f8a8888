//! The limits and the niceness of this process.

use crate::wire::ResourceLimit;

/// The kernel has no score by which it chooses a process to kill.
pub const HAS_OOM_SCORE: bool = false;

/// `RLIM_NLIMITS` of sys/resource.h.
const RESOURCES: i32 = 9;

pub const RLIMIT_OPEN_FILES: i32 = libc::RLIMIT_NOFILE;
pub const RLIMIT_CORE_DUMPS: i32 = libc::RLIMIT_CORE;

/// The limits of this process, by getrlimit(2).
pub fn resource_limits() -> Vec<ResourceLimit> {
    crate::os::resource_limits_of(0..RESOURCES)
}

/// Always `None`: only umask(2) tells it, by changing it. The daemon then has the umask of its guardian.
pub const fn umask() -> Option<u32> {
    None
}
