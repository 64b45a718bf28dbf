//! The daemon's answer to the tracking server: store and open records as one.

use super::figures::Figures;
use super::querylog::{Asker, QueryLog};
use crate::ingest::open::View;
use crate::model::journey::{Journey, journey_of};
use crate::model::record::Record;
use crate::mtqp::tracker::{Tracker, TrackerError};
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

/// What the tracking server asks.
pub struct ViewTracker {
    /// Store and open records.
    pub view: View,
    /// Told of each question.
    pub figures: Arc<Figures>,
    /// The query log in force.
    pub queries: Arc<RwLock<Option<QueryLog>>>,
}

impl Tracker for ViewTracker {
    fn bound(&self, certifier: &str) -> Result<Vec<Record>, TrackerError> {
        Ok(self.view.records(certifier, None)?)
    }

    fn journey(&self, record: &Record) -> Result<Option<Journey>, TrackerError> {
        Ok(journey_of(&mut self.view.walk_by_proof(), record.clone())?)
    }

    fn asked(&self, peer: IpAddr, envelope_id: &str) -> Result<(), TrackerError> {
        self.figures.asked();
        let log = self.queries.read().unwrap_or_else(PoisonError::into_inner);
        let Some(log) = log.as_ref() else { return Ok(()) };
        let now = chrono::Utc::now().timestamp_micros();
        Ok(log.note(now, Asker::Peer(peer), "mtqp", "track", &[("envelope_id", envelope_id.to_string())])?)
    }

    fn generation(&self) -> Option<u64> {
        Some(self.view.generation())
    }
}
