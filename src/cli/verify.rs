//! `msgtrk verify`

use super::Context;
use super::text::clean;
use crate::store::Store;
use std::io::Write;
use std::process::ExitCode;

#[derive(clap::Args)]
#[command(after_help = "Reads the whole index and changes nothing.")]
pub struct Arguments {}

pub fn run(cx: &Context, _: &Arguments) -> anyhow::Result<ExitCode> {
    let report = Store::verify(&cx.index)?;
    let mut out = anstream::stdout().lock();
    for path in &report.damaged {
        writeln!(out, "damaged: {}", clean(&path.display().to_string()))?;
    }
    for problem in &report.problems {
        writeln!(out, "wrong: {}", clean(problem))?;
    }
    writeln!(
        out,
        "{} files, {} records: {}",
        report.files,
        report.records,
        if report.is_ok() { "all is well" } else { "rebuild it with `msgtrk backfill` into a new folder" }
    )?;
    Ok(if report.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(2) })
}
