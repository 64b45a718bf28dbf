//! How far the live sources were read: the payload of every commit (R2).
//!
//! It holds live tails only. A file that will not grow any more (rotated and read to its end, or backfilled) is a
//! document of its own, written in the same commit as its last records.

use super::backfill::Extra;
use crate::resolve::StreamState;
use crate::source::FileState;
use crate::store::{Store, StoreError};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};

/// The payload.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Positions {
    /// Files that are followed.
    #[serde(default)]
    pub tails: Vec<FileState>,
    /// What else is followed (a journal's cursor), by the source's name.
    #[serde(default)]
    pub cursors: BTreeMap<String, String>,
    /// What the order of lines has taught so far, by stream.
    #[serde(default)]
    pub streams: BTreeMap<String, StreamState>,
}

impl Positions {
    /// Those of the last commit; none where there is no commit, or an older one wrote something else.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn of(store: &Store) -> Result<Positions, StoreError> {
        Ok(store.positions()?.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default())
    }

    /// The payload's text.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// All files that were read, wholly or in part: those finished and those that are followed.
///
/// # Errors
/// When the index cannot be read.
pub fn known_files(store: &Store) -> Result<Vec<FileState>, StoreError> {
    let mut known: Vec<FileState> = store.sources()?.iter().filter_map(|s| serde_json::from_str(s).ok()).collect();
    let tails = Positions::of(store)?.tails;
    // A file that was backfilled and is followed since has a document from then.
    let followed: HashSet<String> = tails.iter().map(|t| Extra::of(t).id).collect();
    known.retain(|k| !followed.contains(&Extra::of(k).id));
    known.extend(tails);
    Ok(known)
}
