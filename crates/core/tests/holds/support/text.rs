//! Effects and events in a line of text each, for tests and for the table.

use ally_core::error::Failure;
use ally_core::lifecycle::holds::{Call, HoldEffect};

pub fn texts(effects: &[HoldEffect]) -> String {
    effects.iter().map(text).collect::<Vec<_>>().join("; ")
}

fn text(effect: &HoldEffect) -> String {
    match effect {
        HoldEffect::Call { call, what } => format!("call {call}: {}", call_text(*what)),
        HoldEffect::Abort { call } => format!("abort call {call}"),
        HoldEffect::Answer { session, request, outcome } => format!("answer {session}/{request} {}", outcome_text(outcome)),
        HoldEffect::Again { session, request } => format!("again {session}/{request}"),
        HoldEffect::Attach { session } => format!("attach {session}"),
        HoldEffect::Detach { session, reason } => format!("detach {session} {reason:?}"),
        HoldEffect::ArmTimeout { request, after } => format!("arm timeout {request} {} ms", after.as_millis()),
        HoldEffect::DisarmTimeout { request } => format!("disarm timeout {request}"),
        HoldEffect::Extend { call, by } => format!("extend call {call} by {} ms", by.as_millis()),
        HoldEffect::Expire { call } => format!("expire call {call}"),
        HoldEffect::ArmLinger { after } => format!("arm linger {} ms", after.as_millis()),
        HoldEffect::DisarmLinger => "disarm linger".to_owned(),
        HoldEffect::Forget => "forget".to_owned(),
    }
}

fn call_text(what: Call) -> String {
    match what {
        Call::Start { of } => format!("start of {of}"),
        Call::Upgrade { of } => format!("upgrade of {of}"),
        Call::Stop => "stop".to_owned(),
        Call::Restart => "restart".to_owned(),
        Call::Wait => "wait".to_owned(),
        Call::Use => "use".to_owned(),
    }
}

pub fn outcome_text(outcome: &Result<(), Failure>) -> String {
    match outcome {
        Ok(()) => "ok".to_owned(),
        Err(Failure::SharedDiffers { fields, upgraded }) => {
            format!("differs: {}{}", fields.join(", "), if *upgraded { ", upgraded" } else { "" })
        }
        Err(failure) => failure.code().as_str().to_owned(),
    }
}
