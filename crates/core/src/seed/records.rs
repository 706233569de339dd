//! The files that the reference validator publishes: its win records and their summary.
//!
//! Ours are the round records of the store and the operator's JSON interface.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

const WEEK_MS: i64 = 7 * 86_400_000;
const TOP_MINERS: usize = 25;
const STEP_MS: i64 = 300_000;

/// The whole record.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Who asked.
    pub clients: Vec<ClientRecord>,
}

/// One client of the validator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClientRecord {
    /// Its id.
    pub client_uuid: String,
    /// What it asked for.
    pub streams: Vec<StreamRecord>,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StreamRecord {
    /// The stream.
    pub stream_id: String,
    /// The topic.
    pub topic_id: i64,
    /// The request; lost by loading.
    pub request_uuid: Option<String>,
    /// Who answered.
    pub miners: Vec<MinerRecord>,
}

/// The scores of one miner, `(time in ms, value)`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MinerRecord {
    /// The hotkey.
    pub miner_id: String,
    /// Always 0.
    pub wins: u64,
    /// Always 0.
    pub win_value: u64,
    /// Errors.
    pub unscaled_scores: Vec<(i64, f64)>,
    /// Averages after the round.
    pub win_scores: Vec<(i64, f64)>,
}

impl Record {
    /// Adds a request to its client, which is added when it is new.
    pub fn push(&mut self, client_uuid: &str, stream: StreamRecord) {
        match self.clients.iter_mut().find(|client| client.client_uuid == client_uuid) {
            Some(client) => client.streams.push(stream),
            None => self
                .clients
                .push(ClientRecord { client_uuid: client_uuid.to_owned(), streams: vec![stream] }),
        }
    }

    /// Returns the record as the reference has it after loading: without request ids.
    #[must_use]
    pub fn after_load(&self) -> Self {
        let mut loaded = self.clone();
        for stream in loaded.clients.iter_mut().flat_map(|client| &mut client.streams) {
            stream.request_uuid = None;
        }
        loaded
    }
}

/// A mean error at a time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Performance {
    /// Time of the record.
    pub timestamp: i64,
    /// Mean error of the miners that have an average at that time.
    pub score: f64,
}

/// A miner with its sum of averages.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TopMiner {
    /// The hotkey, in spite of the name.
    pub miner_uid: String,
    /// Sum over the last week.
    pub score: f64,
}

/// One forecast value.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TimedValue {
    /// Time of the step.
    pub timestamp: i64,
    /// The value.
    pub prediction: f64,
}

/// The newest forecast of a top miner.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TopForecast {
    /// The hotkey.
    pub miner_uid: String,
    /// Start of the forecast.
    pub timestamp: i64,
    /// Its values.
    pub predictions: Vec<TimedValue>,
}

/// The summary.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Mean errors, oldest first.
    pub subnet_performance: Vec<Performance>,
    /// The best 25 of the last seven days.
    pub top_miners_7: Vec<TopMiner>,
    /// Their newest forecasts.
    pub top_miners_7_predictions: Vec<TopForecast>,
}

/// A stored forecast, newest first in lists.
#[derive(Debug, Clone, PartialEq)]
pub struct LatestForecast {
    /// The request.
    pub request: String,
    /// The hotkey.
    pub miner: String,
    /// Start of the forecast.
    pub start_ms: i64,
    /// Its values.
    pub values: Vec<f64>,
}

/// Returns the forecasts of the newest request; the newest file is in it twice, as the reference
/// publishes it.
pub fn latest_forecasts(newest_first: &[LatestForecast]) -> Vec<LatestForecast> {
    let Some(newest) = newest_first.first() else { return Vec::new() };
    let same = newest_first.iter().filter(|forecast| forecast.request == newest.request);
    std::iter::once(newest).chain(same).cloned().collect()
}

/// Returns the summary of records.
///
/// Golden data: `misc/request_outputs.json`, exact.
pub fn summarise(records: &[Record], latest: &[LatestForecast], now_ms: i64) -> Summary {
    let mut by_time: IndexMap<i64, Vec<(&str, f64, f64)>> = IndexMap::new();
    let streams = records.iter().flat_map(|record| &record.clients).flat_map(|c| &c.streams);
    for miner in streams.flat_map(|stream| &stream.miners) {
        for (time, win) in &miner.win_scores {
            for (_, error) in miner.unscaled_scores.iter().filter(|(at, _)| at == time) {
                by_time.entry(*time).or_default().push((&miner.miner_id, *win, *error));
            }
        }
    }
    let mut subnet_performance: Vec<Performance> = by_time
        .iter()
        .map(|(time, rows)| Performance {
            timestamp: *time,
            score: rows.iter().map(|(_, _, error)| error).sum::<f64>() / rows.len() as f64,
        })
        .collect();
    subnet_performance.sort_by_key(|row| row.timestamp);

    let mut sums: IndexMap<&str, f64> = IndexMap::new();
    for (_, rows) in by_time.iter().filter(|(time, _)| **time > now_ms - WEEK_MS) {
        for (miner, win, _) in rows {
            *sums.entry(miner).or_insert(0.0) += win;
        }
    }
    let mut top_miners_7: Vec<TopMiner> = sums
        .into_iter()
        .map(|(miner, score)| TopMiner { miner_uid: miner.to_owned(), score })
        .collect();
    top_miners_7.sort_by(|a, b| b.score.total_cmp(&a.score));
    top_miners_7.truncate(TOP_MINERS);
    let is_top = |forecast: &&LatestForecast| {
        top_miners_7.iter().any(|miner| miner.miner_uid == forecast.miner)
    };
    let top_miners_7_predictions = latest.iter().filter(is_top).map(timed).collect();
    Summary { subnet_performance, top_miners_7, top_miners_7_predictions }
}

fn timed(forecast: &LatestForecast) -> TopForecast {
    let times = (1..).map(|step: i64| forecast.start_ms + step * STEP_MS);
    TopForecast {
        miner_uid: forecast.miner.clone(),
        timestamp: forecast.start_ms,
        predictions: times
            .zip(&forecast.values)
            .map(|(timestamp, prediction)| TimedValue { timestamp, prediction: *prediction })
            .collect(),
    }
}
