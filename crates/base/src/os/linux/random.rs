//! Random bytes of the kernel.

use std::io;

/// By system call: glibc before 2.25 has no function for it.
pub fn random_bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    loop {
        // SAFETY: the buffer has N bytes.
        let written = unsafe { libc::syscall(libc::SYS_getrandom, bytes.as_mut_ptr(), N, 0) };
        match usize::try_from(written) {
            // The kernel fills up to 256 bytes at once.
            Ok(written) if written == N => return Ok(bytes),
            Ok(_) => {}
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    }
}
