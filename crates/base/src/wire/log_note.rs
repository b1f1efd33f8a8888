//! What a log process tells the owner, on a pipe of their own.

use super::frame::{self, FieldReader, Frame};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogNote {
    /// The owner has not read its copy of the output in time, and so many lines are missing in it. The file has them.
    CopyDropped { lines: u64 },
    /// The log file can't be written. Sent once, until it can be written again.
    FileFailed { errno: i32 },
    /// The log file lacks so many lines. errno 0: the file was written too slowly.
    FileDropped { lines: u64, errno: i32 },
    /// An earlier log process was killed.
    Replaced,
    /// Somebody had moved or removed the log file, or another generation has rotated it, and there is one again.
    Reopened,
}

impl LogNote {
    pub fn encode(self) -> Vec<u8> {
        let mut out = frame::begin();
        let kind = match self {
            Self::CopyDropped { lines } => {
                out.extend(lines.to_ne_bytes());
                1
            }
            Self::FileFailed { errno } => {
                out.extend(errno.to_ne_bytes());
                2
            }
            Self::FileDropped { lines, errno } => {
                out.extend(lines.to_ne_bytes());
                out.extend(errno.to_ne_bytes());
                3
            }
            Self::Replaced => 4,
            Self::Reopened => 5,
        };
        frame::finish(out, kind)
    }

    /// `None` if [`Self::encode`] can't produce this frame.
    pub fn decode(frame: &Frame) -> Option<Self> {
        let mut fields = FieldReader::of(&frame.payload);
        let note = match frame.kind {
            1 => Self::CopyDropped { lines: fields.u64()? },
            2 => Self::FileFailed { errno: fields.i32()? },
            3 => Self::FileDropped { lines: fields.u64()?, errno: fields.i32()? },
            4 => Self::Replaced,
            5 => Self::Reopened,
            _ => return None,
        };
        fields.end(note)
    }
}
