//! `msgtrk demo`: the whole way on the sample logs.

use super::{Context, progress, text, trace};
use crate::ingest::backfill::{BUDGET, Options, backfill};
use crate::model::event::Action;
use crate::model::query::{Query, Sort};
use crate::store::Store;
use anyhow::{Context as _, bail};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

#[derive(clap::Args)]
pub struct Arguments {
    /// Folder of sample logs
    #[arg(long, value_name = "DIR", default_value = "sample-logs")]
    samples: PathBuf,
    /// Folder for the demo's index [default: a new one in the temporary folder]
    #[arg(value_name = "DIR")]
    into: Option<PathBuf>,
}

pub fn run(cx: &Context, a: &Arguments) -> anyhow::Result<ExitCode> {
    if !a.samples.is_dir() {
        bail!("{}: no such folder; run the demo in the project's folder, or name its sample-logs with --samples", a.samples.display());
    }
    let dir = match &a.into {
        Some(dir) => dir.clone(),
        None => tempfile::Builder::new().prefix("msgtrk-demo-").tempdir()?.keep(),
    };
    let store = Store::open_or_create(&dir)?;
    let stop = AtomicBool::new(false);
    let logs: Vec<PathBuf> = ["postfix", "exim", "dovecot"].iter().map(|n| a.samples.join(n)).filter(|p| p.is_dir()).collect();
    let options = Options {
        paths: logs,
        host: "store".into(),
        year: Some(2026),
        site: std::sync::Arc::new(cx.site.clone()),
        parsers: cx.load_parsers()?,
        budget: BUDGET,
        now: cx.now / 1_000_000,
        stop: &stop,
    };
    let done = backfill(&store, &options, &progress::Bar::new(false)).with_context(|| dir.display().to_string())?;
    store.reload()?;
    let index = text::clean(&dir.display().to_string());
    anstream::println!("{} lines read into {index}: {} records\n", done.counts.lines, store.stats()?.hops);
    let failed = Query { action: Some(Action::Failed), sort: Sort::Newest, limit: Some(8), ..Query::default() };
    anstream::println!("$ msgtrk --index {index} search --action failed --limit 8");
    anstream::print!("{}", super::search::table(cx, &failed, &store.find(&failed)?.records));
    let Some(id) = example(&store)? else {
        bail!("{}: no message over several hosts in these logs", a.samples.display());
    };
    anstream::println!("\n$ msgtrk --index {index} trace '{}'", text::clean(&id));
    for j in crate::model::journey::trace(&mut store.walk(), &id)? {
        anstream::print!("{}", trace::show(cx, &j, false));
    }
    Ok(ExitCode::SUCCESS)
}

/// The Message-ID of the first message with the most hops among the earliest that an MTA relayed.
fn example(store: &Store) -> anyhow::Result<Option<String>> {
    let query = Query { action: Some(Action::Relayed), sort: Sort::Oldest, limit: Some(40), ..Query::default() };
    let mut best: Option<(usize, String)> = None;
    for r in store.find(&query)?.records {
        let Some(id) = r.message_id else { continue };
        let hops = crate::model::journey::trace(&mut store.walk(), &id)?.first().map_or(0, |j| j.records.len());
        if best.as_ref().is_none_or(|(n, _)| hops > *n) {
            best = Some((hops, id));
        }
    }
    Ok(best.map(|(_, id)| id))
}
