//! `msgtrk stats`, and what an empty answer says: which hosts and times the index covers.

use super::text::{Table, bytes, clean, columns, dim, moment};
use super::{Context, text};
use crate::ingest::backfill::Extra;
use crate::ingest::parse_block::Counts;
use crate::ingest::positions::known_files;
use crate::model::query::Query;
use crate::store::{Store, StoreError};
use anstyle::Style;
use std::fmt::Write as _;
use std::io::Write;
use std::process::ExitCode;

#[derive(clap::Args)]
pub struct Arguments {
    /// List the lines of known programs that no pattern knows, with examples
    #[arg(long)]
    unparsed: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// A hole in a host's lines that is worth a word, microseconds.
const GAP: i64 = 3600 * 1_000_000;
/// Hosts and gaps listed at most.
const MOST: usize = 20;

pub fn run(cx: &Context, a: &Arguments) -> anyhow::Result<ExitCode> {
    let store = cx.open()?;
    let states = known_files(&store)?;
    let mut counts = Counts::default();
    states.iter().for_each(|s| counts.add(&Extra::of(s).counts));
    let s = store.stats()?;
    let mut out = anstream::stdout().lock();
    if a.json {
        let hosts = store.coverage(None, None)?.hosts;
        let hosts: Vec<_> = hosts.iter().map(|h| serde_json::json!({"host": h.host, "records": h.records, "first": text::moment(crate::resolve::clock::Zone::Fixed(0), h.first, false), "last": text::moment(crate::resolve::clock::Zone::Fixed(0), h.last, false)})).collect();
        let all = serde_json::json!({"messages": s.hops, "rejects": s.rejects, "witnesses": s.witnesses, "reports": s.reports, "queued": s.open, "segments": s.segments,
            "bytes": s.bytes, "files": states.len(), "lines": counts, "unparsed_lines": counts.unparsed_lines(), "hosts": hosts});
        writeln!(out, "{all}")?;
        return Ok(ExitCode::SUCCESS);
    }
    if a.unparsed {
        return unparsed(&mut out, &counts);
    }
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<10} {value}");
    };
    line("index", format!("{} ({}, {} segments)", clean(&cx.index.display().to_string()), bytes(s.bytes), s.segments));
    line(
        "records",
        format!(
            "{} messages at an MTA ({} queued), {} rejects, {} by witnesses, {} reports",
            s.hops, s.open, s.rejects, s.witnesses, s.reports
        ),
    );
    line("files", format!("{} read: {} lines, {} events, {} of other programs", states.len(), counts.lines, counts.events, counts.foreign));
    line("unparsed", format!("{} lines (--unparsed lists them)", counts.unparsed_lines()));
    write!(out, "{text}{}", covered(cx, &store, None, None)?)?;
    Ok(ExitCode::SUCCESS)
}

fn unparsed(out: &mut impl Write, counts: &Counts) -> anyhow::Result<ExitCode> {
    let mut rows: Vec<_> = counts.unparsed.iter().collect();
    rows.sort_by_key(|(_, u)| std::cmp::Reverse(u.count));
    for (program, u) in &rows {
        writeln!(out, "{}  {} lines", if program.is_empty() { "(no program)".into() } else { clean(program) }, u.count)?;
        for example in &u.examples {
            writeln!(out, "    {}", clean(example))?;
        }
    }
    if rows.is_empty() {
        writeln!(out, "every line of a known program was understood")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Which hosts and times the index covers, as lines of text; holes within `since..until` where they are given.
pub fn covered(cx: &Context, store: &Store, since: Option<i64>, until: Option<i64>) -> Result<String, StoreError> {
    let coverage = store.coverage(None, None)?;
    if coverage.hosts.is_empty() && store.has_reports()? {
        return Ok("no logs yet, only reports that came back as mail: `msgtrk backfill PATH` adds logs\n".into());
    }
    if coverage.hosts.is_empty() {
        return Ok("the index is empty: `msgtrk backfill PATH` fills it\n".into());
    }
    let mut table = Table::new(&["HOST", "RECORDS", "FROM", "UNTIL"]);
    for h in coverage.hosts.iter().take(MOST) {
        let at = |t| moment(cx.zone, t, false);
        table.row(vec![(h.host.clone(), Style::new()), (h.records.to_string(), Style::new()), (at(h.first), dim()), (at(h.last), dim())]);
    }
    let mut out = table.render(columns());
    if coverage.hosts.len() > MOST {
        let _ = writeln!(out, "... and {} more hosts", coverage.hosts.len() - MOST);
    }
    let mut holes = Vec::new();
    for h in &coverage.hosts {
        let gap = if since.is_some() { GAP / 12 } else { GAP };
        for (a, b) in h.gaps(since.unwrap_or(h.first), until.unwrap_or(h.last), gap) {
            holes.push(format!("no lines of {} from {} to {}", clean(&h.host), moment(cx.zone, a, false), moment(cx.zone, b, false)));
        }
    }
    let more = holes.len().saturating_sub(MOST);
    for hole in holes.into_iter().take(MOST) {
        let _ = writeln!(out, "{hole}");
    }
    if more > 0 {
        let _ = writeln!(out, "... and {more} more gaps");
    }
    Ok(out)
}

/// What is said when nothing was found: never a bare nothing.
pub fn nothing_found(cx: &Context, store: &Store, query: &Query) -> Result<String, StoreError> {
    Ok(format!("nothing found. What was searched:\n{}", covered(cx, store, query.since, query.until)?))
}
