//! `forecastd logs`: the last lines of the log, and what follows them across rotation.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use crate::cli::LogsArgs;
use crate::config::Config;
use crate::exit::Exit;
use crate::log_tail::{Line, LineFilter, Tail, actor_of, follow, show};
use crate::logging;
use crate::output;

/// Prints the log of a running or stopped daemon.
pub async fn logs(config: &Config, arguments: &LogsArgs) -> Exit {
    let path = logging::log_path(config);
    match print(&path, arguments).await {
        Ok(exit) => exit,
        // Whoever reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
        Err(error) => {
            output::error(&format_args!("reading {}: {error}", path.display()));
            Exit::Unfinished
        }
    }
}

async fn print(path: &Path, arguments: &LogsArgs) -> io::Result<Exit> {
    // Between two steps of a rotation only the renamed file is there.
    if !path.exists() && !logging::numbered(path, 1).exists() {
        output::error(&format_args!(
            "there is no log {}; {}, or `log.dir` is set elsewhere",
            path.display(),
            super::NAME_THE_DIRECTORY
        ));
        return Ok(Exit::Unfinished);
    }
    let filter = LineFilter { level: arguments.level, actor: arguments.actor.clone() };
    if let Some(actor) = &arguments.actor {
        let known = actors(path)?;
        if !known.contains(actor) {
            let known: Vec<String> = known.into_iter().collect();
            output::error(&format_args!(
                "no line of the log is of actor `{actor}`; it has lines of {}",
                if known.is_empty() { "none".to_owned() } else { known.join(", ") }
            ));
            return Ok(Exit::Unfinished);
        }
    }
    let mut tail = Tail::from_end(path, arguments.lines, &filter)?;
    let json = arguments.json;
    let has_colour = output::has_colour();
    let emit = |line: &Line| {
        if json {
            output::line(&line.text);
        } else {
            output::line(&logging::human(&line.text, has_colour));
        }
        if output::is_closed() { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    };
    if arguments.follow {
        let stop = async {
            tokio::select! {
                asked = tokio::signal::ctrl_c() => drop(asked),
                () = output::closed() => {}
            }
        };
        follow(&mut tail, &filter, emit, stop).await?;
    } else {
        show(&mut tail, &filter, emit)?;
    }
    Ok(Exit::Done)
}

/// Returns the actors that the whole log has lines of.
fn actors(path: &Path) -> io::Result<BTreeSet<String>> {
    let all = LineFilter::default();
    let mut tail = Tail::from_end(path, usize::MAX, &all)?;
    let mut found = BTreeSet::new();
    show(&mut tail, &all, |line| {
        found.extend(actor_of(&line.text));
        Ok(())
    })?;
    Ok(found)
}
