//! The guardian is a program of its own (`main.rs`); the addon shares only the records they exchange.

pub mod protocol;
