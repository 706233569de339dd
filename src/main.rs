//! The `forecastd` program: command line in, exit code out.

use std::process::ExitCode;

use forecastd::{cli, commands};

fn main() -> ExitCode {
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(exit) => return exit.into(),
    };
    forecastd_exchange::install_tls();
    actix_rt::System::new().block_on(commands::execute(cli)).into()
}
