//! One log line: its fields, and its text for programs and for people.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value};
use tracing::Level;
use tracing::field::{Field, Visit};

/// Longest value of a field, bytes.
pub const MAX_TEXT: usize = 4_096;

/// Fields of an event or a span, in the order in which they were given.
#[derive(Debug, Default, Clone)]
pub(super) struct Fields(pub(super) Map<String, Value>);

impl Fields {
    /// Removes a text field.
    pub(super) fn take_text(&mut self, name: &str) -> Option<String> {
        match self.0.shift_remove(name)? {
            Value::String(text) => Some(text),
            other => Some(other.to_string()),
        }
    }

    fn put(&mut self, field: &Field, value: Value) {
        self.0.insert(field.name().to_owned(), value);
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no NaN and no infinity; a log must show them all the same.
        let number = serde_json::Number::from_f64(value);
        self.put(field, number.map_or_else(|| Value::from(value.to_string()), Value::Number));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Value::from(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, Value::from(shorten(value)));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut source = value.source();
        while let Some(cause) = source {
            // Errors that repeat their source in their own text are common.
            let cause_text = cause.to_string();
            if !text.contains(&cause_text) {
                text.push_str(": ");
                text.push_str(&cause_text);
            }
            source = cause.source();
        }
        self.put(field, Value::from(shorten(&text)));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, Value::from(shorten(&format!("{value:?}"))));
    }
}

/// A whole line before it is written.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) at_ms: i64,
    pub(super) level: Level,
    pub(super) actor: String,
    pub(super) event: String,
    /// The phrase, where the event has a field `event` of its own.
    pub(super) message: Option<String>,
    pub(super) fields: Map<String, Value>,
}

impl Record {
    /// Returns the line for programs.
    pub(super) fn json(&self) -> String {
        let mut line = Map::new();
        line.insert("ts".to_owned(), Value::from(stamp(self.at_ms)));
        line.insert("level".to_owned(), Value::from(level_name(self.level)));
        line.insert("actor".to_owned(), Value::from(self.actor.as_str()));
        line.insert("event".to_owned(), Value::from(self.event.as_str()));
        if let Some(message) = &self.message {
            line.insert("message".to_owned(), Value::from(message.as_str()));
        }
        for (name, value) in &self.fields {
            line.entry(name.as_str()).or_insert_with(|| value.clone());
        }
        Value::Object(line).to_string()
    }
}

/// Returns the name of a level as it stands in lines and on the command line.
pub(super) const fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// Turns a JSON line of the log into a line for people; a text that is none comes back as it is.
pub fn human(line: &str, has_colour: bool) -> String {
    let Ok(Value::Object(mut fields)) = serde_json::from_str::<Value>(line) else {
        return visible(line);
    };
    let mut take = |name: &str| fields.shift_remove(name).as_ref().map(plain).unwrap_or_default();
    let (ts, level, actor, event) = (take("ts"), take("level"), take("actor"), take("event"));
    let message = take("message");
    let (colour, dim, reset) = match (has_colour, level.as_str()) {
        (false, _) => ("", "", ""),
        (true, "error") => ("\x1b[31m", "\x1b[2m", "\x1b[0m"),
        (true, "warn") => ("\x1b[33m", "\x1b[2m", "\x1b[0m"),
        (true, "info") => ("\x1b[32m", "\x1b[2m", "\x1b[0m"),
        (true, _) => ("\x1b[34m", "\x1b[2m", "\x1b[0m"),
    };
    let level = level.to_uppercase();
    let mut text = format!("{dim}{ts}{reset} {colour}{level:<5}{reset} {actor:<12} {event}");
    if !message.is_empty() {
        text.push_str(": ");
        text.push_str(&message);
    }
    for (name, value) in &fields {
        text.extend([" ", dim, &visible(name), "=", reset, &plain(value)]);
    }
    text
}

/// A value for people: texts without quotes when they are one word, control characters visible.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => visible(text),
        other => other.to_string(),
    }
}

/// Escapes control characters: foreign texts must not move the reader's cursor or fake lines.
fn visible(text: &str) -> String {
    if !text.chars().any(char::is_control) {
        return text.to_owned();
    }
    text.chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect()
}

fn stamp(at_ms: i64) -> String {
    DateTime::<Utc>::from_timestamp_millis(at_ms)
        .map_or_else(|| at_ms.to_string(), |at| at.to_rfc3339_opts(SecondsFormat::Millis, true))
}

fn shorten(text: &str) -> String {
    if text.len() <= MAX_TEXT {
        return text.to_owned();
    }
    let mut end = MAX_TEXT;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let (head, _) = text.split_at(end);
    format!("{head}… ({} bytes)", text.len())
}
