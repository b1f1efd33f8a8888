//! Shared by the lifecycle tests: a plan, a sample of every event, a scenario, and two sets of rules.
//! [`caller_view`] has the rules of what callers and listeners see, for any events. [`shadow`] keeps
//! the processes, timers and expected replies, and [`shadow_rules`] the rules about these.

pub mod caller_view;
pub mod events;
pub mod plan;
pub mod scenario;
pub mod shadow;
pub mod shadow_rules;

use std::fmt::Display;

/// `Err`: the rule that was broken.
pub type Verdict = Result<(), String>;

/// `rule` is the text of the failure if it is not `kept`.
pub fn ensure(kept: bool, rule: impl Display) -> Verdict {
    if kept { Ok(()) } else { Err(rule.to_string()) }
}
