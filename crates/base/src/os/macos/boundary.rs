//! What a process may do and see beyond its user. macOS has no namespaces, and does not show the sandbox of another process.

use std::io;

/// The facts about one process that must be equal in a process that acts for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boundary;

impl Boundary {
    /// # Errors
    /// None.
    pub fn of(_pid: i32) -> io::Result<Option<Self>> {
        Ok(Some(Self))
    }

    /// What differs, in words.
    pub fn differences(&self, _other: &Self) -> Vec<&'static str> {
        Vec::new()
    }
}
