//! The binding: conversions, and methods that call the supervisor. No method throws. A method that can fail returns a failure,
//! and the JavaScript layer turns the failure into an Error of the caller's realm.

mod events;
mod follower;
mod host_view;
mod log;
mod manager;
mod observe;
mod types;
mod wake;
