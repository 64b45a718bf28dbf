//! `msgtrk stuck`

use super::text::{Table, columns, dim};
use super::{Context, stats, text};
use crate::model::event::Action;
use crate::model::query::{Query, Sort};
use crate::model::record::Role;
use anstyle::Style;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;

#[derive(clap::Args)]
pub struct Arguments {
    /// One JSON object a group
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Group {
    domain: String,
    reason: String,
    recipients: u64,
    oldest: String,
    /// Up to ten, oldest first.
    queue_ids: Vec<String>,
    #[serde(skip)]
    since: i64,
}

pub fn run(cx: &Context, a: &Arguments) -> anyhow::Result<ExitCode> {
    let store = cx.open()?;
    let query = Query { open: true, role: Some(Role::Hop), sort: Sort::Oldest, ..Query::default() };
    let mut groups: BTreeMap<(String, String), Group> = BTreeMap::new();
    store.for_each(&query, &mut |_, r| {
        let mut add = |domain: &str, reason: &str| {
            let group = groups.entry((domain.to_lowercase(), reason.to_string())).or_insert_with(|| Group {
                domain: domain.to_lowercase(),
                reason: reason.to_string(),
                recipients: 0,
                oldest: r.arrival_date.rfc3339(),
                queue_ids: vec![],
                since: r.arrival_date.micros,
            });
            group.recipients += 1;
            let id = format!("{}/{}", r.reporting_mta, r.queue_id.as_deref().unwrap_or_default());
            if group.queue_ids.len() < 10 && !group.queue_ids.contains(&id) {
                group.queue_ids.push(id);
            }
        };
        if r.recipients.is_empty() {
            add("(no attempt yet)", r.remark.as_deref().unwrap_or("queued"));
        }
        for p in r.recipients.iter().filter(|p| p.action == Action::Delayed) {
            let domain = p.final_recipient.rsplit_once('@').map_or("(local)", |(_, d)| d);
            add(domain, &reason(p.diagnostic.as_deref().unwrap_or("queued"), &p.final_recipient));
        }
        true
    })?;
    let mut groups: Vec<Group> = groups.into_values().collect();
    groups.sort_by_key(|g| g.since);
    let mut out = anstream::stdout().lock();
    if a.json {
        for g in &groups {
            writeln!(out, "{}", serde_json::to_string(g)?)?;
        }
    } else if !groups.is_empty() {
        let newest = store.stats()?.last.unwrap_or(cx.now);
        write!(out, "{}", listed(&groups, newest, columns()))?;
    }
    if groups.is_empty() {
        anstream::eprintln!("nothing is queued");
        anstream::eprint!("{}", stats::covered(cx, &store, None, None)?);
        return Ok(ExitCode::from(1));
    }
    Ok(ExitCode::SUCCESS)
}

/// The groups as a table. A narrow terminal has no column for the reasons: each stands below its group.
fn listed(groups: &[Group], newest: i64, columns: Option<usize>) -> String {
    let narrow = columns.filter(|c| *c < 110);
    let heads = ["WAITING", "DOMAIN", "RECIPIENTS", "FIRST QUEUE ID", "REASON"];
    let shown = if narrow.is_some() { heads.len() - 1 } else { heads.len() };
    let mut table = Table::new(heads.get(..shown).unwrap_or(&heads)).whole(&[0, 2, 3]);
    for g in groups {
        let mut cells = vec![
            (text::duration(newest - g.since), Style::new()),
            (g.domain.clone(), Style::new()),
            (g.recipients.to_string(), Style::new()),
            (g.queue_ids.first().cloned().unwrap_or_default(), Style::new()),
            (g.reason.clone(), dim()),
        ];
        cells.truncate(shown);
        table.row(cells);
    }
    let table = table.render(columns);
    let Some(columns) = narrow else { return table };
    let reasons = groups.iter().map(|g| format!("  {}\n", text::paint(dim(), &text::fit(&text::clean(&g.reason), columns - 2))));
    let below = std::iter::once(String::new()).chain(reasons);
    table.lines().zip(below).map(|(line, reason)| format!("{line}\n{reason}")).collect()
}

/// A reason without what differs from message to message: addresses, ids, our port, numbers of seconds.
fn reason(diagnostic: &str, recipient: &str) -> String {
    let text = diagnostic.replace(recipient, "...");
    let mut out = String::new();
    for word in text.split(' ') {
        if ["I=[", "DT=", "QT="].iter().any(|own| word.starts_with(own)) {
            // Exim's own side of the connection and how long it took; a colon behind it ends what stands before.
            if word.ends_with(':') && out.ends_with(' ') {
                out.pop();
                out.push_str(": ");
            }
            continue;
        }
        let id =
            word.len() >= 10 && word.bytes().any(|b| b.is_ascii_digit()) && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        out.push_str(if id { "..." } else { word });
        out.push(' ');
    }
    out.trim_end().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_equal_where_only_the_message_differs() {
        let one = reason("No route to host H=mx.d.test [192.0.2.9]:25 I=[192.0.2.1]:53928 DT=3.069s: mx.d.test [192.0.2.9]", "a@d.test");
        assert_eq!(one, "No route to host H=mx.d.test [192.0.2.9]:25: mx.d.test [192.0.2.9]");
        assert_eq!(
            reason("450 <a@d.test>: later, 4jY4Pp6bBjz1XLxB", "a@d.test"),
            reason("450 <b@d.test>: later, 4jY4Pq0mZgz1XM5L", "b@d.test")
        );
    }

    #[test]
    fn a_narrow_terminal_shows_reasons_below() {
        let group = |reason: &str| Group {
            domain: "d.test".into(),
            reason: reason.into(),
            recipients: 2,
            oldest: String::new(),
            queue_ids: vec!["mx1/4Abc".into()],
            since: 0,
        };
        let groups = [group("one reason"), group(&"another ".repeat(20))];
        let shown = anstream::adapter::strip_str(&listed(&groups, 5_000_000, Some(80))).to_string();
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines.len(), 5, "{shown}");
        assert_eq!(lines.get(2).copied(), Some("  one reason"));
        assert!(lines.iter().all(|l| l.chars().count() <= 80), "{shown}");
        assert!(listed(&groups, 0, None).contains("REASON"));
    }
}
