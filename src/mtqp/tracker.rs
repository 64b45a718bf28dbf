//! Where the records come from, and whether a claim opens one.

use super::answer::{Opened, Policy, is_queued};
use super::command::{Claim, bare};
use crate::model::journey::Journey;
use crate::model::record::{Binding, Record};
use crate::store::StoreError;
use crate::trkstat::from_xtext;
use std::net::IpAddr;
use subtle::ConstantTimeEq as _;

/// A look-up could not be done; the client is told to try again later.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TrackerError(pub String);

impl From<StoreError> for TrackerError {
    fn from(e: StoreError) -> Self {
        TrackerError(e.to_string())
    }
}

/// What the server asks for records. Calls may block; the server makes them off its event loop.
pub trait Tracker: Send + Sync {
    /// Records with a binding of this certifier (27 characters of base64).
    ///
    /// The look-up is by the hash of the secret and not by the envelope id: so an envelope id that does not exist and a
    /// wrong secret are the same miss, and nobody can bury a message under a thousand claims of its envelope id.
    ///
    /// # Errors
    /// When records cannot be read just now.
    fn bound(&self, certifier: &str) -> Result<Vec<Record>, TrackerError>;

    /// The journey of a record that [`Tracker::bound`] gave.
    ///
    /// # Errors
    /// When records cannot be read just now.
    fn journey(&self, record: &Record) -> Result<Option<Journey>, TrackerError>;

    /// Told of each question before it is answered: who asks, and for which envelope id.
    ///
    /// # Errors
    /// When it is to be written down and cannot be: it is not answered then.
    fn asked(&self, _peer: IpAddr, _envelope_id: &str) -> Result<(), TrackerError> {
        Ok(())
    }

    /// A number that changes whenever records may have changed, so that answers can be kept in between; `None`: keep none.
    /// It is asked for before the records are.
    fn generation(&self) -> Option<u64> {
        None
    }
}

/// Most records that one claim opens, the oldest first: who learns a certifier later cannot bury the message it was made for.
pub const MAX_BOUND: usize = 64;

/// How long a binding that says nothing of it opens a record (RFC 3885, 3.1: 8 to 10 days by default, one at least).
pub const DEFAULT_LIFETIME_DAYS: u32 = 10;

/// What a claim opens: records bound to its envelope id and the hash of its secret, whose time is not over, oldest
/// first. `now` in seconds since 1970. Empty: nothing is known, whatever the reason.
///
/// # Errors
/// When records cannot be read just now.
pub fn open(tracker: &dyn Tracker, claim: &Claim, policy: &Policy, lifetime_days: u32, now: i64) -> Result<Vec<Opened>, TrackerError> {
    let certifier = claim.secret.certifier();
    let wanted = from_xtext(&claim.envelope_id);
    let mut records = tracker.bound(&certifier)?;
    records.sort_by(|a, b| (a.arrival_date.micros, &a.key).cmp(&(b.arrival_date.micros, &b.key)));
    let mut opened = Vec::new();
    for record in records {
        let fits = |b: &&Binding| {
            let same: bool = b.certifier.as_bytes().ct_eq(certifier.as_bytes()).into();
            same && from_xtext(bare(&b.envelope_id)) == wanted && !b.revoked
        };
        let Some(binding) = record.bindings.iter().find(fits) else { continue };
        let ends = binding.expires.unwrap_or(record.arrival_date.micros.div_euclid(1_000_000) + i64::from(lifetime_days.max(1)) * 86_400);
        if opened.len() >= MAX_BOUND {
            break;
        }
        let Some(journey) = tracker.journey(&record)? else { continue };
        let o = Opened { journey, root: record.key.clone(), only: binding.recipient.clone(), ends };
        // RFC 3885, 3.1: knowledge is not denied while the message sits in the queue.
        if now <= ends || is_queued(&o, policy) {
            opened.push(o);
        }
    }
    Ok(opened)
}
