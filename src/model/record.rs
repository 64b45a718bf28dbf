//! The record: everything known about one message at one MTA.
//!
//! One record is one message/tracking-status part (RFC 3886) and one document of the index. It *is*
//! its set of events; [`derive`] computes all that is shown from that set, so that it never matters
//! in which order, how often or from which copy the lines came (R1).

use super::event::{Action, Event, decode_all};
use super::time::Precision;
use serde::{Deserialize, Serialize};

/// What sort of record it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A message in an MTA's queue: a hop of a journey.
    Hop,
    /// A refusal before queueing: no queue id.
    Reject,
    /// What a program that is no MTA said about a mail (R9).
    Witness,
    /// What a notification that came back as mail claims (R8): no hop, and no part of any proof.
    Report,
}

impl Role {
    /// One byte for the stored form.
    pub fn as_u8(self) -> u8 {
        match self {
            Role::Hop => b'h',
            Role::Reject => b'r',
            Role::Witness => b'w',
            Role::Report => b'd',
        }
    }

    /// The role of a stored byte.
    pub fn from_u8(b: u8) -> Option<Self> {
        match b {
            b'h' => Some(Role::Hop),
            b'r' => Some(Role::Reject),
            b'w' => Some(Role::Witness),
            b'd' => Some(Role::Report),
            _ => None,
        }
    }
}

/// Where one message lay: host, MTA instance and queue id (R3). For ids that return, several messages share a slot.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot {
    /// Host name after `[hosts]` aliases.
    pub host: String,
    /// Instance of the MTA (`postfix`, `postfix-out`, `exim`).
    pub instance: String,
    /// Queue id; for a reject its second and client (`1772438400/192.0.2.7`).
    pub queue_id: String,
}

/// The most bytes of a key; what is longer is cut and ends in a hash.
pub const MAX_KEY: usize = 1024;

impl Slot {
    /// `host/instance/queue id`, the key of records whose ids are unique.
    pub fn key(&self) -> String {
        bounded(format!("{}/{}/{}", self.host, self.instance, self.queue_id))
    }

    /// The key of the incarnation that began at `seconds` since 1970, for ids that return.
    pub fn key_at(&self, seconds: i64) -> String {
        bounded(format!("{}/{}/{}/{seconds}", self.host, self.instance, self.queue_id))
    }
}

fn bounded(key: String) -> String {
    if key.len() <= MAX_KEY {
        return key;
    }
    let mut end = MAX_KEY - 17;
    while !key.is_char_boundary(end) {
        end -= 1;
    }
    let head = key.get(..end).unwrap_or_default();
    format!("{head}#{:016x}", xxhash_rust::xxh3::xxh3_64(key.as_bytes()))
}

/// A record as it is stored: where it lay and its events, encoded one behind the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// Unique name of the record in the index.
    pub key: String,
    /// Host, instance, queue id.
    pub slot: Slot,
    /// Whether `slot.queue_id` can come again for another message.
    pub reused: bool,
    /// Name of the parser file that read it (`postfix`).
    pub mta: String,
    /// Hop, reject, witness or report.
    pub role: Role,
    /// Concatenated [`super::event::encode`]d events, in [`Event::order`].
    pub events: Vec<u8>,
}

impl StoredRecord {
    /// The events, in order.
    pub fn events(&self) -> impl Iterator<Item = Event<'_>> {
        decode_all(&self.events)
    }

    /// Computes what is shown from the events.
    pub fn derive(&self) -> Record {
        super::derive::derive(self)
    }
}

/// An instant with the precision it was written with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Microseconds since 1970, UTC.
    pub micros: i64,
    /// How fine it was written.
    pub precision: Precision,
}

impl Stamp {
    /// RFC 3339 in UTC.
    pub fn rfc3339(self) -> String {
        super::time::rfc3339(self.micros, self.precision)
    }
}

/// The host a message came from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Client {
    /// Its name as the MTA logged it.
    pub name: Option<String>,
    /// Its address.
    pub ip: Option<String>,
}

/// Everything known about one message at one MTA.
#[derive(Debug, Clone)]
pub struct Record {
    /// Unique name of the record.
    pub key: String,
    /// Hop, reject, witness or report.
    pub role: Role,
    /// Host whose MTA (or program) reports.
    pub reporting_mta: String,
    /// Name of the parser file.
    pub mta: String,
    /// Instance of the MTA.
    pub instance: String,
    /// The MTA's id of the message; `None` for a reject. For a notification: what it says the id was.
    pub queue_id: Option<String>,
    /// When the message came to this MTA: its first event (RFC 3886, 3.2.4).
    pub arrival_date: Stamp,
    /// The latest event.
    pub last_event_date: Stamp,
    /// Whether the message left the queue.
    pub closed: bool,
    /// Message-ID without angle brackets.
    pub message_id: Option<String>,
    /// ENVID.
    pub envelope_id: Option<String>,
    /// Sender; empty for a bounce.
    pub envelope_from: Option<String>,
    /// Bytes.
    pub size: Option<u64>,
    /// Number of recipients as the queue manager counts them.
    pub recipient_count: Option<u64>,
    /// Where it came from.
    pub client: Client,
    /// Login name of an authenticated client.
    pub auth_user: Option<String>,
    /// Subject.
    pub subject: Option<String>,
    /// Queue id under which the same host had it before.
    pub orig_queue_id: Option<String>,
    /// Queue id of the message this one is a notification about.
    pub notice_of: Option<String>,
    /// Notifications made about this message: kind and queue id.
    pub notices: Vec<(String, String)>,
    /// A filter's verdict.
    pub verdict: Option<String>,
    /// Message-ID of the notification's own mail, where the record is one.
    pub report_id: Option<String>,
    /// Host that handed us the notification.
    pub reported_by: Option<String>,
    /// What a decision about the whole message said (expired, rejected, held), where it names no recipient.
    pub remark: Option<String>,
    /// What became of each recipient here.
    pub recipients: Vec<Recipient>,
    /// The events, in order.
    pub events: Vec<EventLine>,
}

/// An event as `--lines` shows it.
#[derive(Debug, Clone)]
pub struct EventLine {
    /// When.
    pub time: Stamp,
    /// Kind of fact.
    pub kind: &'static str,
    /// Program as logged.
    pub program: String,
    /// The whole log line; bytes that are no UTF-8 become U+FFFD.
    pub line: String,
}

/// What became of one recipient at one MTA.
#[derive(Debug, Clone)]
pub struct Recipient {
    /// As the client named it.
    pub original_recipient: String,
    /// After aliases.
    pub final_recipient: String,
    /// RFC 3886, 3.3.3.
    pub action: Action,
    /// RFC 3463.
    pub status: String,
    /// Name of the next host.
    pub remote_mta: Option<String>,
    /// Address of the next host.
    pub remote_ip: Option<String>,
    /// Id that the next host (or this host, for a forward) gave it.
    pub remote_queue_id: Option<String>,
    /// Relay or transport that is no host.
    pub relay: Option<String>,
    /// Latest attempt.
    pub last_attempt_date: Option<Stamp>,
    /// Attempts.
    pub attempts: u32,
    /// Reply or error text of the latest attempt.
    pub diagnostic: Option<String>,
    /// What the operator is told beyond the action.
    pub disposition: Option<String>,
    /// Where a witness says it was redirected to.
    pub redirected_to: Option<String>,
    /// `log`, or `dsn` where only a notification says so.
    pub source: &'static str,
    /// Until when the MTA goes on trying, as a notification says.
    pub will_retry_until: Option<Stamp>,
    /// Why, in a normalised word or two, as read from a notification.
    pub reason: Option<String>,
    /// `low` where a notification was understood by words alone.
    pub confidence: Option<String>,
    /// How a status was found that a notification does not give.
    pub status_from: Option<String>,
    /// What notifications claim beside this; filled in by a journey or a search, never stored.
    pub reported: Vec<Reported>,
}

/// What one notification claims about a recipient, and what speaks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reported {
    /// Key of the notification's record.
    pub key: String,
    /// RFC 3464, 2.3.3.
    pub action: Action,
    /// RFC 3463.
    pub status: String,
    /// Host that reports.
    pub by: String,
    /// When it was reported.
    pub date: Stamp,
    /// Why, in a normalised word or two.
    pub reason: Option<String>,
    /// Reply or error text.
    pub diagnostic: Option<String>,
    /// `displayed`, `deleted`, `complaint`.
    pub disposition: Option<String>,
    /// `low` where it was understood by words alone.
    pub confidence: Option<String>,
    /// What tied it to the record: `queue_id`, `envelope_id` or `message_id`.
    pub matched: &'static str,
    /// What else agrees with the logs: `reporting_mta` (it is ours, or one that we handed the message to), `queue_id`,
    /// `envelope_id`, `message_id`, `recipient`, `session` (the notification itself came from that host, by the log).
    pub agrees: Vec<&'static str>,
}
