//! `forecastd run miner | validator | both`: one node from the configuration file.

use std::sync::Arc;

use anyhow::Context as _;
use forecastd_actors::events::{EventLine, EventSink};
use forecastd_chain::{Keypair, WalletError};
use forecastd_core::{Clock, Role, Signer};
use tokio::sync::broadcast::error::RecvError;
use tracing::{error, info, warn};

use crate::assets;
use crate::cli::{GlobalArgs, RunArgs};
use crate::clock::SystemClock;
use crate::config::{self, Config, ConfigErrors, Loaded};
use crate::daemon::{Daemon, Environment, StartError};
use crate::exit::Exit;
use crate::logging::{self, LogHandle};
use crate::output;
use crate::reload::Watcher;
use crate::signals::{Request, Signals};

/// Runs a node until it is told to stop.
pub async fn run(global: &GlobalArgs, arguments: &RunArgs) -> Exit {
    let loaded = match load(global, arguments.role) {
        Ok(loaded) => loaded,
        Err(errors) => {
            output::error(&errors);
            return Exit::Config;
        }
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let log = match logging::init(&loaded.config, clock) {
        Ok(log) => log,
        Err(error) => {
            output::error(&error);
            return Exit::DataDir;
        }
    };
    let exit = serve(global, arguments, loaded.config, &log).await;
    log.flush();
    exit.unwrap_or_else(|start| {
        output::error(&start);
        start.exit
    })
}

/// Reads the configuration of a node; a start and a reload see the same.
fn load(global: &GlobalArgs, role: Role) -> Result<Loaded, ConfigErrors> {
    let mut loaded = global.load_for(role)?;
    if role.is_miner()
        && let Err(error) = assets::resolve(&mut loaded.config)
    {
        // The data directory cannot be written, which the start of the store explains.
        warn!(error = format!("{error:#}"), "built-in checkpoint not unpacked");
    }
    Ok(loaded)
}

/// Reads the hotkey that the configuration names.
///
/// # Errors
/// [`StartError`] with exit 77 for a key file that is unreadable or too open.
pub fn key(config: &Config) -> Result<Keypair, StartError> {
    let wallet = &config.wallet;
    let result = if wallet.uri.is_set() {
        Keypair::from_uri(wallet.uri.expose())
    } else {
        let home = std::env::var_os("HOME").map(std::path::PathBuf::from);
        let directory = wallet.directory(home.as_deref());
        forecastd_chain::Wallet::hotkey_path(&directory, &wallet.name, &wallet.hotkey)
            .and_then(|file| Keypair::from_file(&file))
    };
    result.map_err(|error: WalletError| StartError { exit: Exit::Key, error: error.into() })
}

async fn serve(
    global: &GlobalArgs,
    arguments: &RunArgs,
    config: Config,
    log: &LogHandle,
) -> Result<Exit, StartError> {
    let role = arguments.role;
    let internal = |error: anyhow::Error| StartError { exit: Exit::Internal, error };
    let mut signals = Signals::install().context("installing signal handlers").map_err(internal)?;
    let key = Arc::new(key(&config)?);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let name: Arc<str> = format!("{}-{}", role.as_str(), key.hotkey().short()).into();
    let events = EventSink::new(Arc::clone(&clock), Arc::clone(&name));
    let environment = Environment {
        name,
        role,
        key,
        market: Arc::clone(&clock),
        real: clock,
        events: events.clone(),
        with_admin: true,
        publish_bound: false,
    };
    let mut watcher =
        Watcher::new(global.config_path(), config.reload.poll, config.reload.debounce);
    let mut reports = events.subscribe();
    let mut daemon = Daemon::start(config, environment).await?;
    announce(&daemon, arguments.json);
    loop {
        let watch = daemon.config().reload.watch;
        tokio::select! {
            biased;
            request = signals.next() => match request {
                Request::Stop => {
                    let exit = stop(daemon, signals).await;
                    while let (true, Ok(line)) = (arguments.json, reports.try_recv()) {
                        print_event(Ok(line));
                    }
                    return Ok(exit);
                }
                Request::Restart => {
                    restart(&mut daemon, global, role, log).await;
                    if !daemon.is_running() {
                        daemon.stop().await;
                        return Ok(Exit::Internal);
                    }
                }
                Request::ReopenLogs => reopen(log),
                Request::Dump => dump(&daemon),
            },
            actor = daemon.gave_up() => {
                error!(actor, "an essential actor cannot be kept alive, stopping");
                daemon.stop().await;
                return Ok(Exit::Internal);
            }
            line = reports.recv(), if arguments.json => print_event(line),
            () = watcher.changed(), if watch => {
                reload(&mut daemon, global, role, log, &mut watcher).await;
            },
        }
    }
}

/// Stops in order; a second signal ends it at once.
async fn stop(daemon: Daemon, mut signals: Signals) -> Exit {
    info!("stopping");
    tokio::select! {
        biased;
        graceful = daemon.stop() => if graceful { Exit::Done } else { Exit::Unfinished },
        () = second_stop(&mut signals) => Exit::Unfinished,
    }
}

async fn second_stop(signals: &mut Signals) {
    while signals.next().await != Request::Stop {}
}

async fn restart(daemon: &mut Daemon, global: &GlobalArgs, role: Role, log: &LogHandle) {
    let config = match load(global, role) {
        Ok(loaded) => loaded.config,
        Err(errors) => return refuse(daemon, &errors),
    };
    info!("configuration is valid, restarting the actor tree");
    let log_config = config.log.clone();
    restart_tree(daemon, config).await;
    if daemon.config().log == log_config {
        log.apply(&log_config);
    }
}

/// Restarts the tree under `config`, or says why it runs on as it was.
pub async fn restart_tree(daemon: &mut Daemon, config: Config) {
    match daemon.restart(config).await {
        Ok(later) if later.is_empty() => {}
        Ok(later) => warn!(keys = ?later, "these keys need a new process"),
        Err(error) => {
            error!(error = format!("{error:#}"), "configuration not applied");
            daemon.reload_refused(vec![format!("{error:#}")]);
        }
    }
}

/// Applies a changed file, or refuses it and leaves everything as it is.
async fn reload(
    daemon: &mut Daemon,
    global: &GlobalArgs,
    role: Role,
    log: &LogHandle,
    watcher: &mut Watcher,
) {
    match load(global, role) {
        Ok(loaded) => {
            let diff = config::diff(daemon.config(), &loaded.config);
            if diff.is_empty() {
                daemon.node().clear_alarm("configuration");
                return;
            }
            log.apply(&loaded.config.log);
            watcher.set_pace(loaded.config.reload.poll, loaded.config.reload.debounce);
            let applied = daemon.reload(loaded.config, &diff).await;
            info!(now = ?applied.now, "configuration reloaded");
            if !applied.later.is_empty() {
                warn!(keys = ?applied.later, "these keys hold after SIGHUP or a restart");
            }
        }
        Err(errors) => refuse(daemon, &errors),
    }
}

fn refuse(daemon: &Daemon, errors: &config::ConfigErrors) {
    let lines: Vec<String> = errors.errors.iter().map(ToString::to_string).collect();
    for line in &lines {
        error!(error = line, "configuration refused, nothing is changed");
    }
    daemon.reload_refused(lines);
}

/// Prints the operator's address once it answers.
fn announce(daemon: &Daemon, json: bool) {
    let Some(address) = daemon.admin_address() else { return };
    if json {
        let at_ms = daemon.node().market.now_ms();
        output::line(&serde_json::json!({
            "event": "started", "at_ms": at_ms, "actor": "root", "http": format!("http://{address}"),
        }));
    } else {
        output::line(&format_args!("http://{address}"));
    }
}

/// Prints an event as one line of JSON.
pub fn print_event(line: Result<Arc<EventLine>, RecvError>) {
    match line {
        Ok(line) => match serde_json::to_string(&*line) {
            Ok(text) => output::line(&text),
            Err(error) => warn!(%error, "event not written"),
        },
        Err(RecvError::Lagged(lost)) => warn!(lost, "events not printed"),
        Err(RecvError::Closed) => {}
    }
}

/// Opens the log files anew; the old ones stay in use when that fails.
pub fn reopen(log: &LogHandle) {
    if let Err(error) = log.reopen() {
        error!(%error, "log file not reopened");
    }
}

fn dump(daemon: &Daemon) {
    let node = daemon.node();
    for vitals in node.vitals.snapshot() {
        info!(?vitals, "state dump");
    }
    info!(live = ?node.boards.live(), "state dump");
}
