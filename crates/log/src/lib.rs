//! The log process of one daemon: a fork of the daemon's keeper, the only reader of the daemon's pipes and the only writer of its
//! log file, unless another generation of the daemon lives.
//!
//! ```text
//!                        ┌─ lines ─▶ queue ─▶ writer thread ─▶ file, file.1, …
//!   daemon ── pipes ──▶ reader
//!                        └─ copy ──▶ pipes ──▶ owner (getOutput, events, errors)
//! ```
//!
//! The reader never waits for the disk or for the owner, so the daemon never waits for its log. What the disk or the owner does not
//! take in time is dropped as whole lines and counted.
//!
//! - `process`: the reader's loop, and the end of the process;
//! - `lines`: two streams into whole lines;
//! - `copy`: the owner's copy;
//! - `queue`: between reader and writer;
//! - `writer`: the writer's loop;
//! - `file`: the file and its troubles; `live`: its size and its last line; `turn`: two log processes with one file;
//! - `rotation`: its older files; `gzip`: their compression;
//! - `drops`: counts dropped lines.

mod copy;
mod drops;
mod file;
mod gzip;
mod lines;
mod live;
mod notes;
mod process;
mod queue;
mod rotation;
mod turn;
mod writer;

pub use copy::OwnerCopy;
pub use file::{Limits, LogFile};
pub use lines::Lines;
pub use notes::Notes;
pub use process::{END, FLUSH, Parts, run};
pub use queue::{CAPACITY, Queue, Taken};
