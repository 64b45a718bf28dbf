//! `msgtrk backfill`

use super::progress::Bar;
use super::text::{bytes, clean};
use super::{Context, text};
use crate::ingest::backfill::{BUDGET, Options, Summary, backfill};
use crate::ingest::retention::kept_from;
use crate::store::Store;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

#[derive(clap::Args)]
#[command(
    after_help = "Reads logs, and mailboxes (Maildir, mbox, single mails) with delivery reports in them; plain, gzip, bzip2, xz and zstd, known by content; rotated files oldest first. What was read \
before, even if it was compressed or renamed since, is not read again. Ctrl-C commits and stops; the next run goes on."
)]
pub struct Arguments {
    /// Files, folders (with all below them), or - for standard input
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Host whose lines these are, where they name none [default: this machine]
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Year of each log's first line, where stamps have none [default: by the file's time]
    #[arg(long, value_name = "Y", value_parser = clap::value_parser!(i32).range(1970..=9999))]
    year: Option<i32>,
    /// Events gathered in memory before a commit, MiB
    #[arg(long, value_name = "MIB", default_value_t = (BUDGET >> 20) as u64, value_parser = clap::value_parser!(u64).range(1..=65_536))]
    memory: u64,
    /// No progress bar and no summary
    #[arg(long, short)]
    quiet: bool,
}

static STOP: AtomicBool = AtomicBool::new(false);

pub fn run(cx: &Context, a: &Arguments) -> anyhow::Result<ExitCode> {
    // Before the index is opened (and made): who stops it then is heard, too.
    let _ = ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("\nmsgtrk: committing what was read; once more Ctrl-C gives that up");
    });
    let parsers = cx.load_parsers()?;
    let store = Store::open_or_create(&cx.index)?;
    let (mut sink, most) = cx.sink(&store)?;
    // First of all: it may be what makes room.
    let before = sink.upkeep(&cx.retention, cx.now)?;
    let begun = Instant::now();
    let own = a.host.is_none();
    let options = Options {
        paths: a.paths.clone(),
        host: a.host.clone().unwrap_or_else(this_host),
        year: a.year,
        site: std::sync::Arc::clone(&cx.site),
        parsers,
        budget: ((a.memory as usize) << 20).min(most.unwrap_or(usize::MAX)),
        now: cx.now.div_euclid(1_000_000),
        stop: &STOP,
        not_before: kept_from(&cx.retention, cx.now),
    };
    let done = {
        let bar = Bar::new(a.quiet);
        backfill(&store, sink.as_mut(), &options, &bar)?
    };
    let kept = {
        let after = sink.upkeep(&cx.retention, cx.now)?;
        (before.expired + after.expired, before.masked + after.masked)
    };
    if !a.quiet {
        for (n, what) in [(kept.0, "dropped"), (kept.1, "anonymized")] {
            if n > 0 {
                anstream::eprintln!("retention  {n} older records {what}");
            }
        }
        report(&done, begun.elapsed().as_secs_f64(), own.then_some(options.host.as_str()));
    }
    Ok(if done.incomplete { ExitCode::from(2) } else { ExitCode::SUCCESS })
}

pub(super) fn this_host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| std::fs::read_to_string("/etc/hostname"));
    name.map(|n| n.trim().to_string()).ok().filter(|n| !n.is_empty()).unwrap_or_else(|| "localhost".into())
}

/// The plain summary: what was read and what it gave.
fn report(done: &Summary, seconds: f64, assumed_host: Option<&str>) {
    let c = &done.counts;
    let rate = done.bytes as f64 / seconds.max(0.001);
    let mut out = String::new();
    let mut line = |name: &str, value: String| out.push_str(&format!("{name:<10} {value}\n"));
    let no_logs = if done.no_logs > 0 { format!(", {} in which no line bears a stamp", done.no_logs) } else { String::new() };
    line("files", format!("{} read, {} with nothing new{no_logs}", done.files, done.unchanged));
    line("lines", format!("{} ({}, {:.1} s, {}/s)", c.lines, bytes(done.bytes), seconds, bytes(rate as u64)));
    line("events", format!("{} ({} lines say nothing of a message, {} are of other programs)", c.events, c.ignored, c.foreign));
    let m = &done.mail;
    if m.mails > 0 {
        line("mails", format!("{} read: {} reports about {} recipients", m.mails, m.reports, m.claims));
        for (what, n) in &m.others {
            line("", format!("{n:>8} {what}"));
        }
    }
    line("records", format!("{} written", done.records));
    line("unparsed", c.unparsed_lines().to_string());
    for (program, u) in &c.unparsed {
        line("", format!("{:>8} {}", u.count, if program.is_empty() { "(no program)" } else { program }));
    }
    if c.no_frame > 0 {
        line("no stamp", format!("{} lines", c.no_frame));
    }
    for (n, what) in [
        (done.oversized, "lines too long, cut"),
        (done.undated, "lines whose stamp is no date"),
        (done.orphans, "lines that name only a delivery or session whose beginning was not read"),
        (done.unbound, "marks of messages to be tracked that are not whole in the log"),
        (done.overfull, "events beyond the bound of one message"),
        (done.too_old, "lines older than what is kept (retention_days)"),
        (m.left_out, "recipients beyond the bound of one report"),
    ] {
        if n > 0 {
            line("skipped", format!("{n} {what}"));
        }
    }
    anstream::eprint!("{}", clean_lines(&out));
    if let (Some(host), false) = (assumed_host, done.hostless.is_empty()) {
        for path in &done.hostless {
            anstream::eprintln!(
                "msgtrk: {}: its lines name no host; kept as lines of `{host}` (--host NAME says better)",
                clean(&path.display().to_string())
            );
        }
    }
    if done.interrupted {
        anstream::eprintln!("msgtrk: stopped; what was read is kept, the same command goes on from there");
    } else if c.lines == 0 && m.mails == 0 && (done.unchanged > 0 || m.mailboxes > 0) && done.problems.is_empty() {
        anstream::eprintln!("msgtrk: nothing new: all of it was read before");
    }
    for path in done.barren.iter().take(10) {
        let path = clean(&path.display().to_string());
        anstream::eprintln!(
            "msgtrk: {path}: no line speaks of a message; is it a mail log? (`msgtrk parsers list` names the programs that are known)"
        );
    }
    if done.barren.len() > 10 {
        anstream::eprintln!("msgtrk: ... and {} more files without a line of a message", done.barren.len() - 10);
    }
}

fn clean_lines(out: &str) -> String {
    out.lines().map(|l| text::clean(l) + "\n").collect()
}
