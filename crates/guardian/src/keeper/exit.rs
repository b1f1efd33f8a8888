//! The exit code of a keeper, which the guardian reads.

/// A keeper that was killed has no exit code: its tree needs a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeeperExit {
    NothingLeft,
    /// The remaining processes may live on (`killMode: 'group'`).
    SomeSpared,
}

impl KeeperExit {
    pub const fn code(self) -> i32 {
        match self {
            Self::NothingLeft => 0,
            Self::SomeSpared => 3,
        }
    }

    /// From the wait status of waitpid(2).
    pub fn of(status: i32) -> Option<Self> {
        [Self::NothingLeft, Self::SomeSpared].into_iter().find(|exit| libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == exit.code())
    }
}
