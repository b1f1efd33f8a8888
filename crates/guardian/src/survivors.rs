//! What a keeper leaves alive on purpose (`killMode: 'group'`) goes on printing into its outputs. The owner reads them for
//! as long as it lives; from then on somebody else must, or the survivors would die of a broken pipe.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::sys;
use ally_base::os::{self, Handle, Process};

/// How often the owner is looked for where the system gives no handle that tells of its end.
const OWNER_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Leaves a process behind that reads `outputs` when the owner is gone, until nobody can write to them any more. In a
/// session of its own, so that the guardian spares it as it spares the survivors.
///
/// # Errors
/// What the system says; the survivors are then on their own.
pub fn leave_reader(owner: Option<OwnedFd>, outputs: [Option<OwnedFd>; 2]) -> io::Result<()> {
    let watched = owner.as_ref().map(Owner::of).transpose()?.flatten();
    drop(owner);
    nix::unistd::setsid()?;
    match sys::fork()? {
        0 => read_on(watched, outputs),
        _ => Ok(()),
    }
}

struct Owner {
    process: Process,
    handle: Handle,
}

impl Owner {
    /// The process at the other end, if it still lives.
    fn of(stream: &OwnedFd) -> io::Result<Option<Self>> {
        let Some(process) = os::identify(os::peer_pid(stream)?)? else { return Ok(None) };
        Ok(os::open(&process)?.map(|handle| Self { process, handle }))
    }
}

fn read_on(mut owner: Option<Owner>, mut outputs: [Option<OwnedFd>; 2]) -> ! {
    while outputs.iter().any(Option::is_some) {
        let handle = owner.as_ref().and_then(|owner| owner.handle.fd.as_ref());
        // While the owner reads, only the last writer's end is of interest, of which poll(2) tells unasked.
        let interest = if owner.is_some() { 0 } else { libc::POLLIN };
        let ended = sys::poll(
            [(handle, libc::POLLIN), (outputs[0].as_ref(), interest), (outputs[1].as_ref(), interest)],
            (owner.is_some() && handle.is_none()).then_some(OWNER_CHECK_INTERVAL),
        );
        if owner.as_ref().is_some_and(|owner| ended[0] != 0 || owner.process.lives().is_ok_and(|lives| !lives)) {
            owner = None;
        }
        for (output, told) in outputs.iter_mut().zip([ended[1], ended[2]]) {
            let Some(fd) = output.as_ref().filter(|_| told != 0) else { continue };
            let over = if told & libc::POLLIN != 0 { !sys::discard(fd) } else { true };
            if over {
                *output = None;
            }
        }
    }
    // SAFETY: ends this process without running what belongs to the keeper.
    unsafe { libc::_exit(0) }
}
