//! The one mapping between records and documents, and the version of it.
//!
//! A change of anything here that makes old documents wrong or unreadable needs a new [`VERSION`].

use super::pack::{self, Dictionary};
use super::{ids, records};
use crate::model::event::Action;
use crate::model::record::{Recipient, Record, Role, Slot, StoredRecord};
use crate::model::varint::{get_varint, put_varint};
use smallvec::SmallVec;
use tantivy::schema::{BytesOptions, Field, IndexRecordOption, NumericOptions, STORED, Schema, TextFieldIndexing, TextOptions, Value};
use tantivy::{TantivyDocument, Term};

/// Version of the index format. An index of another version is refused, never touched.
pub const VERSION: u32 = 3;

/// Name of the (never filled) field that bears the version.
const MARK: &str = "msgtrk_format_";
/// Name of the fast field with the arrival, microseconds since 1970.
pub(super) const FIRST: &str = "first";
/// Name of the fast field with the last event, microseconds since 1970.
pub(super) const LAST: &str = "last";
/// The most words of one record that are indexed.
const MAX_WORDS: usize = 64;
/// About what the terms of a record take, bytes.
const TERM_BYTES: usize = 1024;
/// The longest word that is indexed, bytes.
const MAX_WORD: usize = 40;
/// Bears the records that have more or longer words than are indexed: they are candidates for every word.
pub(super) const MORE_WORDS: &str = "\u{1}";

/// Prefixes of the terms in the field `terms`.
pub(super) mod prefix {
    pub const SENDER: &str = "f:";
    pub const SENDER_DOMAIN: &str = "F:";
    pub const RECIPIENT: &str = "t:";
    pub const RECIPIENT_DOMAIN: &str = "T:";
    pub const HOST: &str = "h:";
    pub const CLIENT: &str = "c:";
    pub const USER: &str = "u:";
    pub const ACTION: &str = "a:";
    pub const STATUS: &str = "s:";
    pub const RELAY: &str = "r:";
    pub const MTA: &str = "m:";
    /// Whole terms, not prefixes: still queued; hop; reject; witness; report; see below.
    pub const OPEN: &str = "o";
    pub const HOP: &str = "H";
    pub const REJECT: &str = "R";
    pub const WITNESS: &str = "W";
    pub const REPORT: &str = "D";
    /// A dictionary that records are packed with.
    pub const DICTIONARY: &str = "Z";
    /// Personal data was taken out of it. Whoever writes the record anew for a late line leaves this out.
    pub const MASKED: &str = "M";
}

/// The term of a role.
pub(super) fn role_term(role: Role) -> &'static str {
    match role {
        Role::Hop => prefix::HOP,
        Role::Reject => prefix::REJECT,
        Role::Witness => prefix::WITNESS,
        Role::Report => prefix::REPORT,
    }
}

/// The fields of the index.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields {
    /// Key of a record.
    pub key: Field,
    /// Slot of a record whose queue id can come again (else the key is the slot).
    pub slot: Field,
    /// Hashes of every id by which other records or people may name it.
    pub ids: Field,
    /// All other exact filters.
    pub terms: Field,
    /// Words of what went wrong, of remarks and subjects.
    pub words: Field,
    /// Arrival, microseconds.
    pub first: Field,
    /// Last event, microseconds.
    pub last: Field,
    /// Header and events, packed.
    pub record: Field,
    /// A dictionary that records are packed with.
    pub dictionary: Field,
    /// Key of a finished source.
    pub source_key: Field,
    /// JSON of a finished source.
    pub source: Field,
}

/// The schema of this version.
pub(super) fn schema() -> (Schema, Fields) {
    let mut b = Schema::builder();
    let exact = || {
        let indexing = TextFieldIndexing::default().set_tokenizer("raw").set_index_option(IndexRecordOption::Basic).set_fieldnorms(false);
        TextOptions::default().set_indexing_options(indexing)
    };
    let fast = || NumericOptions::default().set_fast();
    b.add_bytes_field(&format!("{MARK}{VERSION}"), BytesOptions::default().set_stored());
    let fields = Fields {
        key: b.add_text_field("key", exact()),
        slot: b.add_text_field("slot", exact()),
        ids: b.add_custom_field("ids", ids::EXTENSION, serde_json::json!({})),
        terms: b.add_text_field("terms", exact()),
        words: b.add_text_field("words", exact()),
        first: b.add_i64_field(FIRST, fast()),
        last: b.add_i64_field(LAST, fast()),
        record: b.add_custom_field("record", records::EXTENSION, serde_json::json!({})),
        dictionary: b.add_bytes_field("dictionary", BytesOptions::default().set_stored()),
        source_key: b.add_text_field("source_key", exact()),
        source: b.add_text_field("source", STORED),
    };
    (b.build(), fields)
}

/// Whether a schema is this version's; the error says which version it is.
pub(super) fn check(found: &Schema) -> Result<Fields, String> {
    let (wanted, fields) = schema();
    if *found == wanted {
        return Ok(fields);
    }
    let version = found.fields().find_map(|(_, entry)| entry.name().strip_prefix(MARK).map(str::to_owned));
    Err(match version {
        Some(v) if v == VERSION.to_string() => format!("{v} (but with other fields)"),
        Some(v) => v,
        None => "unknown".into(),
    })
}

/// The part of an address behind its last `@`.
fn domain(address: &str) -> Option<&str> {
    address.rsplit_once('@').map(|(_, d)| d)
}

/// Cuts text into words: runs of letters and digits, two bytes or longer.
fn pieces_of(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|w| w.len() > 1)
}

/// A document in the making. Terms of one document may come twice: the engine counts a document once for each term.
struct Filling<'a> {
    fields: &'a Fields,
    doc: TantivyDocument,
    text: String,
}

impl Filling<'_> {
    /// An exact filter's term: a prefix and a value in lower case.
    fn term(&mut self, prefix: &str, value: &str) {
        self.text.clear();
        self.text.push_str(prefix);
        push_lower(&mut self.text, value);
        self.doc.add_text(self.fields.terms, &self.text);
    }

    fn option(&mut self, prefix: &str, value: &Option<String>) {
        if let Some(v) = value {
            self.term(prefix, v);
        }
    }

    fn address(&mut self, whole: &str, domain_only: &str, address: &str) {
        self.term(whole, address);
        if let Some(d) = domain(address) {
            self.term(domain_only, d);
        }
    }

    /// Every id that the record names.
    fn ids(&mut self, stored: &StoredRecord, r: &Record) {
        let mut hashes: SmallVec<[u32; 16]> = SmallVec::new();
        stored.each_id(r, &mut |id| {
            self.text.clear();
            push_lower(&mut self.text, id);
            hashes.push(ids::hash(&self.text));
        });
        hashes.sort_unstable();
        hashes.dedup();
        let bytes: SmallVec<[u8; 64]> = hashes.iter().flat_map(|h| h.to_le_bytes()).collect();
        self.doc.add_custom(self.fields.ids, &bytes);
    }

    /// The terms of a record's exact filters. A witness is only found by the ids that it names, and counted.
    fn terms(&mut self, r: &Record) {
        use prefix::*;
        self.doc.add_text(self.fields.terms, role_term(r.role));
        self.term(HOST, &r.reporting_mta);
        self.term(MTA, &r.mta);
        if r.role == Role::Witness {
            return;
        }
        if r.is_queued() {
            self.doc.add_text(self.fields.terms, OPEN);
        }
        if let Some(from) = &r.envelope_from {
            self.address(SENDER, SENDER_DOMAIN, from);
        }
        if r.instance != r.mta {
            self.term(MTA, &r.instance);
        }
        self.option(CLIENT, &r.client.name);
        self.option(CLIENT, &r.client.ip);
        self.option(USER, &r.auth_user);
        for x in &r.recipients {
            self.address(RECIPIENT, RECIPIENT_DOMAIN, &x.original_recipient);
            if x.final_recipient != x.original_recipient {
                self.address(RECIPIENT, RECIPIENT_DOMAIN, &x.final_recipient);
            }
            self.term(ACTION, x.action.as_str());
            self.term(STATUS, &x.status);
            self.option(RELAY, &x.remote_mta);
            self.option(RELAY, &x.remote_ip);
            self.option(RELAY, &x.relay);
        }
    }

    /// The words of a record: diagnostics, remarks, subject. Of what a next host said when it took the mail only words
    /// without digits: the others are ids and addresses, each in one reply only, and are found as such.
    fn words(&mut self, r: &Record) {
        let well = |x: &&Recipient| matches!(x.action, Action::Delivered | Action::Relayed | Action::Transferred);
        let wrong = r.recipients.iter().filter(|x| !well(x)).filter_map(|x| x.diagnostic.as_deref());
        let texts = wrong.chain(r.remark.as_deref()).chain(r.subject.as_deref());
        let replies = r.recipients.iter().filter(well).filter_map(|x| x.diagnostic.as_deref());
        let plain = |w: &&str| w.len() <= MAX_WORD && !w.bytes().any(|b| b.is_ascii_digit());
        let mut seen: SmallVec<[u64; MAX_WORDS]> = SmallVec::new();
        let mut more = false;
        for word in texts.flat_map(pieces_of).chain(replies.flat_map(pieces_of).filter(plain)) {
            self.text.clear();
            push_lower(&mut self.text, word);
            let hash = xxhash_rust::xxh3::xxh3_64(self.text.as_bytes());
            if self.text.len() > MAX_WORD {
                more = true;
            } else if !seen.contains(&hash) {
                if seen.len() == MAX_WORDS {
                    more = true;
                    break;
                }
                seen.push(hash);
                self.doc.add_text(self.fields.words, &self.text);
            }
        }
        if more {
            self.doc.add_text(self.fields.words, MORE_WORDS);
        }
    }
}

fn push_lower(out: &mut String, value: &str) {
    if value.is_ascii() {
        let from = out.len();
        out.push_str(value);
        if let Some(tail) = out.get_mut(from..) {
            tail.make_ascii_lowercase();
        }
    } else {
        out.push_str(&value.to_lowercase());
    }
}

/// Whether a record is an aborted transaction: a hop of which nothing but arrivals is known.
pub(super) fn is_aborted(stored: &StoredRecord) -> bool {
    stored.role == Role::Hop && crate::model::incarnation::is_aborted(&stored.events)
}

/// The document of a record; `masked` if personal data was taken out of it.
pub(super) fn document(fields: &Fields, dictionary: Option<&Dictionary>, stored: &StoredRecord, masked: bool) -> TantivyDocument {
    let bytes = pack::pack(dictionary, encode(stored));
    let mut doc = TantivyDocument::with_capacity(bytes.len() + TERM_BYTES);
    doc.add_text(fields.key, &stored.key);
    if stored.reused {
        doc.add_text(fields.slot, stored.slot.key());
    }
    let record = stored.derive_bare();
    doc.add_i64(fields.first, record.arrival_date.micros);
    doc.add_i64(fields.last, record.last_event_date.micros);
    doc.add_custom(fields.record, &bytes);
    if masked {
        doc.add_text(fields.terms, prefix::MASKED);
    }
    if is_aborted(stored) {
        return doc;
    }
    let mut filling = Filling { fields, doc, text: String::new() };
    filling.ids(stored, &record);
    filling.terms(&record);
    if stored.role != Role::Witness {
        filling.words(&record);
    }
    filling.doc
}

/// The document of a finished source.
pub(super) fn source_document(fields: &Fields, key: &str, json: &str) -> TantivyDocument {
    let mut doc = TantivyDocument::default();
    // No record, and none to be looked at when records are masked.
    doc.add_text(fields.terms, prefix::MASKED);
    doc.add_text(fields.source_key, key);
    doc.add_text(fields.source, json);
    doc
}

/// The document of a dictionary.
pub(super) fn dictionary_document(fields: &Fields, dictionary: &[u8]) -> TantivyDocument {
    let mut doc = TantivyDocument::default();
    doc.add_text(fields.terms, prefix::MASKED);
    doc.add_text(fields.terms, prefix::DICTIONARY);
    doc.add_bytes(fields.dictionary, dictionary);
    doc
}

/// The dictionary of a document, if it is one.
pub(super) fn dictionary_of<'a>(fields: &Fields, doc: &'a TantivyDocument) -> Option<&'a [u8]> {
    doc.get_first(fields.dictionary)?.as_bytes()
}

/// Whether a document is of a source or a dictionary.
pub(super) fn is_no_record(fields: &Fields, doc: &TantivyDocument) -> bool {
    doc.get_first(fields.source).is_some() || doc.get_first(fields.dictionary).is_some()
}

/// The JSON of a finished source, if the document is one.
pub(super) fn source_of(fields: &Fields, doc: &TantivyDocument) -> Option<String> {
    Some(doc.get_first(fields.source)?.as_str()?.to_owned())
}

/// The term that names a record by its key.
pub(super) fn key_term(fields: &Fields, key: &str) -> Term {
    Term::from_field_text(fields.key, key)
}

const REUSED: u8 = 1;
const OWN_KEY: u8 = 2;

/// The stored form: flags, role, then length-prefixed key (where it is not the slot's), host, instance, queue id, mta; then the events.
pub(super) fn encode(r: &StoredRecord) -> Vec<u8> {
    let own_key = r.key != r.slot.key();
    let mut out = Vec::with_capacity(r.events.len() + 96);
    out.push(if r.reused { REUSED } else { 0 } | if own_key { OWN_KEY } else { 0 });
    out.push(r.role.as_u8());
    let key = own_key.then_some(&r.key);
    for text in key.into_iter().chain([&r.slot.host, &r.slot.instance, &r.slot.queue_id, &r.mta]) {
        put_text(&mut out, text);
    }
    out.extend_from_slice(&r.events);
    out
}

/// Reads the stored form; `None` if the bytes are none.
pub(super) fn decode(mut bytes: &[u8]) -> Option<StoredRecord> {
    let (&[flags, role], rest) = bytes.split_first_chunk::<2>()?;
    bytes = rest;
    let role = Role::from_u8(role)?;
    let key = if flags & OWN_KEY != 0 { Some(get_text(&mut bytes)?) } else { None };
    let slot = Slot { host: get_text(&mut bytes)?, instance: get_text(&mut bytes)?, queue_id: get_text(&mut bytes)? };
    let mta = get_text(&mut bytes)?;
    let key = key.unwrap_or_else(|| slot.key());
    Some(StoredRecord { key, slot, reused: flags & REUSED != 0, mta, role, events: bytes.to_vec() })
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn get_text(bytes: &mut &[u8]) -> Option<String> {
    let length = usize::try_from(get_varint(bytes)?).ok()?;
    let (text, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    String::from_utf8(text.to_vec()).ok()
}
