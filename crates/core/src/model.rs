//! Types that the modules `error`, `lifecycle` and `supervisor` share.

use core::fmt;
use core::time::Duration;

use serde::{Deserialize, Serialize};

pub type Pid = i32;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ProcessState {
    Starting,
    Running,
    Stopping,
    Stopped,
    Error,
}

impl ProcessState {
    /// Sorted by discriminant, so that a discriminant is an index into this array.
    pub const ALL: [Self; 5] = [Self::Starting, Self::Running, Self::Stopping, Self::Stopped, Self::Error];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Error => "error",
        }
    }
}

/// The wait status of a leader. If the keeper was killed, the wait status is lost, and both fields are `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Exit {
    pub code: Option<i32>,
    pub signal: Option<i32>,
}

impl Exit {
    pub const UNKNOWN: Self = Self { code: None, signal: None };

    pub const fn succeeded(self) -> bool {
        matches!(self.code, Some(0))
    }
}

/// The accounting of an ended leader, including the children that it waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ExitUsage {
    /// The largest resident size of a single process, in bytes.
    pub memory_peak: u64,
    pub cpu_time: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ExitReason {
    Stopped,
    Crashed,
    Exited,
    Unhealthy,
    Startup,
    /// The tree used more memory than `limits.maxMemory`.
    Memory,
    /// Another generation serves now.
    Upgraded,
    /// No connection for `idleTimeout`.
    Idle,
}

impl ExitReason {
    /// Sorted by discriminant, so that a discriminant is an index into this array.
    pub const ALL: [Self; 8] =
        [Self::Stopped, Self::Crashed, Self::Exited, Self::Unhealthy, Self::Startup, Self::Memory, Self::Upgraded, Self::Idle];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Crashed => "crashed",
            Self::Exited => "exited",
            Self::Unhealthy => "unhealthy",
            Self::Startup => "startup",
            Self::Memory => "memory",
            Self::Upgraded => "upgraded",
            Self::Idle => "idle",
        }
    }
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A tree that uses more memory for so long is restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryLimit {
    /// Bytes.
    pub max: u64,
    pub sustain: Duration,
}

/// The use of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProbeRole {
    /// The probe that ends a start.
    Readiness,
    /// The probe of the health checks.
    Health,
}

/// An output stream of a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// The changed fields of an upgrade: the name of each, and its value as a text of the caller.
pub type Changes = Vec<(String, String)>;
