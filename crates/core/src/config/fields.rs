//! Reads the fields of one object: each value is checked, and an error names its field.

use std::path::PathBuf;
use std::time::Duration;

use super::Raw;
use super::keys::Key;
use crate::error::Failure;

/// The longest timer of Node.js: 2^31 - 1 ms, almost 25 days.
const TIMER_MAX: f64 = 2_147_483_647.0;

pub type Checked<T> = Result<T, Failure>;

/// The properties of one object, and the keys that the parser has read.
pub struct Fields<'a> {
    prefix: String,
    entries: &'a [(String, Raw)],
    /// The keys that this object may have.
    keys: &'static [Key],
    read: Vec<String>,
    unknown: Vec<String>,
}

impl<'a> Fields<'a> {
    pub fn open(raw: &'a Raw, field: &str, prefix: &str, keys: &'static [Key]) -> Checked<Self> {
        let problem = match raw {
            Raw::Object(entries) => {
                return Ok(Self { prefix: prefix.to_owned(), entries, keys, read: Vec::new(), unknown: Vec::new() });
            }
            Raw::BuiltIn(kind) => format!("must be plain data, got {kind}"),
            other => format!("must be an object, got {}", other.kind()),
        };
        Err(Failure::InvalidConfig { field: field.to_owned(), problem })
    }

    pub fn take(&mut self, field: &str) -> &'a Raw {
        debug_assert!(
            self.keys.iter().any(|key| key.name == field),
            "{field} is not listed in keys.rs, so the JavaScript layer never reads it"
        );
        self.read.push(field.to_owned());
        self.entries.iter().find(|(key, _)| key == field).map_or(&Raw::Undefined, |(_, value)| value)
    }

    /// The value of an optional field: null counts as absent, as in a manifest.
    pub fn optional(&mut self, field: &str) -> &'a Raw {
        match self.take(field) {
            Raw::Null => &Raw::Undefined,
            value => value,
        }
    }

    /// The keys that the parser has not read, including those of nested objects.
    pub fn into_unknown(mut self) -> Vec<String> {
        let own = self.entries.iter().filter(|(key, _)| !self.read.contains(key)).map(|(key, _)| format!("{}{key}", self.prefix));
        self.unknown.extend(own);
        self.unknown
    }

    pub fn is_absent(&mut self, field: &str) -> bool {
        matches!(self.optional(field), Raw::Undefined)
    }

    pub fn wrong(&self, field: &str, problem: impl Into<String>) -> Failure {
        Failure::InvalidConfig { field: format!("{}{field}", self.prefix), problem: problem.into() }
    }

    pub fn missing(&self, field: &str, wanted: &str) -> Failure {
        self.wrong(field, format!("is required and must be {wanted}"))
    }

    pub fn mistyped(&mut self, field: &str, wanted: &str) -> Failure {
        match self.take(field) {
            Raw::Undefined => self.missing(field, wanted),
            got => self.wrong(field, format!("must be {wanted}, got {}", got.kind())),
        }
    }

    /// A required string that is not empty and has no NUL, so that a system call can take it.
    pub fn text(&mut self, field: &str) -> Checked<String> {
        match self.take(field) {
            Raw::String(text) if text.is_empty() => Err(self.wrong(field, "must not be empty")),
            Raw::String(text) if text.contains('\0') => Err(self.wrong(field, "must not contain NUL")),
            Raw::String(text) => Ok(text.clone()),
            _ => Err(self.mistyped(field, "a string")),
        }
    }

    pub fn absolute(&mut self, field: &str) -> Checked<PathBuf> {
        let path = PathBuf::from(self.text(field)?);
        if path.is_absolute() { Ok(path) } else { Err(self.wrong(field, "must be an absolute path")) }
    }

    pub fn number(&mut self, field: &str, least: f64, most: f64) -> Checked<Option<f64>> {
        match self.optional(field) {
            Raw::Undefined => Ok(None),
            Raw::Number(number) if (least..=most).contains(number) => Ok(Some(*number)),
            Raw::Number(number) => Err(self.wrong(field, format!("must be a number from {least} to {most}, got {number}"))),
            other => Err(self.wrong(field, format!("must be a number, got {}", other.kind()))),
        }
    }

    /// A whole number.
    pub fn integer(&mut self, field: &str, least: i32, most: i32) -> Checked<Option<i32>> {
        match self.number(field, f64::from(least), f64::from(most))? {
            Some(number) if number.fract() != 0.0 => Err(self.wrong(field, format!("must be a whole number, got {number}"))),
            number => Ok(number.map(|number| number as i32)),
        }
    }

    pub fn boolean(&mut self, field: &str) -> Checked<Option<bool>> {
        match self.optional(field) {
            Raw::Undefined => Ok(None),
            Raw::Bool(value) => Ok(Some(*value)),
            other => Err(self.wrong(field, format!("must be a boolean, got {}", other.kind()))),
        }
    }

    pub fn count(&mut self, field: &str, least: u32) -> Checked<Option<u32>> {
        match self.number(field, f64::from(least), f64::from(u32::MAX))? {
            None => Ok(None),
            Some(number) if number.fract() == 0.0 => {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and within range, as just checked")]
                let count = number as u32;
                Ok(Some(count))
            }
            Some(number) => Err(self.wrong(field, format!("must be a whole number, got {number}"))),
        }
    }

    pub fn flag(&mut self, field: &str) -> Checked<Option<bool>> {
        match self.optional(field) {
            Raw::Undefined => Ok(None),
            Raw::Bool(flag) => Ok(Some(*flag)),
            other => Err(self.wrong(field, format!("must be a boolean, got {}", other.kind()))),
        }
    }

    /// A whole number, or an array of whole numbers.
    pub fn counts(&mut self, field: &str, wanted: &str) -> Checked<Option<Vec<u32>>> {
        let items = match self.optional(field) {
            Raw::Undefined => return Ok(None),
            Raw::Array(items) => items.as_slice(),
            one => std::slice::from_ref(one),
        };
        let count = |item: &Raw| match item {
            Raw::Number(number) if number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(number) => {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and within range, as just checked")]
                let count = *number as u32;
                Ok(count)
            }
            Raw::Number(number) => Err(self.wrong(field, format!("must be {wanted}, got {number}"))),
            other => Err(self.wrong(field, format!("must be {wanted}, got {}", other.kind()))),
        };
        items.iter().map(count).collect::<Checked<_>>().map(Some)
    }

    /// Milliseconds. A longer duration than a timer holds is its longest.
    pub fn duration(&mut self, field: &str, least: f64) -> Checked<Option<Duration>> {
        match self.optional(field) {
            Raw::Undefined => Ok(None),
            Raw::Number(ms) if ms.is_finite() && *ms >= least => Ok(Some(Duration::from_secs_f64(ms.min(TIMER_MAX) / 1e3))),
            Raw::Number(ms) => Err(self.wrong(field, format!("must be a number of milliseconds from {least} upwards, got {ms}"))),
            other => Err(self.wrong(field, format!("must be a number of milliseconds, got {}", other.kind()))),
        }
    }

    pub fn required_duration(&mut self, field: &str, least: f64) -> Checked<Duration> {
        self.duration(field, least)?.ok_or_else(|| self.mistyped(field, "a number of milliseconds"))
    }

    pub fn required_count(&mut self, field: &str, least: u32) -> Checked<u32> {
        self.count(field, least)?.ok_or_else(|| self.mistyped(field, "a whole number"))
    }

    /// A named value. `None` beside a name: this value is not built yet.
    pub fn choice<T: Clone>(&mut self, field: &str, choices: &[(&str, Option<T>)]) -> Checked<Option<T>> {
        let names = || choices.iter().map(|(name, _)| format!("'{name}'")).collect::<Vec<_>>().join(", ");
        match self.optional(field) {
            Raw::Undefined => Ok(None),
            Raw::String(text) => match choices.iter().find(|(name, _)| name == text) {
                Some((_, Some(value))) => Ok(Some(value.clone())),
                Some((name, None)) => Err(self.wrong(field, format!("'{name}' is not supported yet"))),
                None => Err(self.wrong(field, format!("must be one of {}", names()))),
            },
            other => Err(self.wrong(field, format!("must be one of {}, got {}", names(), other.kind()))),
        }
    }

    pub fn refuse_unbuilt(&mut self) -> Checked<()> {
        self.keys.iter().filter(|key| !key.built).try_for_each(|key| self.refuse(key.name))
    }

    /// Refuses every value of a field that is not built yet.
    pub fn refuse(&mut self, field: &str) -> Checked<()> {
        if self.is_absent(field) { Ok(()) } else { Err(self.wrong(field, "is not supported yet")) }
    }

    pub fn nested<T>(&mut self, field: &str, keys: &'static [Key], read: impl FnOnce(&mut Fields) -> Checked<T>) -> Checked<Option<T>> {
        let raw = self.optional(field);
        if matches!(raw, Raw::Undefined) {
            return Ok(None);
        }
        let path = format!("{}{field}", self.prefix);
        let mut fields = Fields::open(raw, &path, &format!("{path}."), keys)?;
        let value = read(&mut fields)?;
        self.unknown.extend(fields.into_unknown());
        Ok(Some(value))
    }
}
