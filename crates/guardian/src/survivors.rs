//! The output of survivors: processes that a keeper leaves alive on purpose (`killMode: 'group'`). While the owner lives, the
//! owner reads their output. After the owner's death another process must read it, or survivors would die of SIGPIPE.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::sys;
use ally_base::os::{self, Handle, Process};

/// How often to check the owner if its handle has no descriptor.
const OWNER_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Forks a reader, which reads `outputs` after the owner's death until every write end is closed.
///
/// The reader needs a POSIX session of its own: the guardian spares processes by POSIX session, and a process of the tree may be
/// in the keeper's.
///
/// # Errors
/// Errors of the system calls. The outputs of the survivors then have no reader after the owner's death.
pub fn leave_reader(owner: Option<OwnedFd>, outputs: [Option<OwnedFd>; 2]) -> io::Result<()> {
    let watched = owner.as_ref().map(WatchedOwner::of).transpose()?.flatten();
    drop(owner);
    let (has_session, session_pending) = sys::pipe()?;
    if sys::fork()? == 0 {
        drop(has_session);
        // In the child: the keeper leads a POSIX session, so setsid(2) fails in the keeper.
        sys::ignore(nix::unistd::setsid().map_err(io::Error::from));
        drop(session_pending);
        read_until_closed(watched, outputs);
    }
    drop(session_pending);
    // The keeper exits next, and the guardian then reads the POSIX sessions of its children.
    sys::ignore(File::from(has_session).read(&mut [0]));
    Ok(())
}

struct WatchedOwner {
    process: Process,
    handle: Handle,
}

impl WatchedOwner {
    /// The process at the other end of `stream`. `None` if the process is gone.
    fn of(stream: &OwnedFd) -> io::Result<Option<Self>> {
        let Some(process) = os::identify(os::peer_pid(stream)?)? else { return Ok(None) };
        Ok(os::open(&process)?.map(|handle| Self { process, handle }))
    }
}

fn read_until_closed(mut owner: Option<WatchedOwner>, mut outputs: [Option<OwnedFd>; 2]) -> ! {
    while outputs.iter().any(Option::is_some) {
        let handle = owner.as_ref().and_then(|owner| owner.handle.fd.as_ref());
        // While the owner reads, only POLLHUP matters, which poll(2) always reports.
        let interest = if owner.is_some() { 0 } else { libc::POLLIN };
        let [owner_events, stdout_events, stderr_events] = sys::poll(
            [(handle, libc::POLLIN), (outputs[0].as_ref(), interest), (outputs[1].as_ref(), interest)],
            (owner.is_some() && handle.is_none()).then_some(OWNER_CHECK_INTERVAL),
        );
        if owner.as_ref().is_some_and(|owner| owner_events != 0 || owner.process.lives().is_ok_and(|lives| !lives)) {
            owner = None;
        }
        for (output, events) in outputs.iter_mut().zip([stdout_events, stderr_events]) {
            let Some(fd) = output.as_ref().filter(|_| events != 0) else { continue };
            let closed = if events & libc::POLLIN != 0 { !sys::discard(fd) } else { true };
            if closed {
                *output = None;
            }
        }
    }
    // SAFETY: _exit(2) runs no exit handlers, which belong to the keeper.
    unsafe { libc::_exit(0) }
}
