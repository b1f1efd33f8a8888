//! The lifecycle of Ally's plugin daemons, as a Node.js addon.
//!
//! Floors, each of which knows only those below it:
//!
//! - `index.js`: what people require. EventEmitter, Errors, Dates; no lifecycle logic.
//! - `binding`: the only code that names napi; conversions.
//! - [`supervisor`]: tokio and the system; one task per daemon.
//! - [`lifecycle`]: pure. Decides everything, touches nothing.
//!
//! Beside them [`config`] (a checked configuration), [`error`] (what can go wrong), [`os`] (Linux and
//! macOS behind one face), and `guardian/`, a program of its own that is the daemons' parent.

mod binding;
pub mod config;
pub mod error;
pub mod guardian;
pub mod lifecycle;
pub mod os;
pub mod supervisor;
