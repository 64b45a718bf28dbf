//! The record: everything known about one message at one MTA.
//!
//! One record is one message/tracking-status part (RFC 3886) and one document of the index. It *is*
//! its set of events; [`derive`] computes all that is shown from that set, so that it never matters
//! in which order, how often or from which copy the lines came (R1).

use super::event::{Action, Event, Field, as_text, decode_all};
use super::status::default_status;
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
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Slot {
    /// Host name after `[hosts]` aliases.
    pub host: String,
    /// Instance of the MTA (`postfix`, `postfix-out`, `exim`).
    pub instance: String,
    /// Queue id; for a reject its second as written, its client, and a hash of what was refused (`1772438400/192.0.2.7/5f0c1d2e3a4b`).
    pub queue_id: String,
}

/// The most bytes of a key; what is longer is cut and ends in a hash.
pub const MAX_KEY: usize = 1024;

impl Slot {
    /// `host/instance/queue id`, the key of records whose ids are unique.
    pub fn key(&self) -> String {
        bounded([&self.host, "/", &self.instance, "/", &self.queue_id].concat())
    }

    /// The key of the incarnation that began at `seconds` since 1970, for ids that return.
    pub fn key_at(&self, seconds: i64) -> String {
        bounded([&self.host, "/", &self.instance, "/", &self.queue_id, "/", &seconds.to_string()].concat())
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    #[serde(with = "in_base64")]
    pub events: Vec<u8>,
}

/// Bytes as base64 without padding, in JSON.
pub(crate) mod in_base64 {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD_NO_PAD;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub fn serialize<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&STANDARD_NO_PAD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        STANDARD_NO_PAD.decode(String::deserialize(d)?).map_err(de::Error::custom)
    }
}

impl StoredRecord {
    /// The events, in order.
    pub fn events(&self) -> impl Iterator<Item = Event<'_>> {
        decode_all(&self.events)
    }

    /// This record with the events of another of the same key as well.
    pub fn joined(&self, other: &StoredRecord) -> StoredRecord {
        let all = [self.events.as_slice(), other.events.as_slice()].concat();
        let events = super::incarnation::split(&all, false).into_iter().flat_map(|i| i.events.concat()).collect();
        StoredRecord { events, ..self.clone() }
    }

    /// Computes what is shown from the events.
    pub fn derive(&self) -> Record {
        Record { events: self.lines(), ..self.derive_bare() }
    }

    /// The events as [`Record::events`] has them.
    pub fn lines(&self) -> Vec<EventLine> {
        self.events().map(|e| EventLine::of(&e)).collect()
    }

    /// As [`StoredRecord::derive`], without the log lines ([`Record::events`] is empty).
    pub fn derive_bare(&self) -> Record {
        super::derive::derive(self)
    }

    /// Every id by which it may be asked for, as written: its own queue id, Message-ID and envelope id, and those it names of
    /// others. `record` is what [`StoredRecord::derive`] made of it.
    pub fn ids(&self, record: &Record) -> Vec<String> {
        let mut ids: Vec<String> = Vec::with_capacity(8);
        self.each_id(record, &mut |id| ids.push(id.to_owned()));
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Calls `each` for every one of [`StoredRecord::ids`]; some come twice.
    pub fn each_id(&self, record: &Record, each: &mut dyn FnMut(&str)) {
        for event in self.events() {
            for (field, value) in event.fields() {
                if field.is_id() && !value.is_empty() {
                    each(&as_text(value));
                }
            }
        }
        let derived = [&record.queue_id, &record.message_id, &record.envelope_id, &record.orig_queue_id, &record.notice_of];
        derived.into_iter().flatten().for_each(|id| each(id));
        record.notices.iter().for_each(|(_, id)| each(id));
        record.recipients.iter().filter_map(|r| r.remote_queue_id.as_ref()).for_each(|id| each(id));
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
    /// Id under which this host told the client that it took it, where that is not the queue id.
    pub reply_id: Option<String>,
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
    /// Recipients of the envelope as an SMTP gateway before the MTA saw them; empty where there was none, or more than it notes.
    pub envelope: Vec<Addressed>,
    /// Who may track it (RFC 3885): envelope ids and certifiers, in the order they were bound.
    pub bindings: Vec<Binding>,
    /// The events, in order.
    pub events: Vec<EventLine>,
}

/// A recipient as the client named it to a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addressed {
    /// The address of its RCPT command.
    pub address: String,
    /// Its ORCPT as sent, `type;xtext` (RFC 3461, 4.2).
    pub orcpt: Option<String>,
}

/// An envelope id and certifier that open a record to a tracking user agent (R8: both together name what is opened).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// ENVID as bound.
    pub envelope_id: String,
    /// SHA-1 of the secret, base64 without padding, 27 characters.
    pub certifier: String,
    /// Until when it opens the record, seconds since 1970; `None` where the binding says nothing of it.
    pub expires: Option<i64>,
    /// Only this recipient is shown.
    pub recipient: Option<String>,
    /// Taken back for good.
    pub revoked: bool,
}

impl Record {
    /// Whether the message lies in the queue as far as the log shows: something was logged of it that an MTA only logs of
    /// what it took (its size or number of recipients, an attempt, a decision, a notification), and nothing says that it left.
    ///
    /// A message that was cut off in DATA or refused at its end has a client and a Message-ID and no more; so has, for a
    /// moment, one whose next lines are not there yet. It is not [`Record::closed`], but neither is it known to be queued.
    pub fn is_queued(&self) -> bool {
        let attempted = |p: &Recipient| p.action != Action::Failed || p.remote_mta.is_some() || p.relay.is_some();
        let taken = self.size.is_some() || self.recipient_count.is_some() || self.remark.is_some() || !self.notices.is_empty();
        !self.closed && (taken || self.recipients.iter().any(attempted))
    }
}

impl EventLine {
    fn of(event: &Event) -> Self {
        EventLine {
            time: Stamp { micros: event.head.time, precision: event.head.precision },
            kind: event.head.kind.as_str(),
            program: event.text(Field::Program).unwrap_or_default(),
            line: String::from_utf8_lossy(event.line()).into_owned(),
        }
    }
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
    /// Whether the next host was seen to offer message tracking (RFC 3885, 2).
    pub next_tracks: bool,
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

impl Recipient {
    /// One of which nothing is known but its names: queued, never tried.
    pub fn untried(original_recipient: String, final_recipient: String) -> Self {
        Recipient {
            original_recipient,
            final_recipient,
            action: Action::Delayed,
            status: default_status(Action::Delayed, false).into(),
            remote_mta: None,
            remote_ip: None,
            remote_queue_id: None,
            relay: None,
            last_attempt_date: None,
            attempts: 0,
            diagnostic: None,
            disposition: None,
            redirected_to: None,
            next_tracks: false,
            source: "log",
            will_retry_until: None,
            reason: None,
            confidence: None,
            status_from: None,
            reported: Vec::new(),
        }
    }
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
