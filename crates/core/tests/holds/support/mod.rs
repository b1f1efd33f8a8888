//! The host's manager in miniature (`world`), the rules of every history (`shadow`), a plugin for the histories that a test writes
//! down (`plugin`), and effects as text (`text`).

pub mod plugin;
pub mod shadow;
pub mod text;
pub mod world;

/// `Err`: the broken rule.
pub type Verdict = Result<(), String>;

pub fn ensure(holds: bool, rule: impl std::fmt::Display) -> Verdict {
    if holds { Ok(()) } else { Err(rule.to_string()) }
}
