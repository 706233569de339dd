//! The store as these commands see it: the only file of them that knows its records.

use std::path::Path;

use anyhow::Context as _;
use forecastd_core::bars::{Bar, Survey};
use forecastd_core::{Interval, StreamId};
use forecastd_store::{BarRecord, Batch, CandleRecord, Market, Store, StreamRecord};
use serde::Serialize;

use crate::bar_page::{BarPage, bar_of, interval_of, page};
use crate::commands::source::{READ_CACHE, Source, node_dir};
use crate::output;
use crate::views;

/// Rows of one batch.
const CHUNK: usize = 1_000;

/// A stream's candles, from a running daemon or the store of a stopped one.
#[derive(Debug)]
pub struct StoredBars {
    source: Source,
    stream: String,
}

impl StoredBars {
    /// Finds the daemon or opens the store.
    ///
    /// # Errors
    /// As [`Source::open`].
    pub async fn open(data_dir: &Path, stream: &str) -> anyhow::Result<Self> {
        Ok(Self { source: Source::open(data_dir).await?, stream: stream.to_owned() })
    }

    /// Returns a page as [`page`] does.
    ///
    /// # Errors
    /// The daemon does not answer, the store cannot be read, or it has nothing of this stream.
    pub async fn page(&self, from_ms: i64, to_ms: i64) -> anyhow::Result<BarPage> {
        match &self.source {
            Source::Running(daemon) => {
                let stream = &self.stream;
                let path = format!("/api/v1/candles?stream={stream}&from={from_ms}&to={to_ms}");
                daemon.get(&path).await
            }
            Source::Stopped(store) => page(store, &self.stream, from_ms, to_ms),
        }
    }
}

/// What became of the candles that were to be written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Written {
    /// Where there was none.
    pub added: u64,
    /// Instead of another one.
    pub replaced: u64,
    /// The same or a better one stays.
    pub kept: u64,
}

/// Writes candles of a stream into the store of a stopped daemon.
#[derive(Debug)]
pub struct BarWriter {
    store: Store,
    stream: StreamId,
    source: String,
    /// The stream's markets, where the store knows them.
    markets: Vec<Market>,
    /// The feed whose bars they are.
    feed: Option<String>,
    waiting: Vec<Bar>,
    written: Written,
}

impl BarWriter {
    /// Opens the store. `source`: what the candles are said to come from.
    ///
    /// # Errors
    /// There is no store, it is damaged, or a running daemon holds it.
    pub async fn open(data_dir: &Path, stream: &str, source: &str) -> anyhow::Result<Self> {
        let directory = node_dir(data_dir);
        let opened =
            tokio::task::spawn_blocking(move || Store::open_existing(directory, READ_CACHE));
        let store = opened.await?.context("candles are written while no daemon runs")?;
        let stream = StreamId(stream.to_owned());
        if interval_of(&store, &stream)?.is_none()
            && let Err(error) = views::must_know(&store, &stream.0)
        {
            output::warning(&format_args!("{error:#}; written all the same"));
        }
        let record = store.get::<StreamRecord>(&stream).context("reading what the stream is")?;
        let markets = record.map(|record| record.markets).unwrap_or_default();
        Ok(Self {
            store,
            stream,
            source: source.to_owned(),
            markets,
            feed: None,
            waiting: Vec::new(),
            written: Written::default(),
        })
    }

    /// Returns the length of the stream's candles, where the store knows it.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn interval(&self) -> anyhow::Result<Option<Interval>> {
        interval_of(&self.store, &self.stream)
    }

    /// Finds the stream's feed of a market, whose bars the candles are; returns the exchange's name of
    /// the pair. `None` where the store does not know the stream's markets.
    ///
    /// # Errors
    /// The stream has no such market, or several.
    pub fn choose_market(
        &mut self,
        exchange: &str,
        symbol: Option<&str>,
    ) -> anyhow::Result<Option<String>> {
        if self.markets.is_empty() {
            return Ok(None);
        }
        let is_meant = |market: &&Market| {
            market.exchange == exchange && symbol.is_none_or(|symbol| market.symbol == symbol)
        };
        let mut found = self.markets.iter().filter(is_meant);
        if let (Some(market), None) = (found.next(), found.next()) {
            self.feed = Some(market.feed.clone());
            return Ok(Some(market.symbol.clone()));
        }
        let text = |market: &Market| format!("{} {}", market.exchange, market.symbol);
        let known: Vec<String> = self.markets.iter().map(text).collect();
        anyhow::bail!(
            "stream {} does not have exactly one market of {exchange} {}, its markets are: {}; name one \
             with --exchange and --symbol, or a file with --out",
            self.stream,
            symbol.unwrap_or_default(),
            known.join(", ")
        )
    }

    /// Surveys what the store has of `from_ms..to_ms`; only whole candles count.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn survey(&self, interval: Interval, from_ms: i64, to_ms: i64) -> anyhow::Result<Survey> {
        let mut survey = Survey::new(interval);
        if from_ms < to_ms {
            let range = (self.stream.clone(), from_ms)..(self.stream.clone(), to_ms);
            for row in self.store.scan::<CandleRecord>(range) {
                let bar = bar_of(&row.context("reading candles")?.1);
                if bar.state.is_whole() {
                    survey.add(&bar.candle).context("a candle of the store is not sound")?;
                }
            }
        }
        Ok(survey)
    }

    /// Takes a candle. A whole one that is there stays, and so does everything that a score was
    /// computed from; what is not whole gives way. Of a feed's own exchange it is kept as the feed's
    /// bar as well, so that the daemon merges it with those of the others.
    /// It is on disk after [`BarWriter::flush`] at the latest.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub async fn push(&mut self, bar: Bar) -> anyhow::Result<()> {
        self.waiting.push(bar);
        if self.waiting.len() >= CHUNK { self.flush().await } else { Ok(()) }
    }

    /// Returns when everything that was taken is on disk.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub async fn flush(&mut self) -> anyhow::Result<()> {
        let mut batch = Batch::new();
        let mut written = self.written;
        for bar in self.waiting.drain(..) {
            let key = (self.stream.clone(), bar.candle.open_time_ms);
            let there = self.store.get::<CandleRecord>(&key).context("looking a candle up")?;
            if let Some(feed) = &self.feed {
                let key = (self.stream.clone(), bar.candle.open_time_ms, feed.clone());
                let known = self.store.get::<BarRecord>(&key).context("looking a bar up")?;
                if known.is_none_or(|known| !known.bar.state.is_whole()) {
                    batch = batch.put(&key, &BarRecord { bar }).context("encoding a bar")?;
                }
            }
            match &there {
                Some(old) if old.state.is_whole() || old.is_settled => {
                    written.kept += 1;
                    continue;
                }
                Some(_) => written.replaced += 1,
                None => written.added += 1,
            }
            let record = CandleRecord {
                candle: bar.candle,
                state: bar.state,
                source: self.source.clone(),
                is_settled: false,
            };
            batch = batch.put(&key, &record).context("encoding a candle")?;
        }
        if !batch.is_empty() {
            self.store.write(batch).await.context("storing candles")?;
        }
        self.written = written;
        Ok(())
    }

    /// Writes what waits, closes the store and says what was done.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub async fn finish(mut self) -> anyhow::Result<Written> {
        let flushed = self.flush().await;
        self.store.close().await;
        flushed.map(|()| self.written)
    }
}
