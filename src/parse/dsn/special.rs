//! Reports that are not about a delivery: what became of a mail in the mailbox (RFC 8098), and complaints (RFC 5965).

use super::fields::{Group, address, date, get, host, sections};
use super::mail::{Mail, bare};
use super::mime::{Head, Part};
use super::report::{Claim, Report, Sort};
use super::status::StatusFrom;
use crate::model::event::Action;

/// The report of a `message/disposition-notification` part.
pub(super) fn disposition(part: &Part, mail: &Mail) -> Option<Report> {
    let claim = disposed(all_fields(&part.text()), mail.head)?;
    let mut r = mail.report(Sort::Disposition, "rfc8098");
    r.message_id = get(&claim.fields, "original-message-id").map(bare).or(r.message_id);
    r.reporting_mta = get(&claim.fields, "reporting-ua").and_then(|v| host(v.split(';').next().unwrap_or_default()).0);
    r.claims = vec![claim];
    Some(r)
}

/// The report of a `message/feedback-report` part.
pub(super) fn complaint(part: &Part, mail: &Mail) -> Report {
    let mut r = mail.report(Sort::Complaint, "rfc5965");
    r.claims = complaints(part, mail.returned.as_deref().map(|b| Head::split(b).0));
    if let Some(c) = r.claims.first() {
        r.reporting_mta = get(&c.fields, "reporting-mta").and_then(|v| host(v).0);
        r.arrival_date = get(&c.fields, "arrival-date").and_then(date).map(|d| d.0);
        r.envelope_id = get(&c.fields, "original-envelope-id").map(str::to_string);
    }
    r
}

/// What the fields of a notification claim.
fn disposed(fields: Group, head: Head) -> Option<Claim> {
    let disposition = get(&fields, "disposition")?.to_lowercase();
    let mut claim = Claim::about(get(&fields, "final-recipient").and_then(address).unwrap_or_default());
    claim.original_recipient = get(&fields, "original-recipient").and_then(address);
    // `mode; type/modifier`, RFC 8098, 3.2.6.
    let word = disposition.rsplit(';').next().unwrap_or_default().split(['/', ',', ' ']).find(|w| !w.is_empty())?.to_string();
    let refused = head.first("auto-submitted").is_some_and(|v| v.to_lowercase().contains("reject"));
    (claim.action, claim.status) = match word.as_str() {
        "displayed" => (Action::Delivered, "2.0.0".into()),
        // A Sieve script that refuses a mail may say so by an MDN (RFC 5429, 2.1).
        "deleted" if refused => (Action::Failed, "5.7.1".into()),
        _ => (Action::Opaque, "2.0.0".into()),
    };
    claim.status_from = StatusFrom::Text;
    claim.diagnostic = get(&fields, "error").or_else(|| get(&fields, "failure")).map(str::to_string);
    claim.disposition = Some(word);
    claim.fields = fields;
    Some(claim)
}

/// The claims of a `message/feedback-report` part: one a recipient it names.
fn complaints(part: &Part, returned: Option<Head>) -> Vec<Claim> {
    let fields = all_fields(&part.text());
    if get(&fields, "feedback-type").is_none() {
        return vec![];
    }
    let named =
        |name: &str| fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).filter_map(|(_, v)| address(v)).collect::<Vec<_>>();
    let mut whom = named("original-rcpt-to");
    if whom.is_empty() {
        let to = returned.and_then(|h| h.first("delivered-to").or_else(|| h.first("to"))).unwrap_or_default();
        let inner = to.rsplit_once('<').map_or(to.as_str(), |(_, a)| a).trim_end_matches('>').to_string();
        whom.extend(super::dialect::address(&inner).filter(|a| a.contains('@')));
    }
    if whom.is_empty() {
        whom.push(String::new());
    }
    let one = |name: String| {
        let mut claim = Claim::about(name);
        claim.action = Action::Delivered;
        claim.status = "2.0.0".into();
        claim.status_from = StatusFrom::Text;
        claim.disposition = Some("complaint".into());
        claim.reason = get(&fields, "feedback-type").map(str::to_lowercase);
        claim.fields = fields.clone();
        claim
    };
    whom.into_iter().take(super::dialect::MAX_CLAIMS).map(one).collect()
}

/// The fields of a part that has one group only.
fn all_fields(text: &str) -> Group {
    sections(text).into_iter().flat_map(|(message, recipients)| message.into_iter().chain(recipients.into_iter().flatten())).collect()
}
