//! Fields of a row that a REST answer gives as an array.

use serde_json::Value;

use crate::message::DecodeError;

/// One row; `what` names it in errors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row<'a> {
    pub(crate) what: &'static str,
    pub(crate) fields: &'a [Value],
}

impl<'a> Row<'a> {
    fn read<T>(
        self,
        index: usize,
        name: &'static str,
        as_type: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<T, DecodeError> {
        self.fields.get(index).and_then(as_type).ok_or_else(|| DecodeError::Shape {
            what: self.what,
            reason: format!("row without a readable {name}"),
        })
    }

    /// Returns a field that must be text.
    pub(crate) fn text(self, index: usize, name: &'static str) -> Result<&'a str, DecodeError> {
        self.read(index, name, Value::as_str)
    }

    /// Returns a field that must be a whole number.
    pub(crate) fn integer(self, index: usize, name: &'static str) -> Result<i64, DecodeError> {
        self.read(index, name, Value::as_i64)
    }

    /// Returns a field that must be a whole number and not negative.
    pub(crate) fn count(self, index: usize, name: &'static str) -> Result<u64, DecodeError> {
        self.read(index, name, Value::as_u64)
    }

    /// Returns a field that must be a number.
    pub(crate) fn number(self, index: usize, name: &'static str) -> Result<f64, DecodeError> {
        self.read(index, name, Value::as_f64)
    }

    /// Returns the digits of a field that must be a number.
    pub(crate) fn digits(self, index: usize, name: &'static str) -> Result<String, DecodeError> {
        self.read(index, name, |field| field.is_number().then(|| field.to_string()))
    }
}
