//! Writes a synthetic but format-true mail log of a given size, and the truth about each message in it.
//!
//! The site: mx1 and mx2 take mail from the Internet and from submission clients, hand it to a content filter on the same
//! host (amavis, re-injected by port 10025), and relay it to store1 (Postfix and Dovecot LMTP) or to the Internet. With
//! `--mta exim` or `sendmail` a host of that kind takes and delivers mail; `mixed` is all of them; `unrelated` is sshd,
//! imap-login and cron alone. The file is what rsyslog writes on a log host: the lines of all hosts in the order of time,
//! with unrelated daemons in between. Same options, same bytes.
//!
//! ```text
//! cargo run --release --example genlog -- --mib 1024 --seed 3 --out big.log --truth truth.jsonl
//! ```
#![allow(missing_docs)]

mod site;

use clap::Parser;
use site::{Mta, Options, Site, Stamp};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

#[derive(Parser)]
#[command(about = "Writes a synthetic mail log and the truth about it")]
struct Args {
    /// Size of the log, MiB
    #[arg(long, default_value_t = 16.0)]
    mib: f64,
    /// Seed of everything that is drawn
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Log file, or - for standard output
    #[arg(long, default_value = "-")]
    out: String,
    /// File for the truth: one JSON object a message, last state at the end of the log
    #[arg(long)]
    truth: Option<PathBuf>,
    /// What a line begins with; mainlog is Exim's own file
    #[arg(long, value_enum, default_value = "rfc3164")]
    stamp: Stamp,
    /// Messages a second of log time
    #[arg(long, default_value_t = 50.0)]
    rate: f64,
    /// Postfix's short queue ids, which are used again
    #[arg(long)]
    short_ids: bool,
    /// Whose lines
    #[arg(long, value_enum, default_value = "postfix")]
    mta: Mta,
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let (stamp, mta) = (args.stamp, args.mta);
    if stamp == Stamp::Mainlog && mta != Mta::Exim {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "--stamp mainlog is Exim's own file: it needs --mta exim"));
    }
    let mut out: Box<dyn Write> = match args.out.as_str() {
        "-" => Box::new(BufWriter::with_capacity(1 << 20, io::stdout())),
        path => Box::new(BufWriter::with_capacity(1 << 20, File::create(path)?)),
    };
    let truth = args.truth.as_ref().map(File::create).transpose()?;
    let truth = truth.map(|f| Box::new(BufWriter::with_capacity(1 << 20, f)) as Box<dyn Write>);
    let options = Options { seed: args.seed, stamp, rate: args.rate, short_ids: args.short_ids, mta };
    let wrote = Site::new(options, truth).write((args.mib * 1_048_576.0) as u64, &mut out)?;
    out.flush()?;
    let mib = wrote.bytes as f64 / 1_048_576.0;
    eprintln!(
        "{mib:.1} MiB, {} lines, {} messages at {} hops: {:.0} lines and {:.0} hops a MiB",
        wrote.lines,
        wrote.messages,
        wrote.hops,
        wrote.lines as f64 / mib,
        wrote.hops as f64 / mib
    );
    Ok(())
}
