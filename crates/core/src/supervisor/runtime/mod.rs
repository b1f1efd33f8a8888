//! The supervisor's thread, its clock, its folder watches, and the exits of processes.

pub mod clock;
mod exit;
mod thread;
mod watch;

pub use exit::exit;
pub use thread::{AbortOnDrop, Work, off_thread, spawn, start};
pub use watch::FolderChanges;
