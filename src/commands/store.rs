//! `forecastd store verify | export | import | repair`: the data directory of a stopped daemon.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use forecastd_store::{ExportReport, Store, VerifyReport};
use serde::Serialize;

use crate::cli::StoreCommand;
use crate::commands::source::{READ_CACHE, finish, node_dir};
use crate::exit::Exit;
use crate::output;

/// Runs the command on the data directory; blocks while it works.
pub fn run(data_dir: &Path, command: &StoreCommand) -> Exit {
    finish(match command {
        StoreCommand::Verify(arguments) => verify(&node_dir(data_dir), arguments.json),
        StoreCommand::Export(arguments) => {
            export(&node_dir(data_dir), &arguments.file, arguments.json)
        }
        // Into the very directory that was named: there is no node in it yet.
        StoreCommand::Import(arguments) => import(data_dir, &arguments.file, arguments.json),
        StoreCommand::Repair(arguments) => repair(&node_dir(data_dir), arguments.json),
    })
}

fn verify(directory: &Path, json: bool) -> anyhow::Result<Exit> {
    let store = Store::open_existing(directory, READ_CACHE)?;
    let report = store.verify();
    store.close_blocking();
    let report = report?;
    if json {
        output::json(&report)?;
    } else {
        print_verified(&report);
    }
    Ok(verdict(&report))
}

fn verdict(report: &VerifyReport) -> Exit {
    if report.is_ok() { Exit::Done } else { Exit::Store }
}

fn print_verified(report: &VerifyReport) {
    output::line(&"database  rows      of        kind");
    for kind in &report.kinds {
        output::line(&format_args!(
            "{:<8}  {:<8}  {:<8}  {}{}",
            kind.db.as_str(),
            kind.rows,
            kind.expected_rows,
            kind.name,
            if kind.is_whole { "" } else { "  NOT WHOLE" },
        ));
    }
    for problem in &report.problems {
        output::error(problem);
    }
    let (rows, bytes) = (report.rows, report.live_bytes);
    match report.problem_count {
        0 => output::line(&format_args!("{rows} rows, {bytes} bytes, nothing is wrong")),
        count => output::error(&format_args!(
            "{count} problems in {rows} rows; nothing was changed, restore a backup with \
             `forecastd store import`"
        )),
    }
}

fn print_moved(report: ExportReport, file: &Path, json: bool) -> anyhow::Result<()> {
    if json {
        return output::json(&report);
    }
    output::line(&format_args!("{} rows, {} bytes: {}", report.rows, report.bytes, file.display()));
    Ok(())
}

fn export(directory: &Path, file: &Path, json: bool) -> anyhow::Result<Exit> {
    anyhow::ensure!(!file.exists(), "{} exists already, name another file", file.display());
    let store = Store::open_existing(directory, READ_CACHE)?;
    // Under another name until it is whole: half a backup must not pass for one.
    let mut draft = file.as_os_str().to_owned();
    draft.push(".part");
    let draft = PathBuf::from(draft);
    let written = write_export(&store, &draft);
    store.close_blocking();
    let placed = written.and_then(|report| {
        fs::rename(&draft, file).with_context(|| format!("writing {}", file.display()))?;
        Ok(report)
    });
    if placed.is_err() && fs::remove_file(&draft).is_err() {
        output::warning(&format_args!("{} is left behind", draft.display()));
    }
    print_moved(placed?, file, json)?;
    Ok(Exit::Done)
}

fn write_export(store: &Store, draft: &Path) -> anyhow::Result<ExportReport> {
    let out = File::create(draft).with_context(|| format!("creating {}", draft.display()))?;
    let kept = out.try_clone()?;
    let report = store.export(BufWriter::new(out))?;
    kept.sync_all().with_context(|| format!("writing {}", draft.display()))?;
    Ok(report)
}

fn import(directory: &Path, file: &Path, json: bool) -> anyhow::Result<Exit> {
    let input = File::open(file).with_context(|| format!("opening {}", file.display()))?;
    let report = forecastd_store::restore(directory, READ_CACHE, BufReader::new(input))?;
    print_moved(report, directory, json)?;
    Ok(Exit::Done)
}

/// A repair, for programs.
#[derive(Debug, Serialize)]
struct Repaired<'a> {
    #[serde(flatten)]
    report: &'a forecastd_store::RepairReport,
    is_ok: bool,
}

fn repair(directory: &Path, json: bool) -> anyhow::Result<Exit> {
    let report = forecastd_store::repair(directory, READ_CACHE)?;
    if json {
        output::json(&Repaired { report: &report, is_ok: report.verify.is_ok() })?;
        return Ok(verdict(&report.verify));
    }
    for path in &report.set_aside {
        output::line(&format_args!("set aside: {}", path.display()));
    }
    if report.lost_batches > 0 {
        output::warning(&format_args!(
            "{} acknowledged batches are lost and stay lost",
            report.lost_batches
        ));
    }
    print_verified(&report.verify);
    Ok(verdict(&report.verify))
}
