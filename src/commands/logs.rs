//! `forecastd logs`: the last lines of the log, and what follows them across rotation.

use crate::cli::LogsArgs;
use crate::config::Config;
use crate::exit::Exit;
use crate::log_tail::{Line, LineFilter, Tail, follow, show};
use crate::logging;
use crate::output;

/// Prints the log of a running or stopped daemon.
pub async fn logs(config: &Config, arguments: &LogsArgs) -> Exit {
    let path = logging::log_path(config);
    let filter = LineFilter { level: arguments.level, actor: arguments.actor.clone() };
    let outcome = async {
        let mut tail = Tail::from_end(&path, arguments.lines, &filter)?;
        let json = arguments.json;
        let has_colour = output::has_colour();
        let emit = |line: &Line| {
            if json {
                output::line(&line.text);
            } else {
                output::line(&logging::human(&line.text, has_colour));
            }
            Ok(())
        };
        if arguments.follow {
            let stop = async { drop(tokio::signal::ctrl_c().await) };
            follow(&mut tail, &filter, emit, stop).await
        } else {
            show(&mut tail, &filter, emit)
        }
    };
    match outcome.await {
        Ok(()) => Exit::Done,
        Err(error) => {
            output::error(&format_args!("reading {}: {error}", path.display()));
            Exit::Unfinished
        }
    }
}
