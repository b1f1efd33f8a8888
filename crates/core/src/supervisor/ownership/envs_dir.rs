//! The folder above all plugins' folders.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::geteuid;

use crate::error::Failure;

/// Makes `envs_dir` and what is missing above it. One that was there must not be another user's (root apart), nor let others
/// write: they could put other folders in the place of ours.
pub fn make_envs_dir(envs_dir: &Path) -> Result<(), Failure> {
    let io_failure = |call| move |error: io::Error| Failure::call(call, envs_dir, error);
    let (missing, there): (Vec<_>, Vec<_>) = envs_dir.ancestors().partition(|ancestor| !ancestor.exists());
    for folder in missing.iter().rev() {
        match std::fs::create_dir(folder) {
            // Whatever the umask, which may even keep us out.
            Ok(()) => std::fs::set_permissions(folder, Permissions::from_mode(0o700)).map_err(io_failure("chmod"))?,
            // Another owner makes it at the same time.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {}
            Err(error) => {
                // Some systems report ENOENT for what can't be made; the cause is more use.
                let cause = there.first().and_then(|there| nix::sys::statvfs::statvfs(*there).ok());
                let readonly = cause.is_some_and(|stat| stat.flags().contains(nix::sys::statvfs::FsFlags::ST_RDONLY));
                return Err(io_failure("mkdir")(if readonly { Errno::EROFS.into() } else { error }));
            }
        }
    }
    let found = std::fs::metadata(envs_dir).map_err(io_failure("stat"))?;
    if !found.is_dir() {
        return Err(io_failure("mkdir")(io::Error::from_raw_os_error(libc::ENOTDIR)));
    }
    if found.uid() != geteuid().as_raw() && found.uid() != 0 {
        return Err(Failure::io(envs_dir, foreign(found.uid())));
    }
    // Write permission of group and others; a sticky folder lets nobody touch what is not his (/tmp).
    let (open, sticky) = (found.mode() & 0o022 != 0, found.mode() & 0o1000 != 0);
    if open && !sticky {
        if found.uid() != geteuid().as_raw() {
            return Err(Failure::io(envs_dir, "can be written by others than its owner, root"));
        }
        std::fs::set_permissions(envs_dir, Permissions::from_mode(found.mode() & 0o7755)).map_err(io_failure("chmod"))?;
    }
    Ok(())
}

pub fn foreign(owner: u32) -> String {
    format!("belongs to user {owner}, not to us (user {})", geteuid())
}
