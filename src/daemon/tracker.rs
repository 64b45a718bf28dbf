//! The daemon's answer to the tracking server: store and open records as one.

use super::figures::Figures;
use crate::ingest::open::View;
use crate::model::journey::{Journey, journey_of};
use crate::model::record::Record;
use crate::mtqp::tracker::{MAX_BOUND, Tracker, TrackerError};
use std::sync::Arc;

/// What the tracking server asks.
pub struct ViewTracker {
    /// Store and open records.
    pub view: View,
    /// Told of each question.
    pub figures: Arc<Figures>,
}

impl Tracker for ViewTracker {
    fn bound(&self, certifier: &str) -> Result<Vec<Record>, TrackerError> {
        self.figures.asked();
        let found = self.view.by_id(certifier)?;
        Ok(found.iter().take(MAX_BOUND).map(|r| r.derive()).collect())
    }

    fn journey(&self, record: &Record) -> Result<Option<Journey>, TrackerError> {
        Ok(journey_of(&mut self.view.walk_by_proof(), record.clone())?)
    }

    fn generation(&self) -> Option<u64> {
        Some(self.view.generation())
    }
}
