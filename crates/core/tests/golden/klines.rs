//! The candle sources of group `features`, with a stub of each exchange.

use forecastd_core::numeric::to_f32;
use forecastd_core::seed::SeedError;
use forecastd_core::seed::klines::{Cell, Planner, Query, Request, Source, samples};
use serde_json::Value;

use crate::support::{
    CaseResult, all_same, entries, equal, int, list, num, nums, outcome, same, text,
};

/// An exchange that answers as the recorded stub did.
struct Stub {
    source: Source,
    rows: Vec<Vec<Cell>>,
    is_since_inclusive: bool,
    failing_answers: i64,
}

/// What the reference did on the way.
#[derive(Default)]
struct Trace {
    queries: Vec<String>,
    sleeps: i64,
}

impl Stub {
    /// Answers a query with rows in rising order; `None` for an error status.
    fn answer(&mut self, query: &Query, source_interval_ms: i64) -> Option<Vec<Vec<Cell>>> {
        if self.failing_answers > 0 {
            self.failing_answers -= 1;
            return None;
        }
        let in_span = |open_ms: i64| match self.source {
            Source::Kraken if self.is_since_inclusive => open_ms >= query.from_ms,
            Source::Kraken => open_ms > query.from_ms,
            _ => (query.from_ms..=query.to_ms).contains(&open_ms),
        };
        let limit = usize::try_from(self.source.limit()).unwrap();
        let found = self.rows.iter().filter(|row| in_span(self.source.open_time_ms(row).unwrap()));
        let found: Vec<Vec<Cell>> = found.cloned().collect();
        Some(match self.source {
            Source::Binance | Source::Kraken => found.into_iter().take(limit).collect(),
            // The newest are kept.
            Source::Bybit => found[found.len().saturating_sub(limit)..].to_vec(),
            Source::Coinbase => {
                let span = (query.to_ms - query.from_ms) / source_interval_ms + 1;
                if span > self.source.limit() {
                    return None;
                }
                found
            }
        })
    }
}

fn collect(
    stub: &mut Stub,
    request: &Request,
    mapped: &[usize],
    retries: i64,
    trace: &mut Trace,
) -> Result<Vec<Vec<f64>>, SeedError> {
    let source = stub.source;
    let mut planner = Planner::new(source, *request)?;
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    let mut retries_left = retries;
    loop {
        let query = planner.query();
        let received = loop {
            trace.queries.push(source.query_text(&query, request.source_interval_ms));
            match stub.answer(&query, request.source_interval_ms) {
                Some(page) => break page,
                None if retries_left > 0 => {
                    retries_left -= 1;
                    trace.sleeps += 1;
                }
                None if planner.is_failure_final() => return Err(SeedError::Runtime),
                None => break Vec::new(),
            }
        };
        let count = i64::try_from(received.len()).unwrap();
        rows.extend(received);
        let last = rows.last().map(|row| source.open_time_ms(row)).transpose()?;
        if !planner.advance(count, last)? {
            break;
        }
    }
    samples(source, &rows, request, mapped)
}

fn cell(value: &Value) -> Cell {
    match value {
        Value::String(text) => Cell::Text(text.clone()),
        number => Cell::Number(num(number)),
    }
}

fn request(inputs: &Value) -> Request {
    Request {
        start_ms: int(&inputs["start_ms"]),
        interval_ms: int(&inputs["interval_ms"]),
        count: int(&inputs["count"]),
        source_interval_ms: int(&inputs["source_interval_ms"]),
    }
}

fn queries(case: &Value) -> Vec<String> {
    list(&case["queries"]).iter().map(|query| text(query).to_owned()).collect()
}

pub fn one_source(name: &str, case: &Value) -> CaseResult {
    let inputs = &case["inputs"];
    let source = Source::from_name(name).ok_or("unknown source")?;
    let rows = list(&inputs["rows"]).iter().map(|row| list(row).iter().map(cell).collect());
    let mut stub = Stub {
        source,
        rows: rows.collect(),
        is_since_inclusive: inputs["since_is"].as_str() == Some("inclusive"),
        failing_answers: int(&inputs["failing_answers"]),
    };
    let fields = entries(&inputs["fields"]);
    let mapped: Vec<usize> = fields
        .iter()
        .map(|(_, name)| source.column(text(name)).unwrap_or_else(|| panic!("column {name}")))
        .collect();
    let mut trace = Trace::default();
    let retries = int(&inputs["retries"]);
    let got = collect(&mut stub, &request(inputs), &mapped, retries, &mut trace);
    equal("queries", &trace.queries, &queries(case))?;
    equal("sleeps", &trace.sleeps, &int(&case["sleeps"]))?;
    let Some(got) = outcome(case, got)? else { return Ok(()) };
    let is_single = text(&inputs["dtype"]) == "float32";
    equal("features", &entries(&case["output"]).len(), &fields.len())?;
    for ((id, _), values) in fields.iter().zip(got) {
        let width = |value: f64| if is_single { f64::from(to_f32(value)) } else { value };
        let values: Vec<f64> = values.into_iter().map(width).collect();
        all_same(id, &values, &nums(&case["output"][*id]))?;
    }
    Ok(())
}

pub fn pagination(case: &Value) -> CaseResult {
    let inputs = &case["inputs"];
    let source = Source::from_name(text(&inputs["exchange"])).ok_or("unknown source")?;
    let close = source.column("price_close").unwrap();
    let (first_ms, step_ms) = (int(&inputs["first_open_ms"]), int(&inputs["step_ms"]));
    let divisor = match source {
        Source::Coinbase | Source::Kraken => 1000,
        _ => 1,
    };
    let row = |index: i64| {
        let mut cells = vec![Cell::Number(0.0); 11];
        cells[0] = Cell::Number(((first_ms + index * step_ms) / divisor) as f64);
        cells[close] = Cell::Number((30_000 + index) as f64);
        cells
    };
    let mut stub = Stub {
        source,
        rows: (0..int(&inputs["rows"])).map(row).collect(),
        is_since_inclusive: false,
        failing_answers: 0,
    };
    let mut trace = Trace::default();
    let got = collect(&mut stub, &request(inputs), &[close], 0, &mut trace);
    equal("queries", &trace.queries, &queries(case))?;
    let Some(got) = outcome(case, got)? else { return Ok(()) };
    let want = &case["output"];
    for pair in list(&want["values_at"]) {
        let index = usize::try_from(int(&pair[0])).unwrap();
        same(&format!("value {index}"), got[0][index], num(&pair[1]))?;
    }
    same("sum", got[0].iter().sum(), num(&want["sum"]))
}
