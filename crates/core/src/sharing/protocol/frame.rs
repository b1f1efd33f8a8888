//! The frames behind the greetings: a length, and a message in postcard's format.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Push;

/// The longest frame from a session to the host. A start has a configuration and an environment.
pub const TO_HOST_MAX: usize = 8 * 1024 * 1024;
/// The longest frame from the host to a session.
pub const TO_SESSION_MAX: usize = 1024 * 1024;
/// The bytes of one part: far from the longest frame.
const PART_MAX: usize = 256 * 1024;
/// The size of a frame's length.
pub const PREFIX: usize = 4;

/// The peer sent bytes that no program of this build sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadMessage;

impl std::fmt::Display for BadMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a message that is not understood")
    }
}

impl std::error::Error for BadMessage {}

/// A frame with this message. `None` if the frame would be longer than `max`.
pub fn encode<T: Serialize>(message: &T, max: usize) -> Option<Vec<u8>> {
    // Only a sequence without a length can't be encoded, and no message has one.
    let mut frame = postcard::to_extend(message, vec![0; PREFIX]).ok()?;
    let length = frame.len() - PREFIX;
    if length > max {
        return None;
    }
    frame[..PREFIX].copy_from_slice(&u32::try_from(length).ok()?.to_le_bytes());
    Some(frame)
}

/// The frames of a message that may be longer than one frame. `None` if even a call could not be as long.
pub fn encode_in_parts(message: &Push) -> Option<Vec<Vec<u8>>> {
    if let Some(frame) = encode(message, TO_SESSION_MAX) {
        return Some(vec![frame]);
    }
    let whole = encode(message, TO_HOST_MAX)?;
    let mut parts = whole.chunks(PART_MAX).peekable();
    let mut frames = Vec::new();
    while let Some(part) = parts.next() {
        frames.push(encode(&Push::Part { bytes: part.to_vec(), is_last: parts.peek().is_none() }, TO_SESSION_MAX)?);
    }
    Some(frames)
}

/// The parts of a message that is not complete yet.
#[derive(Debug, Default)]
pub struct Parts(Vec<u8>);

impl Parts {
    /// The message, with its last part.
    ///
    /// # Errors
    /// It is too long, or none.
    pub fn add(&mut self, bytes: &[u8], is_last: bool) -> Result<Option<Push>, BadMessage> {
        self.0.extend(bytes);
        if self.0.len() > PREFIX + TO_HOST_MAX {
            return Err(BadMessage);
        }
        if !is_last {
            return Ok(None);
        }
        let mut whole = Inbound::new(TO_HOST_MAX);
        whole.extend(&std::mem::take(&mut self.0));
        match whole.next_message()? {
            None | Some(Push::Part { .. }) => Err(BadMessage),
            message => Ok(message),
        }
    }
}

/// Received bytes, from which messages are taken.
#[derive(Debug)]
pub struct Inbound {
    bytes: Vec<u8>,
    /// The bytes in front that were taken.
    taken: usize,
    max: usize,
}

impl Inbound {
    /// `max`: the longest frame of the peer.
    pub const fn new(max: usize) -> Self {
        Self { bytes: Vec::new(), taken: 0, max }
    }

    pub fn extend(&mut self, bytes: &[u8]) {
        if self.taken > 0 {
            self.bytes.drain(..std::mem::take(&mut self.taken));
        }
        self.bytes.extend(bytes);
    }

    /// The next message. `None` while it is incomplete.
    ///
    /// # Errors
    /// The frame is too long, or its content is no such message.
    pub fn next_message<T: DeserializeOwned>(&mut self) -> Result<Option<T>, BadMessage> {
        let rest = self.bytes.get(self.taken..).unwrap_or_default();
        let Some((prefix, rest)) = rest.split_first_chunk::<PREFIX>() else { return Ok(None) };
        let length = u32::from_le_bytes(*prefix) as usize;
        if length > self.max {
            return Err(BadMessage);
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let (message, left) = postcard::take_from_bytes(body).map_err(|_| BadMessage)?;
        if !left.is_empty() {
            return Err(BadMessage);
        }
        self.taken += PREFIX + length;
        if self.taken == self.bytes.len() {
            self.bytes.clear();
            self.taken = 0;
            // A start of 8 MiB must not stay in memory.
            self.bytes.shrink_to(64 * 1024);
        }
        Ok(Some(message))
    }
}
