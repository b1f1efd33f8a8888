//! `envsDir`, the folder above the plugins' folders.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::geteuid;

use crate::error::Failure;

/// Creates `envs_dir` and its missing parents. An existing folder must belong to this user or to root, and is not changed.
/// Returns its mode if others than its owner and root can replace the plugins' folders in it.
pub fn make_envs_dir(envs_dir: &Path) -> Result<Option<u32>, Failure> {
    let io_failure = |call| move |error: io::Error| Failure::call(call, envs_dir, error);
    let (missing, there): (Vec<_>, Vec<_>) = envs_dir.ancestors().partition(|ancestor| !ancestor.exists());
    if let (false, Some(parent)) = (missing.is_empty(), there.first()) {
        refuse_as_root(parent)?;
    }
    for folder in missing.iter().rev() {
        match std::fs::create_dir(folder) {
            // The umask may have removed permissions, even those of this user.
            Ok(()) => std::fs::set_permissions(folder, Permissions::from_mode(0o700)).map_err(io_failure("chmod"))?,
            // Another owner created the folder at the same time.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {}
            Err(error) => {
                // On a read-only file system some systems report ENOENT. EROFS names the cause.
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
        return Err(Failure::io(envs_dir, elsewhere(found.uid())));
    }
    // Group or others may write. In a sticky folder such as /tmp a user can rename and remove only own files.
    let (open, sticky) = (found.mode() & 0o022 != 0, found.mode() & STICKY != 0);
    Ok((open && !sticky).then_some(found.mode() & 0o7777))
}

const STICKY: u32 = 0o1000;

/// With the HOME of another user (`sudo` keeps it), root would make folders that this user can't use. A sticky folder is there
/// for folders of all users.
fn refuse_as_root(parent: &Path) -> Result<(), Failure> {
    let found = std::fs::metadata(parent).map_err(|error| Failure::call("stat", parent, error))?;
    if geteuid().is_root() && found.uid() != 0 && found.mode() & STICKY == 0 {
        return Err(Failure::io(parent, elsewhere(found.uid())));
    }
    Ok(())
}

fn elsewhere(owner: u32) -> String {
    format!("belongs to user {owner}; run as that user or set envsDir")
}

pub fn foreign(owner: u32) -> String {
    format!("belongs to user {owner}, not to us (user {})", geteuid())
}
