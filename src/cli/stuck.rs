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
        let mut table = Table::new(&["WAITING", "DOMAIN", "RECIPIENTS", "FIRST QUEUE ID", "REASON"]).whole(&[0, 2, 3]);
        let newest = store.stats()?.last.unwrap_or(cx.now);
        for g in &groups {
            table.row(vec![
                (text::duration(newest - g.since), Style::new()),
                (g.domain.clone(), Style::new()),
                (g.recipients.to_string(), Style::new()),
                (g.queue_ids.first().cloned().unwrap_or_default(), Style::new()),
                (g.reason.clone(), dim()),
            ]);
        }
        write!(out, "{}", table.render(columns()))?;
    }
    if groups.is_empty() {
        anstream::eprintln!("nothing is queued");
        anstream::eprint!("{}", stats::covered(cx, &store, None, None)?);
        return Ok(ExitCode::from(1));
    }
    Ok(ExitCode::SUCCESS)
}

/// A reason without what differs from message to message: addresses, ids, numbers of seconds.
fn reason(diagnostic: &str, recipient: &str) -> String {
    let text = diagnostic.replace(recipient, "...");
    let mut out = String::new();
    for word in text.split(' ') {
        let id =
            word.len() >= 10 && word.bytes().any(|b| b.is_ascii_digit()) && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        out.push_str(if id { "..." } else { word });
        out.push(' ');
    }
    out.trim_end().to_string()
}
