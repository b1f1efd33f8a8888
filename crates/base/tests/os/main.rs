//! The system interface, tested with real processes, sockets and folders.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that can't go on should panic")]

#[path = "../support/namespace.rs"]
mod namespace;
#[path = "../support/rerun.rs"]
mod rerun;
#[path = "../support/until.rs"]
mod until;

mod datagrams;
mod folder_watcher;
mod identity;
mod listener;
mod listeners;
mod scan;
mod shell;
mod signals;
mod sockets;
mod tcp_listeners;
mod usage;
