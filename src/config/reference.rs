//! The commented text of a configuration: `config.toml` is this text of the defaults.

use std::fmt::Write as _;

use super::Config;
use super::section::{Entry, Key, PartText, Section, join};

/// Width of comment lines, characters.
const WIDTH: usize = 100;

/// The head of the file.
const HEAD: &str = "\
forecastd: configuration with every key, its default, range and reload class.

As it stands it describes the embedded network (`forecastd dev`). A key that is left out has its \
default. Durations are written `500ms`, `30s`, `1h30m`, sizes `64MiB`; an empty text means \
\"not set\"; a relative path starts at the working directory. Any key can be overridden by an environment variable: `validator.query_timeout` by \
FORECASTD__VALIDATOR__QUERY_TIMEOUT, the symbol of the first feed by FORECASTD__FEED__0__SYMBOL.

Reload classes. live: applied as soon as the file is saved. part: the named actor restarts, the \
rest runs on. start: takes effect with SIGHUP or a new process; until then the old value stays in \
force and the daemon says so. A file with a fault changes nothing.

Durations count real time unless they say market time, which is the same outside of the embedded \
network.";

/// Returns the configuration as a commented file; secrets are redacted.
pub(super) fn reference(config: &Config) -> String {
    let mut text = String::new();
    comment(HEAD, &mut text);
    config.visit_parts(&mut |name, part| part.write(name, &mut text));
    text
}

impl<S: Section> PartText for S {
    fn write(&self, path: &str, text: &mut String) {
        text.push('\n');
        comment(S::DOC.trim(), text);
        push_line(text, format_args!("[{path}]"));
        write_keys(self, text);
        self.visit_parts(&mut |name, part| part.write(&join(path, name), text));
    }
}

impl<E: Entry> PartText for Vec<E> {
    /// The first entry explains every key, the others show only what they set.
    fn write(&self, path: &str, text: &mut String) {
        for (index, entry) in self.iter().enumerate() {
            text.push('\n');
            if index == 0 {
                comment(E::DOC.trim(), text);
            }
            push_line(text, format_args!("[[{path}]]"));
            if index == 0 {
                write_keys(entry, text);
                continue;
            }
            for (key, literal) in entry.literals() {
                if key.is_required || literal != key.default_text() {
                    push_line(text, format_args!("{} = {literal}", key.name));
                }
            }
        }
    }
}

fn write_keys<S: Section>(section: &S, text: &mut String) {
    for (index, (key, literal)) in section.literals().into_iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        comment(key.doc.trim(), text);
        comment(&facts(key), text);
        push_line(text, format_args!("{} = {literal}", key.name));
    }
}

/// Returns allowed values, unit, default and reload class in one sentence each.
fn facts(key: &Key) -> String {
    let mut allowed = key.allowed();
    if let Some(first) = allowed.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    let unit = if key.unit.is_empty() { String::new() } else { format!(" ({})", key.unit) };
    let need = if key.is_required {
        "Must be given".to_owned()
    } else {
        format!("Default {}", key.default_text())
    };
    format!("{allowed}{unit}. {need}. Reload: {}.", key.class)
}

fn comment(paragraphs: &str, text: &mut String) {
    for paragraph in paragraphs.split('\n') {
        let mut line = String::from("#");
        for word in paragraph.split_whitespace() {
            if line.chars().count() + 1 + word.chars().count() > WIDTH {
                push_line(text, format_args!("{line}"));
                line = String::from("#");
            }
            line.push(' ');
            line.push_str(word);
        }
        push_line(text, format_args!("{line}"));
    }
}

fn push_line(text: &mut String, line: std::fmt::Arguments<'_>) {
    #[expect(clippy::expect_used, reason = "writing to a String cannot fail")]
    writeln!(text, "{line}").expect("String");
}
