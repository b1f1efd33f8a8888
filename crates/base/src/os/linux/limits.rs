//! The limits, the umask and the niceness of this process.

use super::usage::read_start;
use crate::wire::ResourceLimit;

/// Whether the kernel has a score by which it chooses a process to kill when memory is short.
pub const HAS_OOM_SCORE: bool = true;

/// `RLIM_NLIMITS` of asm-generic/resource.h.
const RESOURCES: i32 = 16;

pub const RLIMIT_OPEN_FILES: i32 = 7;
pub const RLIMIT_CORE_DUMPS: i32 = 4;
// In the libc crate their type depends on the C library: u32 with glibc, i32 with musl.
const _: () = assert!(libc::RLIMIT_NOFILE as i64 == RLIMIT_OPEN_FILES as i64 && libc::RLIMIT_CORE as i64 == RLIMIT_CORE_DUMPS as i64);

/// The limits of this process, by prlimit(2).
pub fn resource_limits() -> Vec<ResourceLimit> {
    crate::os::resource_limits_of(0..RESOURCES)
}

/// The umask of this process. umask(2) itself could only tell it by changing it, and another thread may make a file meanwhile.
/// `None` before Linux 4.7.
pub fn umask() -> Option<u32> {
    // The second line. The rest of the file is not read.
    read_start("/proc/self/status", &mut [0; 256], |status| {
        let line = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"Umask:"))?;
        u32::from_str_radix(std::str::from_utf8(line).ok()?.trim(), 8).ok()
    })
    .ok()?
}
