//! The short messages: commands to a keeper, reports from guardian and keeper.

use super::frame::{self, Fields, Frame};

/// To a keeper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeeperCommand {
    /// The order's stop signal to the tree, then SIGCONT: a stopped process can't handle the first without the second.
    Terminate,
    /// SIGKILL to the tree, again and again until nothing is left.
    Kill,
}

impl KeeperCommand {
    pub fn encode(self) -> Vec<u8> {
        let kind = match self {
            Self::Terminate => 1,
            Self::Kill => 2,
        };
        frame::finish(frame::begin(), kind)
    }

    /// `None` for a frame that [`Self::encode`] can't have written.
    pub fn decode(frame: &Frame) -> Option<Self> {
        let command = match frame.kind {
            1 => Self::Terminate,
            2 => Self::Kill,
            _ => return None,
        };
        Fields::of(&frame.payload).end(command)
    }
}

/// Where making a process failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Fork,
    Folder,
    Exec,
}

impl Stage {
    const ALL: [Self; 3] = [Self::Fork, Self::Folder, Self::Exec];
}

/// On the stream of one daemon. Sent by its keeper, or by the guardian if it can't fork one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeeperReport {
    Spawned {
        leader: i32,
        keeper: i32,
    },
    SpawnFailed {
        stage: Stage,
        errno: i32,
    },
    /// The leader was reaped. Without `remains` this is the last report.
    Exited {
        /// As wait(2) has it.
        status: i32,
        remains: bool,
    },
    /// Nothing of the tree is left. The last report.
    TreeGone,
}

impl KeeperReport {
    pub fn encode(self) -> Vec<u8> {
        let mut out = frame::begin();
        let kind = match self {
            Self::Spawned { leader, keeper } => {
                out.extend(leader.to_ne_bytes());
                out.extend(keeper.to_ne_bytes());
                1
            }
            Self::SpawnFailed { stage, errno } => {
                out.push(stage as u8);
                out.extend(errno.to_ne_bytes());
                2
            }
            Self::Exited { status, remains } => {
                out.extend(status.to_ne_bytes());
                out.push(u8::from(remains));
                3
            }
            Self::TreeGone => 4,
        };
        frame::finish(out, kind)
    }

    /// `None` for a frame that [`Self::encode`] can't have written.
    pub fn decode(frame: &Frame) -> Option<Self> {
        let mut fields = Fields::of(&frame.payload);
        let report = match frame.kind {
            1 => Self::Spawned { leader: fields.i32()?, keeper: fields.i32()? },
            2 => Self::SpawnFailed { stage: *Stage::ALL.get(usize::from(fields.byte()?))?, errno: fields.i32()? },
            3 => Self::Exited { status: fields.i32()?, remains: fields.flag()? },
            4 => Self::TreeGone,
            _ => return None,
        };
        fields.end(report)
    }
}

/// On the stream of the guardian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuardianReport {
    /// The guardian has the descriptors of one more order. Until then the owner keeps them open: macOS takes a socket that
    /// only a message refers to for garbage, and shuts it down (`unp_gc` in bsd/kern/uipc_usrreq.c).
    Accepted,
    /// Nothing is left of what a killed keeper kept.
    Swept { keeper: i32 },
}

impl GuardianReport {
    pub fn encode(self) -> Vec<u8> {
        let mut out = frame::begin();
        let kind = match self {
            Self::Accepted => 1,
            Self::Swept { keeper } => {
                out.extend(keeper.to_ne_bytes());
                2
            }
        };
        frame::finish(out, kind)
    }

    /// `None` for a frame that [`Self::encode`] can't have written.
    pub fn decode(frame: &Frame) -> Option<Self> {
        let mut fields = Fields::of(&frame.payload);
        let report = match frame.kind {
            1 => Self::Accepted,
            2 => Self::Swept { keeper: fields.i32()? },
            _ => return None,
        };
        fields.end(report)
    }
}
