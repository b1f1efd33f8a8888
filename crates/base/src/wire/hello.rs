//! The first message in each direction: the sender's build. The format never changes, so programs of different builds can
//! detect the difference.

use super::frame::{BadFrame, FrameBuffer};

const MAGIC: [u8; 4] = *b"ally";
/// A message with a longer rest is no `Hello`.
const REST_MAX: usize = 4096 - Hello::PREFIX;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The version of the package.
    pub version: String,
    /// The hash of the sources.
    pub build: String,
    pub pid: i32,
}

impl Hello {
    /// The size of the magic number and of the length of the rest.
    pub const PREFIX: usize = 8;

    /// The rest is version and build, with a length byte before each, then the pid. Integers are little-endian.
    pub fn encode(&self) -> Vec<u8> {
        let mut rest = Vec::with_capacity(64);
        for text in [&self.version, &self.build] {
            let text = text.as_bytes();
            let text = text.get(..usize::from(u8::MAX)).unwrap_or(text);
            rest.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
            rest.extend(text);
        }
        rest.extend(self.pid.to_le_bytes());
        let mut out = MAGIC.to_vec();
        out.extend(u32::try_from(rest.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend(rest);
        out
    }

    /// The number of bytes after the prefix.
    ///
    /// # Errors
    /// The magic number is wrong, or the rest is too long.
    pub fn length(prefix: [u8; Self::PREFIX]) -> Result<usize, BadFrame> {
        let [magic @ .., a, b, c, d] = prefix;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        if magic == MAGIC && length <= REST_MAX { Ok(length) } else { Err(BadFrame) }
    }

    /// Takes the `Hello` at the beginning of the received bytes. `None` while the message is incomplete.
    ///
    /// # Errors
    /// The received bytes do not begin with a `Hello`.
    pub fn take_from(buffer: &mut FrameBuffer) -> Result<Option<Self>, BadFrame> {
        Ok(Self::take_with_rest(buffer)?.map(|(hello, _)| hello))
    }

    /// As [`Self::take_from`], with the bytes after the pid.
    ///
    /// # Errors
    /// As [`Self::take_from`].
    pub fn take_with_rest(buffer: &mut FrameBuffer) -> Result<Option<(Self, Vec<u8>)>, BadFrame> {
        let read = buffer.peek();
        if !MAGIC.starts_with(read) && !read.starts_with(&MAGIC) {
            return Err(BadFrame);
        }
        let Some((prefix, rest)) = read.split_first_chunk::<{ Self::PREFIX }>() else { return Ok(None) };
        let length = Self::length(*prefix)?;
        let Some(rest) = rest.get(..length) else { return Ok(None) };
        let (hello, added) = Self::split(rest).ok_or(BadFrame)?;
        let added = added.to_vec();
        buffer.consume(Self::PREFIX + length);
        Ok(Some((hello, added)))
    }

    /// Ignores bytes after the pid: a later build may add fields there.
    pub fn decode(rest: &[u8]) -> Option<Self> {
        Self::split(rest).map(|(hello, _)| hello)
    }

    fn split(rest: &[u8]) -> Option<(Self, &[u8])> {
        let (version, rest) = text(rest)?;
        let (build, rest) = text(rest)?;
        let (pid, rest) = rest.split_first_chunk()?;
        Some((Self { version, build, pid: i32::from_le_bytes(*pid) }, rest))
    }
}

fn text(bytes: &[u8]) -> Option<(String, &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (text, rest) = rest.split_at_checked(usize::from(*length))?;
    Some((std::str::from_utf8(text).ok()?.to_owned(), rest))
}
