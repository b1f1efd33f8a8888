//! The records between the owner, its guardian and the keepers. Fixed, binary, in the machine's own
//! byte order: both ends are always of one build and on one machine.
//!
//! ```text
//! owner  ── Order (header with descriptors, then payload) ──▶ guardian     one stream per manager
//! owner  ◀── Report::Taken, Report::Swept ──────────────────  guardian
//! owner  ── Command ──▶ keeper,   owner ◀── Report ── keeper                one stream per daemon
//! ```
//!
//! The keeper's end of its stream travels inside the order. End of file on either stream means that
//! the other side is dead, whatever killed it.

/// Length of an order's header: magic, payload length.
pub const HEADER: usize = 8;
const MAGIC: u32 = 0x4142_5031;
/// More than Linux carries in argv and environ together (execve(2)), so a longer one is a fault.
pub const PAYLOAD_MAX: usize = 16 << 20;
/// The descriptors with an order: keeper's stream, stdout, stderr, lock, the read ends of both outputs, and the plugin's
/// folder. When the owner is gone somebody must read what a daemon prints in its grace period, and remove its record.
pub const DESCRIPTORS: usize = 7;
/// The record of a daemon, in the plugin's folder: what other programs read, and what makes that mean anything.
pub const PID_FILE: &str = "daemon.pid";
pub const IDENTITY_FILE: &str = "daemon.id";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnerDeath {
    Stop,
    Keep,
}

/// What it takes to make a daemon and to end it without its owner. Strings are as execve(2) wants
/// them, without their final NUL and without any inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order<'a> {
    pub group_only: bool,
    pub owner_death: OwnerDeath,
    pub stop_signal: i32,
    pub grace_ms: u32,
    pub folder: &'a [u8],
    /// Paths to try in turn, as execvp(3) would.
    pub programs: Vec<&'a [u8]>,
    pub args: Vec<&'a [u8]>,
    pub env: Vec<&'a [u8]>,
}

impl<'a> Order<'a> {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(4096);
        out.extend([0; HEADER]);
        out.push(u8::from(self.group_only));
        out.push(u8::from(self.owner_death == OwnerDeath::Keep));
        out.extend([0; 2]);
        out.extend(self.stop_signal.to_ne_bytes());
        out.extend(self.grace_ms.to_ne_bytes());
        put(&mut out, self.folder);
        for list in [&self.programs, &self.args, &self.env] {
            out.extend(length(list.len()).to_ne_bytes());
            for item in list {
                put(&mut out, item);
            }
        }
        let payload = length(out.len() - HEADER);
        for (at, word) in [(0, MAGIC), (4, payload)] {
            if let Some(slot) = out.get_mut(at..at + 4) {
                slot.copy_from_slice(&word.to_ne_bytes());
            }
        }
        out
    }

    /// `None` for anything that [`Self::encode`] can't have written.
    pub fn decode(payload: &'a [u8]) -> Option<Self> {
        let mut rest = Reader(payload);
        let [group_only @ (0 | 1), keep @ (0 | 1), 0, 0] = rest.take(4)? else { return None };
        let order = Self {
            group_only: *group_only == 1,
            owner_death: if *keep == 1 { OwnerDeath::Keep } else { OwnerDeath::Stop },
            stop_signal: i32::try_from(rest.word()?).ok()?,
            grace_ms: rest.word()?,
            folder: rest.bytes()?,
            programs: rest.list()?,
            args: rest.list()?,
            env: rest.list()?,
        };
        (rest.0.is_empty() && !order.programs.is_empty()).then_some(order)
    }
}

/// The length of the payload that follows this header.
pub fn payload_length(header: &[u8]) -> Option<usize> {
    let mut rest = Reader(header);
    let magic = rest.word()?;
    let length = rest.word()? as usize;
    (magic == MAGIC && length <= PAYLOAD_MAX).then_some(length)
}

fn length(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(length(bytes.len()).to_ne_bytes());
    out.extend(bytes);
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(count)?;
        self.0 = tail;
        Some(head)
    }

    fn word(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_ne_bytes)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let count = self.word()? as usize;
        self.take(count).filter(|bytes| !bytes.contains(&0))
    }

    fn list(&mut self) -> Option<Vec<&'a [u8]>> {
        let count = self.word()? as usize;
        // Every item takes four bytes at least, so a lie about the count can't ask for memory.
        if count > self.0.len() / 4 {
            return None;
        }
        (0..count).map(|_| self.bytes()).collect()
    }
}

/// To a keeper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// The order's stop signal to the tree, then SIGCONT: a stopped process can't take the one without the other.
    Terminate,
    /// SIGKILL, again and again until nothing is left.
    Kill,
}

impl Command {
    pub const fn encode(self) -> u8 {
        match self {
            Self::Terminate => 1,
            Self::Kill => 2,
        }
    }

    pub const fn decode(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Terminate),
            2 => Some(Self::Kill),
            _ => None,
        }
    }
}

/// Where making a process failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Fork,
    Folder,
    Exec,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    Spawned {
        leader: i32,
        keeper: i32,
    },
    SpawnFailed {
        stage: Stage,
        errno: i32,
    },
    /// The leader was reaped. Without `remains` this is the last record.
    Exited {
        status: i32,
        remains: bool,
    },
    /// Nothing of the tree is left. The last record.
    TreeGone,
    /// From the guardian: what a keeper that was killed left behind is gone.
    Swept {
        keeper: i32,
    },
    /// From the guardian: it has the descriptors of one more order. Until then the owner keeps them open: macOS takes a
    /// socket that only a message refers to for garbage, and shuts it down (`unp_gc` in bsd/kern/uipc_usrreq.c).
    Taken,
}

impl Report {
    pub const SIZE: usize = 12;

    pub fn encode(self) -> [u8; Self::SIZE] {
        let (kind, a, b) = match self {
            Self::Spawned { leader, keeper } => (1, leader, keeper),
            Self::SpawnFailed { stage, errno } => (
                2,
                match stage {
                    Stage::Fork => 0,
                    Stage::Folder => 1,
                    Stage::Exec => 2,
                },
                errno,
            ),
            Self::Exited { status, remains } => (3, status, i32::from(remains)),
            Self::TreeGone => (4, 0, 0),
            Self::Swept { keeper } => (5, keeper, 0),
            Self::Taken => (6, 0, 0),
        };
        let mut out = [0; Self::SIZE];
        for (slot, word) in out.chunks_exact_mut(4).zip([kind, a, b]) {
            slot.copy_from_slice(&i32::to_ne_bytes(word));
        }
        out
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = Reader(bytes.get(..Self::SIZE)?);
        let mut word = || rest.take(4)?.try_into().ok().map(i32::from_ne_bytes);
        let (kind, a, b) = (word()?, word()?, word()?);
        match kind {
            1 => Some(Self::Spawned { leader: a, keeper: b }),
            2 => {
                let stage = match a {
                    0 => Stage::Fork,
                    1 => Stage::Folder,
                    2 => Stage::Exec,
                    _ => return None,
                };
                Some(Self::SpawnFailed { stage, errno: b })
            }
            3 if matches!(b, 0 | 1) => Some(Self::Exited { status: a, remains: b == 1 }),
            4 if (a, b) == (0, 0) => Some(Self::TreeGone),
            5 if b == 0 => Some(Self::Swept { keeper: a }),
            6 if (a, b) == (0, 0) => Some(Self::Taken),
            _ => None,
        }
    }
}
