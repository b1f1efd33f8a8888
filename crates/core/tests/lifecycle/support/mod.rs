//! Shared by the lifecycle tests: a plan, a sample of every event, a scenario, and two sets of rules.
//! [`caller_view`] has the rules of what callers and listeners see, for any events. [`shadow`] keeps the generations with their
//! trees, timers and expected replies ([`attempt`]), [`shadow_rules`], [`upgrade_rules`] and [`phase_rules`] have the rules about these, and
//! [`search`] gives them every order of events.

pub mod attempt;
pub mod caller_view;
pub mod events;
pub mod phase_rules;
pub mod plan;
pub mod scenario;
pub mod search;
pub mod shadow;
pub mod shadow_rules;
pub mod upgrade_rules;

use std::fmt::Display;

/// `Err`: the rule that was broken.
pub type Verdict = Result<(), String>;

/// `rule` is the text of the failure if it is not `kept`.
pub fn ensure(kept: bool, rule: impl Display) -> Verdict {
    if kept { Ok(()) } else { Err(rule.to_string()) }
}
