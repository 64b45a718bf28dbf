//! The answer to a TRACK: a journey's records as RFC 3886 parts, joined by proof only and shown by policy.
//!
//! Pure functions. What is followed begins at the record that the secret opened, never at a likeness: see [`proof`]. Of
//! each record only those recipients are shown that a shown recipient before it led to, so that members of a list that
//! went on in the same transaction stay unseen (RFC 3886, 4.2).

mod draw;
mod policy;
pub mod proof;
#[cfg(test)]
mod tests;
mod walk;

use crate::model::journey::Journey;
use crate::trkstat::Part;

pub use draw::{address, host_text};
pub(in crate::mtqp) use policy::in_domains;
pub use policy::{Forwarding, Look, Policy};

/// A record that a claim opened, with its journey.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The journey that the record is in.
    pub journey: Journey,
    /// Key of the record.
    pub root: String,
    /// The only recipient to be shown, where the binding names one.
    pub only: Option<String>,
}

/// What can be said from our own records.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// Parts, in the order of the hand-overs.
    pub parts: Vec<Part>,
    /// Recipients handed to hosts whose records we do not hold: for chaining.
    pub onward: Vec<Onward>,
}

/// A recipient whose way goes on elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Onward {
    /// Which part.
    pub part: usize,
    /// Which of its recipients.
    pub recipient: usize,
    /// The next host, as logged.
    pub host: String,
}

/// Most recipients of one answer; what is left out is said in an extension field.
pub const MAX_RECIPIENTS: usize = 20_000;

/// The answer for what a claim opened; `envelope_id` as it is to be written.
///
/// A record that an earlier one's parts show already is not shown again.
pub fn answer(opened: &[Opened], policy: &Policy, envelope_id: &str) -> Answer {
    let mut out = Answer::default();
    let mut shown: Vec<String> = Vec::new();
    let mut left = MAX_RECIPIENTS;
    for o in opened {
        if shown.contains(&o.root) {
            continue;
        }
        let nodes = walk::walk(o, policy);
        shown.extend(nodes.iter().map(|n| n.record.key.clone()));
        draw::draw(o, &nodes, policy, envelope_id, &mut left, &mut out);
    }
    out
}

/// Whether any record that the answer would show still lies in a queue (RFC 3885, 3.1: its knowledge is not denied then).
pub fn is_queued(o: &Opened, policy: &Policy) -> bool {
    walk::walk(o, policy).iter().any(|n| !n.record.closed)
}
