//! The journey: the records of one message, joined across MTAs, and how it ended for each recipient.
//!
//! Joined is by hand-over first: the reply of the next host names a queue id, and a record of that
//! host has it (`queue_id`). Where no id was logged, records of one Message-ID are joined when the
//! one handed a common recipient to the other's host within a short while (`message_id`); the edge
//! says so, since a Message-ID is the sender's choice and can be copied (R8).
//! Nothing here is stored: it is derived each time from the records found (R1).

mod ending;
mod evidence;
mod index;
mod pool;

pub use evidence::{folded, same_address, same_host};

use super::record::{Recipient, Record, Role};
use super::time::SECOND;
use pool::Pool;
use rustc_hash::FxHashSet;

/// Where the records come from: one walk from id to id.
pub trait Lookup {
    /// Why a look-up failed.
    type Error;
    /// Records that have this id as queue id, Message-ID, ENVID, next host's queue id or earlier queue id.
    /// Those that this walk returned before are left out.
    fn by_id(&mut self, id: &str) -> Result<Vec<Record>, Self::Error>;
}

/// Most records of one journey (R6).
pub const MAX_RECORDS: usize = 2_000;
/// Most ids asked for on the way to one journey (R6).
pub const MAX_LOOKUPS: usize = 20_000;
/// Clocks of two hosts may differ by a zone: how far apart both ends of a proven hand-over may be.
pub const PROOF_WINDOW: i64 = 14 * 3600 * SECOND;
/// How far apart records joined by likeness may be.
pub const LIKENESS_WINDOW: i64 = 600 * SECOND;

/// Why two records are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum By {
    /// The reply (or the log's own word) names the next record's queue id.
    QueueId,
    /// Both bear the same ENVID.
    EnvelopeId,
    /// Both bear the same Message-ID and the hand-over fits.
    MessageId,
}

impl By {
    /// The word in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            By::QueueId => "queue_id",
            By::EnvelopeId => "envelope_id",
            By::MessageId => "message_id",
        }
    }
}

/// A hand-over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// Key of the record that handed on.
    pub from: String,
    /// Key of the record that took it.
    pub to: String,
    /// Why they are joined.
    pub by: By,
}

/// How it ended for one recipient, as the sender addressed it.
#[derive(Debug, Clone)]
pub struct Ending {
    /// As the sender addressed it; for members of an alias, the alias.
    pub original_recipient: String,
    /// Where it went in the end.
    pub last: Recipient,
    /// Host that says so.
    pub at: String,
    /// Keys of the records on the way.
    pub path: Vec<String>,
    /// Whether this line is a member of an alias that has its own line.
    pub member: bool,
}

/// One message's way.
#[derive(Debug, Clone)]
pub struct Journey {
    /// Hops, in the order of the hand-overs, then of time.
    pub records: Vec<Record>,
    /// What other programs said of it, joined to the hops.
    pub witnesses: Vec<Record>,
    /// Hand-overs.
    pub edges: Vec<Edge>,
    /// How it ended.
    pub endings: Vec<Ending>,
    /// Whether a bound cut it short.
    pub truncated: bool,
}

/// Angle brackets off an id.
pub fn bare_id(id: &str) -> &str {
    let id = id.trim();
    id.strip_prefix('<').and_then(|i| i.strip_suffix('>')).unwrap_or(id)
}

/// All journeys that an id (Message-ID, queue id, ENVID, with or without `<>`) names, oldest first.
pub fn trace<L: Lookup>(lookup: &mut L, id: &str) -> Result<Vec<Journey>, L::Error> {
    let id = bare_id(id);
    let names = |r: &Record| [&r.queue_id, &r.message_id, &r.envelope_id].into_iter().any(|own| own.as_deref() == Some(id));
    let (mut named, mut others): (Vec<Record>, Vec<Record>) = lookup.by_id(id)?.into_iter().partition(names);
    if named.is_empty() {
        // Only the host before knows the id.
        let hands = |r: &Record| r.role == Role::Hop && r.recipients.iter().any(|p| p.remote_queue_id.as_deref() == Some(id));
        (named, others) = others.into_iter().partition(hands);
    }
    // Only a witness knows the id: the mail it speaks of.
    let witnesses: Vec<Record> = named.iter().filter(|r| r.role == Role::Witness).cloned().collect();
    if witnesses.len() == named.len() {
        for w in &witnesses {
            for id in [&w.message_id, &w.orig_queue_id].into_iter().flatten() {
                let (hops, rest): (Vec<Record>, Vec<Record>) = lookup.by_id(id)?.into_iter().partition(|r| speaks_of(w, r));
                named.extend(hops);
                others.extend(rest);
            }
        }
    }
    let seeds: FxHashSet<String> = named.iter().map(|r| r.key.clone()).collect();
    let mut pool = Pool::default();
    pool.grow(lookup, named, others)?;
    pool.join();
    Ok(pool.journeys(&seeds))
}

/// The one journey that a record belongs to.
///
/// # Errors
/// Those of the look-up.
pub fn journey_of<L: Lookup>(lookup: &mut L, record: Record) -> Result<Option<Journey>, L::Error> {
    let seeds: FxHashSet<String> = [record.key.clone()].into_iter().collect();
    let mut pool = Pool::default();
    pool.grow(lookup, vec![record], vec![])?;
    pool.join();
    Ok(pool.journeys(&seeds).into_iter().next())
}

/// Whether a witness speaks of a hop's mail: the same Message-ID, or the queue id it names, at that host and about that time (ids return).
fn speaks_of(w: &Record, r: &Record) -> bool {
    let mail = w.message_id.is_some() && w.message_id == r.message_id;
    let id = w.orig_queue_id.is_some() && w.orig_queue_id == r.queue_id && same_host(&w.reporting_mta, &r.reporting_mta);
    let near = (w.arrival_date.micros - r.arrival_date.micros).abs() <= LIKENESS_WINDOW;
    r.role == Role::Hop && (mail || (id && near))
}
