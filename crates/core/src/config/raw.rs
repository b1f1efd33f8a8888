//! A value as the caller gave it, before anyone believed anything about it.

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
    /// A Map, a Date and the like, as "a Map": an object that keeps its contents where no property shows them.
    BuiltIn(String),
    /// A function, symbol, bigint, or what stands under a key that means nothing and was not read.
    Other(&'static str),
}

impl Raw {
    /// What it is, for "must be a string, got …". Never the value itself, which may be a secret.
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
