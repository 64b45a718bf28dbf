//! `msgtrk search`

use super::text::{Table, action_style, clean, columns, dim};
use super::{Context, json, reported, stats, text, times};
use crate::model::direction::{Direction, Domains};
use crate::model::event::Action;
use crate::model::query::{Pattern, Query, Sort};
use crate::model::record::{Record, Role};
use crate::store::Total;
use anstyle::Style;
use anyhow::bail;
use std::io::Write;
use std::process::ExitCode;

#[derive(clap::Args)]
#[command(after_help = "Addresses and names compare without case; * stands for anything (in an id, every record of \
the time given is read for it). Times: 2h, 3d, today, yesterday, \
2026-03-02, \"2026-03-02 08:00\", RFC 3339. Without filters all records are listed, newest first.")]
pub struct Arguments {
    /// Words of the remote's reply, a refusal's reason, or the subject
    #[arg(value_name = "WORD")]
    words: Vec<String>,
    /// Sender; <> for bounces
    #[arg(long, value_name = "ADDR")]
    from: Option<String>,
    /// A recipient, as addressed or after aliases
    #[arg(long, value_name = "ADDR")]
    to: Option<String>,
    /// Message-ID
    #[arg(long, value_name = "ID")]
    message_id: Option<String>,
    /// ENVID (RFC 3461)
    #[arg(long, value_name = "ID")]
    envelope_id: Option<String>,
    /// Queue id
    #[arg(long, value_name = "ID")]
    queue_id: Option<String>,
    /// Host whose log it is
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Name or address of the host it came from
    #[arg(long, value_name = "HOST")]
    client: Option<String>,
    /// Login name of the client
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// delivered, relayed, failed, delayed, expanded or opaque
    #[arg(long, value_name = "ACTION", value_parser = action)]
    action: Option<Action>,
    /// Status code, as 5.1.1 or 4.*
    #[arg(long, value_name = "CODE")]
    status: Option<String>,
    /// Name or address of the host it went to
    #[arg(long, value_name = "HOST")]
    relay: Option<String>,
    /// Mail system (postfix, exim, ...) or its instance
    #[arg(long, value_name = "NAME")]
    mta: Option<String>,
    /// Arrived at or after this time
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Arrived before this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Size in bytes, as 10K..2M
    #[arg(long, value_name = "A..B")]
    size: Option<String>,
    /// inbound, outbound, internal or relay, as told by the `[site] domains` of the config
    #[arg(long, value_name = "WAY", value_parser = direction)]
    direction: Option<Direction>,
    /// Only refusals before queueing
    #[arg(long)]
    rejects: bool,
    /// What notifications (bounces, read receipts) claim of a recipient: failed, delayed, delivered, relayed, expanded or opaque
    #[arg(long, value_name = "ACTION", value_parser = action, conflicts_with = "rejects")]
    reported: Option<Action>,
    /// At most so many records; 0 for all
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
    /// Order by arrival
    #[arg(long, value_name = "ORDER", default_value = "newest", value_parser = ["newest", "oldest"])]
    sort: String,
    /// One JSON object a record
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Comma-separated values, a row a recipient
    #[arg(long)]
    csv: bool,
    /// With the log lines
    #[arg(long)]
    lines: bool,
}

fn action(word: &str) -> Result<Action, String> {
    let known = || Action::ALL.iter().map(|a| a.as_str()).filter(|a| *a != "transferred").collect::<Vec<_>>().join(", ");
    Action::from_name(&word.to_lowercase()).ok_or_else(|| format!("known are {}", known()))
}

fn direction(word: &str) -> Result<Direction, String> {
    let known = || Direction::ALL.map(|d| d.as_str()).join(", ");
    Direction::ALL.into_iter().find(|d| d.as_str() == word.to_lowercase()).ok_or_else(|| format!("known are {}", known()))
}

pub fn query(cx: &Context, a: &Arguments) -> anyhow::Result<Query> {
    let pattern = |t: &Option<String>| t.as_deref().map(Pattern::new);
    let moment = |t: &Option<String>| t.as_deref().map(|t| times::moment(t, cx.now, cx.zone)).transpose().map_err(anyhow::Error::msg);
    let domains = Domains::new(&cx.site.domains);
    if a.direction.is_some() && domains.is_empty() {
        bail!("--direction: which domains are the site's own? Name them in the config: [site] domains = [\"example.org\"]");
    }
    Ok(Query {
        from: pattern(&a.from),
        to: pattern(&a.to),
        message_id: pattern(&a.message_id),
        envelope_id: pattern(&a.envelope_id),
        queue_id: pattern(&a.queue_id),
        host: pattern(&a.host),
        client: pattern(&a.client),
        user: pattern(&a.user),
        action: a.action,
        status: pattern(&a.status),
        relay: pattern(&a.relay),
        mta: pattern(&a.mta),
        since: moment(&a.since)?,
        until: moment(&a.until)?,
        size: a.size.as_deref().map(times::sizes).transpose().map_err(anyhow::Error::msg)?,
        role: a.rejects.then_some(Role::Reject),
        direction: a.direction.map(|d| (d, domains)),
        open: false,
        words: a.words.iter().map(|w| w.to_lowercase()).collect(),
        sort: if a.sort == "oldest" { Sort::Oldest } else { Sort::Newest },
        limit: (a.limit > 0).then_some(a.limit),
    })
}

/// The filters as they were given, for the query log.
fn asked(a: &Arguments) -> Vec<(&'static str, String)> {
    let given = [
        ("from", a.from.clone()),
        ("to", a.to.clone()),
        ("message_id", a.message_id.clone()),
        ("envelope_id", a.envelope_id.clone()),
        ("queue_id", a.queue_id.clone()),
        ("host", a.host.clone()),
        ("client", a.client.clone()),
        ("user", a.user.clone()),
        ("action", a.action.map(|x| x.as_str().into())),
        ("status", a.status.clone()),
        ("relay", a.relay.clone()),
        ("mta", a.mta.clone()),
        ("since", a.since.clone()),
        ("until", a.until.clone()),
        ("size", a.size.clone()),
        ("direction", a.direction.map(|d| d.as_str().into())),
        ("rejects", a.rejects.then(|| "yes".into())),
        ("words", (!a.words.is_empty()).then(|| a.words.join(" "))),
    ];
    given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

pub fn run(cx: &Context, a: &Arguments) -> anyhow::Result<ExitCode> {
    let query = query(cx, a)?;
    let store = cx.open()?;
    cx.note_query("search", &asked(a))?;
    let found = match a.reported {
        Some(action) => reported::claimed(&store, &query, action)?,
        None => {
            let mut found = store.find(&query)?;
            reported::beside(&store, &mut found.records)?;
            reported::add_alone(&store, &query, &mut found)?;
            found
        }
    };
    let mut out = std::io::BufWriter::new(anstream::stdout());
    // Not through the terminal's filter: it would take control characters out of values.
    let mut raw = std::io::BufWriter::new(std::io::stdout());
    if a.json {
        for r in &found.records {
            raw.write_all(&serde_json::to_vec(&json::record(r, a.lines))?)?;
            raw.write_all(b"\n")?;
        }
        raw.flush()?;
    } else if a.csv {
        write_csv(&mut raw, &query, &found.records)?;
    } else if !found.records.is_empty() {
        show(cx, &mut out, &query, &found.records, a.lines)?;
    }
    out.flush()?;
    if found.records.is_empty() {
        anstream::eprint!("{}", stats::nothing_found(cx, &store, &query)?);
        return Ok(ExitCode::from(1));
    }
    let shown = found.records.len() as u64;
    match found.total {
        Total::Exact(n) if n > shown => anstream::eprintln!("{shown} of {n} records; --limit shows more"),
        Total::AtLeast(n) if n > shown => anstream::eprintln!("{shown} of at least {n} records; --limit shows more"),
        Total::AtLeast(_) if Some(found.records.len()) == query.limit => {
            anstream::eprintln!("{shown} records, there may be more; --limit shows more")
        }
        _ => {}
    }
    Ok(ExitCode::SUCCESS)
}

fn show(cx: &Context, out: &mut impl Write, query: &Query, records: &[Record], lines: bool) -> std::io::Result<()> {
    if lines {
        for r in records {
            writeln!(out, "{}", text::paint(text::bold(), &clean(&r.key)))?;
            for e in &r.events {
                writeln!(out, "  {}", clean(&e.line))?;
            }
        }
        return Ok(());
    }
    write!(out, "{}", table(cx, query, records))
}

/// Records as a table, a row a recipient that is asked for.
pub fn table(cx: &Context, query: &Query, records: &[Record]) -> String {
    // A narrow terminal has no room for the replies, nor for the year.
    let narrow = columns().is_some_and(|c| c < 110);
    let heads = ["ARRIVED", "HOST", "QUEUE ID", "FROM", "TO", "ACTION", "STATUS", "REPLY"];
    let shown = if narrow { heads.len() - 1 } else { heads.len() };
    let mut table = Table::new(heads.get(..shown).unwrap_or(&heads)).whole(&[0, 2, 5, 6]);
    let plain = Style::new();
    let arrived = |r: &Record| {
        let full = text::moment(cx.zone, r.arrival_date.micros, false);
        if narrow { full.get(5..).map(str::to_string).unwrap_or(full) } else { full }
    };
    for r in records {
        let first = |to: String, action: String, style, status: String, reply: String| {
            let mut cells = vec![
                (arrived(r), dim()),
                (r.reporting_mta.clone(), plain),
                (r.queue_id.clone().unwrap_or_else(|| if r.role == Role::Report { "(reported)" } else { "(rejected)" }.into()), plain),
                (r.envelope_from.as_deref().map_or("?".into(), |f| if f.is_empty() { "<>".into() } else { f.to_string() }), plain),
                (to, plain),
                (action, style),
                (status, plain),
                (reply, dim()),
            ];
            cells.truncate(shown);
            cells
        };
        if r.recipients.is_empty() {
            let state = match r.closed {
                true => "closed",
                false if r.is_queued() => "queued",
                false => "incomplete",
            };
            table.row(first(String::new(), state.into(), plain, String::new(), r.remark.clone().unwrap_or_default()));
        }
        for p in r.recipients.iter().filter(|p| query.is_about(p)) {
            let to = if p.original_recipient.eq_ignore_ascii_case(&p.final_recipient) {
                p.final_recipient.clone()
            } else {
                format!("{} ({})", p.final_recipient, p.original_recipient)
            };
            let mut reply = p.diagnostic.clone().unwrap_or_default();
            for c in p.reported.iter().filter(|c| c.action != p.action) {
                reply = format!("{} reports {} {}; {reply}", c.by, word(c.action, c.disposition.as_deref()), c.status);
            }
            table.row(first(to, word(p.action, p.disposition.as_deref()), action_style(p.action), p.status.clone(), reply));
        }
    }
    table.render(columns())
}

/// The action, or what an operator is told beyond it.
pub fn word(action: Action, disposition: Option<&str>) -> String {
    match disposition {
        Some(d) if action == Action::Opaque => d.to_string(),
        Some("quarantined") => "quarantined".into(),
        _ => action.as_str().to_string(),
    }
}

fn write_csv(out: &mut impl Write, query: &Query, records: &[Record]) -> anyhow::Result<()> {
    let mut w = csv::Writer::from_writer(out);
    w.write_record([
        "arrival_date",
        "reporting_mta",
        "mta",
        "queue_id",
        "message_id",
        "envelope_from",
        "client_name",
        "client_ip",
        "size",
        "original_recipient",
        "final_recipient",
        "action",
        "status",
        "remote_mta",
        "remote_ip",
        "remote_queue_id",
        "last_attempt_date",
        "diagnostic",
    ])?;
    for r in records {
        let o = |v: &Option<String>| clean(v.as_deref().unwrap_or_default());
        let head = [
            r.arrival_date.rfc3339(),
            r.reporting_mta.clone(),
            r.mta.clone(),
            o(&r.queue_id),
            o(&r.message_id),
            o(&r.envelope_from),
            o(&r.client.name),
            o(&r.client.ip),
            r.size.map(|s| s.to_string()).unwrap_or_default(),
        ];
        let rows: Vec<[String; 9]> = if r.recipients.is_empty() {
            vec![Default::default()]
        } else {
            r.recipients
                .iter()
                .filter(|p| query.is_about(p))
                .map(|p| {
                    [
                        clean(&p.original_recipient),
                        clean(&p.final_recipient),
                        p.action.as_str().into(),
                        p.status.clone(),
                        o(&p.remote_mta),
                        o(&p.remote_ip),
                        o(&p.remote_queue_id),
                        p.last_attempt_date.map(|d| d.rfc3339()).unwrap_or_default(),
                        o(&p.diagnostic),
                    ]
                })
                .collect()
        };
        for row in rows {
            w.write_record(head.iter().chain(&row).map(|c| guarded(c)))?;
        }
    }
    w.flush()?;
    Ok(())
}

/// A spreadsheet runs what begins with one of these; log text is written by strangers.
fn guarded(cell: &str) -> String {
    let cell = clean(cell);
    if cell.starts_with(['=', '+', '-', '@']) { format!("'{cell}") } else { cell }
}
