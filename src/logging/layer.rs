//! The layer that turns events into lines and hands them to the sinks.

use std::collections::HashMap;
use std::fmt;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use forecastd_core::Clock;
use serde_json::{Map, Value};
use tracing::callsite::Identifier;
use tracing::span::{Attributes, Id, Record as SpanRecord};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::{LookupSpan, Scope};

use super::line::{Fields, Record, human};

/// Warnings and errors that one place of the code may write in a window before it is held back.
pub const BURST: u32 = 20;

/// Length of that window, ms.
pub const WINDOW_MS: i64 = 10_000;

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One JSON object a line.
    Json,
    /// Text for people.
    Human {
        /// Whether levels are coloured.
        has_colour: bool,
    },
}

/// Where lines go.
pub struct Sink {
    shape: Shape,
    writer: Mutex<Box<dyn Write + Send>>,
}

impl Sink {
    /// Makes a sink; each line is one `write_all`.
    pub fn new(shape: Shape, writer: Box<dyn Write + Send>) -> Self {
        Self { shape, writer: Mutex::new(writer) }
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sink({:?})", self.shape)
    }
}

/// What one place of the code wrote lately.
#[derive(Debug)]
struct Site {
    since_ms: i64,
    written: u32,
    held_back: u64,
    level: Level,
    actor: String,
    event: String,
}

#[derive(Debug)]
struct Shared {
    sinks: Vec<Sink>,
    clock: Arc<dyn Clock>,
    sites: Mutex<HashMap<Identifier, Site>>,
    write_errors: AtomicU64,
}

/// The layer, see the module; clones share their sinks.
#[derive(Debug, Clone)]
pub struct LogLayer(Arc<Shared>);

impl LogLayer {
    /// Makes a layer that stamps lines with `clock`, which shows real time.
    pub fn new(sinks: Vec<Sink>, clock: Arc<dyn Clock>) -> Self {
        let (sites, write_errors) = (Mutex::default(), AtomicU64::new(0));
        Self(Arc::new(Shared { sinks, clock, sites, write_errors }))
    }

    /// Writes one line for each place that still holds lines back.
    pub fn flush(&self) {
        let at_ms = self.0.clock.now_ms();
        let mut due = Vec::new();
        #[expect(clippy::iter_over_hash_type, reason = "the lines are sorted below")]
        for site in locked(&self.0.sites).values_mut() {
            let held_back = std::mem::take(&mut site.held_back);
            if held_back > 0 {
                let fields = Map::from_iter([("repeated".to_owned(), Value::from(held_back))]);
                due.push(Record {
                    at_ms,
                    level: site.level,
                    actor: site.actor.clone(),
                    event: site.event.clone(),
                    message: None,
                    fields,
                });
            }
        }
        due.sort_by(|a, b| (&a.actor, &a.event).cmp(&(&b.actor, &b.event)));
        for record in &due {
            self.write(record);
        }
    }

    /// Returns how often writing a line or rotating a file failed.
    pub fn write_errors(&self) -> u64 {
        self.0.write_errors.load(Ordering::Relaxed)
    }

    fn write(&self, record: &Record) {
        let json = record.json();
        for sink in &self.0.sinks {
            let mut line = match sink.shape {
                Shape::Json => json.clone(),
                Shape::Human { has_colour } => human(&json, has_colour),
            };
            line.push('\n');
            // A log that cannot be written must not stop the daemon; the count shows in status.
            if locked(&sink.writer).write_all(line.as_bytes()).is_err() {
                self.0.write_errors.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Returns how many earlier lines were held back, or `None` when this one is held back too.
    fn admit(&self, site: &Metadata<'_>, record: &Record) -> Option<u64> {
        if record.level > Level::WARN {
            return Some(0);
        }
        let mut sites = locked(&self.0.sites);
        let site = sites.entry(site.callsite()).or_insert_with(|| Site {
            since_ms: record.at_ms,
            written: 0,
            held_back: 0,
            level: record.level,
            actor: record.actor.clone(),
            event: record.event.clone(),
        });
        // A clock that was set back opens a new window too.
        if !(0..WINDOW_MS).contains(&(record.at_ms - site.since_ms)) {
            site.since_ms = record.at_ms;
            site.written = 0;
        }
        if site.written >= BURST {
            site.held_back += 1;
            return None;
        }
        site.written += 1;
        Some(std::mem::take(&mut site.held_back))
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for LogLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        span.extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &Id, values: &SpanRecord<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        let mut own = Fields::default();
        event.record(&mut own);
        let message = own.take_text("message").unwrap_or_default();
        let named = own.take_text("event");
        let mut fields = Map::new();
        for span in context.event_scope(event).into_iter().flat_map(Scope::from_root) {
            if let Some(of_span) = span.extensions().get::<Fields>() {
                fields.extend(of_span.0.clone());
            }
        }
        fields.extend(own.0);
        let mut all = Fields(fields);
        let actor = all.take_text("actor").unwrap_or_else(|| module(metadata.target()));
        let (event, message) = match named {
            Some(named) => (named, Some(message).filter(|text| !text.is_empty())),
            None => (message, None),
        };
        let level = *metadata.level();
        let at_ms = self.0.clock.now_ms();
        let mut record = Record { at_ms, level, actor, event, message, fields: all.0 };
        if let Some(held_back) = self.admit(metadata, &record) {
            if held_back > 0 {
                record.fields.insert("repeated".to_owned(), Value::from(held_back));
            }
            self.write(&record);
        }
    }
}

/// The last part of a module path: `forecastd_actors::feed` is `feed`.
fn module(target: &str) -> String {
    target.rsplit("::").next().unwrap_or(target).to_owned()
}

/// A panic of another thread inside the log must not end the log.
fn locked<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
