//! The supervisor's thread, its clock, and its folder watches.

pub mod clock;
mod thread;
mod watch;

pub use thread::{AbortOnDrop, spawn, start};
pub use watch::FolderChanges;
