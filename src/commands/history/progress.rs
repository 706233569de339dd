//! Progress on standard error: a bar on a terminal, else a line for each tenth.

use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressStyle};

use crate::output;

const STYLE: &str = "{bar:30} {pos}/{len} candles, {per_sec}, {eta} left {msg}";
const TENTHS: u64 = 10;

/// How far a fetch has come, in candles.
#[derive(Debug)]
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    total: u64,
    done: u64,
    tenths: u64,
}

impl Progress {
    /// Starts at `done` of `total`; tells nobody where `is_told` is false.
    pub(super) fn start(done: u64, total: u64, is_told: bool) -> Self {
        let has_bar = !is_told || std::io::stderr().is_terminal();
        let bar = has_bar.then(|| {
            if !is_told {
                return ProgressBar::hidden();
            }
            let bar = ProgressBar::new(total).with_position(done);
            if let Ok(style) = ProgressStyle::with_template(STYLE) {
                bar.set_style(style);
            }
            // The rate is that of this run.
            bar.reset_eta();
            bar
        });
        let tenths = (done * TENTHS).checked_div(total).unwrap_or(TENTHS);
        Self { bar, total, done, tenths }
    }

    /// Notes that so many more are done.
    pub(super) fn advance(&mut self, count: u64) {
        self.done += count;
        let tenths = (self.done * TENTHS).checked_div(self.total).unwrap_or(TENTHS);
        match &self.bar {
            Some(bar) => {
                bar.set_message("");
                bar.set_position(self.done);
            }
            None if tenths > self.tenths => {
                output::note(&format_args!("{} of {} candles", self.done, self.total));
            }
            None => {}
        }
        self.tenths = tenths;
    }

    /// Says why nothing moves.
    pub(super) fn waiting(&self, reason: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(format!("({reason})")),
            None => output::note(&reason),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
