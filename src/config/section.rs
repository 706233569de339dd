//! Sections and keys: the machinery behind the one table that describes the configuration.
//!
//! `section!` turns a table of keys into a struct with typed, documented fields, its defaults, its
//! reader, its differences and its commented text. Nothing about a key is written twice.

use super::diff::{Change, ReloadClass};
use super::reader::Reader;
use super::value::Rule;
use toml_edit::{Item, TableLike};

/// One key of a section, everything that is known about it.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Name within its section.
    pub name: &'static str,
    /// Default as TOML.
    pub default: &'static str,
    /// Range.
    pub rule: Rule,
    /// Unit of a bare number, or the kind of time a duration counts; may be empty.
    pub unit: &'static str,
    /// What a change needs to take effect.
    pub class: ReloadClass,
    /// Whether an entry of a list must give it.
    pub is_required: bool,
    /// What it is for.
    pub doc: &'static str,
    /// What its values look like.
    pub expected: fn() -> String,
}

impl Key {
    /// Returns the default on one line; the compiler breaks long ones.
    pub fn default_text(&self) -> String {
        self.default.replace('\n', " ")
    }

    /// Returns which values are allowed, for errors and for the commented file.
    pub fn allowed(&self) -> String {
        let (expected, range) = ((self.expected)(), self.rule.describe());
        match (range.is_empty(), &self.rule) {
            (true, _) => expected,
            (false, Rule::Name | Rule::Symbol | Rule::Url(_)) if expected.ends_with("a text") => {
                format!("{}{range}", expected.trim_end_matches("a text"))
            }
            (false, Rule::Name | Rule::Symbol | Rule::Url(_)) => {
                format!("{range}{}", expected.trim_start_matches("a text"))
            }
            (false, _) => format!("{expected}, {range}"),
        }
    }
}

/// A struct whose fields are keys and further sections.
pub trait Section: Default + Clone {
    /// What the section is for.
    const DOC: &'static str;
    /// The keys, in the order of the file.
    const KEYS: &'static [Key];
    /// The names of the sections within.
    const PARTS: &'static [&'static str];

    /// Reads all fields; faults go to the reader, which goes on with the default.
    fn read_fields(reader: &mut Reader, path: &str, table: Option<&dyn TableLike>) -> Self;

    /// Adds the keys whose values differ in `new`.
    fn diff_fields(&self, new: &Self, path: &str, changes: &mut Vec<Change>);

    /// Returns `new` with those keys as they are that need a start.
    #[must_use]
    fn merge_fields(&self, new: &Self) -> Self;

    /// Returns each key with its value as TOML, secrets redacted.
    fn literals(&self) -> Vec<(&'static Key, String)>;

    /// Calls `visit` for each part, in the order of the file.
    fn visit_parts(&self, visit: &mut dyn FnMut(&'static str, &dyn PartText));

    /// Adds the paths of all keys below `path`.
    fn key_paths(path: &str, paths: &mut Vec<String>);
}

/// A section that stands in a list (`[[…]]`).
pub trait Entry: Section {
    /// The list that holds when the file has none.
    const DEFAULT_LIST: &'static str;
    /// What adding, removing or moving an entry needs.
    const LIST_CLASS: ReloadClass;

    /// Returns the name that tells entries apart.
    fn id(&self) -> &str;
}

/// What stands under a name in the file: a section or a list of sections.
pub trait Part: Sized {
    /// Reads it from the item of that name, if there is one.
    fn read(reader: &mut Reader, path: &str, item: Option<&Item>) -> Self;

    /// Adds what differs in `new`.
    fn diff(&self, new: &Self, path: &str, changes: &mut Vec<Change>);

    /// Returns `new` with that as it is that needs a start.
    #[must_use]
    fn merge(&self, new: &Self) -> Self;

    /// Adds the paths of all keys.
    fn paths(path: &str, paths: &mut Vec<String>);
}

/// The part's text in the commented file.
pub trait PartText {
    /// Adds the text, under the heading of `path`.
    fn write(&self, path: &str, text: &mut String);
}

impl<S: Section> Part for S {
    fn read(reader: &mut Reader, path: &str, item: Option<&Item>) -> Self {
        let table = reader.table::<S>(path, item);
        S::read_fields(reader, path, table)
    }

    fn diff(&self, new: &Self, path: &str, changes: &mut Vec<Change>) {
        self.diff_fields(new, path, changes);
    }

    fn merge(&self, new: &Self) -> Self {
        self.merge_fields(new)
    }

    fn paths(path: &str, paths: &mut Vec<String>) {
        S::key_paths(path, paths);
    }
}

impl<E: Entry> Part for Vec<E> {
    fn read(reader: &mut Reader, path: &str, item: Option<&Item>) -> Self {
        reader.list::<E>(path, item)
    }

    fn diff(&self, new: &Self, path: &str, changes: &mut Vec<Change>) {
        let ids = |list: &Self| -> Vec<String> { list.iter().map(|e| e.id().to_owned()).collect() };
        let (old_ids, new_ids) = (ids(self), ids(new));
        if old_ids != new_ids {
            changes.push(Change {
                key: path.to_owned(),
                old: old_ids.join(", "),
                new: new_ids.join(", "),
                class: E::LIST_CLASS,
            });
        }
        for old in self {
            if let Some(entry) = new.iter().find(|entry| entry.id() == old.id()) {
                old.diff_fields(entry, &format!("{path}.{}", old.id()), changes);
            }
        }
    }

    fn merge(&self, new: &Self) -> Self {
        let find = |list: &[E], id: &str| list.iter().find(|e| e.id() == id).cloned();
        if E::LIST_CLASS == ReloadClass::Start {
            let merged =
                |old: &E| find(new, old.id()).map_or_else(|| old.clone(), |e| old.merge_fields(&e));
            return self.iter().map(merged).collect();
        }
        let merged =
            |e: &E| find(self, e.id()).map_or_else(|| e.clone(), |old| old.merge_fields(e));
        new.iter().map(merged).collect()
    }

    fn paths(path: &str, paths: &mut Vec<String>) {
        E::key_paths(path, paths);
    }
}

/// Joins a section's path and a name.
pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Tells whether a key carries the word `required`.
macro_rules! is_required {
    () => {
        false
    };
    (required) => {
        true
    };
}

/// Defines a section: its struct, its keys and what is done with them.
///
/// A key: doc comment, `name: Type = default, Rule, "unit", ReloadClass;`, with `, required` for a
/// key that an entry of a list must give. A part: doc comment, `"name" => field: Type;`.
macro_rules! section {
    (
        $(#[doc = $section_doc:literal])+
        $name:ident
        keys {
            $(
                $(#[doc = $doc:literal])+
                $field:ident: $type:ty = $default:expr, $rule:expr, $unit:literal, $class:expr
                    $(, $required:ident)?;
            )*
        }
        parts {
            $(
                $(#[doc = $part_doc:literal])+
                $part_name:literal => $part:ident: $part_type:ty;
            )*
        }
    ) => {
        $(#[doc = $section_doc])+
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $( $(#[doc = $doc])+ pub $field: $type, )*
            $( $(#[doc = $part_doc])+ pub $part: $part_type, )*
        }

        impl Default for $name {
            /// What holds when the file says nothing.
            fn default() -> Self {
                let mut reader = $crate::config::reader::Reader::builtin();
                $crate::config::section::Section::read_fields(&mut reader, "", None)
            }
        }

        impl $crate::config::section::Section for $name {
            const DOC: &'static str = concat!($($section_doc),+);
            const KEYS: &'static [$crate::config::section::Key] = &[
                $($crate::config::section::Key {
                    name: stringify!($field),
                    default: stringify!($default),
                    rule: $rule,
                    unit: $unit,
                    class: $class,
                    is_required: $crate::config::section::is_required!($($required)?),
                    doc: concat!($($doc),+),
                    expected: <$type as $crate::config::value::Value>::expected,
                },)*
            ];
            const PARTS: &'static [&'static str] = &[$($part_name),*];

            #[allow(unused_variables, unused_mut, reason = "sections without keys or parts")]
            fn read_fields(
                reader: &mut $crate::config::reader::Reader,
                path: &str,
                table: Option<&dyn toml_edit::TableLike>,
            ) -> Self {
                let mut keys = Self::KEYS.iter();
                Self {
                    $( $field: reader.value::<$type>(path, table, keys.next()), )*
                    $( $part: <$part_type as $crate::config::section::Part>::read(
                        reader,
                        &$crate::config::section::join(path, $part_name),
                        table.and_then(|table| table.get($part_name)),
                    ), )*
                }
            }

            #[allow(unused_variables, unused_mut, reason = "sections without keys or parts")]
            fn diff_fields(
                &self,
                new: &Self,
                path: &str,
                changes: &mut Vec<$crate::config::diff::Change>,
            ) {
                let mut keys = Self::KEYS.iter();
                $( $crate::config::diff::compare(
                    &self.$field, &new.$field, path, keys.next(), changes,
                ); )*
                $( $crate::config::section::Part::diff(
                    &self.$part,
                    &new.$part,
                    &$crate::config::section::join(path, $part_name),
                    changes,
                ); )*
            }

            fn merge_fields(&self, new: &Self) -> Self {
                Self {
                    $( $field: $crate::config::diff::merge($class, &self.$field, &new.$field), )*
                    $( $part: $crate::config::section::Part::merge(&self.$part, &new.$part), )*
                }
            }

            #[allow(unused_variables, unused_mut, reason = "sections without keys or parts")]
            fn literals(&self) -> Vec<(&'static $crate::config::section::Key, String)> {
                let values: Vec<String> =
                    vec![$( $crate::config::value::Value::literal(&self.$field), )*];
                Self::KEYS.iter().zip(values).collect()
            }

            #[allow(unused_variables, reason = "sections without parts")]
            fn visit_parts(
                &self,
                visit: &mut dyn FnMut(&'static str, &dyn $crate::config::section::PartText),
            ) {
                $( visit($part_name, &self.$part); )*
            }

            fn key_paths(path: &str, paths: &mut Vec<String>) {
                for key in Self::KEYS {
                    paths.push($crate::config::section::join(path, key.name));
                }
                $( <$part_type as $crate::config::section::Part>::paths(
                    &$crate::config::section::join(path, $part_name), paths,
                ); )*
            }
        }
    };
}

pub(super) use {is_required, section};
