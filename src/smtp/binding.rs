//! What the gateway learnt of a message, as events beside the log's own (R1): who may track it, who sent it to whom.
//!
//! The queue id that the MTA answered with says to which record they belong. They go into the running ledger, so that
//! a tracking query finds them at once; nothing waits for the index. What a process that is killed had not committed yet
//! (a quarter of a second) is lost: no log can give it back.

use super::config::SmtpConfig;
use super::session::Accepted;
use crate::ingest::live::Bell;
use crate::ingest::open::OpenRecords;
use crate::ledger::{Entry, Origin};
use crate::model::derive::{GATEWAY, MAX_NAMED};
use crate::model::event::{Field, Head, Kind, Span};
use crate::model::record::Role;
use crate::model::time::{Precision, SECOND};
use crate::parse::Parsers;
use std::sync::Arc;

/// Beyond so many bytes of events that wait for the index, none are added: the index cannot be written.
const MOST: usize = 160 << 20;

/// Where the messages lie that a gateway hands over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Host after aliases.
    pub host: String,
    /// Parser file of its MTA.
    pub mta: String,
    /// Instance of the MTA.
    pub instance: String,
}

/// Why a message that was taken cannot be tracked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unbound {
    /// The MTA's reply is of no form that `parsers/replies.toml` knows.
    #[error("no queue id in the reply {0:?}: a form of reply that parsers/replies.toml does not know")]
    NoQueueId(String),
    /// No parser file of that name.
    #[error("no parser file is called {0:?}")]
    NoParser(String),
    /// Memory is used up because the index cannot be written.
    #[error("the index cannot be written, and what waits for it fills the memory set aside")]
    Full,
}

/// Puts bindings into the ledger.
pub struct Binder {
    /// The ledger.
    pub open: Arc<OpenRecords>,
    /// Wakes the loop that commits.
    pub bell: Arc<Bell>,
    /// Parser files and the table of replies.
    pub parsers: Arc<Parsers>,
    /// How long messages can be tracked.
    pub config: SmtpConfig,
}

/// The host that took a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Next {
    /// Its name.
    pub host: String,
    /// Its address, where it is known.
    pub ip: Option<String>,
    /// Whether it offers MTRK and was given the mark.
    pub tracks: bool,
}

/// A text and the fields in it.
#[derive(Default)]
struct Line {
    text: Vec<u8>,
    spans: Vec<Span>,
}

impl Line {
    fn new(text: &str) -> Self {
        Line { text: text.as_bytes().to_vec(), spans: Vec::new() }
    }

    fn field(&mut self, name: &str, field: Field, value: &[u8]) {
        self.text.extend_from_slice(name.as_bytes());
        self.spans.push(Span { field, start: self.text.len() as u32, len: value.len() as u32 });
        self.text.extend_from_slice(value);
    }
}

impl Binder {
    /// Notes a marked message that the MTA at `place` took; the queue id.
    ///
    /// # Errors
    /// [`Unbound`]: the mail is on its way all the same.
    pub fn accepted(&self, place: &Place, a: &Accepted) -> Result<String, Unbound> {
        let text = || String::from_utf8_lossy(&a.reply).into_owned();
        let queue_id = self.parsers.replies.queue_id(&a.reply).and_then(|r| a.reply.get(r)).ok_or_else(|| Unbound::NoQueueId(text()))?;
        let expires = self.config.expires(a.mark.timeout, a.at.div_euclid(SECOND));
        let mut binding = Line::new("smtp gateway: marked");
        binding.field(" envelope id ", Field::EnvelopeId, a.mark.envelope_id.as_bytes());
        binding.field(" certifier ", Field::Certifier, a.mark.certifier.as_bytes());
        binding.field(" expires ", Field::Expires, expires.to_string().as_bytes());
        self.add(place, queue_id, a.at, &[(Kind::Queued, envelope(a)), (Kind::Binding, binding)])?;
        Ok(String::from_utf8_lossy(queue_id).into_owned())
    }

    /// Notes which host took a message for a recipient, and whether it tracks. The MTA's log names the gateway as that host.
    ///
    /// # Errors
    /// [`Unbound`].
    pub fn next_host(&self, place: &Place, queue_id: &[u8], recipient: &[u8], next: &Next, at: i64) -> Result<(), Unbound> {
        let mut line = Line::new("smtp gateway: handed");
        line.field(" ", Field::FinalRecipient, recipient);
        line.field(" to ", Field::RemoteMta, next.host.as_bytes());
        if let Some(ip) = &next.ip {
            line.field(" at ", Field::RemoteIp, ip.as_bytes());
        }
        line.field(", which tracks: ", Field::NextTracks, if next.tracks { b"yes" } else { b"no" });
        self.add(place, queue_id, at, &[(Kind::Binding, line)])
    }

    fn add(&self, place: &Place, queue_id: &[u8], at: i64, lines: &[(Kind, Line)]) -> Result<(), Unbound> {
        let file = self.parsers.by_name(&place.mta).ok_or_else(|| Unbound::NoParser(place.mta.clone()))?;
        if self.open.bytes() > MOST {
            return Err(Unbound::Full);
        }
        let reused = file.role == Role::Hop && file.reused_ids.as_ref().is_some_and(|r| r.is_match(queue_id));
        let origin = Origin { host: place.host.clone(), instance: place.instance.clone(), mta: file.name.clone(), role: file.role };
        self.open.with(|ledger| {
            let origin = ledger.origin(origin);
            for (kind, line) in lines {
                let written = at.div_euclid(SECOND);
                let head = Head { kind: *kind, action: None, time: at, precision: Precision::Micro, written, ordinal: 0 };
                let entry = Entry { origin, role: file.role, queue_id, head, spans: &line.spans, line: &line.text, extra: b"" };
                ledger.add(&entry, || reused);
            }
        });
        self.bell.ring();
        Ok(())
    }
}

/// Whether an address stays one in a list of addresses.
fn is_one(address: &[u8]) -> bool {
    let quoted = address.starts_with(b"\"");
    !address.iter().any(|b| b.is_ascii_control() || (!quoted && matches!(b, b'<' | b'>' | b',' | b' ' | b'"')))
}

fn envelope(a: &Accepted) -> Line {
    let mut line = Line::default();
    line.field("", Field::Program, GATEWAY.as_bytes());
    line.field(": from <", Field::EnvelopeFrom, &a.sender);
    let mut list = Vec::new();
    for (address, _) in a.recipients.iter().filter(|(address, _)| is_one(address)) {
        if list.len() + address.len() > MAX_NAMED {
            break;
        }
        list.extend_from_slice(if list.is_empty() { b"<" } else { b",<" });
        list.extend_from_slice(address);
        list.push(b'>');
    }
    line.field("> to ", Field::Recipients, &list);
    let originals =
        a.recipients.iter().filter(|(address, _)| is_one(address)).filter_map(|(address, original)| Some((address, original.as_ref()?)));
    for (address, original) in originals {
        if line.text.len() > 2 * MAX_NAMED {
            break;
        }
        line.field(", <", Field::FinalRecipient, address);
        line.field("> orcpt ", Field::OriginalRecipient, original);
    }
    line.text.extend_from_slice(b": ");
    line.text.extend_from_slice(&a.reply);
    line
}
