//! What is news and since when, a series across a restart, a file that changes.

use std::io::Write as _;
use std::sync::Mutex;

use forecastd_core::{Hotkey, ManualClock, NetUid, Role};
use forecastd_store::{Identity, StoreConfig};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

const HOUR_MS: i64 = 3_600_000;
/// 2024-01-01.
const START: i64 = 1_704_067_200_000;

fn seen(at_ms: i64, known_ms: i64, value: f64) -> Observation {
    Observation { at_ms, known_ms, value }
}

fn series() -> SeriesConfig {
    SeriesConfig {
        endpoint: "asset-metrics".parse().unwrap(),
        of: "btc".to_owned(),
        metric: "ReferenceRateUSD".to_owned(),
        every: Some(Interval::from_ms(HOUR_MS).unwrap()),
        publication_delay: Duration::from_mins(10),
    }
}

#[test]
fn the_first_reading_is_believed_and_later_values_became_known_when_they_came() {
    let told = [seen(10, 20, 1.0), seen(20, 30, 2.0)];
    assert_eq!(news(&[], &told, None), told);
    let more = [seen(20, 30, 2.0), seen(30, 40, 3.0), seen(40, 90, 4.0)];
    assert_eq!(news(&told, &more, Some(70)), [seen(30, 70, 3.0), seen(40, 90, 4.0)]);
}

#[test]
fn a_correction_is_news_once() {
    let known = [seen(10, 20, 1.0), seen(20, 30, 2.0)];
    let corrected = [seen(10, 20, 1.5), seen(20, 30, 2.0)];
    let found = news(&known, &corrected, Some(70));
    assert_eq!(found, [seen(10, 70, 1.5)]);
    let known: Vec<Observation> = known.into_iter().chain(found).collect();
    assert_eq!(news(&known, &corrected, Some(80)), []);
    // Back again is a correction too, and after a restart nobody knew it before the last one.
    assert_eq!(news(&known, &[seen(10, 20, 1.0)], None), [seen(10, 70, 1.0)]);
}

#[test]
fn another_series_has_another_place_in_the_store() {
    let id = series_id(&series());
    assert_eq!(id.len(), 32);
    assert_ne!(id, series_id(&SeriesConfig { metric: "PriceUSD".to_owned(), ..series() }));
    let later = SeriesConfig { publication_delay: Duration::ZERO, ..series() };
    assert_eq!(id, series_id(&later), "the same values, known at other times");
}

/// Values by their hour, served as Coin Metrics does; notes what was asked for.
struct Server {
    url: String,
    values: Arc<Mutex<BTreeMap<i64, f64>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let values: Arc<Mutex<BTreeMap<i64, f64>>> = Arc::default();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (served, noted) = (Arc::clone(&values), Arc::clone(&asked));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (mut head, mut part) = (Vec::new(), [0; 4096]);
                while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                    match stream.read(&mut part).await {
                        Ok(count) if count > 0 => head.extend_from_slice(&part[..count]),
                        _ => break,
                    }
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
                let hour = |name: &str| {
                    let (_, rest) = target.split_once(&format!("{name}=2024-01-01T")).unwrap();
                    rest.get(..2).unwrap().parse::<i64>().unwrap()
                };
                let (first, last) = (hour("start_time"), hour("end_time"));
                let rows: Vec<String> = served
                    .lock()
                    .unwrap()
                    .range(first..=last)
                    .map(|(hour, value)| {
                        format!(
                            r#"{{"asset":"btc","time":"2024-01-01T{hour:02}:00:00.000000000Z","ReferenceRateUSD":"{value}"}}"#
                        )
                    })
                    .collect();
                noted.lock().unwrap().push(format!("{first}..={last}"));
                let body = format!(r#"{{"data":[{}]}}"#, rows.join(","));
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        Self { url, values, asked }
    }

    fn set(&self, hour: i64, value: f64) {
        self.values.lock().unwrap().insert(hour, value);
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

fn store(directory: &TempDir) -> Store {
    let identity = Identity {
        network: "local".to_owned(),
        netuid: NetUid(8),
        hotkey: Hotkey::from_bytes([1; 32]),
        role: Role::Miner,
    };
    Store::open(StoreConfig::new(directory.path().join("data"), identity)).unwrap()
}

fn task(origin: ColumnOrigin, values: &[Observation], file: Option<Stamp>, first: bool) -> Task {
    Task {
        settings: ColumnSettings {
            name: "rate".parse().unwrap(),
            origin,
            max_age: Duration::from_hours(48),
            refresh_every: Duration::from_mins(5),
        },
        values: Arc::new(values.to_vec()),
        is_complete: !first,
        file,
        from_ms: START,
    }
}

#[tokio::test]
async fn a_series_is_read_once_corrected_later_and_survives_a_restart() {
    let (server, directory) = (Server::start().await, tempfile::tempdir().unwrap());
    let store = store(&directory);
    let clock = Arc::new(ManualClock::new(START + 15 * HOUR_MS + 5));
    let market: Arc<dyn Clock> = clock.clone();
    let origin = |key| ColumnOrigin::CoinMetrics {
        url: Some(server.url.clone()),
        series: series(),
        key,
        timeout: Duration::from_secs(30),
    };
    let key = || AccessKey::Given(forecastd_exchange::ApiKey::new("s3cr3t-k3y").unwrap());
    (0..15).for_each(|hour| server.set(hour, hour as f64));
    let first = refresh(&store, &market, task(origin(key()), &[], None, true)).await.unwrap();
    let known_ms = |hour: i64| START + (hour + 1) * HOUR_MS + 600_000;
    let want: Vec<Observation> =
        (0..15).map(|hour| seen(START + hour * HOUR_MS, known_ms(hour), hour as f64)).collect();
    assert_eq!(first.values, want);
    assert_eq!(server.asked(), ["0..=14"]);

    // An hour and a half later: a new value, half an hour after it could have been known, and a
    // correction; only the newest are asked for again.
    clock.set(START + 17 * HOUR_MS - 60_000);
    server.set(15, 15.0);
    server.set(9, -9.0);
    server.set(1, -1.0);
    let later = refresh(&store, &market, task(origin(key()), &want, None, false)).await.unwrap();
    let now_ms = market.now_ms();
    let want: Vec<Observation> = want
        .into_iter()
        .chain([seen(START + 9 * HOUR_MS, now_ms, -9.0), seen(START + 15 * HOUR_MS, now_ms, 15.0)])
        .collect();
    assert_eq!(later.values, want);
    assert_eq!(server.asked(), ["2..=15"]);

    // A restart has what was known and since when, corrections included.
    let restarted = refresh(&store, &market, task(origin(key()), &[], None, true)).await.unwrap();
    let sorted = |values: &[Observation]| {
        let mut rows: Vec<(i64, i64, u64)> =
            values.iter().map(|v| (v.at_ms, v.known_ms, v.value.to_bits())).collect();
        rows.sort_unstable();
        rows
    };
    assert_eq!(sorted(&restarted.values), sorted(&want));
    assert_eq!(server.asked(), ["3..=15"]);

    // Without the key nothing is asked for, and nobody waits in vain.
    let missing = AccessKey::Missing("RATE_KEY".to_owned());
    let refused = refresh(&store, &market, task(origin(missing), &[], None, true)).await;
    let Err(failed) = refused else { panic!("a key is missing") };
    assert!(!failed.is_retryable && failed.error.to_string().contains("RATE_KEY"));
    assert!(server.asked().is_empty());
    store.close().await;
}

#[tokio::test]
async fn a_file_is_read_again_when_it_changes() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory);
    let market: Arc<dyn Clock> = Arc::new(ManualClock::new(START + 5 * HOUR_MS));
    let path = directory.path().join("table.csv");
    let put = |rows: &str| {
        let mut file = std::fs::File::create(&path).unwrap();
        write!(file, "timestamp,close,oi\n{rows}").unwrap();
    };
    let origin = || ColumnOrigin::File {
        path: path.clone(),
        column: "oi".to_owned(),
        every: Some(Interval::from_ms(HOUR_MS).unwrap()),
        publication_delay: Duration::from_mins(1),
    };
    put("2023-12-31T23:00:00Z,1,7\n2024-01-01T00:00:00Z,1,8.5\n");
    let first = refresh(&store, &market, task(origin(), &[], None, true)).await.unwrap();
    // What is older than any window needs is not kept.
    let want = [seen(START, START + HOUR_MS + 60_000, 8.5)];
    assert_eq!(first.values, want);
    let same = refresh(&store, &market, task(origin(), &want, first.file, false)).await.unwrap();
    assert_eq!((same.values.as_slice(), same.file), (want.as_slice(), first.file));
    put("2024-01-01T00:00:00Z,1,8.5\n2024-01-01T01:00:00Z,1,9.25\n");
    let more = refresh(&store, &market, task(origin(), &want, first.file, false)).await.unwrap();
    let new = seen(START + HOUR_MS, START + 5 * HOUR_MS, 9.25);
    assert_eq!(more.values, [want[0], new]);
    put("2024-01-01T00:00:00Z,1,many\n");
    let broken = refresh(&store, &market, task(origin(), &want, more.file, false)).await;
    let Err(failed) = broken else { panic!("a value is no number") };
    assert!(with_causes(&failed.error).contains("column `oi`"), "{}", failed.error);
    store.close().await;
}

#[tokio::test]
async fn commands_read_whole_columns_within_their_span() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("table.csv");
    std::fs::write(&path, "time,x\n1,1\n2,2\n3,3\n").unwrap();
    let origin = ColumnOrigin::File {
        path,
        column: "x".to_owned(),
        every: None,
        publication_delay: Duration::from_millis(5),
    };
    let settings = task(origin, &[], None, true).settings;
    let market: Arc<dyn Clock> = Arc::new(ManualClock::new(0));
    let values = read_column(&settings, market, 2_000, 3_000).await.unwrap();
    assert_eq!(values, [seen(2_000, 2_005, 2.0)]);
}
