//! What a report says, once read, whatever wrote it.

use super::fields::Group;
use super::status::StatusFrom;
use crate::model::event::Action;

/// What sort of report it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// About a delivery: RFC 3464, RFC 6533, or the text of a system that never read them.
    Delivery,
    /// Tracking status that a peer mailed (RFC 3886).
    Tracking,
    /// What became of a mail in the mailbox: displayed, deleted (RFC 8098).
    Disposition,
    /// A recipient complained about it (RFC 5965).
    Complaint,
}

impl Sort {
    /// The word in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Sort::Delivery => "delivery",
            Sort::Tracking => "tracking",
            Sort::Disposition => "disposition",
            Sort::Complaint => "complaint",
        }
    }
}

/// One report: what one MTA says about one message. A mail may hold several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What it is about.
    pub sort: Sort,
    /// `rfc3464`, `rfc3886`, `rfc8098`, `rfc5965`, or the name of the dialect file that read its text.
    pub dialect: String,
    /// It came inside somebody's mail, not as a mail of its own.
    pub forwarded: bool,
    /// Message-ID of the report's own mail, without angle brackets.
    pub report_id: Option<String>,
    /// When the report was written: seconds since 1970, and those of its local time read as UTC.
    pub date: Option<(i64, i64)>,
    /// Name of the host that handed us the report: the topmost `Received`.
    pub handed_by: Option<String>,
    /// Host that reports, as it calls itself.
    pub reporting_mta: Option<String>,
    /// The host that the report's own sender address names, where the report names none.
    pub sender_host: Option<String>,
    /// Original-Envelope-Id.
    pub envelope_id: Option<String>,
    /// Queue id of the message at the reporting MTA.
    pub queue_id: Option<String>,
    /// Arrival-Date, seconds since 1970.
    pub arrival_date: Option<i64>,
    /// Message-ID of the message it is about, without angle brackets.
    pub message_id: Option<String>,
    /// Sender of that message; empty for a notification.
    pub envelope_from: Option<String>,
    /// Subject of that message.
    pub subject: Option<String>,
    /// All fields about the message, as they stand.
    pub fields: Vec<(String, String)>,
    /// One for each recipient.
    pub claims: Vec<Claim>,
    /// Recipients beyond the bound, left out.
    pub left_out: u64,
}

/// What a report says about one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// As the sender addressed it.
    pub original_recipient: Option<String>,
    /// After aliases. Empty where the report does not say whom it is about.
    pub final_recipient: String,
    /// What became of it.
    pub action: Action,
    /// RFC 3463.
    pub status: String,
    /// How the status was found.
    pub status_from: StatusFrom,
    /// Host that the reporting MTA spoke to.
    pub remote_mta: Option<String>,
    /// Its address.
    pub remote_ip: Option<String>,
    /// What it (or the reporting MTA) said.
    pub diagnostic: Option<String>,
    /// Seconds since 1970.
    pub last_attempt_date: Option<i64>,
    /// Seconds since 1970.
    pub will_retry_until: Option<i64>,
    /// Why, in a word or two of `parsers/dsn/reasons.toml`.
    pub reason: Option<String>,
    /// `displayed`, `deleted`, `complaint`, ...
    pub disposition: Option<String>,
    /// Only words were understood, or the report was forwarded.
    pub low: bool,
    /// All fields about this recipient, as they stand.
    pub fields: Vec<(String, String)>,
}

impl Claim {
    /// A claim that says nothing yet.
    pub(super) fn about(final_recipient: String) -> Self {
        Claim {
            original_recipient: None,
            final_recipient,
            action: Action::Failed,
            status: String::new(),
            status_from: StatusFrom::Given,
            remote_mta: None,
            remote_ip: None,
            diagnostic: None,
            last_attempt_date: None,
            will_retry_until: None,
            reason: None,
            disposition: None,
            low: false,
            fields: Group::new(),
        }
    }

    /// The names under which the recipient is known: the final one first.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.final_recipient.as_str()).chain(self.original_recipient.as_deref())
    }
}

impl Report {
    /// The host under which the report is kept: the one it names, else its sender's.
    pub fn host(&self) -> &str {
        self.reporting_mta.as_deref().or(self.sender_host.as_deref()).unwrap_or("unknown")
    }

    /// What names this report, from what it says alone: a copy of the same mail that came another way has the same name.
    pub fn name(&self) -> String {
        let mut text = String::with_capacity(512);
        let mut add = |v: &str| {
            text.push_str(v);
            text.push('\0');
        };
        add(self.sort.as_str());
        for v in [&self.report_id, &self.reporting_mta, &self.envelope_id, &self.queue_id, &self.message_id] {
            add(v.as_deref().unwrap_or("\u{1}"));
        }
        add(&self.date.map_or(0, |d| d.0).to_string());
        for c in &self.claims {
            for v in [&c.final_recipient, c.action.as_str(), &c.status] {
                add(v);
            }
            for v in [&c.original_recipient, &c.diagnostic, &c.disposition] {
                add(v.as_deref().unwrap_or("\u{1}"));
            }
        }
        format!("{:032x}", xxhash_rust::xxh3::xxh3_128(text.as_bytes()))
    }
}
