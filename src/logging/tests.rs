//! Tests of lines, rate limit, reload of the level and rotation.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

use forecastd_core::ManualClock;
use serde_json::Value;
use tracing::{debug, error, info, info_span, warn};

use super::*;

/// A writer that tests read.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Memory {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    fn lines(&self) -> Vec<Value> {
        self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// 2025-01-02T03:04:05.678Z.
const AT_MS: i64 = 1_735_787_045_678;

fn logged(shape: Shape, act: impl FnOnce(&ManualClock, &LogLayer)) -> Memory {
    let memory = Memory::default();
    let clock = Arc::new(ManualClock::new(AT_MS));
    let sinks = vec![Sink::new(shape, Box::new(memory.clone()))];
    let layer = LogLayer::new(sinks, Arc::clone(&clock) as Arc<dyn Clock>);
    let subscriber = tracing_subscriber::registry().with(layer.clone());
    tracing::subscriber::with_default(subscriber, || act(&clock, &layer));
    memory
}

#[test]
fn a_line_has_stamp_level_actor_event_and_the_fields_of_its_spans() {
    let memory = logged(Shape::Json, |_, _| {
        let _round = info_span!("round", round = "r-1", actor = "query").entered();
        let _hotkey = info_span!("hotkey", hotkey = tracing::field::Empty).entered();
        tracing::Span::current().record("hotkey", "5Grwva…utQY");
        warn!(elapsed_ms = 12, ratio = f64::NAN, is_late = true, "reveal refused");
    });
    insta::assert_snapshot!(memory.text(), @r#"{"ts":"2025-01-02T03:04:05.678Z","level":"warn","actor":"query","event":"reveal refused","round":"r-1","hotkey":"5Grwva…utQY","elapsed_ms":12,"ratio":"NaN","is_late":true}"#);
}

#[test]
fn the_actor_is_the_module_unless_it_is_named_and_an_event_can_have_a_name() {
    let memory = logged(Shape::Json, |_, _| {
        info!(target: "forecastd_actors::feed", "connected");
        info!(actor = "weights", event = "weights_set", block = 7_u64, "weights are on the chain");
    });
    let lines = memory.lines();
    assert_eq!((&lines[0]["actor"], &lines[0]["event"]), (&"feed".into(), &"connected".into()));
    assert_eq!(lines[1]["actor"], "weights");
    assert_eq!(lines[1]["event"], "weights_set");
    assert_eq!(lines[1]["message"], "weights are on the chain");
    assert_eq!(lines[1]["block"], 7);
}

#[test]
fn fields_cannot_replace_stamp_and_level_and_line_breaks_stay_inside() {
    let memory = logged(Shape::Json, |_, _| {
        info!(level = "fake", ts = "fake", text = "a\n{\"level\":\"error\"}", "x");
    });
    let lines = memory.lines();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["level"], "info");
    assert_eq!(lines[0]["ts"], "2025-01-02T03:04:05.678Z");
    assert_eq!(lines[0]["text"], "a\n{\"level\":\"error\"}");
}

#[test]
fn people_see_one_line_without_control_characters() {
    let memory = logged(Shape::Human { has_colour: false }, |_, _| {
        warn!(hotkey = "5Grw", text = "\x1b[2Jcleared\nfake line", "reveal refused");
    });
    insta::assert_snapshot!(
        memory.text(),
        @r"2025-01-02T03:04:05.678Z WARN  tests        reveal refused hotkey=5Grw text=\u{1b}[2Jcleared\nfake line"
    );
    assert_eq!(human("not json \x07", false), r"not json \u{7}");
    assert!(human(r#"{"level":"error","event":"e"}"#, true).contains("\x1b[31mERROR"));
}

#[test]
fn long_values_are_cut_at_a_character() {
    let memory = logged(Shape::Json, |_, _| info!(text = "ä".repeat(100_000), "x"));
    let lines = memory.lines();
    let text = lines[0]["text"].as_str().unwrap();
    assert!(text.len() < MAX_TEXT + 40 && text.ends_with("… (200000 bytes)"), "{}", text.len());
}

#[test]
fn repeated_warnings_are_held_back_and_counted() {
    let memory = logged(Shape::Json, |clock, layer| {
        let noisy = |number: u32| warn!(number, "again");
        for number in 0..BURST + 5 {
            noisy(number);
        }
        // Another place and lesser levels are not touched.
        error!("other");
        for _ in 0..BURST + 5 {
            info!("step");
        }
        clock.advance(WINDOW_MS);
        noisy(99);
        for _ in 0..BURST {
            noisy(100);
        }
        layer.flush();
        layer.flush();
    });
    let lines = memory.lines();
    let count = |event: &str| lines.iter().filter(|line| line["event"] == event).count();
    assert_eq!(count("other"), 1);
    assert_eq!(count("step"), BURST as usize + 5);
    let again: Vec<&Value> = lines.iter().filter(|line| line["event"] == "again").collect();
    assert_eq!(again.len(), 2 * BURST as usize + 1);
    assert_eq!(again[BURST as usize]["repeated"], 5);
    assert_eq!(again.last().unwrap()["repeated"], 1, "what flush tells");
}

#[test]
fn a_broken_sink_is_counted_and_the_others_go_on() {
    struct Broken;
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::other("disk full"))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let memory = Memory::default();
    let sinks = vec![
        Sink::new(Shape::Json, Box::new(Broken)),
        Sink::new(Shape::Json, Box::new(memory.clone())),
    ];
    let layer = LogLayer::new(sinks, Arc::new(ManualClock::new(0)));
    let subscriber = tracing_subscriber::registry().with(layer.clone());
    tracing::subscriber::with_default(subscriber, || info!("x"));
    assert_eq!(layer.write_errors(), 1);
    assert_eq!(memory.lines().len(), 1);
}

#[test]
fn the_level_changes_while_the_log_is_in_use_and_noisy_crates_stay_quiet() {
    let memory = Memory::default();
    let sinks = vec![Sink::new(Shape::Json, Box::new(memory.clone()))];
    let layer = LogLayer::new(sinks, Arc::new(ManualClock::new(0)));
    let (filter, handle) = reload::Layer::new(targets(LogLevel::Info));
    let subscriber = tracing_subscriber::registry().with(layer.clone().with_filter(filter));
    let handle = LogHandle { filter: handle, layer, file: None };
    tracing::subscriber::with_default(subscriber, || {
        let step = || debug!("detail");
        step();
        handle.apply(&LogConfig { level: LogLevel::Debug, ..LogConfig::default() });
        step();
        info!(target: "sled::pagecache", "chatter");
        warn!(target: "sled::pagecache", "trouble");
        handle.apply(&LogConfig { level: LogLevel::Error, ..LogConfig::default() });
        warn!(target: "sled", "hidden");
        step();
    });
    let events: Vec<Value> = memory.lines().iter().map(|line| line["event"].clone()).collect();
    assert_eq!(events, ["detail", "trouble"]);
}

/// Set in the child process of the test below: the directory of its log.
const CHILD: &str = "FORECASTD_TEST_LOG_DIR";

#[test]
fn the_log_of_the_process_goes_to_its_file_with_panics_and_can_be_set_up_once() {
    // Log and panic hook belong to the whole process: the other tests must not share them.
    if let Some(dir) = std::env::var_os(CHILD) {
        return use_the_log_of_the_process(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let name = "the_log_of_the_process_goes_to_its_file_with_panics_and_can_be_set_up_once";
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("logging::tests::{name}"), "--nocapture"])
        .env(CHILD, dir.path())
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
    let lines = file_lines(&dir.path().join("log/forecastd.log"));
    let lines: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!((&lines[0]["actor"], &lines[0]["event"]), (&"test".into(), &"first".into()));
    let panic = &lines[1];
    assert_eq!((&panic["level"], &panic["thread"]), (&"error".into(), &"doomed".into()));
    assert_eq!(panic["reason"], "on purpose\nsecond line");
    assert!(panic["location"].as_str().unwrap().contains("tests.rs:"), "{panic}");
    let console = String::from_utf8(child.stderr).unwrap();
    assert!(console.lines().any(|line| line.contains(r#""event":"first""#)), "{console}");
}

fn use_the_log_of_the_process(dir: &Path) {
    let mut config = Config::default();
    config.store.path = dir.to_owned();
    config.log.format = LogFormat::Json;
    let log = init(&config, Arc::new(ManualClock::new(AT_MS))).unwrap();
    info!(actor = "test", "first");
    let doomed = std::thread::Builder::new().name("doomed".to_owned());
    assert!(doomed.spawn(|| panic!("on purpose\nsecond line")).unwrap().join().is_err());
    assert!(matches!(init(&config, Arc::new(ManualClock::new(0))), Err(LogError::Twice)));
    log.reopen().unwrap();
    log.flush();
    assert_eq!(log.write_errors(), 0);
}

fn file_lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[test]
fn files_rotate_by_size_and_their_total_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/forecastd.log");
    let limits = RotationLimits { size: 100, files: 3 };
    let mut file = RotatingFile::open(&path, limits).unwrap();
    for number in 0..100 {
        file.write_all(format!("line {number:04}\n").as_bytes()).unwrap();
    }
    let mut names: Vec<String> = fs::read_dir(path.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let expected = ["forecastd.log", "forecastd.log.1", "forecastd.log.2", "forecastd.log.3"];
    assert_eq!(names, expected);
    let mut kept = Vec::new();
    for name in expected.iter().rev() {
        let lines = file_lines(&path.with_file_name(name));
        assert!(lines.len() <= 10);
        kept.extend(lines);
    }
    let newest: Vec<String> = (60..100).map(|number| format!("line {number:04}")).collect();
    assert_eq!(kept, newest);

    file.set_limits(RotationLimits { size: 100, files: 1 });
    file.write_all(b"one more\n").unwrap();
    assert!(!path.with_file_name("forecastd.log.2").exists());
    assert!(!path.with_file_name("forecastd.log.3").exists());
}

#[test]
fn a_file_renamed_from_outside_is_used_until_it_is_reopened() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("forecastd.log");
    let limits = RotationLimits { size: 1_000, files: 2 };
    let mut file = RotatingFile::open(&path, limits).unwrap();
    file.write_all(b"a\n").unwrap();
    let moved = dir.path().join("archive");
    fs::rename(&path, &moved).unwrap();
    file.write_all(b"b\n").unwrap();
    file.reopen().unwrap();
    file.write_all(b"c\n").unwrap();
    assert_eq!(file_lines(&moved), ["a", "b"]);
    assert_eq!(file_lines(&path), ["c"]);
    // A second process start appends.
    let mut again = RotatingFile::open(&path, limits).unwrap();
    again.write_all(b"d\n").unwrap();
    assert_eq!(file_lines(&path), ["c", "d"]);
}

#[test]
fn a_rotation_that_fails_keeps_the_lines() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("forecastd.log");
    let mut file = RotatingFile::open(&path, RotationLimits { size: 4, files: 1 }).unwrap();
    // A directory in the way of the rename.
    fs::create_dir_all(dir.path().join("forecastd.log.1/x")).unwrap();
    file.write_all(b"abc\n").unwrap();
    assert!(file.write_all(b"def\n").is_err());
    assert_eq!(file_lines(&path), ["abc", "def"]);
    fs::remove_dir_all(dir.path().join("forecastd.log.1")).unwrap();
    file.write_all(b"ghi\n").unwrap();
    assert_eq!(file_lines(&path), ["ghi"]);
}
