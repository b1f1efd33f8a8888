//! Shared by the addon, the guardian and the keepers:
//!
//! - [`os`]: Linux and macOS behind one interface;
//! - [`wire`]: the messages between owner, guardian and keepers;
//! - [`record`]: the files in a plugin's folder;
//! - [`notify_folder`]: the folder of the sockets for notifications;
//! - [`log_file`]: how a log file is opened;
//! - [`stop`]: the order of the stop signals;
//! - [`text`]: names of signals and errnos, and text without control characters.

pub mod log_file;
pub mod notify_folder;
pub mod os;
pub mod record;
pub mod stop;
pub mod text;
pub mod wire;
