//! An unchecked value of a configuration, as the caller gave it.

use std::cell::Cell;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub enum Raw {
    Undefined,
    Null,
    Bool(bool),
    Number(f64),
    String(String),
    Array(Vec<Raw>),
    /// Properties by name.
    Object(Vec<(String, Raw)>),
    /// An object with contents outside its properties, such as a Map or a Date, by its kind: "a Map".
    BuiltIn(String),
    /// A function, a symbol, a bigint, or the value of an unknown key, which is never read. Does not leave the process.
    #[serde(skip)]
    Other(#[serde(skip)] &'static str),
}

/// The deepest configuration is `healthcheck.probe.args[0]`, `restart.window.limit`.
const DEPTH_MAX: u32 = 8;

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

impl Serialize for Raw {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for Raw {
    /// A damaged message could nest a value deeper than the stack is.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let depth = DEPTH.get();
        if depth >= DEPTH_MAX {
            return Err(D::Error::custom("a value is nested too deeply"));
        }
        DEPTH.set(depth + 1);
        let value = Self::deserialize(deserializer);
        DEPTH.set(depth);
        value
    }
}

impl Raw {
    /// A string property of an object.
    pub fn text(&self, key: &str) -> Option<&str> {
        let Self::Object(entries) = self else { return None };
        entries.iter().find_map(|(name, value)| match value {
            Self::String(text) if name == key => Some(text.as_str()),
            _ => None,
        })
    }

    /// The object with these entries as another one has them, or without them.
    #[must_use]
    pub fn with_entries_of(self, other: &Self, keys: &[&str]) -> Self {
        let (Self::Object(mut entries), Self::Object(others)) = (self, other) else { return other.clone() };
        let is_wanted = |(key, _): &&(String, Self)| keys.contains(&key.as_str());
        entries.retain(|entry| !is_wanted(&entry));
        entries.extend(others.iter().filter(is_wanted).cloned());
        Self::Object(entries)
    }

    /// The value without what is not data: the entries of unknown keys.
    #[must_use]
    pub fn plain(self) -> Self {
        match self {
            Self::Object(entries) => {
                let data = entries.into_iter().filter(|(_, value)| !matches!(value, Self::Other(_)));
                Self::Object(data.map(|(key, value)| (key, value.plain())).collect())
            }
            Self::Array(items) => Self::Array(items.into_iter().map(Self::plain).collect()),
            value => value,
        }
    }

    /// The kind of the value, for "must be a string, got …". The value itself may be a secret.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Undefined => "undefined",
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(number) if number.is_nan() => "NaN",
            Self::Number(number) if number.is_infinite() => "an infinite number",
            Self::Number(_) => "a number",
            Self::String(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) | Self::BuiltIn(_) => "an object",
            Self::Other(kind) => kind,
        }
    }
}
