//! `forecastd dev`: the whole network on this machine.

mod board;
mod exchanges;
mod network;
mod plan;
mod progress;
mod summary;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use forecastd_actors::events::EventLine;
use forecastd_devnet::chain::DevChainError;
use forecastd_history::HistoryError;
use tokio::sync::broadcast::error::RecvError;
use tracing::{error, info, warn};

pub use network::{Network, Options};
pub use summary::Summary;

use crate::cli::{DevArgs, GlobalArgs, MissingFile};
use crate::clock::SystemClock;
use crate::commands::run::{print_event, reopen, restart_tree};
use crate::config::{self, Config, ConfigErrors};
use crate::exit::Exit;
use crate::logging::{self, LogHandle};
use crate::output;
use crate::reload::Watcher;
use crate::signals::{Request, Signals};

/// How often the market time is saved, real time. What passes after the last save is passed again
/// after a crash; rounds are keyed by their slot, so nothing is asked or scored twice.
const SAVE_EVERY: Duration = Duration::from_millis(200);
/// How often people see the leader board, real time.
const BOARD_EVERY: Duration = Duration::from_secs(15);

/// Where an embedded network is kept when no directory is named.
const DATA_DIR: &str = "var/dev";

/// Reads the configuration of the embedded network.
fn load(global: &GlobalArgs) -> Result<Config, ConfigErrors> {
    // The data directory of the command line is the network's, not one node's.
    let global = GlobalArgs { data_dir: None, ..global.clone() };
    global.load(MissingFile::UseDefaults).map(|loaded| loaded.config)
}

/// Runs the embedded network until it is told to stop or its time is over.
pub async fn run(global: GlobalArgs, arguments: DevArgs) -> Exit {
    let base = match load(&global) {
        Ok(base) => base,
        Err(errors) => {
            output::error(&errors);
            return Exit::Config;
        }
    };
    let data_dir = global.data_dir.clone().unwrap_or_else(|| PathBuf::from(DATA_DIR));
    let options = Options {
        speed: arguments.speed.unwrap_or(base.dev.speed),
        seed: arguments.seed.unwrap_or(base.dev.seed),
        data_dir: data_dir.clone(),
    };
    let mut log_config = base.clone();
    log_config.store.path = data_dir;
    let log = match logging::init(&log_config, Arc::new(SystemClock)) {
        Ok(log) => log,
        Err(error) => {
            output::error(&error);
            return Exit::DataDir;
        }
    };
    let mut signals = match Signals::install() {
        Ok(signals) => signals,
        Err(error) => {
            output::error(&format_args!("installing signal handlers: {error}"));
            return Exit::Internal;
        }
    };
    let network = match Network::start(&base, options).await {
        Ok(network) => network,
        Err(error) => {
            output::error(&format_args!("{error:#}"));
            return exit_of(&error);
        }
    };
    if let Some(address) = network.validator().and_then(crate::daemon::Daemon::admin_address) {
        let line = format!("http://{address}");
        if arguments.json {
            output::line(&serde_json::json!({
                "event": "started", "at_ms": network.market.now_ms(), "actor": "root", "http": line,
            }));
        } else {
            output::line(&line);
        }
    }
    let path = global.config_path().to_owned();
    let path = path.is_file().then_some(path);
    let mut session = Session { global, base, path, log, network, json: arguments.json };
    let (stopped_by_user, exit) = session.watch(&mut signals, arguments.run_for).await;
    session.finish(stopped_by_user, exit, signals).await
}

fn exit_of(error: &anyhow::Error) -> Exit {
    if let Some(start) = error.downcast_ref::<crate::daemon::StartError>() {
        return start.exit;
    }
    match error.downcast_ref::<DevChainError>() {
        Some(DevChainError::InUse { .. }) => return Exit::InUse,
        Some(DevChainError::Damaged { .. } | DevChainError::Read { .. }) => return Exit::Store,
        _ => {}
    }
    if error.is::<HistoryError>() { Exit::Config } else { Exit::Internal }
}

struct Session {
    global: GlobalArgs,
    base: Config,
    path: Option<PathBuf>,
    log: LogHandle,
    network: Network,
    json: bool,
}

impl Session {
    /// Prints, saves, reloads and restarts until something ends it; true when a person did.
    async fn watch(&mut self, signals: &mut Signals, run_for: Option<Duration>) -> (bool, Exit) {
        let reports = self.network.reports.take();
        let mut events = reports.unwrap_or_else(|| self.network.events.subscribe());
        let mut save = tokio::time::interval(SAVE_EVERY);
        let mut board = tokio::time::interval(BOARD_EVERY);
        board.reset();
        let ends_ms = run_for.map_or(self.network.ends_ms, |span| {
            let span_ms = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
            self.network.began_ms.saturating_add(span_ms).min(self.network.ends_ms)
        });
        let pace = &self.base.reload;
        let path = self.path.clone().unwrap_or_default();
        let mut watcher = Watcher::new(&path, pace.poll, pace.debounce);
        let gone = output::closed();
        tokio::pin!(gone);
        loop {
            let is_watched = self.path.is_some() && self.base.reload.watch;
            tokio::select! {
                biased;
                request = signals.next() => match request {
                    Request::Stop => return (true, Exit::Done),
                    Request::Restart => self.restart().await,
                    Request::ReopenLogs => reopen(&self.log),
                    Request::Dump => self.dump(),
                },
                // Nobody reads what this prints any more, as after `| head`.
                () = &mut gone => return (true, Exit::Done),
                line = events.recv() => self.print(line),
                _ = save.tick() => {
                    if let Err(error) = self.network.save_progress() {
                        warn!(%error, "market time not saved");
                    }
                    if self.network.market.now_ms() >= ends_ms {
                        return (false, Exit::Done);
                    }
                    if let Some(actor) = self.given_up() {
                        error!(actor, "an essential actor cannot be kept alive, stopping");
                        return (false, Exit::Internal);
                    }
                },
                () = watcher.changed(), if is_watched => {
                    self.reload().await;
                    let pace = &self.base.reload;
                    watcher.set_pace(pace.poll, pace.debounce);
                },
                _ = board.tick(), if !self.json => self.print_board(),
            }
        }
    }

    fn print(&self, line: Result<Arc<EventLine>, RecvError>) {
        match line {
            Ok(line) if !self.json => {
                if let Some(text) = board::human(&line, &self.network.names) {
                    output::line(&text);
                }
            }
            other => print_event(other),
        }
    }

    fn print_board(&self) {
        match Summary::rows(&self.network) {
            Ok(rows) => output::line(&board::table(&rows)),
            Err(error) => warn!(%error, "leader board not read"),
        }
    }

    fn given_up(&mut self) -> Option<String> {
        self.network.daemons.iter_mut().find_map(|(_, daemon)| daemon.has_given_up())
    }

    fn dump(&self) {
        for (member, daemon) in &self.network.daemons {
            let node = daemon.node();
            let vitals = node.vitals.snapshot();
            info!(node = member.name, ?vitals, live = ?node.boards.live(), "state dump");
        }
    }

    fn refuse(&self, errors: &ConfigErrors) {
        let lines: Vec<String> = errors.errors.iter().map(ToString::to_string).collect();
        for line in &lines {
            error!(error = line, "configuration refused, nothing is changed");
        }
        if let Some(validator) = self.network.validator() {
            validator.reload_refused(lines);
        }
    }

    async fn reload(&mut self) {
        let new = match load(&self.global) {
            Ok(config) => config,
            Err(errors) => return self.refuse(&errors),
        };
        self.log.apply(&new.log);
        for index in 0..self.network.daemons.len() {
            let Some((member, _)) = self.network.daemons.get(index) else { break };
            let config = match self.network.config_of(&new, &member.clone()) {
                Ok(config) => config,
                Err(error) => return error!(%error, "configuration not applied"),
            };
            if let Some((_, daemon)) = self.network.daemons.get_mut(index) {
                let diff = config::diff(daemon.config(), &config);
                if diff.is_empty() {
                    daemon.node().clear_alarm("configuration");
                } else {
                    daemon.reload(config, &diff).await;
                }
            }
        }
        self.base = new;
    }

    async fn restart(&mut self) {
        let new = match load(&self.global) {
            Ok(config) => config,
            Err(errors) => return self.refuse(&errors),
        };
        self.log.apply(&new.log);
        for index in 0..self.network.daemons.len() {
            let Some((member, _)) = self.network.daemons.get(index) else { break };
            let config = self.network.config_of(&new, &member.clone());
            let Some((member, daemon)) = self.network.daemons.get_mut(index) else { break };
            match config {
                Ok(config) => restart_tree(daemon, config).await,
                Err(error) => error!(node = member.name, %error, "actor tree not restarted"),
            }
        }
        self.base = new;
    }

    async fn finish(self, stopped_by_user: bool, exit: Exit, mut signals: Signals) -> Exit {
        let mut events = self.network.events.subscribe();
        let summary = Summary::collect(&self.network);
        let json = self.json;
        let stop = self.network.stop();
        let graceful = tokio::select! {
            biased;
            graceful = stop => graceful,
            () = second_stop(&mut signals) => false,
        };
        while let (true, Ok(line)) = (json, events.try_recv()) {
            print_event(Ok(line));
        }
        match &summary {
            Ok(summary) if json => match serde_json::to_string(summary) {
                Ok(text) => output::line(&text),
                Err(error) => output::error(&error),
            },
            Ok(summary) => output::line(&summary),
            Err(error) => output::error(&format_args!("no summary: {error:#}")),
        }
        let unsettled = summary.as_ref().map_or(0, |summary| summary.unsettled);
        match (exit, graceful, stopped_by_user) {
            (Exit::Done, true, true) => Exit::Done,
            (Exit::Done, true, false) if unsettled == 0 => Exit::Done,
            (Exit::Done, ..) => Exit::Unfinished,
            (other, ..) => other,
        }
    }
}

async fn second_stop(signals: &mut Signals) {
    while signals.next().await != Request::Stop {}
}
