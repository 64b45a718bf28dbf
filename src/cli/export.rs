//! `msgtrk export` and `msgtrk import`: the index as JSON lines, for backup and moving house.
//!
//! The first line is the head, `{"msgtrk_export":{"version":1,...}}`; then `{"record":{..}}` for every record in its
//! stored form (grants are events of records), `{"source":{..}}` for every log file that was read, `{"positions":".."}`
//! where asked for; the last line is `{"end":{..}}` with the counts, so that a file that was cut off is known for one.

use super::{Context, times};
use crate::ingest::commit::{Sink, Work};
use crate::ledger::Change;
use crate::model::event::Event;
use crate::model::record::StoredRecord;
use crate::model::time::{Precision, rfc3339};
use crate::source::FileState;
use crate::store::Store;
use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Version of the format.
const VERSION: u32 = 1;
/// The longest line, bytes: a record of the most events, in base64.
const MAX_LINE: u64 = 256 << 20;
/// Bytes of events in one commit, without a daemon.
const BUDGET: usize = 64 << 20;

#[derive(clap::Args)]
#[command(
    after_help = "Writes JSON lines to standard output, or to a file of mode 0600; Zstandard if its name ends in .zst. Everything is in it: \
records with their grants, and which log files were read, so that they are not read again. With --since or --until only records are."
)]
pub struct Export {
    /// Only messages that arrived at or after this time
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only messages that arrived before this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Also how far live logs were read: for an index that goes on with the same files
    #[arg(long, conflicts_with_all = ["since", "until"])]
    positions: bool,
    /// File to write to
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(clap::Args)]
#[command(
    after_help = "What is there already is joined, not doubled: the same file may be imported again. Plain or Zstandard, known by content. \
When a line is damaged or the file is cut off, all records before that are stored, which log files were read is not, and the line is named; \
exit status 2."
)]
pub struct Import {
    /// A file that `msgtrk export` wrote, or - for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Take over how far live logs were read; only into an index that has followed none, without a daemon
    #[arg(long)]
    positions: bool,
}

#[derive(Serialize, Deserialize)]
struct Head {
    version: u32,
    program: String,
    at: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Counts {
    records: u64,
    sources: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    MsgtrkExport(Head),
    Record(StoredRecord),
    Source { key: String, json: String },
    Positions(String),
    End(Counts),
}

fn put(out: &mut dyn Write, line: &Line) -> std::io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}

pub fn export(cx: &Context, a: &Export) -> anyhow::Result<ExitCode> {
    let store = cx.open()?;
    let moment = |t: &Option<String>| t.as_deref().map(|t| times::moment(t, cx.now, cx.zone)).transpose().map_err(anyhow::Error::msg);
    let range = (moment(&a.since)?, moment(&a.until)?);
    let counts = match &a.output {
        None => {
            let mut out = BufWriter::new(std::io::stdout().lock());
            let counts = write(cx, &store, a, range, &mut out)?;
            out.flush()?;
            counts
        }
        Some(path) => {
            let doing = || format!("write {}", path.display());
            let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            // Under its name only when it is whole; such a file is readable by its owner only.
            let mut file = tempfile::NamedTempFile::new_in(folder).with_context(doing)?;
            let mut out = BufWriter::new(file.as_file_mut());
            let counts = if path.extension().is_some_and(|e| e == "zst") {
                let mut packed = zstd::Encoder::new(&mut out, 3).with_context(doing)?;
                let counts = write(cx, &store, a, range, &mut packed).with_context(doing)?;
                packed.finish().with_context(doing)?;
                counts
            } else {
                write(cx, &store, a, range, &mut out).with_context(doing)?
            };
            out.flush().with_context(doing)?;
            drop(out);
            file.as_file().sync_all().with_context(doing)?;
            file.persist(path).with_context(doing)?;
            counts
        }
    };
    anstream::eprintln!("{} records and {} log files exported", counts.records, counts.sources);
    Ok(ExitCode::SUCCESS)
}

fn write(cx: &Context, store: &Store, a: &Export, range: (Option<i64>, Option<i64>), out: &mut dyn Write) -> anyhow::Result<Counts> {
    let mut counts = Counts::default();
    let head = Head { version: VERSION, program: env!("CARGO_PKG_VERSION").into(), at: rfc3339(cx.now, Precision::Second) };
    put(out, &Line::MsgtrkExport(head))?;
    let (since, until) = (range.0.unwrap_or(i64::MIN), range.1.unwrap_or(i64::MAX));
    let mut failed = Ok(());
    store.scan(&mut |record| {
        let arrival = record.events().next().map_or(0, |e| e.head.time);
        if arrival >= since && arrival < until {
            counts.records += 1;
            failed = put(out, &Line::Record(record));
        }
        failed.is_ok()
    })?;
    failed?;
    if range == (None, None) {
        for (key, json) in store.source_documents()? {
            counts.sources += 1;
            put(out, &Line::Source { key, json })?;
        }
    }
    if let (true, Some(positions)) = (a.positions, store.positions()?) {
        put(out, &Line::Positions(positions))?;
    }
    put(out, &Line::End(counts))?;
    Ok(counts)
}

/// Records on their way in.
struct Incoming<'a> {
    sink: Box<dyn Sink + 'a>,
    most: usize,
    changes: Vec<Change>,
    bytes: usize,
    read: Counts,
    sources: Vec<(String, String)>,
    positions: Option<String>,
    written: u64,
}

impl Incoming<'_> {
    fn commit(&mut self) -> anyhow::Result<()> {
        self.bytes = 0;
        self.written += self.sink.commit(Work { changes: std::mem::take(&mut self.changes), ..Work::default() })?;
        Ok(())
    }

    /// Takes a line; says whether it was the last one. The error is in words.
    fn take(&mut self, line: &[u8]) -> Result<bool, String> {
        match serde_json::from_slice(line).map_err(|e| e.to_string())? {
            Line::MsgtrkExport(_) => return Err("a second head".into()),
            Line::Record(r) => {
                check(&r)?;
                self.read.records += 1;
                self.bytes += r.events.len() + 256;
                self.changes.push(Change { slot: r.slot, mta: r.mta, role: r.role, reused: r.reused, events: r.events });
            }
            Line::Source { key, json } => {
                serde_json::from_str::<serde_json::Value>(&json).map_err(|e| format!("source {key}: {e}"))?;
                self.read.sources += 1;
                self.sources.push((key, json));
            }
            Line::Positions(json) => {
                serde_json::from_str::<crate::ingest::positions::Positions>(&json).map_err(|e| format!("positions: {e}"))?;
                self.positions = Some(json);
            }
            Line::End(counts) if counts == self.read => return Ok(true),
            Line::End(counts) => {
                let (want, got) = (counts, self.read);
                return Err(format!(
                    "{} records and {} log files were exported, {} and {} are here",
                    want.records, want.sources, got.records, got.sources
                ));
            }
        }
        Ok(false)
    }
}

/// Whether a record is one that an index may hold.
fn check(r: &StoredRecord) -> Result<(), String> {
    let mut rest = r.events.as_slice();
    while let Some((_, after)) = Event::decode(rest) {
        rest = after;
    }
    if r.events.is_empty() || !rest.is_empty() {
        return Err(format!("record {}: its events cannot be read", r.key));
    }
    let names = [&r.slot.host, &r.slot.instance, &r.slot.queue_id, &r.mta];
    let belongs = r.key == r.slot.key() || r.reused;
    if !belongs || names.iter().any(|n| n.len() > crate::model::event::MAX_LINE) {
        return Err(format!("record {}: the key is not that of its host and queue id", r.key));
    }
    Ok(())
}

pub fn import(cx: &Context, a: &Import) -> anyhow::Result<ExitCode> {
    let name = a.file.display().to_string();
    let mut input: Box<dyn BufRead> = match a.file.as_os_str() == "-" {
        true => Box::new(BufReader::new(std::io::stdin().lock())),
        false => Box::new(BufReader::with_capacity(1 << 20, std::fs::File::open(&a.file).with_context(|| name.clone())?)),
    };
    if input.fill_buf().with_context(|| name.clone())?.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        input = Box::new(BufReader::with_capacity(1 << 20, zstd::Decoder::with_buffer(input)?));
    }
    let mut line = Vec::new();
    head(&mut input, &mut line).with_context(|| name.clone())?;
    let store = Store::open_or_create(&cx.index)?;
    let (sink, budget) = cx.sink(&store)?;
    if a.positions && (budget.is_some() || store.positions()?.is_some_and(|p| !p.is_empty())) {
        bail!("--positions: the index follows logs already; stop the daemon and name a new folder, or leave --positions out");
    }
    let most = budget.unwrap_or(BUDGET);
    let mut all =
        Incoming { sink, most, changes: Vec::new(), bytes: 0, read: Counts::default(), sources: vec![], positions: None, written: 0 };
    let mut number = 1u64;
    let wrong = loop {
        number += 1;
        match next_line(&mut input, &mut line) {
            Ok(true) => {}
            Ok(false) => break Some("the file is cut off here: its last line is missing".to_string()),
            Err(e) => break Some(e.to_string()),
        }
        match all.take(&line) {
            Ok(true) => break None,
            Ok(false) if all.bytes >= all.most => all.commit()?,
            Ok(false) => {}
            Err(e) => break Some(e),
        }
    };
    all.commit()?;
    if let Some(why) = wrong {
        bail!("{name}: line {number}: {why}; the {} records before it are stored, which log files were read is not", all.read.records);
    }
    let sources = newer(&store, std::mem::take(&mut all.sources))?;
    let positions = all.positions.take().filter(|_| a.positions);
    all.sink.commit(Work { sources, positions, ..Work::default() })?;
    anstream::eprintln!("{} records read, {} new or changed; {} log files known", all.read.records, all.written, all.read.sources);
    Ok(ExitCode::SUCCESS)
}

fn head(input: &mut dyn BufRead, line: &mut Vec<u8>) -> anyhow::Result<()> {
    next_line(input, line).context("line 1")?;
    match serde_json::from_slice(line) {
        Ok(Line::MsgtrkExport(Head { version: VERSION, .. })) => Ok(()),
        Ok(Line::MsgtrkExport(h)) => bail!(
            "line 1: written by msgtrk {} in version {} of the format, this one reads version {VERSION}: export with a msgtrk of this version",
            h.program,
            h.version
        ),
        _ => bail!("line 1: this is no file that `msgtrk export` wrote"),
    }
}

/// Reads a line of bounded length; `false` at the end, and when the last line has no newline.
fn next_line(input: &mut dyn BufRead, line: &mut Vec<u8>) -> std::io::Result<bool> {
    line.clear();
    let n = Read::take(input, MAX_LINE).read_until(b'\n', line)? as u64;
    if n >= MAX_LINE {
        return Err(std::io::Error::other(format!("longer than {MAX_LINE} bytes")));
    }
    Ok(line.ends_with(b"\n"))
}

/// The sources that are unknown, or of which the index has read less.
fn newer(store: &Store, sources: Vec<(String, String)>) -> anyhow::Result<Vec<(String, String)>> {
    store.reload()?;
    let length = |json: &str| serde_json::from_str::<FileState>(json).map_or(0, |s| s.length);
    let known: HashMap<String, u64> = store.source_documents()?.into_iter().map(|(key, json)| (key, length(&json))).collect();
    Ok(sources.into_iter().filter(|(key, json)| known.get(key).is_none_or(|n| *n < length(json))).collect())
}
