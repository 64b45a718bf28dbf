//! A mail on its way to reports: its parts, the returned message, what its header and status parts say.

use super::classify;
use super::dialect::{self, MAX_CLAIMS, Understood};
use super::fields::{Group, Section, address, behind_type, date, get, host, sections};
use super::mime::{Head, Part};
use super::report::{Claim, Report, Sort};
use super::status;
use crate::model::event::Action;

/// Most messages that one part may speak of.
const MAX_MESSAGES: usize = 100;
/// Most bytes of text that dialects are given.
const MAX_TEXT: usize = 256 * 1024;

/// A mail taken apart, on its way to reports.
pub(super) struct Mail<'a> {
    pub(super) head: Head<'a>,
    pub(super) parts: Vec<Part<'a>>,
    /// Header (and perhaps body) of the message that the report is about.
    pub(super) returned: Option<Vec<u8>>,
    pub(super) text: Option<String>,
}

/// The returned message among the parts, or its header.
pub(super) fn returned_head(parts: &[Part]) -> Option<Vec<u8>> {
    let kinds =
        ["message/rfc822", "message/global", "text/rfc822-headers", "message/rfc822-headers", "message/global-headers", "text/rfc822"];
    let part = parts.iter().skip(1).find(|p| kinds.contains(&p.kind.as_str()))?;
    let bytes = part.bytes();
    let start = bytes.iter().take_while(|b| b.is_ascii_whitespace()).count();
    Some(bytes.get(start..).unwrap_or_default().to_vec())
}

impl Mail<'_> {
    pub(super) fn is_report(&self) -> bool {
        self.parts.iter().any(|p| p.kind == "multipart/report")
    }

    /// Whether a part of another type may be a delivery-status part all the same.
    pub(super) fn may_be_status(&self, part: &Part) -> bool {
        let kind = matches!(
            part.kind.as_str(),
            "text/plain" | "application/octet-stream" | "text/rfc822-headers" | "message/report" | "text/delivery-status"
        );
        kind && self.parts.len() > 1 && (self.is_report() || classify::is_from_daemon(self.head))
    }

    /// What the mail says to people.
    pub(super) fn text(&mut self) -> &str {
        if self.text.is_none() {
            let of = |kind: &str| self.parts.iter().filter(|p| p.kind == kind).map(Part::text).collect::<Vec<_>>().join("\n");
            let mut text = of("text/plain");
            if text.trim().is_empty() {
                text = of("text/html");
            }
            let mut end = text.len().min(MAX_TEXT);
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text.truncate(end);
            self.text = Some(text);
        }
        self.text.as_deref().unwrap_or_default()
    }

    /// A report with what the mail itself and the returned message say.
    pub(super) fn report(&self, sort: Sort, dialect: &str) -> Report {
        let returned = self.returned.as_deref().map(|b| Head::split(b).0);
        let of_returned = |name| returned.and_then(|h: Head| h.first(name));
        let received: Vec<String> = self.head.all("received").take(32).collect();
        let dated = received.iter().rev().find_map(|r| date(r.rsplit_once(';')?.1));
        let from = self.head.first("from").and_then(|v| inner_address(&v));
        Report {
            sort,
            dialect: dialect.into(),
            forwarded: false,
            report_id: self.head.first("message-id").map(|v| bare(&v)).filter(|v| !v.is_empty()),
            date: self.head.first("date").as_deref().and_then(date).or(dated),
            handed_by: received.iter().find_map(|r| handing_host(r)),
            reporting_mta: None,
            sender_host: from.and_then(|f| Some(f.rsplit_once('@')?.1.to_lowercase())).filter(|h| !h.is_empty()),
            envelope_id: None,
            queue_id: None,
            arrival_date: None,
            message_id: of_returned("message-id").map(|v| bare(&v)).filter(|v| !v.is_empty()),
            envelope_from: of_returned("return-path").map(|v| bare(&v)),
            subject: of_returned("subject"),
            fields: Group::new(),
            claims: Vec::new(),
            left_out: 0,
        }
    }

    /// Adds the reports of a status part: one a message that it speaks of.
    pub(super) fn delivery(&self, text: &str, sort: Sort, reports: &mut Vec<Report>) {
        let sections = sections(text);
        let behind = sections.iter().skip(MAX_MESSAGES).map(|(_, recipients)| recipients.len() as u64).sum::<u64>();
        reports.extend(sections.into_iter().take(MAX_MESSAGES).map(|s| self.of_section(s, sort)));
        if let Some(last) = reports.last_mut() {
            last.left_out += behind;
        }
    }

    fn of_section(&self, (message, recipients): Section, sort: Sort) -> Report {
        let mut r = self.report(sort, if sort == Sort::Tracking { "rfc3886" } else { "rfc3464" });
        r.reporting_mta = get(&message, "reporting-mta").and_then(|v| {
            let (name, ip) = host(v);
            name.or(ip)
        });
        r.envelope_id = get(&message, "original-envelope-id").map(|v| v.trim_matches(['<', '>']).to_string());
        r.arrival_date = get(&message, "arrival-date").and_then(date).map(|d| d.0);
        r.queue_id = self.queue_id(&message, r.reporting_mta.as_deref());
        let sender = get(&message, "x-postfix-sender").map(|v| address(v).unwrap_or_default());
        r.envelope_from = sender.or(r.envelope_from);
        r.left_out = recipients.len().saturating_sub(MAX_CLAIMS) as u64;
        r.claims = recipients.into_iter().take(MAX_CLAIMS).map(claim_of).collect();
        r.fields = message;
        r
    }

    /// The message's queue id at the reporting MTA: said by the report, else by that MTA's line in the returned header.
    pub(super) fn queue_id(&self, message: &Group, mta: Option<&str>) -> Option<String> {
        let said = message.iter().find(|(n, _)| {
            let n = n.to_ascii_lowercase();
            n.starts_with("x-") && n.ends_with("-queue-id")
        });
        if let Some((_, id)) = said.filter(|(_, v)| !v.is_empty()) {
            return Some(id.clone());
        }
        let head = Head::split(self.returned.as_deref()?).0;
        let mta = mta?;
        head.all("received").take(8).find_map(|r| {
            let words: Vec<&str> = r.split_whitespace().collect();
            let after = |word: &str| words.iter().position(|w| *w == word).and_then(|n| words.get(n + 1)).map(|w| w.trim_end_matches(';'));
            let by = after("by")?;
            by.eq_ignore_ascii_case(mta).then(|| after("id").map(str::to_string))?
        })
    }
}

/// What a group of fields claims.
fn claim_of(group: Group) -> Claim {
    let last = get(&group, "final-recipient").and_then(address);
    let original = get(&group, "original-recipient").and_then(address);
    let mut c = Claim::about(last.or_else(|| original.clone()).unwrap_or_default());
    c.original_recipient = original;
    let status = get(&group, "status").and_then(status::enhanced).map(str::to_string);
    c.action = get(&group, "action").and_then(action).or_else(|| status.as_deref().and_then(status::action_of)).unwrap_or(Action::Failed);
    c.status = status.unwrap_or_default();
    if let Some(v) = get(&group, "remote-mta") {
        (c.remote_mta, c.remote_ip) = host(v);
    }
    c.diagnostic = get(&group, "diagnostic-code").map(|v| behind_type(v).to_string()).filter(|d| !d.is_empty());
    c.last_attempt_date = get(&group, "last-attempt-date").and_then(date).map(|d| d.0);
    c.will_retry_until = get(&group, "will-retry-until").and_then(date).map(|d| d.0);
    c.fields = group;
    c
}

/// The first word of an Action field, behind which a comment may stand.
fn action(value: &str) -> Option<Action> {
    let word = value.split(|c: char| !c.is_ascii_alphabetic()).find(|w| !w.is_empty())?.to_ascii_lowercase();
    Some(match word.as_str() {
        "failed" | "failure" | "fail" | "bounced" | "expired" => Action::Failed,
        "delayed" | "deferred" | "delay" => Action::Delayed,
        "delivered" => Action::Delivered,
        // Which of the two it is, a journey derives (R1).
        "relayed" | "transferred" => Action::Relayed,
        "expanded" => Action::Expanded,
        "opaque" => Action::Opaque,
        _ => return None,
    })
}

/// Puts what the text says into a report whose status part is silent.
pub(super) fn take_over(report: &mut Report, understood: &Understood) {
    if report.claims.is_empty() {
        report.claims.clone_from(&understood.claims);
        report.left_out = understood.left_out;
        return;
    }
    let mut members: Vec<&Claim> = understood.claims.iter().filter(|u| u.original_recipient.is_some()).collect();
    for claim in &mut report.claims {
        let named = |u: &&Claim| claim.names().any(|n| n.eq_ignore_ascii_case(&u.final_recipient));
        if let Some(u) = understood.claims.iter().find(named) {
            if claim.diagnostic.is_none() {
                claim.diagnostic = u.diagnostic.clone();
                claim.remote_mta = claim.remote_mta.take().or_else(|| u.remote_mta.clone());
            }
            continue;
        }
        // Exim's status part names the alias, its text the address behind it that failed.
        let of_alias = |u: &&Claim| u.original_recipient.as_ref().is_some_and(|o| o.eq_ignore_ascii_case(&claim.final_recipient));
        if let Some(at) = members.iter().position(of_alias) {
            let alias = std::mem::replace(&mut claim.final_recipient, members.remove(at).final_recipient.clone());
            claim.original_recipient.get_or_insert(alias);
        }
    }
}

/// The host in `from HOST` of a Received field, where one is named.
fn handing_host(received: &str) -> Option<String> {
    let name = received.strip_prefix("from ")?.split_whitespace().next()?.trim_matches(['[', ']', '(', ')', ';']).to_lowercase();
    (!name.is_empty()).then_some(name)
}

/// The address inside `Name <address>`.
pub(super) fn inner_address(value: &str) -> Option<String> {
    let inner = value.rsplit_once('<').and_then(|(_, r)| r.split_once('>')).map_or(value, |(a, _)| a);
    dialect::address(inner)
}

/// Angle brackets off an id, and what stands behind them.
pub(super) fn bare(id: &str) -> String {
    let id = id.trim();
    id.split_once('<').and_then(|(_, r)| r.split_once('>')).map_or(id, |(i, _)| i).to_string()
}
