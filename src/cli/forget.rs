//! `msgtrk forget`

use super::Context;
use super::text::clean;
use crate::daemon::querylog;
use crate::ingest::commit::{Forget, Work, without};
use crate::model::redact::person::Person;
use crate::store::{Store, StoreError};
use std::process::ExitCode;

#[derive(clap::Args)]
#[command(after_help = "The address is found without regard to case, plain, with its local part in quotes, and within bounce addresses \
(user=example.org@..., user+40example.org, user%example.org). Not found: user+tag@example.org (name it by itself), other encodings, names, \
and what a hash stands for. Removed are records of which the address is the sender or the only recipient; in all others it is masked. \
When this returns, no file of the index holds the address any more, the query log included. Lines that come later are not concerned. \
Logs themselves stay as they are: files that were read are not read again, but a copy that was not read before brings the address back. \
Exit status: 0 done, 1 nothing found, 2 error.")]
pub struct Arguments {
    /// Address of the person
    #[arg(value_name = "ADDRESS")]
    address: String,
    /// Put a mask in the address' place (this is done unless --remove is given)
    #[arg(long, conflicts_with = "remove")]
    mask: bool,
    /// Take away whole records that are this person's alone
    #[arg(long)]
    remove: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// Records handed in at once.
const AT_ONCE: usize = 1_000;
/// New lines may come in while this works: so often it is looked again.
const PASSES: usize = 4;

/// What was found of a person.
#[derive(Default)]
struct Found {
    keys: Vec<String>,
    removed: u64,
    masked: u64,
    lines: u64,
    sources: Vec<(String, String)>,
    positions: bool,
}

impl Found {
    fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.sources.is_empty() && !self.positions
    }
}

fn look(store: &Store, person: &Person, remove: bool) -> Result<Found, StoreError> {
    let mut found = Found::default();
    store.scan(&mut |record| {
        if let Some((_, lines)) = person.forgotten(&record) {
            if remove && person.owns(&record) {
                found.removed += 1;
            } else {
                found.masked += 1;
                found.lines += lines;
            }
            found.keys.push(record.key);
        }
        true
    })?;
    for (key, json) in store.source_documents()? {
        let new = without(person, &json);
        if new != json {
            found.sources.push((key, new));
        }
    }
    found.positions = store.positions()?.is_some_and(|json| without(person, &json) != json);
    Ok(found)
}

pub fn run(cx: &Context, a: &Arguments) -> anyhow::Result<ExitCode> {
    let person = Person::new(&a.address).map_err(anyhow::Error::msg)?;
    let store = cx.open()?;
    let mut all = Found::default();
    let (mut files, mut left) = (0, false);
    if a.dry_run {
        all = look(&store, &person, a.remove)?;
        files = all.sources.len() as u64 + u64::from(all.positions);
    } else {
        let (mut sink, _) = cx.sink(&store)?;
        for pass in 0..PASSES {
            store.reload()?;
            let found = look(&store, &person, a.remove)?;
            left = !found.is_empty();
            if !left && pass > 0 {
                break;
            }
            all.removed += found.removed;
            all.masked += found.masked;
            all.lines += found.lines;
            files += found.sources.len() as u64 + u64::from(found.positions);
            all.keys.extend(found.keys.iter().cloned());
            for keys in found.keys.chunks(AT_ONCE) {
                let forget = Forget { person: person.clone(), keys: keys.to_vec(), remove: a.remove };
                sink.commit(Work { forget: Some(forget), ..Work::default() })?;
            }
            // Deleted records may lie in files from before, too: even if nothing was found they are written anew.
            let forget = Forget { person: person.clone(), keys: Vec::new(), remove: a.remove };
            sink.commit(Work { sources: found.sources, forget: Some(forget), purge: true, ..Work::default() })?;
        }
    }
    let asked = querylog::forget(&querylog::file(&cx.query_log, &cx.index), &person, a.dry_run)?;
    if left {
        anstream::eprintln!("msgtrk: lines with this address still come in; run this again later");
    }
    if all.keys.is_empty() && files + asked == 0 {
        anstream::eprintln!("msgtrk: {} is nowhere in the index", clean(person.address()));
        return Ok(ExitCode::from(1));
    }
    let would = if a.dry_run { "would be " } else { "" };
    anstream::println!("records    {} {would}masked ({} lines), {} {would}removed", all.masked, all.lines, all.removed);
    if files + asked > 0 {
        anstream::println!("else       {files} states of log files and {asked} lines of the query log {would}masked");
    }
    Ok(ExitCode::SUCCESS)
}
