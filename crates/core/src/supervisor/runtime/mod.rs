//! The one thread of the supervisor, its clock, and the folders that it watches.

pub mod clock;
mod thread;
mod watch;

pub use thread::{AbortOnDrop, spawn, start};
pub use watch::FolderNews;
