//! What each command does, one file a command or family.

pub mod check;
mod columns;
#[cfg(feature = "devnet")]
pub mod dev;
pub mod feed;
pub mod history;
pub mod inspect;
pub mod logs;
pub mod model;
pub mod run;
pub mod source;
pub mod store;

use crate::cli::{Cli, Command, FeedCommand, MissingFile, ModelCommand, RoundsCommand};
use crate::config::Loaded;
use crate::exit::Exit;
use crate::output;

/// What to do when there is nothing in the data directory.
pub(crate) const NAME_THE_DIRECTORY: &str = "name the data directory with --data-dir \
     (`--data-dir var/dev` for the embedded network) or in `store.path`";

/// Runs a command to its end.
pub async fn execute(cli: Cli) -> Exit {
    // A panic is one line; commands that open a log set a hook of their own. sled panics on a
    // damaged database, and the store makes an error of that.
    std::panic::set_hook(Box::new(|panic| {
        if !forecastd_store::is_contained(panic) {
            output::error(&format_args!("internal failure, {panic}"));
        }
    }));
    let global = cli.global;
    let with_config =
        |missing: MissingFile, then: &dyn Fn(Loaded) -> Exit| match global.load(missing) {
            Ok(loaded) => then(loaded),
            Err(errors) => {
                output::error(&errors);
                Exit::Config
            }
        };
    // Commands that read a store need no valid configuration when the directory is named.
    let data_dir = || match &global.data_dir {
        Some(directory) => Ok(directory.clone()),
        None => global.load(MissingFile::UseDefaults).map(|loaded| loaded.config.store.path),
    };
    match cli.command {
        #[cfg(feature = "devnet")]
        Command::Dev(arguments) => Box::pin(dev::run(global, arguments)).await,
        #[cfg(not(feature = "devnet"))]
        Command::Dev(_) => {
            output::error(&"this program was built without the embedded network (feature devnet)");
            Exit::Usage
        }
        Command::Run(arguments) => run::run(&global, &arguments).await,
        Command::CheckConfig(arguments) => check::check(&global, &arguments).await,
        Command::Logs(arguments) => match global.load(MissingFile::UseDefaults) {
            Ok(loaded) => logs::logs(&loaded.config, &arguments).await,
            Err(errors) => {
                output::error(&errors);
                Exit::Config
            }
        },
        Command::Status(arguments) => match data_dir() {
            Ok(directory) => inspect::status(&directory, arguments.json).await,
            Err(errors) => refuse(&errors),
        },
        Command::Rounds(command) => match data_dir() {
            Ok(directory) => match command {
                RoundsCommand::List(arguments) => inspect::rounds(&directory, &arguments).await,
                RoundsCommand::Show(arguments) => {
                    inspect::round(&directory, &arguments.id, arguments.json).await
                }
                RoundsCommand::Replay(arguments) => {
                    inspect::replay(&directory, arguments.id.as_deref(), arguments.json).await
                }
            },
            Err(errors) => refuse(&errors),
        },
        Command::Scores(arguments) => match data_dir() {
            Ok(directory) => {
                inspect::scores(&directory, arguments.stream.as_deref(), arguments.json).await
            }
            Err(errors) => refuse(&errors),
        },
        Command::History(command) => history::run(&global, &command).await,
        Command::Feed(FeedCommand::Tail(arguments)) => feed::tail(&arguments).await,
        Command::Store(command) => match data_dir() {
            Ok(directory) => store::run(&directory, &command),
            Err(errors) => refuse(&errors),
        },
        Command::Model(command) => {
            with_config(MissingFile::UseDefaults, &|loaded| match &command {
                ModelCommand::Train(arguments) => model::train_command(&loaded.config, arguments),
                ModelCommand::Backtest(arguments) => {
                    model::backtest_command(&loaded.config, arguments)
                }
                ModelCommand::List(arguments) => model::list_command(&loaded.config, arguments),
            })
        }
    }
}

fn refuse(errors: &crate::config::ConfigErrors) -> Exit {
    output::error(errors);
    Exit::Config
}
