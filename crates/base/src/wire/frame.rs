//! Frames: a length, a kind, a payload. The length counts the kind and the payload.

use std::fmt;

/// The size of length and kind.
pub const HEADER: usize = 5;

/// The maximum size of a payload. An order has a limit of its own.
pub const SMALL_MAX: usize = 64 * 1024;

/// The peer sent bytes that no program of this build sends. The bytes that follow have no frame boundaries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadFrame;

impl fmt::Display for BadFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a frame that is not understood")
    }
}

impl std::error::Error for BadFrame {}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub payload: Vec<u8>,
}

/// A frame with an empty header, which [`finish`] fills.
pub fn begin() -> Vec<u8> {
    vec![0; HEADER]
}

/// `frame` is the result of [`begin`], followed by the payload.
pub fn finish(mut frame: Vec<u8>, kind: u8) -> Vec<u8> {
    let length = u32::try_from(frame.len() - HEADER + 1).unwrap_or(u32::MAX);
    frame[..4].copy_from_slice(&length.to_ne_bytes());
    frame[4] = kind;
    frame
}

/// The kind and the length of the payload that follows this header.
///
/// # Errors
/// The length is 0, or the payload is longer than `max`.
pub fn parse_header(header: [u8; HEADER], max: usize) -> Result<(u8, usize), BadFrame> {
    let [a, b, c, d, kind] = header;
    let length = u32::from_ne_bytes([a, b, c, d]) as usize;
    match length.checked_sub(1) {
        Some(payload) if payload <= max => Ok((kind, payload)),
        Some(_) | None => Err(BadFrame),
    }
}

/// Received bytes, from which frames are taken.
#[derive(Debug, Default)]
pub struct FrameBuffer(Vec<u8>);

impl FrameBuffer {
    pub fn extend(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
    }

    /// The bytes that were not taken.
    pub fn into_rest(self) -> Vec<u8> {
        self.0
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn consume(&mut self, count: usize) {
        self.0.drain(..count);
    }

    pub(super) fn peek(&self) -> &[u8] {
        &self.0
    }

    /// The next frame. `None` while the frame is incomplete.
    ///
    /// # Errors
    /// The payload is longer than [`SMALL_MAX`], or the frame has no kind.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, BadFrame> {
        let Some((header, rest)) = self.0.split_first_chunk::<HEADER>() else { return Ok(None) };
        let (kind, length) = parse_header(*header, SMALL_MAX)?;
        let Some(payload) = rest.get(..length) else { return Ok(None) };
        let frame = Frame { kind, payload: payload.to_vec() };
        self.consume(HEADER + length);
        Ok(Some(frame))
    }
}

/// Reads the fields of a payload.
pub struct FieldReader<'a>(&'a [u8]);

impl<'a> FieldReader<'a> {
    pub const fn of(payload: &'a [u8]) -> Self {
        Self(payload)
    }

    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(count)?;
        self.0 = tail;
        Some(head)
    }

    pub fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    pub fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_ne_bytes)
    }

    pub fn i32(&mut self) -> Option<i32> {
        self.take(4)?.try_into().ok().map(i32::from_ne_bytes)
    }

    pub fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_ne_bytes)
    }

    /// A length and so many bytes. `None` if a byte is NUL: the strings become arguments of system calls.
    pub fn string(&mut self) -> Option<&'a [u8]> {
        let count = self.u32()? as usize;
        self.take(count).filter(|bytes| !bytes.contains(&0))
    }

    pub fn list(&mut self) -> Option<Vec<&'a [u8]>> {
        let count = self.u32()? as usize;
        // Each item has at least four bytes, so a larger count is false. This limits the memory that `collect` reserves.
        if count > self.0.len() / 4 {
            return None;
        }
        (0..count).map(|_| self.string()).collect()
    }

    /// The number of bytes that are not read yet.
    pub const fn left(&self) -> usize {
        self.0.len()
    }

    /// `value` if all fields were read. `None` if the payload has more bytes.
    pub fn end<T>(&self, value: T) -> Option<T> {
        self.0.is_empty().then_some(value)
    }
}

pub fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    put_count(out, bytes.len());
    out.extend(bytes);
}

pub fn put_list(out: &mut Vec<u8>, list: &[&[u8]]) {
    put_count(out, list.len());
    for item in list {
        put_string(out, item);
    }
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend(u32::try_from(count).unwrap_or(u32::MAX).to_ne_bytes());
}
