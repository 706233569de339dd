//! Reads a parsed file and the environment into sections, and collects every fault on the way.
//!
//! A value that cannot be used is reported and replaced by its default, so that one run finds all
//! faults. The caller throws the result away when there is any.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use toml_edit::{Document, Item, TableLike, TomlError, Value as Toml};

use super::error::{ConfigError, ConfigErrors};
use super::section::{Entry, Key, Section, join};
use super::value::Value;

/// Prefix of environment variables that override keys.
pub const ENV_PREFIX: &str = "FORECASTD__";

/// Most entries of a list of sections.
const MAX_ENTRIES: usize = 64;

/// Longest piece of the file that an error repeats, characters.
const MAX_SHOWN: usize = 60;

/// Least likeness, 0..1, at which a known key is suggested for an unknown one.
const LIKENESS: f64 = 0.75;

/// Where a key's value came from.
#[derive(Debug, Clone)]
struct Place {
    file: String,
    line: usize,
    column: usize,
}

/// One environment variable.
#[derive(Debug, Clone)]
struct Override {
    variable: String,
    text: String,
}

/// The state of one reading.
#[derive(Debug)]
pub struct Reader {
    file: String,
    text: String,
    /// Set while the built-in lists are read, which have no place in the file.
    is_builtin: bool,
    overrides: BTreeMap<String, Override>,
    places: BTreeMap<String, Place>,
    failed: BTreeSet<String>,
    errors: Vec<ConfigError>,
    known_paths: Vec<String>,
}

impl Reader {
    /// Begins to read `text`, which came from `file`, with the variables of `environment` on top.
    pub(super) fn new(
        file: &str,
        text: &str,
        environment: impl IntoIterator<Item = (String, String)>,
        known_paths: Vec<String>,
    ) -> Self {
        let mut overrides = BTreeMap::new();
        for (variable, text) in environment {
            if let Some(path) = variable.strip_prefix(ENV_PREFIX) {
                let path = override_path(path);
                overrides.insert(path, Override { variable, text });
            }
        }
        Self {
            file: file.to_owned(),
            text: text.to_owned(),
            is_builtin: false,
            overrides,
            places: BTreeMap::new(),
            failed: BTreeSet::new(),
            errors: Vec::new(),
            known_paths,
        }
    }

    /// Begins to read defaults only.
    pub(super) fn builtin() -> Self {
        let mut reader = Self::new("built-in", "", [], Vec::new());
        reader.is_builtin = true;
        reader
    }

    /// Notes that the text is not TOML.
    pub(super) fn syntax(&mut self, error: &TomlError) {
        let reason = format!("is not TOML: {}", error.message().trim().replace('\n', ", "));
        let place = self.place_of(error.span());
        self.push(String::new(), &place, reason, None);
    }

    /// Returns the section's table after a look at its keys; `None` when there is none.
    pub(super) fn table<'a, S: Section>(
        &mut self,
        path: &str,
        item: Option<&'a Item>,
    ) -> Option<&'a dyn TableLike> {
        let item = item?;
        let place = self.place_of(item.span());
        if let Some(table) = item.as_table_like() {
            self.places.insert(path.to_owned(), place);
            self.unknown_keys::<S>(path, table);
            return Some(table);
        }
        let reason = format!("is {}, must be a section, written `[{path}]`", kind_of(item));
        self.push(path.to_owned(), &place, reason, None);
        None
    }

    /// Reads a list of sections; the built-in one when the file has none.
    pub(super) fn list<E: Entry>(&mut self, path: &str, item: Option<&Item>) -> Vec<E> {
        let Some(item) = item else { return self.builtin_list(path) };
        let Some(tables) = item.as_array_of_tables() else {
            let place = self.place_of(item.span());
            let reason = format!("is {}, must be a list of sections `[[{path}]]`", kind_of(item));
            self.failed.insert(path.to_owned());
            self.push(path.to_owned(), &place, reason, None);
            return Vec::new();
        };
        let mut entries = Vec::new();
        for (index, table) in tables.iter().enumerate() {
            let path = format!("{path}[{index}]");
            let place = self.place_of(table.span());
            if index == MAX_ENTRIES {
                let reason = format!("is entry {}, {MAX_ENTRIES} are allowed", tables.len());
                self.push(path, &place, reason, None);
                break;
            }
            self.places.insert(path.clone(), place);
            self.unknown_keys::<E>(&path, table);
            entries.push(E::read_fields(self, &path, Some(table)));
        }
        entries
    }

    /// Reads one value: environment, else file, else default.
    ///
    /// `key` comes from an iterator that is as long as the struct has fields.
    pub(super) fn value<T: Value>(
        &mut self,
        path: &str,
        table: Option<&dyn TableLike>,
        key: Option<&'static Key>,
    ) -> T {
        #[expect(clippy::expect_used, reason = "fields and keys come out of one macro")]
        let key = key.expect("one key a field");
        let full = join(path, key.name);
        if let Some(found) = self.overrides.remove(&full) {
            let place = Place { file: environment(&found.variable), line: 0, column: 0 };
            let value = override_value::<T>(&found.text);
            let shown = shorten(&found.text);
            return self.checked(full, key, &place, value.as_ref(), &shown);
        }
        if let Some(item) = table.and_then(|table| table.get(key.name)) {
            let place = self.place_of(item.span());
            let shown = self.shown(item.span());
            return self.checked(full, key, &place, item.as_value(), &shown);
        }
        if key.is_required {
            let place = self.place(path);
            self.failed.insert(full.clone());
            let reason = format!("is missing, must be {}", key.allowed());
            self.push(full, &place, reason, None);
        }
        default_of(key)
    }

    /// Reports a fault between keys at the first of `keys`, unless one of them is faulty itself.
    pub(super) fn rule(&mut self, holds: bool, keys: &[&str], reason: impl FnOnce() -> String) {
        if holds || keys.iter().any(|key| self.failed.contains(*key)) {
            return;
        }
        let Some(key) = keys.first() else { return };
        let place = self.place(key);
        self.push((*key).to_owned(), &place, reason(), None);
    }

    /// Ends a reading that never got to the keys, so that no variable could be used.
    pub(super) fn finish_without_environment(mut self) -> ConfigErrors {
        self.overrides.clear();
        self.finish()
    }

    /// Ends the reading.
    pub(super) fn finish(mut self) -> ConfigErrors {
        for (path, found) in std::mem::take(&mut self.overrides) {
            let place = Place { file: environment(&found.variable), line: 0, column: 0 };
            let hint = self.suggestion(&path).map(|best| format!("did you mean `{best}`"));
            let is_entry = self.known_paths.contains(&without_number(&path));
            let reason = if is_entry { "names an entry that is not there" } else { "is not a key" };
            self.push(path, &place, reason.to_owned(), hint);
        }
        self.errors.sort_by_key(|error| (error.line == 0, error.line, error.column));
        ConfigErrors { errors: self.errors }
    }

    fn builtin_list<E: Entry>(&mut self, path: &str) -> Vec<E> {
        #[expect(clippy::expect_used, reason = "a constant text that a test reads")]
        let document = Document::parse(E::DEFAULT_LIST).expect("built-in list is TOML");
        let was_builtin = std::mem::replace(&mut self.is_builtin, true);
        let list = match document.get(path) {
            Some(item) => self.list::<E>(path, Some(item)),
            None => Vec::new(),
        };
        self.is_builtin = was_builtin;
        list
    }

    fn checked<T: Value>(
        &mut self,
        full: String,
        key: &'static Key,
        place: &Place,
        value: Option<&Toml>,
        shown: &str,
    ) -> T {
        self.places.insert(full.clone(), place.clone());
        if let Some(read) = value.and_then(|value| T::read(value, &key.rule)) {
            return read;
        }
        let reason = if T::IS_SECRET {
            format!("has a value that is not allowed, must be {}", key.allowed())
        } else {
            format!("is {shown}, must be {}", key.allowed())
        };
        self.failed.insert(full.clone());
        self.push(full, place, reason, None);
        default_of(key)
    }

    fn unknown_keys<S: Section>(&mut self, path: &str, table: &dyn TableLike) {
        for (name, item) in table.iter() {
            let is_known = S::KEYS.iter().any(|key| key.name == name) || S::PARTS.contains(&name);
            if is_known {
                continue;
            }
            let span = table.key(name).and_then(toml_edit::Key::span).or_else(|| item.span());
            let place = self.place_of(span);
            let near = S::KEYS.iter().map(|key| key.name).chain(S::PARTS.iter().copied());
            let hint = most_like(name, near)
                .map(|best| format!("did you mean `{}`", join(path, best)))
                .or_else(|| {
                    let elsewhere = self.suggestion(&join(path, name))?;
                    Some(format!("did you mean `{elsewhere}`"))
                });
            let what = if item.is_value() { "is not a key" } else { "is not a section" };
            self.push(join(path, name), &place, what.to_owned(), hint);
        }
    }

    /// Returns the known path that is most like `path`; one that ends in the same name wins.
    fn suggestion(&self, path: &str) -> Option<String> {
        let plain = without_number(path);
        let name = plain.rsplit('.').next().unwrap_or_default();
        let same_name =
            self.known_paths.iter().find(|known| known.rsplit('.').next() == Some(name));
        let best = same_name.cloned().or_else(|| {
            most_like(&plain, self.known_paths.iter().map(String::as_str)).map(str::to_owned)
        });
        best.filter(|best| *best != plain)
    }

    /// Returns where `key` was written, or its section, or the file as a whole.
    fn place(&self, key: &str) -> Place {
        let mut path = key;
        loop {
            if let Some(place) = self.places.get(path) {
                return place.clone();
            }
            match path.rsplit_once('.') {
                Some((section, _)) => path = section,
                None => return self.place_of(None),
            }
        }
    }

    fn place_of(&self, span: Option<Range<usize>>) -> Place {
        let file = self.file.clone();
        let Some(span) = span.filter(|_| !self.is_builtin) else {
            return Place { file, line: 0, column: 0 };
        };
        let before = self.text.get(..span.start).unwrap_or(&self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Place { file, line, column }
    }

    fn shown(&self, span: Option<Range<usize>>) -> String {
        let text = span.and_then(|span| self.text.get(span)).unwrap_or_default();
        shorten(text)
    }

    fn push(&mut self, key: String, place: &Place, reason: String, hint: Option<String>) {
        let Place { file, line, column } = place.clone();
        self.errors.push(ConfigError { file, line, column, key, reason, hint });
    }
}

fn default_of<T: Value>(key: &'static Key) -> T {
    #[expect(clippy::expect_used, reason = "a test reads the default of every key")]
    let value: Toml = key.default.parse().expect("default is TOML");
    #[expect(clippy::expect_used, reason = "a test reads the default of every key")]
    T::read(&value, &key.rule).expect("default fits its key")
}

/// `MINER__LISTEN` is `miner.listen`, `FEED__0__SYMBOL` is `feed[0].symbol`.
fn override_path(variable: &str) -> String {
    let mut path = String::new();
    for part in variable.split("__") {
        if part.bytes().all(|b| b.is_ascii_digit()) && !part.is_empty() {
            path = format!("{path}[{part}]");
        } else {
            path = join(&path, &part.to_lowercase());
        }
    }
    path
}

/// Texts need no quotes in the environment; all else is TOML.
fn override_value<T: Value>(text: &str) -> Option<Toml> {
    if T::IS_TEXT { Some(Toml::from(text)) } else { text.trim().parse().ok() }
}

/// `feed[0].symbol` is an entry's `feed.symbol`.
fn without_number(path: &str) -> String {
    match (path.split_once('['), path.split_once("].")) {
        (Some((head, _)), Some((_, tail))) => join(head, tail),
        _ => path.to_owned(),
    }
}

fn environment(variable: &str) -> String {
    format!("environment variable {variable}")
}

fn kind_of(item: &Item) -> &'static str {
    match item {
        Item::ArrayOfTables(_) => "a list of sections",
        Item::Table(_) => "a section",
        _ => "a value",
    }
}

fn shorten(text: &str) -> String {
    let line = text.trim().replace('\n', " ");
    if line.chars().count() <= MAX_SHOWN {
        return line;
    }
    line.chars().take(MAX_SHOWN).chain("…".chars()).collect()
}

fn most_like<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= LIKENESS)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}
