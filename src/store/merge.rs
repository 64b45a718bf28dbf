//! Which segments become one.
//!
//! Segments of one window of time only, by their newest record's arrival: when a window has passed out of what is
//! kept, its segments are dropped as wholes, and space comes back at once. Within a window segments of similar size
//! are merged, so that each record is rewritten about once a size class. A window that is over is made one segment.

use super::engine::engine_error;
use super::writer::{Open, Writer};
use super::{CommitInfo, Result, scan};
use std::collections::BTreeMap;
use tantivy::index::SegmentId;
use tantivy::{SegmentMeta, SegmentReader};

/// So many segments of similar size are merged into one.
const MERGE_AT: usize = 8;
/// Segments up to so many documents count as similar.
const SMALLEST: u64 = 256;
/// A window that is over is made one segment only if that has at most so many documents.
const MOST_SETTLED: u64 = 5_000_000;
/// Length of a window, microseconds, unless told otherwise: 30 days.
pub(super) const WINDOW: i64 = 30 * 86_400 * 1_000_000;

/// A segment as the choice sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    id: SegmentId,
    alive: u64,
    deleted: u64,
    /// Number of its window; `i64::MIN` if it has no records.
    window: i64,
}

/// The segments to merge next: one that is more than half deleted, or [`MERGE_AT`] or more of one window and size class
/// (classes grow eightfold).
pub(super) fn to_merge(segments: &[Piece], most: u64) -> Option<Vec<SegmentId>> {
    let mut classes: BTreeMap<(i64, u32), (Vec<SegmentId>, u64)> = BTreeMap::new();
    for s in segments {
        if s.deleted > s.alive && s.alive <= most {
            return Some(vec![s.id]);
        }
        let (ids, documents) = classes.entry((s.window, class(s.alive))).or_default();
        ids.push(s.id);
        *documents += s.alive;
    }
    classes.into_values().find(|(ids, documents)| ids.len() >= MERGE_AT && *documents <= most).map(|(ids, _)| ids)
}

fn class(alive: u64) -> u32 {
    (alive / SMALLEST).max(1).ilog2() / 3
}

/// The segments of a window that is over, if it is worth making them one: not for a few stragglers beside a large one.
pub(super) fn to_settle(segments: &[Piece]) -> Option<Vec<SegmentId>> {
    let latest = segments.iter().map(|s| s.window).max()?;
    let mut windows: BTreeMap<i64, (Vec<SegmentId>, u64, u64)> = BTreeMap::new();
    // Messages that were long under way still come to the window before the latest.
    for s in segments.iter().filter(|s| s.window < latest.saturating_sub(1)) {
        let (ids, sum, largest) = windows.entry(s.window).or_default();
        ids.push(s.id);
        *sum += s.alive;
        *largest = (*largest).max(s.alive);
    }
    let worth = |(ids, sum, largest): &(Vec<SegmentId>, u64, u64)| {
        ids.len() > 1 && *sum <= MOST_SETTLED && (ids.len() >= MERGE_AT || (sum - largest) * 8 >= *largest)
    };
    windows.into_values().find(worth).map(|(ids, _, _)| ids)
}

impl Writer {
    /// Merges segments of similar size when there are too many, but none that would make one of more than `most`
    /// documents: that takes its time, and until it is done nothing else can be committed (R2).
    ///
    /// # Errors
    /// Any error stops the writer; nothing stored is lost.
    pub fn tidy(&mut self, most: u64) -> Result<CommitInfo> {
        self.guarded(|w, open| {
            let mut merges = 0;
            while w.merge_next(open, most)? {
                merges += 1;
            }
            Ok(CommitInfo { put: 0, segments: w.metas(open)?.len(), merges })
        })
    }

    /// As [`Writer::tidy`], but one merge at most; says whether there was one to do.
    ///
    /// # Errors
    /// Any error stops the writer; nothing stored is lost.
    pub fn tidy_one(&mut self, most: u64) -> Result<bool> {
        self.guarded(|w, open| w.merge_next(open, most))
    }

    fn merge_next(&mut self, open: &mut Open, most: u64) -> Result<bool> {
        let metas = self.metas(open)?;
        // Most times there are too few to merge, whatever their windows.
        let mut sizes: BTreeMap<u32, usize> = BTreeMap::new();
        let mut worn = false;
        for m in &metas {
            *sizes.entry(class(u64::from(m.num_docs()))).or_default() += 1;
            worn |= m.num_deleted_docs() > m.num_docs();
        }
        if !worn && sizes.values().all(|n| *n < MERGE_AT) {
            return Ok(false);
        }
        let pieces = self.pieces(open, metas)?;
        let Some(ids) = to_merge(&pieces, most) else { return Ok(false) };
        self.merge(open, ids)?;
        Ok(true)
    }

    /// Makes the segments of one window that is over one segment, if there is such a window.
    ///
    /// # Errors
    /// Any error stops the writer; nothing stored is lost.
    pub fn settle(&mut self) -> Result<CommitInfo> {
        self.guarded(|w, open| {
            let metas = w.metas(open)?;
            let segments = metas.len();
            let pieces = w.pieces(open, metas)?;
            let Some(ids) = to_settle(&pieces) else { return Ok(CommitInfo { put: 0, segments, merges: 0 }) };
            w.merge(open, ids)?;
            Ok(CommitInfo { put: 0, segments, merges: 1 })
        })
    }

    /// Merges all segments into one and drops what was deleted. Takes as long as writing the index anew.
    ///
    /// # Errors
    /// Any error stops the writer; nothing stored is lost.
    pub fn compact(&mut self) -> Result<CommitInfo> {
        self.guarded(|w, open| {
            let metas = w.metas(open)?;
            let needed = metas.len() > 1 || metas.iter().any(|m| m.has_deletes());
            if needed {
                w.merge(open, metas.iter().map(|m| m.id()).collect())?;
            }
            let segments = w.metas(open)?.len();
            Ok(CommitInfo { put: 0, segments, merges: usize::from(needed) })
        })
    }

    /// Writes every segment anew of which more than `share` (0 to 1) is deleted, so that what was deleted is in no file any more.
    ///
    /// # Errors
    /// Any error stops the writer; nothing stored is lost.
    pub fn purge(&mut self, share: f64) -> Result<CommitInfo> {
        self.guarded(|w, open| {
            let mut merges = 0;
            for meta in w.metas(open)? {
                if meta.has_deletes() && f64::from(meta.num_deleted_docs()) > share * f64::from(meta.max_doc()) {
                    w.merge(open, vec![meta.id()])?;
                    merges += 1;
                }
            }
            open.writer.garbage_collect_files().wait().map_err(|e| engine_error(&w.dir, "remove files", e))?;
            Ok(CommitInfo { put: 0, segments: w.metas(open)?.len(), merges })
        })
    }

    fn metas(&self, open: &Open) -> Result<Vec<SegmentMeta>> {
        open.index.searchable_segment_metas().map_err(|e| engine_error(&self.dir, "list segments", e))
    }

    fn pieces(&mut self, open: &Open, metas: Vec<SegmentMeta>) -> Result<Vec<Piece>> {
        let mut pieces = Vec::with_capacity(metas.len());
        let live: Vec<SegmentId> = metas.iter().map(|m| m.id()).collect();
        self.newest.retain(|id, _| live.contains(id));
        for meta in metas {
            let (id, alive, deleted) = (meta.id(), u64::from(meta.num_docs()), u64::from(meta.num_deleted_docs()));
            let newest = match self.newest.get(&id) {
                Some(known) => *known,
                None => {
                    let reader = SegmentReader::open(&open.index.segment(meta));
                    let span = reader.and_then(|r| scan::span(&r)).map_err(|e| engine_error(&self.dir, "read times", e))?;
                    *self.newest.entry(id).or_insert(span.map(|s| s.1))
                }
            };
            let window = newest.map_or(i64::MIN, |t| t.div_euclid(self.window));
            pieces.push(Piece { id, alive, deleted, window });
        }
        Ok(pieces)
    }

    fn merge(&self, open: &mut Open, ids: Vec<SegmentId>) -> Result<()> {
        open.writer.merge(&ids).wait().map_err(|e| engine_error(&self.dir, "merge", e))?;
        super::engine::sync_dir(&self.dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(alive: u64, deleted: u64, window: i64) -> Piece {
        Piece { id: SegmentId::generate_random(), alive, deleted, window }
    }

    #[test]
    fn merges_keep_to_windows() {
        let mixed: Vec<Piece> = (0..14).map(|n| piece(10, 0, n % 2)).collect();
        assert_eq!(to_merge(&mixed, u64::MAX), None);
        let mut more = mixed.clone();
        more.push(piece(10, 0, 1));
        let ids = to_merge(&more, u64::MAX).unwrap();
        assert_eq!(ids.len(), 8);
        assert!(ids.iter().all(|id| more.iter().any(|p| p.id == *id && p.window == 1)));
        assert_eq!(to_merge(&more, 79), None);
        let worn = piece(4, 5, 7);
        assert_eq!(to_merge(&[worn, piece(9, 0, 7)], u64::MAX), Some(vec![worn.id]));
    }

    #[test]
    fn a_window_that_is_over_becomes_one_segment_unless_only_stragglers_came() {
        let now = [piece(10, 0, 9), piece(10, 0, 9), piece(10, 0, 8), piece(10, 0, 8)];
        assert_eq!(to_settle(&now), None);
        assert_eq!((to_settle(&[]), to_settle(&[piece(1, 0, i64::MIN), piece(1, 0, i64::MIN)])), (None, None));
        let mut over = now.to_vec();
        over.extend([piece(100, 0, 7), piece(13, 0, 7)]);
        assert_eq!(to_settle(&over).map(|ids| ids.len()), Some(2));
        over.truncate(4);
        over.extend([piece(100, 0, 7), piece(12, 0, 7)]);
        assert_eq!(to_settle(&over), None);
    }
}
