//! The states that a session tells between two that it has seen.

use ally_core::model::ProcessState::{self, Error, Running, Starting, Stopped, Stopping};
use ally_core::sharing::client::path;

#[test]
fn a_state_that_was_told_is_not_told_again() {
    for state in ProcessState::ALL {
        assert_eq!(path(Some(state), state), []);
    }
}

#[test]
fn what_follows_directly_is_told_alone() {
    assert_eq!(path(None, Starting), [Starting]);
    assert_eq!(path(Some(Starting), Running), [Running]);
    assert_eq!(path(Some(Running), Stopping), [Stopping]);
    assert_eq!(path(Some(Running), Error), [Error]);
}

#[test]
fn what_lies_between_is_told_before() {
    assert_eq!(path(None, Running), [Starting, Running]);
    assert_eq!(path(Some(Stopped), Running), [Starting, Running]);
    assert_eq!(path(Some(Error), Running), [Starting, Running]);
    assert_eq!(path(Some(Running), Stopped), [Stopping, Stopped]);
    assert_eq!(path(Some(Stopping), Running), [Starting, Running]);
}
