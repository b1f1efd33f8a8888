//! The states between the one that a session has told and the one that it shall tell.

use crate::model::ProcessState;
use ProcessState::{Error, Running, Starting, Stopped, Stopping};

/// The states that follow a state directly. `None`: before the first start.
const fn next(state: Option<ProcessState>) -> &'static [ProcessState] {
    match state {
        None => &[Starting, Stopped, Error],
        Some(Starting) => &[Running, Stopping, Stopped, Error],
        Some(Running) => &[Starting, Stopping, Error],
        Some(Stopping) => &[Stopped, Error, Starting],
        Some(Stopped | Error) => &[Starting, Stopped, Error],
    }
}

/// The states to tell, in their order. Empty if the last one was told already.
pub fn path(told: Option<ProcessState>, to: ProcessState) -> Vec<ProcessState> {
    if told == Some(to) {
        return Vec::new();
    }
    if next(told).contains(&to) {
        return vec![to];
    }
    // A running daemon is stopped first, and every other state that can't follow directly follows a start.
    vec![if told == Some(Running) { Stopping } else { Starting }, to]
}
