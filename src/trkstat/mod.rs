//! RFC 3886 text: what a tracking server says of one message at one MTA, written and read.
//!
//! A reply is a `multipart/related; type="message/tracking-status"` with one `message/tracking-status` part a record
//! (3886, 3). The writer is strict: a part that breaks a rule of presence is an error, never a wrong text. The reader is
//! tolerant, since it reads what other servers write: either line end, folded or not, unknown fields, the slips of
//! RFC 3887's own examples (`Status 5.2.2`, `type=tracking-status`). It is bounded, and never panics.
//!
//! Text is 7bit (3886, 3.1): an address that is not printable ASCII is written in the `utf-8` form of RFC 6533.

mod address;
mod read;
#[cfg(test)]
mod tests;
mod write;

use crate::model::event::Action;

pub use address::{Address, from_xtext, to_xtext};
pub use read::{MAX_PARTS, MAX_RECIPIENTS, ReadError, read};
pub use write::{WriteError, write};

/// One `message/tracking-status` part: one message at one MTA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Original-Envelope-Id (3886, 3.2.1), not in xtext.
    pub envelope_id: String,
    /// Reporting-MTA (3.2.2), without its type where that is `dns`.
    pub reporting_mta: Mta,
    /// Arrival-Date (3.2.3), seconds since 1970.
    pub arrival_date: i64,
    /// Further per-message fields.
    pub extensions: Vec<(String, String)>,
    /// One group a recipient; never empty.
    pub recipients: Vec<Recipient>,
}

/// A host as RFC 3464 names one: `dns; mx.example.org`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mta {
    /// `dns`, or another type.
    pub kind: String,
    /// Its name.
    pub name: String,
}

impl Mta {
    /// A host named by its domain name.
    pub fn dns(name: impl Into<String>) -> Self {
        Mta { kind: "dns".into(), name: name.into() }
    }
}

/// One per-recipient group (3886, 3.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// Original-Recipient (3.3.1).
    pub original_recipient: Address,
    /// Final-Recipient (3.3.2).
    pub final_recipient: Address,
    /// Action (3.3.3).
    pub action: Action,
    /// Status (3.3.4): `d.d.d`, no comment.
    pub status: String,
    /// Remote-MTA (3.3.5): never before an attempt, never with `opaque`.
    pub remote_mta: Option<Mta>,
    /// Last-Attempt-Date (3.3.6), seconds since 1970: required once an attempt was made, unless `opaque`.
    pub last_attempt_date: Option<i64>,
    /// Will-Retry-Until (3.3.7), seconds since 1970: only while the message is queued.
    pub will_retry_until: Option<i64>,
    /// Further per-recipient fields.
    pub extensions: Vec<(String, String)>,
}

impl Recipient {
    /// A recipient of which nothing more is said (3.3.3, `opaque`).
    pub fn opaque(original: Address, last: Address) -> Self {
        Recipient {
            original_recipient: original,
            final_recipient: last,
            action: Action::Opaque,
            status: "2.0.0".into(),
            remote_mta: None,
            last_attempt_date: None,
            will_retry_until: None,
            extensions: Vec::new(),
        }
    }
}

/// The most characters of a line, without CR LF (RFC 3887, 2.3).
pub const MAX_LINE: usize = 998;

/// Whether text is a status code (RFC 3463): class 2, 4 or 5, subject and detail of one to three digits.
pub fn is_status(text: &str) -> bool {
    let mut parts = text.split('.');
    let digits = |p: Option<&str>, most| p.is_some_and(|p| (1..=most).contains(&p.len()) && p.bytes().all(|b| b.is_ascii_digit()));
    text.starts_with(['2', '4', '5'])
        && digits(parts.next(), 1)
        && digits(parts.next(), 3)
        && digits(parts.next(), 3)
        && parts.next().is_none()
}
