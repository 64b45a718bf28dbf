//! Reports that are not about a delivery: what became of a mail in the mailbox (RFC 8098), and complaints (RFC 5965).

use super::fields::{address, get, groups};
use super::mime::{Head, Part};
use super::report::Claim;
use super::status::StatusFrom;
use crate::model::event::Action;

/// The claim of a `message/disposition-notification` part, with all its fields.
pub(super) fn disposition(part: &Part, head: Head) -> Option<Claim> {
    let fields = all_fields(&part.text());
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
pub(super) fn complaints(part: &Part, returned: Option<Head>) -> Vec<Claim> {
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
fn all_fields(text: &str) -> super::fields::Group {
    let (mut all, recipients) = groups(text);
    recipients.into_iter().for_each(|g| all.extend(g));
    all
}
