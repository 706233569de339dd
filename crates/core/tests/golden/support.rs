//! Reading of the recorded cases and comparison with a tolerance.

use std::path::{Path, PathBuf};

use forecastd_core::Hotkey;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// What a case gives: nothing, or what is wrong.
pub type CaseResult = Result<(), String>;

/// Runs a case of a file; `None` when the file is unknown.
pub type Runner = fn(file: &str, case: &Value) -> Option<CaseResult>;

/// Failures that are shown in full.
const SHOWN: usize = 12;

pub fn root() -> PathBuf {
    std::env::var_os("FORECASTD_VECTORS").map_or_else(
        || Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors")).to_path_buf(),
        PathBuf::from,
    )
}

pub fn read(path: &Path) -> Value {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Runs every case of every JSON file of a group.
pub fn run_group(group: &str, run: Runner) {
    let folder = root().join(group);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    let mut failures = Vec::new();
    let mut total = 0;
    for path in files {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        assert_eq!(path.extension().and_then(|e| e.to_str()), Some("json"), "{}", path.display());
        total += run_document(&name, &read(&path), run, &mut failures);
    }
    finish(group, total, &failures);
}

/// Runs every case of one JSON file at the root.
pub fn run_file(name: &str, run: Runner) {
    let mut failures = Vec::new();
    let document = read(&root().join(name));
    let total = run_document(name.trim_end_matches(".json"), &document, run, &mut failures);
    finish(name, total, &failures);
}

fn run_document(name: &str, document: &Value, run: Runner, failures: &mut Vec<String>) -> usize {
    let Some(cases) = document.get("cases").and_then(Value::as_array) else {
        // A document of constants is one case.
        collect(name, name, run(name, document), failures);
        return 1;
    };
    assert!(!cases.is_empty(), "{name} has no cases");
    if let Some(count) = document.get("case_count").and_then(Value::as_u64) {
        assert_eq!(count, cases.len() as u64, "{name}: case_count");
    }
    let before = failures.len();
    for (index, case) in cases.iter().enumerate() {
        let id = ["id", "case", "file"].iter().find_map(|key| case.get(key)?.as_str());
        let id = id.map_or_else(|| format!("{name} #{index}"), ToOwned::to_owned);
        collect(name, &id, run(name, case), failures);
    }
    println!("{name}: {} of {} cases pass", cases.len() - (failures.len() - before), cases.len());
    cases.len()
}

fn collect(name: &str, id: &str, result: Option<CaseResult>, failures: &mut Vec<String>) {
    match result {
        None => panic!("unknown file or function `{name}`, write a runner for it"),
        Some(Err(problem)) => failures.push(format!("{id}: {problem}")),
        Some(Ok(())) => {}
    }
}

fn finish(group: &str, total: usize, failures: &[String]) {
    println!("{group}: {} of {total} cases pass", total - failures.len());
    let shown: Vec<&str> = failures.iter().take(SHOWN).map(String::as_str).collect();
    assert!(failures.is_empty(), "{} of {total} fail:\n{}", failures.len(), shown.join("\n"));
}

/// Reads a number; NaN and infinities are texts.
pub fn num(value: &Value) -> f64 {
    match value {
        Value::Number(number) => number.as_f64().unwrap(),
        Value::String(text) => match text.as_str() {
            "NaN" => f64::NAN,
            "Infinity" => f64::INFINITY,
            "-Infinity" => f64::NEG_INFINITY,
            other => panic!("`{other}` is not a number"),
        },
        other => panic!("{other} is not a number"),
    }
}

pub fn nums(value: &Value) -> Vec<f64> {
    list(value).iter().map(num).collect()
}

pub fn singles(value: &Value) -> Vec<f32> {
    nums(value).into_iter().map(forecastd_core::numeric::to_f32).collect()
}

pub fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("{value} is not a list"))
}

pub fn int(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| panic!("{value} is not a whole number"))
}

pub fn size(value: &Value) -> usize {
    usize::try_from(int(value)).unwrap()
}

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is not a text"))
}

/// Entries of an object in their order.
pub fn entries(value: &Value) -> Vec<(&str, &Value)> {
    let object = value.as_object().unwrap_or_else(|| panic!("{value} is not an object"));
    object.iter().map(|(key, value)| (key.as_str(), value)).collect()
}

/// An object of numbers in its order.
pub fn numbers_by_key(value: &Value) -> Vec<(String, f64)> {
    entries(value).into_iter().map(|(key, value)| (key.to_owned(), num(value))).collect()
}

/// A list of pairs of text and number.
pub fn pairs(value: &Value) -> Vec<(String, f64)> {
    list(value).iter().map(|pair| (text(&pair[0]).to_owned(), num(&pair[1]))).collect()
}

/// The recorded hotkeys are texts without a checksum: each stands for a key made from it.
pub fn key(text: &str) -> Hotkey {
    Hotkey::from_bytes(Sha256::digest(text.as_bytes()).into())
}

/// Equal doubles; NaN equals NaN.
#[expect(clippy::float_cmp, reason = "the point of the comparison")]
pub fn is_same(got: f64, want: f64) -> bool {
    got == want || (got.is_nan() && want.is_nan())
}

/// Equal, or not further apart than `relative` times the expected size plus `absolute`.
pub fn is_near(got: f64, want: f64, relative: f64, absolute: f64) -> bool {
    is_same(got, want) || (got - want).abs() <= want.abs() * relative + absolute
}

pub fn same(what: &str, got: f64, want: f64) -> CaseResult {
    near(what, got, want, 0.0, 0.0)
}

pub fn near(what: &str, got: f64, want: f64, relative: f64, absolute: f64) -> CaseResult {
    if is_near(got, want, relative, absolute) {
        Ok(())
    } else {
        Err(format!("{what} is {got:?}, expected {want:?}"))
    }
}

pub fn all_near(what: &str, got: &[f64], want: &[f64], relative: f64, absolute: f64) -> CaseResult {
    equal(&format!("length of {what}"), &got.len(), &want.len())?;
    for (index, (got, want)) in got.iter().zip(want).enumerate() {
        near(&format!("{what}[{index}]"), *got, *want, relative, absolute)?;
    }
    Ok(())
}

pub fn all_same(what: &str, got: &[f64], want: &[f64]) -> CaseResult {
    all_near(what, got, want, 0.0, 0.0)
}

/// Same keys in the same order, values near.
pub fn table_near(
    what: &str,
    got: &[(String, f64)],
    want: &[(String, f64)],
    relative: f64,
) -> CaseResult {
    let keys = |table: &[(String, f64)]| table.iter().map(|row| row.0.clone()).collect::<Vec<_>>();
    equal(&format!("order of {what}"), &keys(got), &keys(want))?;
    for (got, want) in got.iter().zip(want) {
        near(&format!("{what} of {}", want.0), got.1, want.1, relative, 0.0)?;
    }
    Ok(())
}

pub fn equal<T: PartialEq + std::fmt::Debug>(what: &str, got: &T, want: &T) -> CaseResult {
    if got == want { Ok(()) } else { Err(format!("{what} is {got:?}, expected {want:?}")) }
}

/// Compares the class of an error with the recorded one, or hands the value on when none is
/// recorded.
pub fn outcome<T: std::fmt::Debug>(
    case: &Value,
    got: Result<T, forecastd_core::seed::SeedError>,
) -> Result<Option<T>, String> {
    match (case.get("error").and_then(Value::as_str), got) {
        (None, Ok(value)) => Ok(Some(value)),
        (Some(class), Err(error)) if error.class() == class => Ok(None),
        (want, got) => Err(format!("result is {got:?}, expected error {want:?}")),
    }
}
