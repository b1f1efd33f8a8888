//! Finds status and end of an HTTP/1.1 answer in pieces. Everything in it is untrusted, so it is bounded.

use httparse::{EMPTY_HEADER, Header, Status, parse_chunk_size};
use memchr::memchr;
use memchr::memmem::find;

const HEAD_MAX: usize = 64 * 1024;
/// A body is not used. It is read so that the server is not cut off in the middle of a write.
const BODY_MAX: usize = 64 * 1024;
/// Of an answer that is not HTTP, for the message.
const START_SHOWN: usize = 40;
const HEADERS_MAX: usize = 128;
const VERSION: &[u8] = b"HTTP/1.";

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    Incomplete,
    /// The end of the answer, or as much of the body as is read at all. With the status.
    Complete(u16),
    /// With the beginning of what came. It may contain control characters.
    NotHttp(String),
    HeadTooLong,
}

#[derive(Debug, Default)]
pub struct Response {
    /// The head, then the body.
    bytes: Vec<u8>,
    /// The bytes before the head: empty lines, and informational answers (1xx).
    before: usize,
    /// Up to here there is no end of the head.
    searched: usize,
    head: Option<Head>,
}

#[derive(Debug, Clone, Copy)]
struct Head {
    status: u16,
    body: Body,
}

#[derive(Debug, Clone, Copy)]
enum Body {
    /// With the number of bytes.
    Sized(usize),
    /// With the place of the next chunk.
    Chunked(usize),
    UntilClosed,
}

impl Response {
    /// Whether nothing has come.
    pub const fn is_empty(&self) -> bool {
        self.head.is_none() && self.bytes.is_empty() && self.before == 0
    }

    /// As soon as the head is complete.
    pub fn status(&self) -> Option<u16> {
        self.head.map(|head| head.status)
    }

    pub fn feed(&mut self, bytes: &[u8]) -> Progress {
        self.bytes.extend(bytes);
        while self.head.is_none() {
            self.skip_empty_lines();
            if !self.may_be_http() {
                return Progress::NotHttp(self.start());
            }
            let Some(end) = self.head_end() else {
                let too_long = self.before + self.bytes.len() > HEAD_MAX;
                return if too_long { Progress::HeadTooLong } else { Progress::Incomplete };
            };
            if self.before + end > HEAD_MAX {
                return Progress::HeadTooLong;
            }
            let Some(head) = self.bytes.get(..end).and_then(parse_head) else { return Progress::NotHttp(self.start()) };
            self.bytes.drain(..end);
            self.searched = 0;
            // 101 is final: the server goes on in another protocol.
            if (100..200).contains(&head.status) && head.status != 101 {
                self.before += end;
            } else {
                self.head = Some(head);
            }
        }
        self.body()
    }

    /// The stream has ended.
    pub const fn end(&self) -> Progress {
        match self.head {
            Some(Head { status, body: Body::UntilClosed }) => Progress::Complete(status),
            Some(_) | None => Progress::Incomplete,
        }
    }

    fn body(&mut self) -> Progress {
        let Some(Head { status, body }) = &mut self.head else { return Progress::Incomplete };
        let is_whole = match body {
            Body::Sized(size) => self.bytes.len() >= *size,
            Body::Chunked(next) => match last_chunk(&self.bytes, next) {
                Ok(found) => found,
                Err(()) => return Progress::NotHttp("a chunk without a size".to_owned()),
            },
            Body::UntilClosed => false,
        };
        if is_whole || self.bytes.len() >= BODY_MAX { Progress::Complete(*status) } else { Progress::Incomplete }
    }

    /// Servers may send empty lines before the status line (RFC 9112, section 2.2).
    fn skip_empty_lines(&mut self) {
        let count = self.bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(self.bytes.len());
        self.bytes.drain(..count);
        self.before += count;
    }

    /// False as soon as the bytes can't be the beginning of an answer. A banner of another protocol would never end otherwise.
    fn may_be_http(&self) -> bool {
        self.bytes.iter().zip(VERSION).all(|(byte, wanted)| byte == wanted)
    }

    /// The place behind the empty line that ends the head.
    fn head_end(&mut self) -> Option<usize> {
        // The end may lie across two pieces.
        let from = self.searched.saturating_sub(3);
        self.searched = self.bytes.len();
        let rest = self.bytes.get(from..)?;
        let ends = [find(rest, b"\n\r\n").map(|at| at + 3), find(rest, b"\n\n").map(|at| at + 2)];
        ends.into_iter().flatten().min().map(|at| from + at)
    }

    fn start(&self) -> String {
        let bytes = self.bytes.get(..START_SHOWN).unwrap_or(&self.bytes);
        let line = memchr(b'\n', bytes).and_then(|end| bytes.get(..end)).unwrap_or(bytes);
        String::from_utf8_lossy(line).trim_end().to_owned()
    }
}

fn parse_head(bytes: &[u8]) -> Option<Head> {
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Response::new(&mut headers);
    let Ok(Status::Complete(_)) = parsed.parse(bytes) else { return None };
    let status = parsed.code?;
    let body = if status < 200 || matches!(status, 204 | 304) { Body::Sized(0) } else { body_of(parsed.headers) };
    Some(Head { status, body })
}

/// RFC 9112, section 6.3.
fn body_of(headers: &[Header]) -> Body {
    let value = |name: &str| {
        let header = headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(header.value).ok()
    };
    if value("transfer-encoding").is_some_and(|coding| coding.trim_end().to_ascii_lowercase().ends_with("chunked")) {
        return Body::Chunked(0);
    }
    value("content-length").and_then(|length| length.trim().parse().ok()).map_or(Body::UntilClosed, Body::Sized)
}

/// Whether the last chunk is there. `next`: the place of the first chunk that is not read yet.
fn last_chunk(bytes: &[u8], next: &mut usize) -> Result<bool, ()> {
    while let Some(rest) = bytes.get(*next..).filter(|rest| !rest.is_empty()) {
        match parse_chunk_size(rest).map_err(|_| ())? {
            Status::Complete((_, 0)) => return Ok(true),
            // Behind the chunk there are two bytes of line end.
            Status::Complete((start, size)) => {
                *next = usize::try_from(size).ok().and_then(|size| (*next + start + 2).checked_add(size)).ok_or(())?;
            }
            Status::Partial => return Ok(false),
        }
    }
    Ok(false)
}
