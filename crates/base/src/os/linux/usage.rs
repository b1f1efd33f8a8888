//! The resources of a process and of a tree, by /proc (proc_pid_stat(5), proc_pid_smaps(5)).
//!
//! A daemon may be sampled each second, so a process costs few system calls here, and a scan is not repeated until it is
//! complete, as the scans of `tree` are.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use once_cell::sync::Lazy;

use super::identity::{after_name, unless_gone};
use super::tree::child_pids;
use crate::os::{PROBE_KEEPER, ProcessUsage, TreeUsage};

/// The tree of a keeper, without the command of a probe that runs beside it. `None` if the keeper is gone, or if another process has its pid.
///
/// # Errors
/// A file of /proc can't be read: EMFILE, ENFILE, EACCES.
pub fn tree_usage(keeper: i32, keeper_start: u64) -> io::Result<Option<TreeUsage>> {
    // First, so that a process that ends during the scan is not counted twice: in its parent, and itself.
    let Some(root) = stat(keeper)?.filter(|root| root.start == keeper_start) else { return Ok(None) };
    let mut tree = TreeUsage { processes: Vec::new(), cpu: root.waited };
    let mut parents = vec![(keeper, root.threads)];
    while let Some((parent, threads)) = parents.pop() {
        for pid in children(parent, threads)? {
            let Some(found) = stat(pid)?.filter(|found| found.parent == parent) else { continue };
            if parent == keeper && found.is_probe {
                continue;
            }
            tree.cpu += found.cpu + found.waited;
            parents.push((pid, found.threads));
            if !found.ended {
                tree.processes.push(ProcessUsage { pid, threads: found.threads, resident: found.resident });
            }
        }
    }
    Ok(Some(tree))
}

/// The memory of a process, where a page that n processes share counts as 1/n page (`Pss` of smaps_rollup).
///
/// # Errors
/// EACCES if this user may not read the file; ENOENT before Linux 4.14; ESRCH if the process is gone.
pub fn shared_memory_size(pid: i32) -> io::Result<u64> {
    let text = read_start(&format!("/proc/{pid}/smaps_rollup"), &mut [0; 4096], |bytes| String::from_utf8_lossy(bytes).into_owned())?;
    let kib = text.lines().find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.map(|kib| kib * 1024).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The number of open descriptors, and [`reserved_files`] with it.
///
/// # Errors
/// EACCES if this user may not read the list; ENOENT if the process is gone.
pub fn open_files(pid: i32) -> io::Result<(u32, u64)> {
    let folder = File::open(format!("/proc/{pid}/fd"))?;
    let reserved = folder.metadata()?.len();
    let mut entries = [0_u8; FEW_FILES];
    // SAFETY: the buffer has this length.
    let length = unsafe { libc::syscall(libc::SYS_getdents64, folder.as_raw_fd(), entries.as_mut_ptr(), entries.len()) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    if length + LONGEST_ENTRY < entries.len() {
        return Ok((descriptors_in(entries.get(..length).unwrap_or_default()), reserved));
    }
    // Each entry takes about a microsecond, so many are not listed.
    let count = if reserved > 0 { reserved } else { fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64 };
    Ok((u32::try_from(count).unwrap_or(u32::MAX), reserved))
}

/// The number of descriptors and of those that are reserved: a thread that waits in accept(2) has reserved one. It takes a fifth of
/// the time of [`open_files`]. 0 before Linux 6.2.
///
/// # Errors
/// ENOENT if the process is gone.
pub fn reserved_files(pid: i32) -> io::Result<u64> {
    Ok(fs::metadata(format!("/proc/{pid}/fd"))?.len())
}

/// Room for about 80 entries.
const FEW_FILES: usize = 2048;
/// More than an entry with a number of ten digits takes.
const LONGEST_ENTRY: usize = 64;

/// The number of entries other than `.` and `..`. An entry is a `struct linux_dirent64`: getdents(2).
fn descriptors_in(mut entries: &[u8]) -> u32 {
    let mut count = 0;
    while let Some([low, high, _, first]) = entries.get(16..20) {
        count += u32::from(*first != b'.');
        let length = usize::from(u16::from_ne_bytes([*low, *high]));
        entries = entries.get(length.max(20)..).unwrap_or_default();
    }
    count
}

struct Stat {
    parent: i32,
    /// Whether it is the keeper of a probe's command.
    is_probe: bool,
    /// Whether it is a zombie. Its CPU time is not its parent's yet.
    ended: bool,
    cpu: Duration,
    /// The CPU time of the children that it waited for.
    waited: Duration,
    threads: u32,
    start: u64,
    /// Bytes. /proc/PID/statm has the same number, and would be another file to open.
    resident: u64,
}

fn stat(pid: i32) -> io::Result<Option<Stat>> {
    let read = read_start(&format!("/proc/{pid}/stat"), &mut [0; 4096], parse);
    unless_gone(read.and_then(|stat| stat.ok_or_else(|| io::ErrorKind::InvalidData.into())))
}

fn parse(stat: &[u8]) -> Option<Stat> {
    // From the third field on: state, ppid, …, utime (14), stime, cutime, cstime, …, num_threads (20), …, starttime (22), vsize,
    // rss (24).
    let mut fields = after_name(stat)?;
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let mut ticks = [0_u64; 4];
    let mut rest = fields.skip(9);
    for field in &mut ticks {
        // cutime and cstime are signed in the format.
        *field = rest.next()?.parse::<i64>().ok()?.max(0).cast_unsigned();
    }
    let [user, system, waited_user, waited_system] = ticks;
    let threads: u32 = rest.nth(2)?.parse().ok()?;
    let start = rest.nth(1)?.parse().ok()?;
    let pages = rest.nth(1)?.parse::<i64>().ok()?.max(0).cast_unsigned();
    Some(Stat {
        parent,
        is_probe: name_of(stat) == PROBE_KEEPER.as_bytes(),
        ended: matches!(state, "Z" | "X" | "x") && threads <= 1,
        cpu: of_ticks(user + system),
        waited: of_ticks(waited_user + waited_system),
        threads,
        start,
        resident: pages * *PAGE_SIZE,
    })
}

/// Between the first and the last parenthesis, because a name may have some.
fn name_of(stat: &[u8]) -> &[u8] {
    let begin = stat.iter().position(|byte| *byte == b'(').map_or(0, |at| at + 1);
    let end = stat.iter().rposition(|byte| *byte == b')').unwrap_or(begin);
    stat.get(begin..end).unwrap_or_default()
}

/// The pids of the children. A process with one thread has one list of them.
fn children(parent: i32, threads: u32) -> io::Result<Vec<i32>> {
    if threads > 1 {
        return child_pids(parent);
    }
    let mut buffer = [0; 4096];
    let list = read_start(&format!("/proc/{parent}/task/{parent}/children"), &mut buffer, |list| {
        let pids = String::from_utf8_lossy(list).split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect();
        (list.len() < 4096).then_some(pids)
    });
    match list {
        Ok(Some(pids)) => Ok(pids),
        // The list is longer, or there is none: the process is gone, or the kernel has no CONFIG_PROC_CHILDREN.
        Ok(None) | Err(_) => child_pids(parent),
    }
}

/// Passes the start of a file to `read`. The files of this module are generated at one read(2).
pub fn read_start<T>(path: &str, buffer: &mut [u8], read: impl FnOnce(&[u8]) -> T) -> io::Result<T> {
    let file = File::open(path)?;
    // SAFETY: the buffer has this length.
    let count = unsafe { libc::read(file.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
    let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
    Ok(read(buffer.get(..count).unwrap_or_default()))
}

static PAGE_SIZE: Lazy<u64> = Lazy::new(|| setting(libc::_SC_PAGESIZE, 4096));
static TICKS_PER_SECOND: Lazy<u64> = Lazy::new(|| setting(libc::_SC_CLK_TCK, 100));

fn setting(name: libc::c_int, default: u64) -> u64 {
    // SAFETY: an integer only.
    u64::try_from(unsafe { libc::sysconf(name) }).ok().filter(|value| *value > 0).unwrap_or(default)
}

fn of_ticks(ticks: u64) -> Duration {
    Duration::from_millis(ticks * 1000 / *TICKS_PER_SECOND)
}
