//! The pattern of the probe `output`.

use memchr::memmem::Finder;
use regex_lite::{Regex, RegexBuilder};

/// In bytes of the compiled pattern. A line is matched in time proportional to this and to its length, on the thread that serves
/// all daemons. A pattern of 1 KiB without repetitions fits.
const COMPILED_MAX: usize = 48 * 1024;
/// Shorter literals occur too often to save time.
const LITERAL_MIN: usize = 3;

#[derive(Debug)]
pub struct Pattern {
    regex: Regex,
    /// A text that each match contains. regex-lite matches about 10 MiB in a second, and a search for a text takes a thousandth
    /// of that time.
    literal: Option<Finder<'static>>,
}

impl Pattern {
    /// # Errors
    /// What is wrong with the pattern, without the pattern.
    pub fn compile(pattern: &str) -> Result<Self, String> {
        let regex = RegexBuilder::new(pattern).size_limit(COMPILED_MAX).build().map_err(|error| error.to_string())?;
        let literal = leading_literal(pattern).map(|literal| Finder::new(literal).into_owned());
        Ok(Self { regex, literal })
    }

    pub fn may_match(&self, line: &[u8]) -> bool {
        self.literal.as_ref().is_none_or(|literal| literal.find(line).is_some())
    }

    pub fn is_match(&self, line: &str) -> bool {
        self.may_match(line.as_bytes()) && self.regex.is_match(line)
    }
}

/// The text with which each match begins, as far as the pattern shows it at first sight.
fn leading_literal(pattern: &str) -> Option<&str> {
    // With an alternative or with flags the text may be another one.
    if pattern.contains(['|']) || pattern.contains("(?") {
        return None;
    }
    let start = pattern.strip_prefix('^').unwrap_or(pattern);
    let is_plain = |character: char| character.is_ascii_alphanumeric() || " -_/:,;=<>'\"!@%&~`".contains(character);
    let end = start.find(|character| !is_plain(character)).unwrap_or(start.len());
    let (literal, rest) = start.split_at(end);
    // The last character may be missing from a match.
    let literal = if rest.starts_with(['?', '*', '{']) { literal.get(..end.saturating_sub(1))? } else { literal };
    (literal.len() >= LITERAL_MIN).then_some(literal)
}
