//! The open sockets of a process: /proc/PID/fd.

use std::cell::Cell;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::tree::{all_pids, descendants};

/// Room for the names of about eighty descriptors.
const BUFFER: usize = 2 * 1024;
/// The fields of `struct linux_dirent64` in front of the name: inode, offset, length, type.
const ENTRY_LENGTH: usize = 16;
const ENTRY_NAME: usize = 19;

/// The result of a search among the descriptors of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Search {
    Open,
    /// Also if the process is gone.
    NotOpen,
    /// This user may not read the descriptors.
    Unreadable,
}

/// Whether the process has a socket with one of these inodes open.
pub fn search(pid: i32, inodes: &[u32]) -> Search {
    match find_socket(pid, |inode| inodes.contains(&inode)) {
        Ok(Some(_)) => Search::Open,
        Ok(None) => Search::NotOpen,
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => Search::NotOpen,
        Err(_) => Search::Unreadable,
    }
}

/// The inode of the first open socket that `is_wanted`. In each piece of the list the highest descriptors are read first: a process
/// that has opened many has made its listener after them.
///
/// A start waits for this. So the calls are made directly: [`std::fs::read_dir`] makes one more, and reads the link of each
/// descriptor by its whole path.
pub fn find_socket(pid: i32, mut is_wanted: impl FnMut(u32) -> bool) -> io::Result<Option<u32>> {
    let folder = open_folder(pid)?;
    let mut buffer = [0_u8; BUFFER];
    loop {
        // Most processes have their descriptors in one piece, and the call that finds the end is saved.
        let mut numbers = numbers(&folder, &mut buffer)?;
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        if numbers.is_empty() {
            return Ok(None);
        }
        let found = numbers.into_iter().filter_map(|number| socket_inode(&folder, number)).find(|inode| is_wanted(*inode));
        if found.is_some() {
            return Ok(found);
        }
    }
}

/// Whether the leader or a descendant of the keeper has a socket with one of these inodes open. `Unreadable` if it was not found,
/// and the descriptors of a process of the tree can't be read.
pub fn tree_has_open(keeper: i32, leader: i32, inodes: &[u32]) -> Search {
    let unreadable = Cell::new(false);
    let has_open = |pid: i32| {
        let found = search(pid, inodes);
        unreadable.set(unreadable.get() || found == Search::Unreadable);
        found == Search::Open
    };
    // Twice, because a process may duplicate and close descriptors or fork while they are read.
    let open = (0..2).any(|_| {
        has_open(leader) || {
            let tree = descendants(keeper);
            let found = tree.seen.iter().any(|process| process.pid != leader && has_open(process.pid));
            unreadable.set(unreadable.get() || tree.failed.is_some());
            found
        }
    });
    if open {
        Search::Open
    } else if unreadable.get() {
        Search::Unreadable
    } else {
        Search::NotOpen
    }
}

/// The processes that have a socket with one of these inodes open, as far as this user may read their descriptors. The scan reads
/// the descriptors of all processes.
pub fn all_that_have_open(inodes: &[u32]) -> Vec<i32> {
    let mut pids = all_pids().unwrap_or_default();
    pids.retain(|pid| search(*pid, inodes) == Search::Open);
    pids
}

/// The open sockets of a process: each descriptor, and the inode of its socket.
///
/// # Errors
/// Errors of the reads: EACCES, ENOENT if the process is gone.
pub fn open_sockets(pid: i32) -> io::Result<Vec<(u32, u32)>> {
    let folder = open_folder(pid)?;
    let mut buffer = [0_u8; BUFFER];
    let mut sockets = Vec::new();
    loop {
        let numbers = numbers(&folder, &mut buffer)?;
        if numbers.is_empty() {
            return Ok(sockets);
        }
        sockets.extend(numbers.into_iter().filter_map(|number| Some((number, socket_inode(&folder, number)?))));
    }
}

fn open_folder(pid: i32) -> io::Result<OwnedFd> {
    let path = CString::new(format!("/proc/{pid}/fd"))?;
    // SAFETY: a NUL-terminated path.
    let raw = unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just opened this descriptor, and no other value owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// The next descriptors of the folder. Empty at its end.
fn numbers(folder: &OwnedFd, buffer: &mut [u8; BUFFER]) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    while numbers.is_empty() {
        // SAFETY: the buffer is writable and has this length.
        let count = unsafe { libc::syscall(libc::SYS_getdents64, folder.as_raw_fd(), buffer.as_mut_ptr(), buffer.len()) };
        let Ok(count) = usize::try_from(count) else { return Err(io::Error::last_os_error()) };
        if count == 0 {
            break;
        }
        let mut rest = buffer.get(..count).unwrap_or_default();
        while let Some(length) = rest.get(ENTRY_LENGTH..ENTRY_LENGTH + 2).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes) {
            let length = usize::from(length).max(ENTRY_NAME);
            numbers.extend(rest.get(ENTRY_NAME..length).and_then(|name| parse(name.split(|byte| *byte == 0).next()?)));
            rest = rest.get(length..).unwrap_or_default();
        }
    }
    Ok(numbers)
}

/// The inode of the socket behind a descriptor. `None` for another file, and for a descriptor that was closed.
fn socket_inode(folder: &OwnedFd, number: u32) -> Option<u32> {
    let name = CString::new(number.to_string()).ok()?;
    // The longest text of interest is `socket:[4294967295]`.
    let mut link = [0_u8; 32];
    // SAFETY: a NUL-terminated name, and a writable buffer of this length.
    let length = unsafe { libc::readlinkat(folder.as_raw_fd(), name.as_ptr(), link.as_mut_ptr().cast(), link.len()) };
    let text = link.get(..usize::try_from(length).ok()?)?;
    parse(text.strip_prefix(b"socket:[")?.strip_suffix(b"]")?)
}

fn parse(digits: &[u8]) -> Option<u32> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}
