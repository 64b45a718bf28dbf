//! What goes on to the next host and what does not: pure functions (RFC 3461, 5.2; RFC 3885, 3.3).

use crate::model::event::{Field, Kind};
use crate::model::record::{Slot, StoredRecord};
use crate::smtp::command::{Envelope, Mark, value};
use crate::smtp::reply::Offer;

/// A marked message that lies at this site, and the record it lies in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The mark, with the seconds that are left of it.
    pub mark: Mark,
    /// Where it lies.
    pub slot: Slot,
    /// Parser file of that MTA.
    pub mta: String,
    sender: String,
    /// Recipients that are still one and the same address.
    recipients: Vec<String>,
}

/// The mark of a message that goes on with this envelope id, by what the records of that id say. `now`: seconds since 1970.
///
/// None where it is not known, its time is used up, or two different marks bear this envelope id: which of them is this
/// message's cannot be told.
pub fn known(records: &[StoredRecord], envelope_id: &str, now: i64) -> Option<Known> {
    let mut found: Option<Known> = None;
    for record in records {
        for (certifier, expires) in bindings(record, envelope_id) {
            let Some(timeout) = u32::try_from(expires.saturating_sub(now)).ok().filter(|t| (1..=999_999_999).contains(t)) else { continue };
            if found.as_ref().is_some_and(|f| f.mark.certifier != certifier) {
                return None;
            }
            let mark = Mark { envelope_id: envelope_id.into(), certifier, timeout: Some(timeout) };
            let shown = record.derive();
            let one = |name: &str| {
                let finals = shown.recipients.iter().filter(|r| r.original_recipient.eq_ignore_ascii_case(name));
                finals.map(|r| r.final_recipient.to_lowercase()).collect::<std::collections::BTreeSet<_>>().len() == 1
            };
            let recipients = shown.recipients.iter().map(|r| r.original_recipient.clone()).filter(|r| one(r)).collect();
            found = Some(Known {
                mark,
                slot: record.slot.clone(),
                mta: record.mta.clone(),
                sender: shown.envelope_from.unwrap_or_default(),
                recipients,
            });
        }
    }
    found
}

/// Certifiers bound to an envelope id and until when, without those taken back.
fn bindings(record: &StoredRecord, envelope_id: &str) -> Vec<(String, i64)> {
    let mut all: Vec<(String, i64)> = Vec::new();
    let events = record.events().filter(|e| e.head.kind == Kind::Binding && e.get(Field::EnvelopeId) == Some(envelope_id.as_bytes()));
    for e in events {
        let (Some(certifier), Some(expires)) = (e.text(Field::Certifier), e.text(Field::Expires).and_then(|t| t.parse().ok())) else {
            continue;
        };
        match all.iter_mut().find(|(c, _)| *c == certifier) {
            Some((_, until)) if *until == 0 || expires == 0 => *until = 0,
            Some((_, until)) => *until = expires,
            None => all.push((certifier, expires)),
        }
    }
    all.retain(|(_, until)| *until != 0);
    all
}

impl Known {
    /// Whether a recipient may take the mark along: it is the address that the sender named, and from the sender it
    /// named. An alias of several, a list (it has a sender of its own) and what else has become of a recipient may not (RFC
    /// 3885, 3.3); nor may, here, a forward to one other address: that it is one cannot be seen from here.
    pub fn goes_with(&self, sender: &[u8], recipient: &[u8]) -> bool {
        let same = |a: &str, b: &[u8]| a.as_bytes().eq_ignore_ascii_case(b);
        same(&self.sender, sender) && self.recipients.iter().any(|r| same(r, recipient))
    }
}

/// The MAIL command for the next host: parameters that it does not offer are left out, and its mark is this one.
pub fn mail(e: &Envelope, offer: &Offer, mark: Option<&Mark>) -> Vec<u8> {
    let mut line = e.head.to_vec();
    let mut add = |param: &[u8]| {
        line.push(b' ');
        line.extend_from_slice(param);
    };
    for param in &e.params {
        let is = |keyword| value(param, keyword).is_some();
        let fits = if is("ENVID") || is("RET") {
            offer.dsn || (offer.mtrk && is("ENVID"))
        } else if is("SIZE") {
            offer.size
        } else if is("BODY") {
            offer.eight_bit
        } else if is("SMTPUTF8") {
            offer.utf8
        } else {
            // The gateway takes no other's word for AUTH, and sets the mark itself.
            false
        };
        if fits {
            add(param);
        }
    }
    if let Some(param) = mark.filter(|_| offer.mtrk).and_then(|m| m.to_param(0)) {
        add(param.as_bytes());
    }
    line
}

/// The RCPT command for the next host.
pub fn rcpt(e: &Envelope, offer: &Offer) -> Vec<u8> {
    let mut line = e.head.to_vec();
    for param in &e.params {
        let original = value(param, "ORCPT").is_some();
        if (original && offer.mtrk) || (offer.dsn && (original || value(param, "NOTIFY").is_some())) {
            line.push(b' ');
            line.extend_from_slice(param);
        }
    }
    line
}

/// The domain of an address, in lower case; an empty one where it has none.
pub fn domain(address: &[u8]) -> String {
    let text = String::from_utf8_lossy(address);
    text.rsplit_once('@').map(|(_, domain)| domain.to_lowercase()).unwrap_or_default()
}
