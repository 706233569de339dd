//! The messages of the measurements.

use std::io::Write;

use serde::Deserialize;

use crate::Failure;

/// Number of the first trade.
const FIRST: u64 = 3_640_284_441;

/// What a recorded page of aggregate trades tells of one.
#[derive(Debug, Deserialize)]
struct Aggregate {
    p: String,
    q: String,
    #[serde(rename = "T")]
    time_ms: i64,
    m: bool,
}

/// Writes `count` messages made of a recorded page, one a line.
pub(crate) fn print(page: &str, count: &str) -> Result<(), Failure> {
    let page: Vec<Aggregate> = serde_json::from_slice(&std::fs::read(page)?)?;
    let (Some(first), Some(last)) = (page.first(), page.last()) else {
        return Err("the page is empty".into());
    };
    let span_ms = last.time_ms - first.time_ms + 1;
    let count: usize = count.parse()?;
    let mut output = std::io::BufWriter::new(std::io::stdout().lock());
    let rounds = (0_i64..).flat_map(|round| page.iter().map(move |row| (round * span_ms, row)));
    for ((number, _), (later_ms, row)) in (FIRST..).zip(0..count).zip(rounds) {
        let Aggregate { p, q, time_ms, m } = row;
        let at_ms = time_ms + later_ms;
        writeln!(
            output,
            r#"{{"e":"trade","E":{at_ms},"s":"BTCUSDT","t":{number},"p":"{p}","q":"{q}","T":{at_ms},"m":{m},"M":true}}"#
        )?;
    }
    Ok(output.flush()?)
}

/// A message cut where its number and times are, to be sent with others.
#[derive(Debug)]
pub(crate) struct Template {
    parts: [String; 4],
    time_ms: i64,
}

/// Reads the messages of a file as they are.
pub(crate) fn read(file: &str) -> Result<String, Failure> {
    Ok(std::fs::read_to_string(file)?)
}

/// The messages of a file, to be repeated with rising numbers and times for as long as needed.
#[derive(Debug)]
pub(crate) struct Row {
    templates: Vec<Template>,
    span_ms: i64,
    at: usize,
    later_ms: i64,
    number: u64,
}

impl Row {
    pub(crate) fn read(file: &str) -> Result<Self, Failure> {
        let text = read(file)?;
        let templates = text.lines().map(cut).collect::<Option<Vec<_>>>();
        let templates = templates.ok_or("a message has another form than those of `messages`")?;
        let (Some(first), Some(last)) = (templates.first(), templates.last()) else {
            return Err("no messages".into());
        };
        let span_ms = last.time_ms - first.time_ms + 1;
        Ok(Self { templates, span_ms, at: 0, later_ms: 0, number: FIRST })
    }

    /// Number of the first message.
    pub(crate) const fn first() -> u64 {
        FIRST
    }

    /// Appends the next message as a WebSocket frame of a server.
    pub(crate) fn append(&mut self, frames: &mut Vec<u8>) -> Result<(), Failure> {
        if self.at == self.templates.len() {
            self.at = 0;
            self.later_ms += self.span_ms;
        }
        let Some(Template { parts: [head, number, price, tail], time_ms }) =
            self.templates.get(self.at)
        else {
            return Err("no messages".into());
        };
        let at_ms = time_ms + self.later_ms;
        let start = frames.len();
        // A whole text, and a length of 126..65536 bytes.
        frames.extend_from_slice(&[0x81, 126, 0, 0]);
        write!(frames, "{head}{at_ms}{number}{}{price}{at_ms}{tail}", self.number)?;
        let length = u16::try_from(frames.len() - start - 4)?;
        if length < 126 {
            return Err("a message is too short".into());
        }
        let place = frames.get_mut(start + 2..start + 4).ok_or("no room")?;
        place.copy_from_slice(&length.to_be_bytes());
        self.at += 1;
        self.number += 1;
        Ok(())
    }
}

fn cut(line: &str) -> Option<Template> {
    let (head, rest) = line.split_once(r#""E":"#)?;
    let (_, rest) = rest.split_once(',')?;
    let (number, rest) = rest.split_once(r#""t":"#)?;
    let (_, rest) = rest.split_once(',')?;
    let (price, rest) = rest.split_once(r#""T":"#)?;
    let (time_ms, tail) = rest.split_once(',')?;
    let parts = [
        format!(r#"{head}"E":"#),
        format!(r#",{number}"t":"#),
        format!(r#",{price}"T":"#),
        format!(",{tail}"),
    ];
    Some(Template { parts, time_ms: time_ms.parse().ok()? })
}
