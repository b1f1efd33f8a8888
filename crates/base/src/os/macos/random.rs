//! Random bytes of the kernel.

use std::io;

/// By getentropy(2), which fills up to 256 bytes.
pub fn random_bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    // SAFETY: the buffer has N bytes.
    let result = unsafe { libc::getentropy(bytes.as_mut_ptr().cast(), N) };
    if result == 0 { Ok(bytes) } else { Err(io::Error::last_os_error()) }
}
