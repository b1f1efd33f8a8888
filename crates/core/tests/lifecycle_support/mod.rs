//! What the lifecycle tests share: a sample of every event, a plan, and two judges of what the
//! machine does. [`ledger`] holds it to what callers and listeners see, whatever happens; [`world`]
//! knows which processes, timers and answers there are, and holds it to those as well.

pub mod events;
pub mod fixture;
pub mod ledger;
pub mod rules;
pub mod world;

use std::fmt::Display;

/// `Err` says what rule was broken.
pub type Verdict = Result<(), String>;

/// `rule` says what is wrong if it is not `kept`.
pub fn ensure(kept: bool, rule: impl Display) -> Verdict {
    if kept { Ok(()) } else { Err(rule.to_string()) }
}
