//! Reads of a stream into a buffer of messages.

use std::io;

use tokio::io::Interest;
use tokio::net::unix::OwnedReadHalf;

use super::protocol::Inbound;

/// The size of one read(2).
const PIECE: usize = 16 * 1024;

/// Waits for bytes, and adds them. 0 at the end of the stream.
///
/// # Errors
/// Errors of read(2).
pub async fn read_some(read: &mut OwnedReadHalf, inbound: &mut Inbound) -> io::Result<usize> {
    loop {
        read.ready(Interest::READABLE).await?;
        // On the stack only while it is read: a session that is quiet has no buffer.
        let mut piece = [0; PIECE];
        match read.try_read(&mut piece) {
            Ok(count) => {
                inbound.extend(piece.get(..count).unwrap_or_default());
                return Ok(count);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}
