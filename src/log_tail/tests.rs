//! Tests of the tail: nothing lost and nothing twice, whatever happens to the file.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::config::LogLevel;
use crate::logging::{RotatingFile, RotationLimits};

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn poll(tail: &mut Tail) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        let before = lines.len();
        tail.poll(&mut lines).unwrap();
        if lines.len() == before {
            return lines.into_iter().map(|line| line.text).collect();
        }
    }
}

fn log() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("forecastd.log");
    (dir, path)
}

/// A small generator, so that a failure repeats.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

#[test]
fn a_thousand_rotations_lose_nothing_and_double_nothing() {
    let (_dir, path) = log();
    // Three lines a file, eight files kept: up to eight rotations between two steps.
    let limits = RotationLimits { size: 36, files: 8 };
    let mut file = RotatingFile::open(&path, limits).unwrap();
    let mut tail = Tail::from_start(&path);
    let (mut written, mut seed) = (0_u64, 1);
    let mut read = Vec::new();
    while written < 3_300 {
        for _ in 0..random(&mut seed) % 25 {
            writeln!(file, "line {written:06}").unwrap();
            written += 1;
        }
        read.extend(poll(&mut tail));
    }
    let expected: Vec<String> = (0..written).map(|number| format!("line {number:06}")).collect();
    assert_eq!(read, expected);
    assert!(written / 3 >= 1_000, "rotations");
}

#[test]
fn a_writer_that_rotates_while_the_tail_looks_loses_nothing() {
    const LINES: u64 = 6_000;
    const PER_FILE: u64 = 5;
    const FILES: u32 = 16;
    let (_dir, path) = log();
    let read = Arc::new(AtomicU64::new(0));
    let mut tail = Tail::from_start(&path);
    let writer = std::thread::spawn({
        let (path, read) = (path.clone(), Arc::clone(&read));
        move || {
            let limits = RotationLimits { size: PER_FILE * 12, files: FILES };
            let mut file = RotatingFile::open(&path, limits).unwrap();
            for number in 0..LINES {
                // Stay within the kept files, else lines are lost by design.
                while number - read.load(Ordering::SeqCst) > PER_FILE * u64::from(FILES) / 2 {
                    std::thread::yield_now();
                }
                writeln!(file, "line {number:06}").unwrap();
            }
        }
    });
    let mut lines = Vec::new();
    let mut expected = 0;
    while expected < LINES {
        lines.clear();
        tail.poll(&mut lines).unwrap();
        for line in &lines {
            assert_eq!(line.text, format!("line {expected:06}"));
            assert!(!line.is_cut);
            expected += 1;
        }
        read.store(expected, Ordering::SeqCst);
    }
    writer.join().unwrap();
    assert_eq!(poll(&mut tail), [""; 0]);
}

#[test]
fn a_partial_line_waits_for_its_end() {
    let (_dir, path) = log();
    let mut tail = Tail::from_start(&path);
    append(&path, "one\ntw");
    assert_eq!(poll(&mut tail), ["one"]);
    assert_eq!(poll(&mut tail), [""; 0]);
    append(&path, "o\nthr");
    assert_eq!(poll(&mut tail), ["two"]);
    append(&path, "ee\n");
    assert_eq!(poll(&mut tail), ["three"]);
}

#[test]
fn a_partial_last_line_of_a_rotated_file_is_handed_on_as_cut() {
    let (dir, path) = log();
    let mut tail = Tail::from_start(&path);
    append(&path, "one\ntw");
    assert_eq!(poll(&mut tail), ["one"]);
    fs::rename(&path, dir.path().join("forecastd.log.1")).unwrap();
    append(&path, "three\n");
    let mut lines = Vec::new();
    tail.poll(&mut lines).unwrap();
    assert_eq!(lines[0], Line { text: "tw".to_owned(), is_cut: true });
    assert_eq!(lines[1], Line { text: "three".to_owned(), is_cut: false });
}

#[test]
fn a_missing_file_is_waited_for_at_any_time() {
    let (dir, path) = log();
    let mut tail = Tail::from_start(&path);
    assert_eq!(poll(&mut tail), [""; 0]);
    append(&path, "one\n");
    assert_eq!(poll(&mut tail), ["one"]);
    fs::remove_file(&path).unwrap();
    assert_eq!(poll(&mut tail), [""; 0]);
    append(&path, "two\n");
    assert_eq!(poll(&mut tail), ["two"]);
    // The directory itself goes and comes back.
    let aside = dir.path().join("aside");
    fs::create_dir(&aside).unwrap();
    fs::rename(&path, aside.join("x")).unwrap();
    assert_eq!(poll(&mut tail), [""; 0]);
    append(&aside.join("x"), "late\n");
    assert_eq!(poll(&mut tail), ["late"], "the open file is read on");
}

#[test]
fn truncation_begins_the_file_anew() {
    let (_dir, path) = log();
    let mut tail = Tail::from_start(&path);
    append(&path, "one\ntwo\npart");
    assert_eq!(poll(&mut tail), ["one", "two"]);
    OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
    append(&path, "three\n");
    assert_eq!(poll(&mut tail), ["part", "three"]);
    append(&path, "four\n");
    assert_eq!(poll(&mut tail), ["four"]);
}

#[test]
fn rename_and_reopen_by_signal_finishes_the_old_file_first() {
    let (_dir, path) = log();
    let limits = RotationLimits { size: 1_000_000, files: 3 };
    let mut file = RotatingFile::open(&path, limits).unwrap();
    let mut tail = Tail::from_start(&path);
    writeln!(file, "one").unwrap();
    assert_eq!(poll(&mut tail), ["one"]);
    // As logrotate does with `create`: the new file is there before the signal arrives.
    fs::rename(&path, numbered(&path, 1)).unwrap();
    fs::write(&path, "").unwrap();
    writeln!(file, "two").unwrap();
    assert_eq!(poll(&mut tail), ["two"]);
    writeln!(file, "three").unwrap();
    file.reopen().unwrap();
    writeln!(file, "four").unwrap();
    assert_eq!(poll(&mut tail), ["three", "four"]);
}

#[test]
fn rotated_files_from_before_are_not_read_by_a_start_at_the_file() {
    let (_dir, path) = log();
    append(&numbered(&path, 2), "older\n");
    append(&numbered(&path, 1), "old\n");
    append(&path, "one\n");
    let mut tail = Tail::from_start(&path);
    assert_eq!(poll(&mut tail), ["one"]);
    // Removed by hand: the files before it stay unread, although the one that was read is gone.
    fs::remove_file(&path).unwrap();
    append(&path, "two\n");
    assert_eq!(poll(&mut tail), ["two"]);
}

#[test]
fn long_lines_are_cut_and_memory_stays_bounded() {
    let (_dir, path) = log();
    let mut tail = Tail::from_start(&path);
    let long = "ä".repeat(POLL_BYTES);
    append(&path, &format!("short\n{long}\nafter\n"));
    let mut lines = Vec::new();
    for _ in 0..10 {
        tail.poll(&mut lines).unwrap();
        assert!(tail.current.as_ref().unwrap().partial.len() <= MAX_LINE);
    }
    assert_eq!(lines.len(), 3);
    assert_eq!((lines[1].text.len(), lines[1].is_cut), (MAX_LINE, true));
    assert_eq!(lines[2], Line { text: "after".to_owned(), is_cut: false });
    // A line of exactly the greatest length is whole.
    append(&path, &format!("{}\n", "x".repeat(MAX_LINE)));
    lines.clear();
    tail.poll(&mut lines).unwrap();
    assert_eq!((lines[0].text.len(), lines[0].is_cut), (MAX_LINE, false));
}

#[test]
fn bytes_that_are_no_text_are_replaced() {
    let (_dir, path) = log();
    fs::write(&path, b"a\xff\n\n").unwrap();
    assert_eq!(poll(&mut Tail::from_start(&path)), ["a\u{fffd}", ""]);
}

#[test]
fn the_last_lines_come_from_as_many_files_as_needed() {
    let (_dir, path) = log();
    append(&numbered(&path, 2), "1\n2\n3\n");
    append(&numbered(&path, 1), "4\n5\n");
    append(&path, "6\n7\npart");
    let all = LineFilter::default();
    for (count, expected) in [
        (0, vec![]),
        (1, vec!["7"]),
        (2, vec!["6", "7"]),
        (3, vec!["5", "6", "7"]),
        (6, vec!["2", "3", "4", "5", "6", "7"]),
        (100, vec!["1", "2", "3", "4", "5", "6", "7"]),
    ] {
        let mut tail = Tail::from_end(&path, count, &all).unwrap();
        assert_eq!(poll(&mut tail), expected, "{count}");
    }
    let mut tail = Tail::from_end(&path, 2, &all).unwrap();
    assert_eq!(poll(&mut tail), ["6", "7"]);
    append(&path, "ial\n8\n");
    assert_eq!(poll(&mut tail), ["partial", "8"]);
    fs::rename(&path, numbered(&path, 1)).unwrap();
    append(&path, "9\n");
    assert_eq!(poll(&mut tail), ["9"]);

    let mut tail = Tail::from_end(&path.with_file_name("none"), 5, &all).unwrap();
    assert_eq!(poll(&mut tail), [""; 0]);
}

#[test]
fn reading_backwards_agrees_with_reading_forwards() {
    let mut seed = 5;
    for round in 0..40_u64 {
        let (_dir, path) = log();
        let mut expected = Vec::new();
        let mut text = String::new();
        for number in 0..random(&mut seed) % 60 {
            // Lines across blocks, empty lines, lines beyond the limit.
            let length = match random(&mut seed) % 8 {
                0 => 0,
                1 => BLOCK as u64 - random(&mut seed) % 3,
                2 => MAX_LINE as u64 + random(&mut seed) % 9,
                _ => random(&mut seed) % 200,
            };
            let line: String = std::iter::repeat_n('x', usize::try_from(length).unwrap()).collect();
            let line = format!("{number}{line}");
            text.push_str(&line);
            text.push('\n');
            expected.push(line.get(..MAX_LINE).unwrap_or(&line).to_owned());
        }
        fs::write(&path, &text).unwrap();
        let count = usize::try_from(random(&mut seed) % 70).unwrap();
        let mut tail = Tail::from_end(&path, count, &LineFilter::default()).unwrap();
        let start = expected.len().saturating_sub(count);
        assert_eq!(poll(&mut tail), expected[start..], "round {round}, {count} lines");
    }
}

#[test]
fn the_last_lines_are_counted_after_the_filter() {
    let (_dir, path) = log();
    let line = |level: &str, actor: &str, number: u32| {
        format!(
            "{{\"ts\":\"x\",\"level\":\"{level}\",\"actor\":\"{actor}\",\"event\":\"{number}\"}}\n"
        )
    };
    for number in 0..1_000 {
        append(&path, &line(if number % 100 == 0 { "warn" } else { "info" }, "feed", number));
    }
    append(&path, &line("error", "query", 1_000));
    append(&path, "not json\n");
    let filter = LineFilter { level: Some(LogLevel::Warn), actor: Some("feed".to_owned()) };
    let mut tail = Tail::from_end(&path, 2, &filter).unwrap();
    let mut shown = Vec::new();
    show(&mut tail, &filter, |line| {
        shown.push(line.text.clone());
        Ok(())
    })
    .unwrap();
    assert_eq!(shown.len(), 2);
    assert!(shown[0].contains("\"800\"") && shown[1].contains("\"900\""), "{shown:?}");
}

#[test]
fn the_filter_knows_levels_actors_and_lines_that_are_no_json() {
    let line = r#"{"ts":"t","level":"warn","actor":"feed","event":"a \"quoted\" text"}"#;
    let filter = |level: Option<LogLevel>, actor: Option<&str>| LineFilter {
        level,
        actor: actor.map(str::to_owned),
    };
    for (level, actor, expected) in [
        (None, None, true),
        (Some(LogLevel::Error), None, false),
        (Some(LogLevel::Warn), None, true),
        (Some(LogLevel::Trace), None, true),
        (None, Some("feed"), true),
        (None, Some("query"), false),
        (Some(LogLevel::Info), Some("query"), false),
    ] {
        assert_eq!(filter(level, actor).admits(line), expected, "{level:?} {actor:?}");
    }
    assert!(filter(None, None).admits("plain text"));
    assert!(!filter(Some(LogLevel::Trace), None).admits("plain text"));
    assert!(!filter(Some(LogLevel::Trace), None).admits(r#"{"level":"odd"}"#));
    assert!(!filter(None, Some("x")).admits("{}"));
}

#[test]
fn following_hands_on_new_lines_until_it_is_stopped() {
    let (_dir, path) = log();
    append(&path, "one\n");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let mut stop = Some(stop);
    let mut seen = Vec::new();
    let mut tail = Tail::from_end(&path, 10, &LineFilter::default()).unwrap();
    let emit = |line: &Line| {
        seen.push(line.text.clone());
        match seen.len() {
            1 => append(&path, "two\n"),
            2 => {
                fs::rename(&path, numbered(&path, 1)).unwrap();
                append(&path, "three\n");
            }
            _ => drop(stop.take().map(|stop| stop.send(()))),
        }
        Ok(())
    };
    let until = async { stopped.await.unwrap() };
    runtime.block_on(follow(&mut tail, &LineFilter::default(), emit, until)).unwrap();
    assert_eq!(seen, ["one", "two", "three"]);
}
