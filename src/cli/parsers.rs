//! `msgtrk parsers check|list|test|new`

use super::Context;
use super::text::{Table, clean, columns, dim};
use crate::ingest::mail::{BATCH, is_mail};
use crate::model::event::Field;
use crate::parse::dsn::{self, Reading, Report, field_of};
use crate::parse::{Matcher, Outcome, Parsed, Parsers};
use crate::source::mailbox::Mailbox;
use anstyle::Style;
use anyhow::Context as _;
use std::io::{BufRead, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Subcommand)]
pub enum Arguments {
    /// Run the samples of all parser files; say which pattern, sample and field disagree
    Check {
        /// Folder of parser files over the built-in ones
        dir: Option<PathBuf>,
    },
    /// List parser files: programs, versions, patterns, samples, what they were checked against
    List {
        /// List the names of fields instead
        #[arg(long)]
        fields: bool,
    },
    /// Write a parser file to begin with to standard output, made from log lines on standard input
    New {
        /// Name of the mail system, as `mta` of its records
        name: String,
    },
    /// Show what is read from each line of a log file, or from the mails of a file
    Test {
        /// Log file, mail or mbox; - for a log on standard input
        file: PathBuf,
    },
}

pub fn run(cx: &Context, a: &Arguments) -> anyhow::Result<ExitCode> {
    let mut out = std::io::BufWriter::new(anstream::stdout());
    let code = match a {
        Arguments::Check { dir } => check(&mut out, dir.as_ref().or(cx.parsers.as_ref()))?,
        Arguments::List { fields: true } => {
            for f in Field::ALL {
                writeln!(out, "{}", f.as_str())?;
            }
            ExitCode::SUCCESS
        }
        Arguments::List { .. } => list(&mut out, cx.load_parsers()?.as_ref())?,
        Arguments::New { name } => new(&mut out, name)?,
        Arguments::Test { file } => test(cx, &mut out, file)?,
    };
    out.flush()?;
    Ok(code)
}

/// Bytes of lines that are read for a skeleton.
const MAX_INPUT: u64 = 8 * 1024 * 1024;

fn new(out: &mut impl Write, name: &str) -> anyhow::Result<ExitCode> {
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
        anyhow::bail!("`{}` is no name for a parser file: letters, digits, - and _", clean(name));
    }
    let mut text = Vec::new();
    std::io::stdin().lock().take(MAX_INPUT).read_to_end(&mut text)?;
    out.write_all(super::skeleton::skeleton(name, &text).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn check(out: &mut impl Write, dir: Option<&PathBuf>) -> anyhow::Result<ExitCode> {
    let parsers = Parsers::load(dir.map(PathBuf::as_path))?;
    let samples: usize = parsers.files.iter().map(|f| f.samples.len()).sum::<usize>() + parsers.reports.samples();
    let mut wrong = Matcher::new(std::sync::Arc::clone(&parsers)).check_samples();
    wrong.extend(parsers.reports.check_samples());
    for w in &wrong {
        writeln!(out, "{}", w.lines().map(clean).collect::<Vec<_>>().join("\n"))?;
    }
    writeln!(out, "{} parser files, {samples} samples, {} disagree", parsers.files.len() + parsers.reports.dialects().len(), wrong.len())?;
    Ok(if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(2) })
}

fn list(out: &mut impl Write, parsers: &Parsers) -> anyhow::Result<ExitCode> {
    let heads = ["NAME", "VERSIONS", "PATTERNS", "SAMPLES", "CHECKED AGAINST", "PROGRAMS", "READS", "FROM"];
    let mut table = Table::new(&heads).whole(&[0, 1, 2, 3]);
    for f in &parsers.files {
        let p = Style::new();
        let checked = if f.checked == "real" {
            "real logs".to_string()
        } else {
            format!("documentation: {}", f.source.as_deref().unwrap_or_default())
        };
        let programs = if f.instances { format!("{}/*", f.programs.join(", ")) } else { f.programs.join(", ") };
        table.row(vec![
            (f.name.clone(), p),
            (f.versions.clone(), p),
            ((f.patterns.len() + f.rows.len()).to_string(), p),
            (f.samples.len().to_string(), p),
            (checked, p),
            (programs, p),
            (f.description.clone(), p),
            (f.origin.clone(), dim()),
        ]);
    }
    for d in parsers.reports.dialects() {
        let p = Style::new();
        let checked = match &d.source {
            Some(source) => format!("documentation: {source}"),
            None => "real mails".to_string(),
        };
        table.row(vec![
            (format!("dsn/{}", d.name), p),
            (String::new(), p),
            (d.rules().to_string(), p),
            (d.samples().to_string(), p),
            (checked, p),
            ("bounces".into(), p),
            (d.description.clone(), p),
            (d.origin.clone(), dim()),
        ]);
    }
    write!(out, "{}", table.render(columns()))?;
    Ok(ExitCode::SUCCESS)
}

/// Shows what is read from the mails of a file.
fn test_mail(cx: &Context, out: &mut impl Write, file: &Path) -> anyhow::Result<ExitCode> {
    let parsers = cx.load_parsers()?;
    let Some(mut mailbox) = Mailbox::open(file, &[])? else { return Ok(ExitCode::from(1)) };
    let mut found = false;
    loop {
        let mails = mailbox.next(BATCH, i64::MAX)?;
        if mails.is_empty() {
            return Ok(if found { ExitCode::SUCCESS } else { ExitCode::from(1) });
        }
        for reading in mails.iter().map(|m| parsers.reports.read(&m.bytes)) {
            match reading {
                Reading::Other(other) => writeln!(out, "{}", other.as_str())?,
                Reading::Reports(reports) => {
                    found = true;
                    for r in &reports {
                        report(out, r)?;
                    }
                }
            }
        }
    }
}

fn report(out: &mut impl Write, r: &Report) -> std::io::Result<()> {
    let forwarded = if r.forwarded { ", forwarded" } else { "" };
    writeln!(out, "report: {} ({}){forwarded}", r.sort.as_str(), r.dialect)?;
    for (n, c) in r.claims.iter().enumerate() {
        for name in dsn::FIELDS.iter().filter(|f| f.1 == (n > 0) || n == 0) {
            if let Some(v) = field_of(r, c, name.0).filter(|v| !v.is_empty()) {
                writeln!(out, "    {:<20} {}", name.0, clean(&v))?;
            }
        }
        for (name, value) in r.fields.iter().take(if n == 0 { usize::MAX } else { 0 }).chain(&c.fields).filter(|f| dsn::is_further(&f.0)) {
            writeln!(out, "    {:<20} {}", clean(name), clean(value))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn test(cx: &Context, out: &mut impl Write, file: &PathBuf) -> anyhow::Result<ExitCode> {
    if file.as_os_str() != "-" && is_mail(file) {
        return test_mail(cx, out, file);
    }
    let mut matcher = Matcher::new(cx.load_parsers()?);
    let mut input: Box<dyn BufRead> = match file.as_os_str() == "-" {
        true => Box::new(std::io::stdin().lock()),
        false => Box::new(std::io::BufReader::new(std::fs::File::open(file).with_context(|| file.display().to_string())?)),
    };
    let (mut line, mut found) = (Vec::new(), false);
    while input.read_until(b'\n', &mut line)? > 0 {
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        writeln!(out, "{}", clean(&String::from_utf8_lossy(text)))?;
        match matcher.line(text) {
            Outcome::Event(p) => {
                found = true;
                event(&matcher, out, text, &p)?;
            }
            Outcome::Rows(frame, inner, file, events) => {
                found = true;
                for e in &events {
                    let p = matcher.row_event(text, frame, inner, file, e);
                    event(&matcher, out, text, &p)?;
                }
            }
            Outcome::Ignored => writeln!(out, "    known, says nothing about a message")?,
            Outcome::Unparsed(..) => writeln!(out, "    NOT UNDERSTOOD: a known program, but no pattern matches")?,
            Outcome::Foreign => writeln!(out, "    of a program that no parser file names")?,
            Outcome::Fragment(..) => writeln!(out, "    part of an entry that syslog split; read when whole")?,
            Outcome::Repeat(_, n) => writeln!(out, "    the line before, {n} times more")?,
            Outcome::NoFrame => writeln!(out, "    no stamp that is known")?,
        }
        line.clear();
    }
    Ok(if found { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn event(matcher: &Matcher, out: &mut impl Write, line: &[u8], p: &Parsed) -> anyhow::Result<()> {
    let file = matcher.parsers().files.get(p.file as usize);
    let action = p.action.map(|a| format!(", {}", a.as_str())).unwrap_or_default();
    let pattern = file.map_or("", |f| f.name_of(p.pattern));
    writeln!(out, "    {} / {pattern}: {}{action}", file.map_or("", |f| &f.name), p.kind.as_str())?;
    for f in Field::ALL {
        if let Some(v) = matcher.fields.value(line, *f) {
            writeln!(out, "    {:<20} {}", f.as_str(), clean(&String::from_utf8_lossy(v)))?;
        }
    }
    Ok(())
}
