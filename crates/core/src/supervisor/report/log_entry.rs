//! The text and the fields of a log entry, which is an event of tracing.

use std::borrow::Cow;
use std::fmt::{Debug, Write as _};

use tracing::Event;
use tracing::field::{Field, Visit};

use super::LogValue;

#[derive(Debug, Default)]
pub struct LogEntry {
    pub text: String,
    /// Without the number of the manager, which is only for routing.
    pub fields: Vec<(Cow<'static, str>, LogValue)>,
}

impl LogEntry {
    pub fn of(event: &Event<'_>) -> Self {
        let mut entry = Self::default();
        event.record(&mut entry);
        entry
    }

    fn add(&mut self, field: &Field, value: LogValue) {
        self.fields.push((Cow::Borrowed(field.name()), value));
    }
}

impl Visit for LogEntry {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, LogValue::Number(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, LogValue::Number(value as f64));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() != "manager" {
            self.add(field, LogValue::Number(value as f64));
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, LogValue::Bool(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, LogValue::Text(value.to_owned()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            // Writing to a String can't fail, so this branch only satisfies the compiler.
            if write!(self.text, "{value:?}").is_err() {
                self.text.clear();
            }
        } else {
            self.add(field, LogValue::Text(format!("{value:?}")));
        }
    }
}
