//! What sessions and the host of shared daemons say to each other.
//!
//! ```text
//!   session ── ClientGreeting ──▶ host      both frozen for ever
//!   session ◀── HostGreeting ──── host
//!   session ── Request … ───────▶ host      of one build
//!   session ◀── Push … ────────── host
//! ```

mod frame;
mod greeting;
mod messages;

pub use frame::{BadMessage, Inbound, PREFIX, Parts, TO_HOST_MAX, TO_SESSION_MAX, encode, encode_in_parts};
pub use greeting::{Ask, ClientGreeting, GREETING_MAX, HostGreeting, LEFT_MAX, Verdict};
pub use messages::{Call, Detachment, Interest, Listed, LogLevel, Push, Request, RequestId, SentLine, Shown, Start, Told};
