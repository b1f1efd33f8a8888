//! The only code that names napi: conversions, and methods of one line. Nothing here throws: what can
//! fail returns a failure that the JavaScript layer makes an Error of, in the caller's own realm.

mod events;
mod log;
mod manager;
mod types;
mod wake;
