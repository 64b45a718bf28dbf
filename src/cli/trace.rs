//! `msgtrk trace`

use super::search::word;
use super::text::{action_style, bold, clean, dim, paint};
use super::{Context, json, stats, text};
use crate::daemon::control::Daemon;
use crate::model::event::Action;
use crate::model::journey::{By, Ending, Journey, folded, same_host, trace};
use crate::model::query::Query;
use crate::model::record::{Recipient, Record, Reported};
use crate::store::Store;
use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;
use unicode_width::UnicodeWidthStr;

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
    /// Go on until everybody's end is known, and show each change
    #[arg(long, short)]
    follow: bool,
}

/// How often a message under way is looked at again.
const EVERY: Duration = Duration::from_millis(500);

pub fn run(cx: &Context, a: &Arguments) -> anyhow::Result<ExitCode> {
    let store = cx.open()?;
    let mut journeys = look(cx, &store, &a.id, true)?;
    let mut shown = render(cx, a, &journeys)?;
    write_out(a, &shown)?;
    while a.follow && !journeys.iter().all(has_ended) {
        std::thread::sleep(EVERY);
        store.reload()?;
        journeys = look(cx, &store, &a.id, false)?;
        let now = render(cx, a, &journeys)?;
        if now != shown {
            write_out(a, b"\n")?;
            write_out(a, &now)?;
            shown = now;
        }
    }
    if journeys.is_empty() {
        anstream::eprint!("{}", stats::nothing_found(cx, &store, &Query::default())?);
        return Ok(ExitCode::from(1));
    }
    if journeys.len() > 1 && !a.json {
        anstream::eprintln!("{} messages bear this id", journeys.len());
    }
    Ok(ExitCode::SUCCESS)
}

/// Through the daemon, where one runs: it knows lines that are not committed yet, and writes its own query log.
fn look(cx: &Context, store: &Store, id: &str, note: bool) -> anyhow::Result<Vec<Journey>> {
    if let Some(mut daemon) = Daemon::connect(&cx.index)? {
        return Ok(trace(&mut daemon, id)?);
    }
    if note {
        cx.note_query("trace", &[("id", id.to_string())])?;
    }
    Ok(trace(&mut store.walk(), id)?)
}

/// Whether nothing more is to come: everybody's end is known.
fn has_ended(j: &Journey) -> bool {
    !j.endings.is_empty() && j.endings.iter().all(|e| e.last.action != Action::Delayed) && j.records.iter().all(|r| r.closed)
}

fn render(cx: &Context, a: &Arguments, journeys: &[Journey]) -> anyhow::Result<Vec<u8>> {
    if a.json {
        let mut text = serde_json::to_vec(&json::journeys(journeys, a.lines))?;
        text.push(b'\n');
        return Ok(text);
    }
    Ok(journeys.iter().map(|j| show(cx, j, a.lines)).collect::<Vec<_>>().join("\n").into_bytes())
}

fn write_out(a: &Arguments, text: &[u8]) -> std::io::Result<()> {
    if a.json {
        // Not through the terminal's filter: it would take control characters out of values.
        let mut out = std::io::stdout();
        return if text == b"\n" { Ok(()) } else { out.write_all(text).and_then(|()| out.flush()) };
    }
    let mut out = anstream::stdout();
    out.write_all(text).and_then(|()| out.flush())
}

/// One journey as a tree, and a line for each recipient. On a terminal replies in the tree are cut to its width:
/// a tree whose lines wrap is none, and what went wrong stands in full in the last lines.
pub fn show(cx: &Context, j: &Journey, lines: bool) -> String {
    let mut tree = Tree { cx, j, lines, columns: text::columns(), out: String::new(), drawn: vec![] };
    head(&mut tree.out, j);
    for root in j.records.iter().filter(|r| !j.edges.iter().any(|e| e.to == r.key)) {
        tree.node(root, "", "", None);
    }
    let mut out = tree.out;
    for r in &j.apart {
        let who = r.recipients.iter().map(|p| format!("{} {} {}", clean(&p.final_recipient), p.action.as_str(), clean(&p.status)));
        let who = who.take(5).collect::<Vec<_>>().join(", ");
        let _ =
            writeln!(out, "{}", paint(dim(), &format!("  (kept apart: a report by {} that does not fit: {who})", clean(&r.reporting_mta))));
    }
    if j.truncated {
        out.push_str("  ... cut: more records than one journey may have\n");
    }
    out.push('\n');
    for e in &j.endings {
        ending(cx, e, &mut out);
    }
    if j.endings.is_empty() {
        let state = match j.records.last() {
            Some(r) if r.is_queued() => "still queued, no attempt yet".to_string(),
            Some(Record { closed: false, .. }) => {
                "not seen to be queued: refused or cut off on its way in, or its next lines are not there yet".to_string()
            }
            Some(Record { remark: Some(remark), .. }) => format!("{}; no recipient is named in the logs", clean(remark)),
            _ => "no recipient is named in the logs".to_string(),
        };
        let _ = writeln!(out, "{}", paint(action_style(Action::Delayed), &state));
    }
    out
}

fn head(out: &mut String, j: &Journey) {
    let first = |f: fn(&Record) -> Option<&String>| j.records.iter().find_map(f).map(|v| clean(v));
    let from = first(|r| r.envelope_from.as_ref()).map(|f| if f.is_empty() { "<> (a notification)".to_string() } else { f });
    let _ = write!(out, "{}", paint(bold(), &first(|r| r.message_id.as_ref()).unwrap_or_else(|| "(no Message-ID logged)".into())));
    let _ = writeln!(out, "  from {}", from.as_deref().unwrap_or("?"));
    let mut more = Vec::new();
    let witnessed = || j.witnesses.iter().find_map(|w| w.envelope_id.as_deref()).map(clean);
    if let Some(e) = first(|r| r.envelope_id.as_ref()).or_else(witnessed) {
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

struct Tree<'a> {
    cx: &'a Context,
    j: &'a Journey,
    lines: bool,
    columns: Option<usize>,
    out: String,
    /// Keys of records drawn: one that was handed on by two is drawn once.
    drawn: Vec<&'a str>,
}

impl<'a> Tree<'a> {
    /// Draws a record and those it handed on to. `lead` stands before its own line, `below` before those under it.
    fn node(&mut self, r: &'a Record, lead: &str, below: &str, from: Option<(By, i64)>) {
        let _ = writeln!(self.out, "{lead}{}", self.title(r, from));
        if self.drawn.contains(&r.key.as_str()) {
            let _ = writeln!(self.out, "{below}    (as above)");
            return;
        }
        self.drawn.push(&r.key);
        let j = self.j;
        let child = |e: &'a crate::model::journey::Edge| Some((e.by, j.records.iter().find(|c| c.key == e.to)?));
        let children: Vec<_> = j.edges.iter().filter(|e| e.from == r.key).filter_map(child).collect();
        let bar = if children.is_empty() { "    " } else { "│   " };
        let lines = r.events.iter().filter(|_| self.lines).map(|e| paint(dim(), &clean(&e.line)));
        let room = self.columns.map(|c| c.saturating_sub(below.width() + bar.width()));
        let fitted = |text: &str| room.map_or_else(|| text.to_string(), |room| text::fit(text, room));
        let notes = notes(j, r).into_iter().map(|n| paint(dim(), &fitted(&clean(&n))));
        let attempts = r.recipients.iter().map(|p| attempt(p, room));
        for line in attempts.chain(notes).chain(lines) {
            let _ = writeln!(self.out, "{below}{bar}{line}");
        }
        for (n, (by, child)) in children.iter().enumerate() {
            let (lead, under) = if n + 1 == children.len() { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            self.node(child, &format!("{below}{lead}"), &format!("{below}{under}"), Some((*by, r.arrival_date.micros)));
        }
    }

    fn title(&self, r: &Record, from: Option<(By, i64)>) -> String {
        let fine = r.arrival_date.precision > crate::model::time::Precision::Second;
        let when = text::moment(self.cx.zone, r.arrival_date.micros, fine);
        let id = clean(r.queue_id.as_deref().unwrap_or_default());
        let mut title = format!("{when} {} {} {id}", paint(bold(), &clean(&r.reporting_mta)), clean(&r.mta));
        if let Some((_, before)) = from {
            let apart = r.arrival_date.micros - before;
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
        if from.is_some_and(|(by, _)| by == By::MessageId) {
            let _ = write!(title, "  {}", paint(dim(), "(joined by Message-ID)"));
        }
        title
    }
}

/// What a recipient's line says at one hop; the reply as far as there is room for some of it.
fn attempt(p: &Recipient, room: Option<usize>) -> String {
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
    let used = anstream::adapter::strip_str(&s).to_string().width() + 2;
    let left = room.map_or(usize::MAX, |room| room.saturating_sub(used));
    if let Some(d) = p.diagnostic.as_deref().filter(|_| left >= 12) {
        let _ = write!(s, "  {}", paint(dim(), &text::fit(&clean(d), left)));
    }
    s
}

/// What else is known at a hop: decisions, notifications, witnesses.
fn notes(j: &Journey, r: &Record) -> Vec<String> {
    let mut notes = Vec::new();
    notes.extend(r.remark.iter().map(|x| format!("decided: {x}")));
    notes.extend(r.notices.iter().map(|(kind, id)| format!("{kind} notification sent as {id}")));
    let sessions: HashSet<&str> = r.recipients.iter().filter_map(|p| p.remote_queue_id.as_deref()).collect();
    let behind_pipe = r.recipients.iter().any(|p| p.remote_queue_id.is_none());
    for w in &j.witnesses {
        let session = w.queue_id.as_deref().is_some_and(|id| sessions.contains(id));
        let filter = w.orig_queue_id.is_some() && w.orig_queue_id == r.queue_id;
        let mail =
            behind_pipe && w.message_id.is_some() && w.message_id == r.message_id && w.reporting_mta == r.reporting_mta && shares(w, r);
        if !(session || filter || mail) {
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

/// Whether two records name a recipient in common.
fn shares(a: &Record, b: &Record) -> bool {
    let names: HashSet<String> = b.recipients.iter().flat_map(|p| [folded(&p.original_recipient), folded(&p.final_recipient)]).collect();
    a.recipients.iter().any(|p| names.contains(&folded(&p.final_recipient)))
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
    let said = p.diagnostic.as_deref().or(p.disposition.as_deref()).filter(|_| matches!(p.action, Action::Failed | Action::Delayed));
    let why = said.map(|d| format!("  {}", paint(dim(), &clean(d)))).unwrap_or_default();
    let source = if p.source == "dsn" { " (DSN)" } else { "" };
    let _ = writeln!(
        out,
        "{}  {} {}{folder}{to} at {}{date}{source}{why}{}",
        paint(bold(), &who),
        paint(action_style(p.action), &state),
        clean(&p.status),
        clean(&e.at),
        beside(cx, e)
    );
}

/// What notifications claim beyond the log's word: by another host, or otherwise.
fn beside(cx: &Context, e: &Ending) -> String {
    let mut out = String::new();
    let p = &e.last;
    let more = |c: &&Reported| (c.action != p.action || c.disposition.is_some()) && !(same_host(&c.by, &e.at) && c.disposition.is_none());
    let mut claims = p.reported.iter().filter(more).peekable();
    if claims.peek().is_some() {
        out.push_str(" (log)");
    }
    for c in claims {
        let when = text::moment(cx.zone, c.date.micros, false);
        let state = c
            .disposition
            .as_deref()
            .filter(|d| *d != "deleted")
            .map_or_else(|| format!("{} {}", c.action.as_str(), clean(&c.status)), clean);
        let belief = match (c.agrees.contains(&"reporting_mta"), c.agrees.contains(&"session")) {
            (false, _) => ", a host unknown here",
            (true, true) => ", and handed it in",
            (true, false) => "",
        };
        let _ = write!(out, "; {} reports {}, {when} (DSN{belief})", clean(&c.by), paint(action_style(c.action), &state));
    }
    out
}
