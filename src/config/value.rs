//! Types of configuration values: how each is read from TOML, which range it has, how it is shown.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use forecastd_core::{Hotkey, Interval, Rao};
use toml_edit::Value as Toml;

use super::text::{
    ByteSize, UtcTime, format_duration, is_name, is_url, parse_duration, parse_size, parse_time,
};

/// Most entries of a list value.
const MAX_LIST: usize = 1_024;

/// Longest text value without a rule of its own, bytes.
const MAX_TEXT: usize = 4_096;

/// Which values of a type a key takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// All that the type can hold.
    Any,
    /// A whole number within bounds, both included.
    Int(i64, i64),
    /// A number within bounds, both included.
    Float(f64, f64),
    /// A duration within bounds, both included.
    Span(&'static str, &'static str),
    /// A size within bounds, both included.
    Size(&'static str, &'static str),
    /// A name that is safe as a file name.
    Name,
    /// An exchange's spelling of a pair.
    Symbol,
    /// A URL with one of these schemes.
    Url(&'static [&'static str]),
}

impl Rule {
    /// Returns the allowed values for people, empty for [`Rule::Any`].
    pub fn describe(&self) -> String {
        match self {
            Self::Any => String::new(),
            Self::Int(min, max) => format!("{min}..{max}"),
            Self::Float(min, max) => format!("{min}..{max}"),
            Self::Span(min, max) | Self::Size(min, max) => format!("{min}..{max}"),
            Self::Name => "1 to 64 letters, digits, `.`, `_` or `-`".to_owned(),
            Self::Symbol => "1 to 64 letters, digits, `.`, `_`, `-` or `/`".to_owned(),
            Self::Url(schemes) => format!("a URL with {}", schemes.join(":// or ") + "://"),
        }
    }

    fn admits_int(&self, number: i64) -> bool {
        match self {
            Self::Int(min, max) => (*min..=*max).contains(&number),
            _ => true,
        }
    }

    fn admits_float(&self, number: f64) -> bool {
        match self {
            Self::Float(min, max) => (*min..=*max).contains(&number),
            _ => number.is_finite(),
        }
    }

    fn admits_text(&self, text: &str) -> bool {
        match self {
            Self::Name => is_name(text),
            Self::Symbol => is_name(&text.replace('/', "-")),
            Self::Url(schemes) => is_url(text, schemes),
            _ => text.len() <= MAX_TEXT && !text.contains(['\0', '\n', '\r']),
        }
    }

    fn admits_span(&self, span: Duration) -> bool {
        match self {
            Self::Span(min, max) => {
                parse_duration(min).is_some_and(|least| least <= span)
                    && parse_duration(max).is_some_and(|most| span <= most)
            }
            _ => true,
        }
    }

    fn admits_size(&self, size: ByteSize) -> bool {
        match self {
            Self::Size(min, max) => {
                parse_size(min).is_some_and(|least| least <= size)
                    && parse_size(max).is_some_and(|most| size <= most)
            }
            _ => true,
        }
    }
}

/// A type that a key can have.
pub trait Value: Sized + Clone + PartialEq {
    /// What it looks like, for people: `must be …`.
    const EXPECTED: &'static str;
    /// Whether the value is written in quotes, so that an environment variable needs none.
    const IS_TEXT: bool = true;
    /// Whether the value must not be shown.
    const IS_SECRET: bool = false;

    /// Returns what a value looks like, for people.
    fn expected() -> String {
        Self::EXPECTED.to_owned()
    }

    /// Reads the value; `None` when type or range do not fit.
    fn read(value: &Toml, rule: &Rule) -> Option<Self>;

    /// Returns the value as TOML, secrets redacted.
    fn literal(&self) -> String;
}

/// A text that must not be shown.
///
/// `Debug`, `Display` and [`Value::literal`] only tell whether it is set.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Tells whether there is a text at all.
    pub fn is_set(&self) -> bool {
        !self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_set() { "(set)" } else { "(not set)" })
    }
}

/// Writes `text` as a TOML string.
pub(super) fn quote(text: &str) -> String {
    Toml::from(text).to_string()
}

impl Value for Secret {
    const EXPECTED: &'static str = "a text";
    const IS_SECRET: bool = true;

    fn read(value: &Toml, rule: &Rule) -> Option<Self> {
        String::read(value, rule).map(Self)
    }

    fn literal(&self) -> String {
        if self.is_set() { quote("(set)") } else { quote("") }
    }
}

impl Value for String {
    const EXPECTED: &'static str = "a text";

    fn read(value: &Toml, rule: &Rule) -> Option<Self> {
        value.as_str().filter(|text| rule.admits_text(text)).map(str::to_owned)
    }

    fn literal(&self) -> String {
        quote(self)
    }
}

impl Value for bool {
    const EXPECTED: &'static str = "true or false";
    const IS_TEXT: Self = false;

    fn read(value: &Toml, _: &Rule) -> Option<Self> {
        value.as_bool()
    }

    fn literal(&self) -> String {
        self.to_string()
    }
}

impl Value for f64 {
    const EXPECTED: &'static str = "a number";
    const IS_TEXT: bool = false;

    fn read(value: &Toml, rule: &Rule) -> Option<Self> {
        let whole = value.as_integer().map(|number| number as Self);
        value.as_float().or(whole).filter(|number| rule.admits_float(*number))
    }

    fn literal(&self) -> String {
        format!("{self:?}")
    }
}

/// Implements [`Value`] for whole numbers.
macro_rules! whole_numbers {
    ($($type:ty),+) => {$(
        impl Value for $type {
            const EXPECTED: &'static str = "a whole number";
            const IS_TEXT: bool = false;

            fn read(value: &Toml, rule: &Rule) -> Option<Self> {
                let number = value.as_integer().filter(|number| rule.admits_int(*number))?;
                Self::try_from(number).ok()
            }

            fn literal(&self) -> String {
                self.to_string()
            }
        }
    )+};
}

whole_numbers!(i64, u16, u32, u64, usize);

impl Value for Duration {
    const EXPECTED: &'static str = "a duration such as 30s";

    fn read(value: &Toml, rule: &Rule) -> Option<Self> {
        value.as_str().and_then(parse_duration).filter(|span| rule.admits_span(*span))
    }

    fn literal(&self) -> String {
        quote(&format_duration(*self))
    }
}

impl Value for ByteSize {
    const EXPECTED: &'static str = "a size such as 64MiB";

    fn read(value: &Toml, rule: &Rule) -> Option<Self> {
        value.as_str().and_then(parse_size).filter(|size| rule.admits_size(*size))
    }

    fn literal(&self) -> String {
        quote(&self.to_string())
    }
}

impl Value for UtcTime {
    const EXPECTED: &'static str = "a time such as 2025-01-02T00:00:00Z";

    fn read(value: &Toml, _: &Rule) -> Option<Self> {
        match value.as_datetime() {
            Some(time) => parse_time(&time.to_string()),
            None => value.as_str().and_then(parse_time),
        }
    }

    fn literal(&self) -> String {
        quote(&self.to_string())
    }
}

impl Value for Interval {
    const EXPECTED: &'static str = "a length such as 5m, at most 7d";

    fn read(value: &Toml, _: &Rule) -> Option<Self> {
        value.as_str()?.parse().ok()
    }

    fn literal(&self) -> String {
        quote(&self.to_string())
    }
}

impl Value for SocketAddr {
    const EXPECTED: &'static str = "an IP address with a port such as 127.0.0.1:8091";

    fn read(value: &Toml, _: &Rule) -> Option<Self> {
        value.as_str()?.parse().ok()
    }

    fn literal(&self) -> String {
        quote(&self.to_string())
    }
}

impl Value for PathBuf {
    const EXPECTED: &'static str = "a path";

    fn read(value: &Toml, rule: &Rule) -> Option<Self> {
        value.as_str().filter(|text| !text.is_empty() && rule.admits_text(text)).map(Self::from)
    }

    fn literal(&self) -> String {
        quote(&self.to_string_lossy())
    }
}

impl Value for Hotkey {
    const EXPECTED: &'static str = "an SS58 address with prefix 42";

    fn read(value: &Toml, _: &Rule) -> Option<Self> {
        Self::from_ss58(value.as_str()?).ok()
    }

    fn literal(&self) -> String {
        quote(&self.to_ss58())
    }
}

/// Written in TAO, kept in RAO.
impl Value for Rao {
    const EXPECTED: &'static str = "an amount in TAO";
    const IS_TEXT: bool = false;

    fn read(value: &Toml, rule: &Rule) -> Option<Self> {
        let rao = f64::read(value, rule).filter(|tao| *tao >= 0.0)? * Self::PER_TAO as f64;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "non-negative, and the rule bounds it far below 2^64"
        )]
        Some(Self(rao.round() as u64))
    }

    fn literal(&self) -> String {
        format!("{:?}", self.as_tao())
    }
}

/// The empty text means that nothing is set.
impl<T: Value> Value for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;

    fn expected() -> String {
        format!("{}, or empty", T::expected())
    }

    fn read(value: &Toml, rule: &Rule) -> Option<Self> {
        if value.as_str() == Some("") { Some(None) } else { T::read(value, rule).map(Some) }
    }

    fn literal(&self) -> String {
        self.as_ref().map_or_else(|| quote(""), T::literal)
    }
}

/// The rule holds for each entry.
impl<T: Value> Value for Vec<T> {
    const EXPECTED: &'static str = "a list in brackets";
    const IS_TEXT: bool = false;

    fn expected() -> String {
        format!("{}, each {}", Self::EXPECTED, T::expected())
    }

    fn read(value: &Toml, rule: &Rule) -> Option<Self> {
        let list = value.as_array().filter(|list| list.len() <= MAX_LIST)?;
        list.iter().map(|entry| T::read(entry, rule)).collect()
    }

    fn literal(&self) -> String {
        let entries: Vec<String> = self.iter().map(T::literal).collect();
        format!("[{}]", entries.join(", "))
    }
}

/// Defines an enum whose variants are fixed texts in the file.
macro_rules! choices {
    (
        $(#[doc = $doc:literal])+
        $name:ident, $expected:literal {
            $( $(#[doc = $variant_doc:literal])+ $variant:ident = $text:literal, )+
        }
    ) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $( $(#[doc = $variant_doc])+ $variant, )+
        }

        impl $name {
            /// Every variant, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Returns the text that the file holds.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl $crate::config::value::Value for $name {
            const EXPECTED: &'static str = $expected;

            fn read(value: &toml_edit::Value, _: &$crate::config::value::Rule) -> Option<Self> {
                let text = value.as_str()?;
                Self::ALL.iter().copied().find(|choice| choice.as_str() == text)
            }

            fn literal(&self) -> String {
                $crate::config::value::quote(self.as_str())
            }
        }
    };
}

/// Makes a choice of another crate readable: each variant with the text that the file holds.
macro_rules! readable {
    ($name:ty, $expected:literal { $( $variant:ident = $text:literal, )+ }) => {
        impl $crate::config::value::Value for $name {
            const EXPECTED: &'static str = $expected;

            fn read(value: &toml_edit::Value, _: &$crate::config::value::Rule) -> Option<Self> {
                match value.as_str()? {
                    $( $text => Some(Self::$variant), )+
                    _ => None,
                }
            }

            fn literal(&self) -> String {
                $crate::config::value::quote(match self { $( Self::$variant => $text, )+ })
            }
        }
    };
}

pub(super) use choices;
pub(super) use readable;
