//! The leader board and the lines that people see.

use std::collections::BTreeMap;

use forecastd_actors::events::{Event, EventLine};
use forecastd_core::Hotkey;
use serde::Serialize;

use crate::views::ScoreRow;

/// One row of the leader board, with the name that the network gave the miner.
#[derive(Debug, Clone, Serialize)]
pub struct BoardRow {
    /// The miner's name.
    pub name: String,
    /// Its scores.
    #[serde(flatten)]
    pub row: ScoreRow,
}

/// The names of the members by hotkey.
pub(super) type Names = BTreeMap<Hotkey, String>;

/// Returns the leader board, best first, without the validator.
pub(super) fn leader_board(rows: Vec<ScoreRow>, names: &Names) -> Vec<BoardRow> {
    rows.into_iter()
        .filter(|row| names.get(&row.hotkey).is_some_and(|name| name != "validator"))
        .map(|row| BoardRow { name: names[&row.hotkey].clone(), row })
        .collect()
}

/// Returns the leader board as a table.
pub(super) fn table(rows: &[BoardRow]) -> String {
    let head = "  rank  miner      uid      EMA   weight  scored  last RMSE   reason of the last refusal\n";
    let lines = rows.iter().enumerate().map(|(index, board)| {
        let row = &board.row;
        let number = |value: Option<f64>, digits: usize| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
        };
        format!(
            "  {:>4}  {:<9} {:>4} {:>8} {:>8} {:>7} {:>10}   {}\n",
            index + 1,
            board.name,
            row.uid.map_or_else(|| "-".to_owned(), |uid| uid.to_string()),
            number(row.ema, 5),
            row.weight,
            row.scored,
            number(row.last_rmse, 2),
            row.last_refusal.as_deref().unwrap_or(""),
        )
    });
    std::iter::once(head.to_owned()).chain(lines).collect()
}

/// Returns the line for people, or none for events that would drown the others.
pub(super) fn human(line: &EventLine, names: &Names) -> Option<String> {
    let who = |hotkey: &Hotkey| names.get(hotkey).cloned().unwrap_or_else(|| hotkey.short());
    let time = chrono::DateTime::from_timestamp_millis(line.at_ms)?.format("%m-%d %H:%M:%S");
    let node = &line.node;
    let text = match &line.event {
        Event::Started { role, .. } => format!("{role} started"),
        Event::Feed { feed, state, detail, .. } => format!("feed {feed} {state} {detail}"),
        Event::Gap { from_ms, to_ms, backfilled, .. } => {
            format!("gap {from_ms}..{to_ms} ms, backfilled: {backfilled}")
        }
        Event::Forecast { .. } | Event::Commitment { .. } | Event::Reveal { .. } => return None,
        Event::RoundOpened { round, asked, .. } => {
            format!("round {} opened, {asked} miners asked", short(round))
        }
        Event::Refusal { round, hotkey, reason } => {
            format!("round {} {}: refused, {reason}", short(round), who(hotkey))
        }
        Event::RoundScored { round, scored, best, best_rmse, .. } => format!(
            "round {} scored, {scored} miners, best {} with RMSE {:.2}",
            short(round),
            best.as_ref().map_or_else(|| "nobody".to_owned(), who),
            best_rmse.unwrap_or(f64::NAN),
        ),
        Event::RoundVoid { round, reason, .. } => format!("round {} void: {reason}", short(round)),
        Event::SlotsSkipped { count, .. } => format!("{count} slots passed unasked"),
        Event::WeightsSet { block, uids, outcome, detail } => {
            format!("weights for {uids} uids {outcome} at block {block} {detail}")
        }
        Event::Reload { generation, accepted, detail } => {
            let verdict = if *accepted { "accepted" } else { "REFUSED" };
            format!("configuration {verdict}, generation {generation}: {}", detail.join("; "))
        }
        Event::Restart { target, reason } => format!("{target} restarts: {reason}"),
        Event::Alarm { raised: true, what, .. } => format!("ALARM {what}"),
        Event::Alarm { about, .. } => format!("alarm is over: {about}"),
        Event::Stopped { .. } => "stopped".to_owned(),
    };
    Some(format!("{time}  {node:<10} {text}"))
}

fn short(round: &str) -> &str {
    round.get(..8).unwrap_or(round)
}
