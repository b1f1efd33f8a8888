//! The lifecycle of daemons, without Node. Each module knows only those below it:
//!
//! - [`supervisor`]: tokio and the system; one task per daemon;
//! - [`config`]: a checked configuration;
//! - [`lifecycle`]: pure; decides everything, touches nothing;
//! - [`error`]: what can go wrong, one text for each case;
//! - [`model`]: the words that all of these share.

pub mod config;
pub mod error;
pub mod lifecycle;
pub mod model;
pub mod supervisor;
