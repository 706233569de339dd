//! Files that are damaged, cut off, or made to do harm.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers may panic")]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use forecastd_core::{Candle, Interval};
use forecastd_history::{
    CandleFile, CandleWriter, HistoryError, MAX_LINE_BYTES, Place, read_candles,
};
use proptest::prelude::*;
use tempfile::TempDir;

const FIVE: Interval = Interval::FIVE_MINUTES;
const GOOD: &str = "open_time_ms,open,high,low,close,volume\n0,1,2,0.5,1.5,3\n300000,1,1,1,1,0\n";

fn read_bytes(bytes: &[u8]) -> Result<Vec<Candle>, HistoryError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    read_candles(file.path(), FIVE)
}

fn refused(text: &str) -> String {
    let error = anyhow_like(&read_bytes(text.as_bytes()).unwrap_err());
    assert!(error.len() < 400, "the message is as long as the file: {error}");
    error
}

fn anyhow_like(error: &HistoryError) -> String {
    use std::error::Error as _;
    let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
    format!("{error}{source}")
}

/// The first thousand candles of the embedded recording in a file of this kind.
fn sample(ending: &str) -> (TempDir, PathBuf) {
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/btcusd-5m.csv.gz");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(format!("a.{ending}"));
    let mut writer = CandleWriter::create(&path).unwrap();
    for candle in CandleFile::open(&recorded).unwrap().take(1_000) {
        writer.push(&candle.unwrap().candle).unwrap();
    }
    writer.finish().unwrap();
    (folder, path)
}

#[test]
fn each_damage_is_named_with_its_line_and_column() {
    for (from, to, line, word) in [
        ("open_time_ms,open", "x,open", 1, "time of opening"),
        (",volume", "", 1, "volume"),
        ("300000,1,1,1,1,0", "300001,1,1,1,1,0", 3, "grid"),
        ("300000,1,1,1,1,0", "0,1,1,1,1,0", 3, "twice"),
        ("0,1,2,0.5,1.5,3", "600000,1,2,0.5,1.5,3", 3, "comes after"),
        ("300000,1,1,1,1,0", "300000,1,1,1,1", 3, "5 fields, the header has 6"),
        ("300000,1,1,1,1,0", "300000,1,1,1,1,0,7", 3, "7 fields"),
        ("300000,1,1,1,1,0", "300000,\"1,1,1,1,0", 3, "fields"),
        ("300000,1,1,1,1,0", "300000,1,1,1,x,0", 3, "column `close`: is `x`"),
        ("300000,1,1,1,1,0", "300000,1,1,1,,0", 3, "column `close`"),
        ("300000,1,1,1,1,0", "300000,1,1,1,NaN,0", 3, "finite"),
        ("300000,1,1,1,1,0", "300000,1,inf,1,1,0", 3, "finite"),
        ("300000,1,1,1,1,0", "300000,1e16,1e16,1e16,1e16,0", 3, "above 1e15"),
        ("300000,1,1,1,1,0", "2024-01-01,1,1,1,1,0", 3, "column `open_time_ms`"),
        ("0,1,2,0.5,1.5,3", "-300000,1,2,0.5,1.5,3", 2, "1970"),
        ("0,1,2,0.5,1.5,3", "9300000000000000000,1,2,0.5,1.5,3", 2, "column `open_time_ms`"),
        ("0,1,2,0.5,1.5,3", "0,1,2,1.5,1.5,3", 2, "low..high"),
        ("0,1,2,0.5,1.5,3", "0,1,2,0.5,1.5,-3", 2, "volume < 0"),
    ] {
        let error = refused(&GOOD.replacen(from, to, 1));
        assert!(error.contains(&format!(" line {line}")), "{to}: {error}");
        assert!(error.contains(word), "{to}: {error}");
    }
    assert!(matches!(read_bytes(b""), Err(HistoryError::Empty { .. })));
    assert!(matches!(read_bytes(b"\n\r\n  \n"), Err(HistoryError::Empty { .. })));
    let only_header = GOOD.lines().next().unwrap();
    assert!(matches!(read_bytes(only_header.as_bytes()), Err(HistoryError::Empty { .. })));
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path(), &folder.path().join("missing.csv")] {
        assert!(matches!(read_candles(path, FIVE), Err(HistoryError::Open { .. })), "{path:?}");
    }
}

#[test]
fn faulty_rows_do_not_end_a_survey_and_keep_their_lines() {
    let text = format!("{GOOD}x,1,1,1,1,0\n\n600000,1,1\n900000,1,1,1,1,5\n");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    fs::write(&path, text).unwrap();
    let rows: Vec<_> = CandleFile::open(&path).unwrap().collect();
    assert_eq!(rows.len(), 5);
    let faults: Vec<bool> = rows.iter().map(Result::is_err).collect();
    assert_eq!(faults, [false, false, true, true, false]);
    assert_eq!(rows[4].as_ref().unwrap().place, Place::Line(7));
    assert!(rows.iter().filter_map(|row| row.as_ref().err()).all(HistoryError::is_row));
}

#[test]
fn lines_headers_and_quotes_without_end_are_refused_at_their_bound() {
    let long = format!("{GOOD}600000,1,1,1,1,{}\n", "0".repeat(MAX_LINE_BYTES));
    let Err(HistoryError::TooLarge { place, what, .. }) = read_bytes(long.as_bytes()) else {
        panic!("a long line was read")
    };
    assert_eq!((place, what), (Place::Line(4), "a line"));
    for text in [
        "a".repeat(10 << 20),
        ",".repeat(60_000),
        format!("\"{GOOD}"),
        format!("open,{}", "high,".repeat(10_000)),
        "\0".repeat(100),
    ] {
        let error = refused(&text);
        assert!(error.contains("line 1"), "{error}");
    }
    // An open quote spoils its own line only.
    assert!(refused(&GOOD.replace("300000,1", "\"300000,1")).contains("line 3"));
}

#[test]
fn packed_bombs_end_at_their_first_impossible_line() {
    let zeros = vec![b'0'; 1 << 20];
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let mut zstd = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    for _ in 0..256 {
        gzip.write_all(&zeros).unwrap();
        zstd.write_all(&zeros).unwrap();
    }
    for bytes in [gzip.finish().unwrap(), zstd.finish().unwrap()] {
        assert!(bytes.len() < 1 << 20);
        let error = read_bytes(&bytes).unwrap_err();
        assert!(matches!(error, HistoryError::TooLarge { what: "a line", .. }), "{error}");
    }
}

#[test]
fn a_zstd_file_that_asks_for_a_huge_window_is_refused() {
    // Frame header with a window of 2^31 bytes.
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00];
    let error = anyhow_like(&read_bytes(&frame).unwrap_err());
    assert!(error.contains("memory"), "{error}");
}

#[test]
fn files_cut_anywhere_are_refused() {
    for ending in ["csv.gz", "csv.zst", "parquet"] {
        let (_folder, path) = sample(ending);
        let whole = fs::read(&path).unwrap();
        assert_eq!(read_candles(&path, FIVE).unwrap().len(), 1_000);
        for part in 0..97 {
            let cut = &whole[..whole.len() * part / 97];
            assert!(read_bytes(cut).is_err(), "{ending} cut to {} bytes", cut.len());
        }
        assert!(read_bytes(&whole[..whole.len() - 1]).is_err(), "{ending}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_damage_to_a_parquet_file_makes_it_panic_or_lie(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        at_the_end: bool,
    ) {
        let (_folder, path) = sample("parquet");
        let mut bytes = fs::read(&path).unwrap();
        // The description at the end is where the numbers are that a reader trusts.
        let first = if at_the_end { bytes.len() - 700 } else { 0 };
        for (index, byte) in damage {
            let at = first + index.index(bytes.len() - first);
            bytes[at] = byte;
        }
        fs::write(&path, &bytes).unwrap();
        // Values may change where no checksum covers them; what is given is sound all the same.
        if let Ok(candles) = read_candles(&path, FIVE) {
            prop_assert!(candles.len() <= 1_000);
            for candle in candles {
                prop_assert!(candle.validate(FIVE).is_ok());
            }
        }
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), start in 0_usize..6) {
        let magic: [&[u8]; 6] = [b"", b"PAR1", b"TaoshiFS\x01", &[0x1f, 0x8b, 8], &[0x28, 0xb5, 0x2f, 0xfd], b"BZh9"];
        let whole = [magic[start], bytes.as_slice(), if start == 1 { b"PAR1" } else { b"" }].concat();
        prop_assert!(read_bytes(&whole).is_err());
    }

    #[test]
    fn no_text_makes_a_reader_panic(lines in prop::collection::vec("[-0-9.,eE\"naifNT: Z]{0,60}", 0..20)) {
        let text = format!("{GOOD}{}", lines.join("\n"));
        for candle in read_bytes(text.as_bytes()).into_iter().flatten() {
            prop_assert!(candle.validate(FIVE).is_ok());
        }
    }
}
