//! The build that a program comes from. Addon and guardian are built from one set of sources, and refuse each other
//! otherwise. A crate of its own, so that a changed source recompiles this and not everything.

/// A hash of all sources of both programs, in hexadecimal.
pub const BUILD_ID: &str = env!("ALLY_BUILD_ID");

/// The version of the package.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
