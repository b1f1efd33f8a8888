//! The supervisor's thread, its clock, its watches of folders and listening sockets, and the exits of processes.

mod arrivals;
pub mod clock;
mod exit;
mod thread;
mod watch;

pub use arrivals::{ListenerEvent, ListenerWatch};
pub use exit::exit;
pub use thread::{AbortOnDrop, Boxed, Work, off_thread, spawn, start};
pub use watch::FolderChanges;
