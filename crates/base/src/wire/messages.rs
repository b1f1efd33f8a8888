//! The short messages: commands to a keeper, reports of guardian and keeper.

use super::frame::{self, FieldReader, Frame};

/// From the owner to a keeper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeeperCommand {
    /// Begins the stop: the order's stop signal, to the leader first ([`crate::stop::StopStep`]), then SIGCONT to the tree: a stopped
    /// process handles no signal before SIGCONT.
    Terminate,
    /// Sends SIGKILL to the tree, again after each scan, until the tree is gone.
    Kill,
    /// Runs a command beside the daemon. Two descriptors come with the frame: the stream on which the owner sends an
    /// [`Order`](super::Order) and reads [`KeeperReport`]s, and the write end of the output. The end of the stream, in either
    /// direction, ends the command. The keeper sends no `Acknowledged`.
    Probe,
    /// Extends the grace period of the stop that is under way: the period ends not before `by_ms` from now. The keeper sends no
    /// `Acknowledged`.
    Extend { by_ms: u32 },
    /// Sends SIGSTOP to the tree, until a scan finds no process that runs. The answer is [`KeeperReport::Frozen`], and no
    /// `Acknowledged`. `Terminate` and `Kill` may follow: the stop signal is pending before a process of the daemon runs again.
    Freeze,
    /// Sends SIGCONT to what `Freeze` has stopped. The keeper sends no answer.
    Thaw,
}

impl KeeperCommand {
    /// The number of descriptors of [`Self::Probe`].
    pub const PROBE_DESCRIPTORS: usize = 2;

    pub fn encode(self) -> Vec<u8> {
        let mut out = frame::begin();
        let kind = match self {
            Self::Terminate => 1,
            Self::Kill => 2,
            Self::Probe => 3,
            Self::Extend { by_ms } => {
                out.extend(by_ms.to_ne_bytes());
                4
            }
            Self::Freeze => 5,
            Self::Thaw => 6,
        };
        frame::finish(out, kind)
    }

    /// `None` if [`Self::encode`] can't produce this frame.
    pub fn decode(frame: &Frame) -> Option<Self> {
        let mut fields = FieldReader::of(&frame.payload);
        let command = match frame.kind {
            1 => Self::Terminate,
            2 => Self::Kill,
            3 => Self::Probe,
            4 => Self::Extend { by_ms: fields.u32()? },
            5 => Self::Freeze,
            6 => Self::Thaw,
            _ => return None,
        };
        fields.end(command)
    }
}

/// The step at which a process could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Fork,
    Folder,
    Exec,
    /// The next ones are limits that the configuration asks for.
    Niceness,
    OomScoreAdj,
    OpenFiles,
    CoreDumps,
}

impl Stage {
    /// Sorted by discriminant, so that a discriminant is an index into this array.
    const ALL: [Self; 7] = [Self::Fork, Self::Folder, Self::Exec, Self::Niceness, Self::OomScoreAdj, Self::OpenFiles, Self::CoreDumps];

    /// `None` if no stage has this discriminant.
    pub fn of(discriminant: u8) -> Option<Self> {
        Self::ALL.get(usize::from(discriminant)).copied()
    }
}

/// The accounting of wait4(2): of the leader, and of the children that it waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LeaderUsage {
    /// The largest resident size of a single process, in bytes.
    pub memory_peak: u64,
    /// The sum of the CPU times, in microseconds.
    pub cpu_us: u64,
}

/// On the stream of one daemon. The keeper is the sender. If the guardian can't fork a keeper, the guardian is the sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeeperReport {
    Spawned {
        leader: i32,
        /// As [`crate::os::Process::start`], of the leader. 0 if it could not be read.
        leader_start: u64,
        keeper: i32,
        /// As [`crate::os::Process::start`], of the keeper.
        keeper_start: u64,
        /// The leader's process group at the start.
        group: i32,
    },
    SpawnFailed {
        stage: Stage,
        errno: i32,
    },
    /// The leader was reaped. If `remains` is false, this is the last report.
    Exited {
        /// The wait status of wait4(2).
        status: i32,
        remains: bool,
        usage: LeaderUsage,
        /// As in `TreeGone`, so far.
        tree_cpu_us: u64,
    },
    /// The tree is gone. This is the last report.
    TreeGone {
        /// The CPU time, in microseconds, of all processes that the keeper reaped, and of those that these waited for.
        tree_cpu_us: u64,
    },
    /// The last command was carried out.
    Acknowledged,
    /// The answer to [`KeeperCommand::Freeze`]. `complete`: no process of the tree runs. Otherwise some may run: of another user, in an
    /// uninterruptible sleep, hidden in /proc, or forked without end. Also if a stop has begun, which a freeze must not hold up.
    Frozen {
        complete: bool,
    },
    /// The process `pid`, of the keeper's user, has sent the keeper SIGTERM. The keeper ends the tree, and counts the grace period itself,
    /// because the owner may be suspended. 0 for a process outside the pid namespace.
    EndedBy {
        pid: i32,
    },
}

impl KeeperReport {
    pub fn encode(self) -> Vec<u8> {
        let mut out = frame::begin();
        let kind = match self {
            Self::Spawned { leader, leader_start, keeper, keeper_start, group } => {
                out.extend(leader.to_ne_bytes());
                out.extend(leader_start.to_ne_bytes());
                out.extend(keeper.to_ne_bytes());
                out.extend(keeper_start.to_ne_bytes());
                out.extend(group.to_ne_bytes());
                1
            }
            Self::SpawnFailed { stage, errno } => {
                out.push(stage as u8);
                out.extend(errno.to_ne_bytes());
                2
            }
            Self::Exited { status, remains, usage: LeaderUsage { memory_peak, cpu_us }, tree_cpu_us } => {
                out.extend(status.to_ne_bytes());
                out.push(u8::from(remains));
                for number in [memory_peak, cpu_us, tree_cpu_us] {
                    out.extend(number.to_ne_bytes());
                }
                3
            }
            Self::TreeGone { tree_cpu_us } => {
                out.extend(tree_cpu_us.to_ne_bytes());
                4
            }
            Self::Acknowledged => 5,
            Self::Frozen { complete } => {
                out.push(u8::from(complete));
                6
            }
            Self::EndedBy { pid } => {
                out.extend(pid.to_ne_bytes());
                7
            }
        };
        frame::finish(out, kind)
    }

    /// `None` if [`Self::encode`] can't produce this frame.
    pub fn decode(frame: &Frame) -> Option<Self> {
        let mut fields = FieldReader::of(&frame.payload);
        let report = match frame.kind {
            1 => Self::Spawned {
                leader: fields.i32()?,
                leader_start: fields.u64()?,
                keeper: fields.i32()?,
                keeper_start: fields.u64()?,
                group: fields.i32()?,
            },
            2 => Self::SpawnFailed { stage: Stage::of(fields.byte()?)?, errno: fields.i32()? },
            3 => Self::Exited {
                status: fields.i32()?,
                remains: fields.flag()?,
                usage: LeaderUsage { memory_peak: fields.u64()?, cpu_us: fields.u64()? },
                tree_cpu_us: fields.u64()?,
            },
            4 => Self::TreeGone { tree_cpu_us: fields.u64()? },
            5 => Self::Acknowledged,
            6 => Self::Frozen { complete: fields.flag()? },
            7 => Self::EndedBy { pid: fields.i32()? },
            _ => return None,
        };
        fields.end(report)
    }
}

/// On the stream of the guardian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuardianReport {
    /// The guardian has the descriptors of one more order. Until this report the owner keeps its copies open: macOS shuts down
    /// a socket if only a message refers to it (`unp_gc` in bsd/kern/uipc_usrreq.c).
    Accepted,
    /// The sweep is done: no process of the killed keeper's tree is left.
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

    /// `None` if [`Self::encode`] can't produce this frame.
    pub fn decode(frame: &Frame) -> Option<Self> {
        let mut fields = FieldReader::of(&frame.payload);
        let report = match frame.kind {
            1 => Self::Accepted,
            2 => Self::Swept { keeper: fields.i32()? },
            _ => return None,
        };
        fields.end(report)
    }
}
