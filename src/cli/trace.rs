//! `msgtrk trace`

use super::search::word;
use super::text::{action_style, bold, clean, dim, paint};
use super::{Context, InStore, json, stats, text};
use crate::model::event::Action;
use crate::model::journey::{By, Ending, Journey, trace};
use crate::model::query::Query;
use crate::model::record::{Recipient, Record};
use std::fmt::Write as _;
use std::io::Write;
use std::process::ExitCode;

#[derive(clap::Args)]
#[command(after_help = "The last lines say how it ended for each recipient. An edge marked \"by Message-ID\" is a likeness, not a proof: \
a Message-ID is the sender's choice.")]
pub struct Arguments {
    /// Message-ID, queue id or ENVID, with or without <>
    #[arg(value_name = "ID")]
    id: String,
    /// One JSON object
    #[arg(long)]
    json: bool,
    /// With the log lines
    #[arg(long)]
    lines: bool,
}

pub fn run(cx: &Context, a: &Arguments) -> anyhow::Result<ExitCode> {
    let store = cx.open()?;
    let journeys = trace(&InStore(&store), &a.id)?;
    let mut out = std::io::BufWriter::new(anstream::stdout());
    if a.json {
        serde_json::to_writer(&mut out, &json::journeys(&journeys, a.lines))?;
        out.write_all(b"\n")?;
    } else {
        for (n, j) in journeys.iter().enumerate() {
            if n > 0 {
                writeln!(out)?;
            }
            write!(out, "{}", show(cx, j, a.lines))?;
        }
    }
    out.flush()?;
    if journeys.is_empty() {
        anstream::eprint!("{}", stats::nothing_found(cx, &store, &Query::default())?);
        return Ok(ExitCode::from(1));
    }
    if journeys.len() > 1 && !a.json {
        anstream::eprintln!("{} messages bear this id", journeys.len());
    }
    Ok(ExitCode::SUCCESS)
}

/// One journey as a tree, and a line for each recipient.
pub fn show(cx: &Context, j: &Journey, lines: bool) -> String {
    let mut out = String::new();
    head(&mut out, j);
    let is_child = |r: &Record| j.edges.iter().any(|e| e.to == r.key);
    for root in j.records.iter().filter(|r| !is_child(r)) {
        node(cx, j, root, None, "", "", lines, &mut out, 0);
    }
    if j.truncated {
        out.push_str("  ... cut: more records than one journey may have\n");
    }
    out.push('\n');
    for e in &j.endings {
        ending(cx, e, &mut out);
    }
    if j.endings.is_empty() {
        let last = j.records.last();
        let state = match last {
            Some(r) if !r.closed => "still queued, no attempt yet",
            _ => "no recipient is named in the logs",
        };
        let _ = writeln!(out, "{}", paint(action_style(Action::Delayed), state));
    }
    out
}

fn head(out: &mut String, j: &Journey) {
    let first = |f: fn(&Record) -> Option<&String>| j.records.iter().find_map(f).map(|v| clean(v));
    let from = first(|r| r.envelope_from.as_ref()).map(|f| if f.is_empty() { "<> (a notification)".to_string() } else { f });
    let _ = write!(out, "{}", paint(bold(), &first(|r| r.message_id.as_ref()).unwrap_or_else(|| "(no Message-ID logged)".into())));
    let _ = writeln!(out, "  from {}", from.as_deref().unwrap_or("?"));
    let mut more = Vec::new();
    if let Some(e) = first(|r| r.envelope_id.as_ref()) {
        more.push(format!("envelope id {e}"));
    }
    if let Some(s) = first(|r| r.subject.as_ref()) {
        more.push(format!("subject: {s}"));
    }
    if let Some(size) = j.records.iter().find_map(|r| r.size) {
        more.push(text::bytes(size));
    }
    if !more.is_empty() {
        let _ = writeln!(out, "{}", paint(dim(), &more.join(", ")));
    }
}

#[allow(clippy::too_many_arguments)]
fn node(cx: &Context, j: &Journey, r: &Record, by: Option<By>, lead: &str, below: &str, lines: bool, out: &mut String, depth: usize) {
    let since = depth > 0;
    let start = j.records.first().map_or(0, |f| f.arrival_date.micros);
    let when = text::moment(cx.zone, r.arrival_date.micros, r.arrival_date.precision > crate::model::time::Precision::Second);
    let mut title = format!("{lead}{} {}", when, paint(bold(), &clean(&r.reporting_mta)));
    let _ = write!(title, " {} {}", clean(&r.mta), clean(r.queue_id.as_deref().unwrap_or("")));
    if since {
        let apart = r.arrival_date.micros - start;
        let sign = if apart < 0 { "-" } else { "+" };
        let _ = write!(title, "  {}", paint(dim(), &format!("{sign}{}", text::duration(apart.abs()))));
    }
    let client = match (&r.client.name, &r.client.ip) {
        (Some(n), Some(ip)) => format!("{n}[{ip}]"),
        (Some(x), None) | (None, Some(x)) => x.clone(),
        (None, None) => String::new(),
    };
    if !client.is_empty() {
        let _ = write!(title, "  from {}", clean(&client));
    }
    if let Some(user) = &r.auth_user {
        let _ = write!(title, " as {}", clean(user));
    }
    if by == Some(By::MessageId) {
        let _ = write!(title, "  {}", paint(dim(), "(joined by Message-ID)"));
    }
    let _ = writeln!(out, "{title}");
    let children: Vec<_> =
        j.edges.iter().filter(|e| e.from == r.key).filter_map(|e| Some((e, j.records.iter().find(|c| c.key == e.to)?))).collect();
    let bar = if children.is_empty() { "    " } else { "│   " };
    for p in &r.recipients {
        let _ = writeln!(out, "{below}{bar}{}", attempt(p));
    }
    for note in notes(j, r) {
        let _ = writeln!(out, "{below}{bar}{}", paint(dim(), &clean(&note)));
    }
    if lines {
        for e in &r.events {
            let _ = writeln!(out, "{below}{bar}{}", paint(dim(), &clean(&e.line)));
        }
    }
    if depth > 64 {
        return;
    }
    for (n, (edge, child)) in children.iter().enumerate() {
        let last = n + 1 == children.len();
        let (lead, under) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        node(cx, j, child, Some(edge.by), &format!("{below}{lead}"), &format!("{below}{under}"), lines, out, depth + 1);
    }
}

/// What a recipient's line says at one hop.
fn attempt(p: &Recipient) -> String {
    let mut s = clean(&p.final_recipient);
    if !p.original_recipient.eq_ignore_ascii_case(&p.final_recipient) {
        let _ = write!(s, " (for {})", clean(&p.original_recipient));
    }
    let _ = write!(s, "  {} {}", paint(action_style(p.action), &word(p.action, p.disposition.as_deref())), p.status);
    if let Some(to) = p.remote_mta.as_ref().or(p.relay.as_ref()) {
        let _ = write!(s, " → {}", clean(to));
    }
    if p.attempts > 1 {
        let _ = write!(s, " after {} attempts", p.attempts);
    }
    if let Some(d) = &p.diagnostic {
        let _ = write!(s, "  {}", paint(dim(), &clean(d)));
    }
    s
}

/// What else is known at a hop: decisions, notifications, witnesses.
fn notes(j: &Journey, r: &Record) -> Vec<String> {
    let mut notes = Vec::new();
    notes.extend(r.remark.iter().map(|x| format!("decided: {x}")));
    notes.extend(r.notices.iter().map(|(kind, id)| format!("{kind} notification sent as {id}")));
    for w in &j.witnesses {
        let session = r.recipients.iter().any(|p| p.remote_queue_id.is_some() && p.remote_queue_id == w.queue_id);
        let filter = w.orig_queue_id.is_some() && w.orig_queue_id == r.queue_id;
        let mail = w.message_id.is_some() && w.message_id == r.message_id && w.reporting_mta == r.reporting_mta;
        if !(session || filter || (mail && r.recipients.iter().any(|p| p.remote_queue_id.is_none()))) {
            continue;
        }
        if let Some(v) = &w.verdict {
            notes.push(format!("{}: {v}", w.mta));
        }
        for p in &w.recipients {
            let what = p.redirected_to.as_ref().map(|to| format!("redirected to {to}")).or(p.disposition.clone());
            if let Some(what) = what {
                notes.push(format!("{}: {} {what}", w.mta, p.final_recipient));
            }
        }
    }
    notes
}

fn ending(cx: &Context, e: &Ending, out: &mut String) {
    let p = &e.last;
    let who = match e.member {
        true => format!("  {} (member of {})", clean(&p.final_recipient), clean(&e.original_recipient)),
        false if e.original_recipient.eq_ignore_ascii_case(&p.final_recipient) => clean(&e.original_recipient),
        false => format!("{} (as {})", clean(&e.original_recipient), clean(&p.final_recipient)),
    };
    let date = p.last_attempt_date.map(|d| format!(", {}", text::moment(cx.zone, d.micros, false))).unwrap_or_default();
    let state = word(p.action, p.disposition.as_deref());
    let folder =
        p.disposition.as_deref().and_then(|d| d.strip_prefix("folder:")).map(|f| format!(" to folder {}", clean(f))).unwrap_or_default();
    let to = match (&p.remote_mta, p.action) {
        (Some(m), Action::Relayed) => format!(" to {}", clean(m)),
        _ => String::new(),
    };
    let why = match p.action {
        Action::Failed | Action::Delayed => p.diagnostic.as_deref().map(|d| format!("  {}", paint(dim(), &clean(d)))).unwrap_or_default(),
        _ => String::new(),
    };
    let _ = writeln!(
        out,
        "{}  {} {}{folder}{to} at {}{date}{why}",
        paint(bold(), &who),
        paint(action_style(p.action), &state),
        p.status,
        clean(&e.at)
    );
}
