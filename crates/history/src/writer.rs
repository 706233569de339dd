//! Candles into files.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::write::GzEncoder;
use forecastd_core::Candle;

use crate::csv::{HEADER, csv_row};
use crate::error::HistoryError;
use crate::parquet::ParquetWriter;

/// Effort of the packing: the default of the tools.
const ZSTD_LEVEL: i32 = 3;

/// What a file is to be, told by the end of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// `.csv`
    Csv,
    /// `.csv.gz`
    CsvGzip,
    /// `.csv.zst`
    CsvZstd,
    /// `.parquet`
    Parquet,
}

impl FileKind {
    /// Returns the kind that a name asks for.
    ///
    /// # Errors
    /// [`HistoryError::Ending`].
    pub fn of(path: &Path) -> Result<Self, HistoryError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        let kinds = [
            (".csv", Self::Csv),
            (".csv.gz", Self::CsvGzip),
            (".csv.zst", Self::CsvZstd),
            (".parquet", Self::Parquet),
        ];
        let found = kinds.into_iter().find(|(ending, _)| name.ends_with(ending));
        let (_, kind) =
            found.ok_or_else(|| HistoryError::Ending { file: path.display().to_string() })?;
        Ok(kind)
    }
}

/// Writes candles into a file that appears under its name when it is complete and on disk.
///
/// Until then it is called `NAME.draft`; dropped before [`CandleWriter::finish`], it is removed.
#[derive(Debug)]
pub struct CandleWriter {
    path: PathBuf,
    draft: PathBuf,
    out: Option<Out>,
    count: u64,
}

#[derive(Debug)]
enum Out {
    Csv(BufWriter<File>),
    Gzip(GzEncoder<BufWriter<File>>),
    Zstd(Box<ZstdOut>),
    Parquet(Box<ParquetWriter>),
}

struct ZstdOut(zstd::stream::write::Encoder<'static, BufWriter<File>>);

impl std::fmt::Debug for ZstdOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ZstdOut")
    }
}

impl CandleWriter {
    /// Creates the draft of `path`, whose name tells the kind. A draft that was left behind is
    /// replaced, and so is a file of this name at the end.
    ///
    /// # Errors
    /// [`HistoryError::Ending`], [`HistoryError::Open`] and [`HistoryError::Write`].
    pub fn create(path: &Path) -> Result<Self, HistoryError> {
        let kind = FileKind::of(path)?;
        let mut draft = path.as_os_str().to_owned();
        draft.push(".draft");
        let draft = PathBuf::from(draft);
        let file = File::create(&draft)
            .map_err(|source| HistoryError::Open { file: draft.display().to_string(), source })?;
        let mut writer = Self { path: path.to_owned(), draft, out: None, count: 0 };
        let out = Self::open(kind, BufWriter::new(file)).map_err(|error| writer.failed(error))?;
        writer.out = Some(out);
        Ok(writer)
    }

    fn open(kind: FileKind, mut file: BufWriter<File>) -> io::Result<Out> {
        Ok(match kind {
            FileKind::Csv => {
                writeln!(file, "{HEADER}")?;
                Out::Csv(file)
            }
            FileKind::CsvGzip => {
                let mut gzip = GzEncoder::new(file, flate2::Compression::default());
                writeln!(gzip, "{HEADER}")?;
                Out::Gzip(gzip)
            }
            FileKind::CsvZstd => {
                let mut zstd = zstd::stream::write::Encoder::new(file, ZSTD_LEVEL)?;
                zstd.include_checksum(true)?;
                writeln!(zstd, "{HEADER}")?;
                Out::Zstd(Box::new(ZstdOut(zstd)))
            }
            FileKind::Parquet => Out::Parquet(Box::new(ParquetWriter::new(file)?)),
        })
    }

    fn failed(&self, source: io::Error) -> HistoryError {
        HistoryError::Write { file: self.path.display().to_string(), source }
    }

    /// Writes a candle.
    ///
    /// # Errors
    /// [`HistoryError::Write`].
    pub fn push(&mut self, candle: &Candle) -> Result<(), HistoryError> {
        let written = match &mut self.out {
            Some(Out::Csv(out)) => csv_row(out, candle),
            Some(Out::Gzip(out)) => csv_row(out, candle),
            Some(Out::Zstd(out)) => csv_row(&mut out.0, candle),
            Some(Out::Parquet(out)) => out.push(candle),
            None => Err(io::Error::other("closed after an error")),
        };
        self.count += 1;
        written.map_err(|error| self.failed(error))
    }

    /// Completes the file, waits until it is on disk and gives it its name; returns the number of
    /// candles.
    ///
    /// # Errors
    /// [`HistoryError::Write`]; there is no file then.
    pub fn finish(mut self) -> Result<u64, HistoryError> {
        self.complete().map_err(|error| self.failed(error))?;
        Ok(self.count)
    }

    fn complete(&mut self) -> io::Result<()> {
        let closed = || io::Error::other("closed after an error");
        let file = match self.out.take().ok_or_else(closed)? {
            Out::Csv(out) => out,
            Out::Gzip(out) => out.finish()?,
            Out::Zstd(out) => out.0.finish()?,
            Out::Parquet(out) => out.finish()?,
        };
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&self.draft, &self.path)?;
        // The name is on disk when its directory is. Some file systems cannot do it; they keep
        // the order by themselves.
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        drop(File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all()));
        Ok(())
    }
}

impl Drop for CandleWriter {
    fn drop(&mut self) {
        // After the end the draft is gone and nothing is removed.
        drop(fs::remove_file(&self.draft));
    }
}
