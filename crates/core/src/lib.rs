//! The lifecycle of daemons, independent of Node.js. Each module uses only the modules below it:
//!
//! - [`sharing`]: the host of shared daemons, and its sessions;
//! - [`supervisor`]: carries out effects with tokio and system calls; one task per daemon;
//! - [`config`]: a checked configuration;
//! - [`lifecycle`]: the pure state machine of one daemon;
//! - [`error`]: each failure, with its code and its text;
//! - [`model`]: types that all of these modules share.

pub mod config;
pub mod error;
pub mod lifecycle;
pub mod model;
pub mod sharing;
pub mod supervisor;
