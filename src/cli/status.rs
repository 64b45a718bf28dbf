//! `msgtrk status`

use super::Context;
use super::text::{bytes, clean, moment};
use crate::daemon::control::Daemon;
use crate::daemon::figures::Status;
use crate::ingest::fold::LeftOut;
use crate::model::time::SECOND;
use std::fmt::Write as _;
use std::process::ExitCode;

#[derive(clap::Args)]
#[command(after_help = "Exit status: 0 all is well, 1 no daemon runs, 2 something is wrong.")]
pub struct Arguments {
    /// One JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(cx: &Context, a: &Arguments) -> anyhow::Result<ExitCode> {
    let Some(mut daemon) = Daemon::connect(&cx.index)? else {
        anstream::eprintln!("msgtrk: no daemon runs on {}; `msgtrk serve` starts one", clean(&cx.index.display().to_string()));
        return Ok(ExitCode::from(1));
    };
    let s = daemon.status()?;
    match a.json {
        true => anstream::println!("{}", serde_json::to_string(&s)?),
        false => anstream::print!("{}", show(cx, &s)),
    }
    let well = s.commit_problem.is_none() && s.retention.problem.is_none() && s.sources.iter().all(|x| x.problem.is_none());
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::from(2) })
}

fn left_out(of: &LeftOut, out: &mut String) {
    let all = [
        (of.too_old, "events older than what is kept"),
        (of.undated, "lines whose stamp is no date"),
        (of.orphans, "lines that name only a delivery or session whose beginning was not read"),
        (of.overfull, "events beyond the bound of one message"),
    ];
    for (n, what) in all.into_iter().filter(|(n, _)| *n > 0) {
        let _ = writeln!(out, "left out   {n} {what}");
    }
}

fn show(cx: &Context, s: &Status) -> String {
    let mut out = String::new();
    let time = |seconds: i64| moment(cx.zone, seconds * SECOND, false);
    let _ = writeln!(out, "msgtrk {} runs as process {} since {}", s.version, s.pid, time(s.started));
    for (what, address) in &s.listening {
        let _ = writeln!(out, "{what:<10} {address}");
    }
    let _ = writeln!(out, "read       {} lines, {} events; {} questions answered", s.lines, s.events, s.queries);
    let last = s.last_commit.map_or("none yet".to_string(), |t| format!("the last one {}", time(t)));
    let _ = writeln!(out, "commits    {} ({last}), {} records written, {} failed", s.commits, s.records, s.commit_errors);
    if let Some(problem) = &s.commit_problem {
        let _ = writeln!(out, "wrong      {}", clean(problem));
    }
    let unparsed: u64 = s.unparsed.iter().map(|u| u.1).sum();
    if unparsed > 0 {
        let _ = writeln!(out, "unparsed   {unparsed} lines (`msgtrk stats --unparsed` lists them)");
    }
    left_out(&s.left_out, &mut out);
    let r = &s.retention;
    if let Some(run) = r.last_run {
        let done = |n: u64, at: Option<i64>| at.map_or("0".into(), |at| format!("{n} (last {})", time(at)));
        let (dropped, anonymized) = (done(r.dropped, r.last_dropped), done(r.anonymized, r.last_anonymized));
        let _ = writeln!(out, "retention  records dropped {dropped}, anonymized {anonymized}; seen to last {}", time(run));
    }
    if let Some(problem) = &r.problem {
        let _ = writeln!(out, "  wrong    {}", clean(problem));
    }
    for x in &s.sources {
        let mut behind: Vec<String> = Vec::new();
        behind.extend(x.bytes_behind.map(|b| format!("{} behind", bytes(b))));
        behind.extend(x.seconds_behind.filter(|b| *b >= 1.0).map(|b| format!("{b:.0} s behind")));
        let _ = writeln!(
            out,
            "source     {}: {} lines{}{}",
            clean(&x.name),
            x.lines,
            if behind.is_empty() { "" } else { ", " },
            behind.join(", ")
        );
        if let Some(problem) = &x.problem {
            let _ = writeln!(out, "  wrong    {}", clean(problem));
        }
    }
    out
}
