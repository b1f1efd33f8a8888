//! One daemon for several sessions.
//!
//! ```text
//!   session ── client ──┐
//!   session ── client ──┴── protocol ── host: a Manager ── guardian ── keeper ── daemon
//! ```
//!
//! - [`protocol`]: what both say;
//! - [`host`]: the process that supervises shared daemons;
//! - [`client`]: a session's end;
//! - `router`, `groups`: the calls of the API, for exclusive and shared plugins.

pub mod client;
mod groups;
pub mod host;
mod place;
pub mod protocol;
mod router;
mod stream;

pub use router::Router;
