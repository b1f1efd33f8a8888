//! An unchecked value of a configuration, as the caller gave it.

#[derive(Debug, Clone, PartialEq)]
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
    /// A function, a symbol, a bigint, or the value of an unknown key, which is never read.
    Other(&'static str),
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
