//! What was committed at one moment, with all that is needed of it held open.
//!
//! The engine removes the files of segments that were merged away, also while they are still read; what is open stays
//! readable. So everything is opened at once, and what a query goes on with does not change under it.

use super::ids::Table;
use super::records::Records;
use super::schema;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};
use tantivy::columnar::Column;
use tantivy::directory::error::OpenReadError;
use tantivy::index::SegmentId;
use tantivy::{IndexReader, Searcher, SegmentReader, TantivyError};

/// So often a merge may come between the engine's opening of segments and ours.
const TRIES: usize = 20;

/// The segments of one moment.
pub(super) struct Snapshot {
    searcher: Searcher,
    /// Of each segment, in the engine's order.
    parts: Vec<Arc<Parts>>,
}

/// What a segment has beside the engine's own files, and what takes longer to open than to ask.
pub(super) struct Parts {
    segment: SegmentId,
    /// Which records bear which ids.
    pub ids: Table,
    /// The packed records.
    pub records: Records,
    first: OnceLock<Column<i64>>,
}

impl Parts {
    fn open(segment: &SegmentReader) -> tantivy::Result<Self> {
        let (ids, records) = (Table::open(segment)?, Records::open(segment)?);
        Ok(Parts { segment: segment.segment_id(), ids, records, first: OnceLock::new() })
    }

    /// Arrivals of the records of `segment`, whose parts these are, microseconds.
    pub fn first(&self, segment: &SegmentReader) -> tantivy::Result<&Column<i64>> {
        if let Some(known) = self.first.get() {
            return Ok(known);
        }
        let opened = segment.fast_fields().i64(schema::FIRST)?;
        Ok(self.first.get_or_init(|| opened))
    }
}

impl Snapshot {
    /// The newest. What `before` has open already is taken over.
    pub fn newest(reader: &IndexReader, before: Option<&Snapshot>) -> tantivy::Result<Self> {
        let mut tries = 0;
        loop {
            reader.reload()?;
            match Snapshot::of(reader.searcher(), before) {
                Err(TantivyError::OpenReadError(OpenReadError::FileDoesNotExist(_))) if tries < TRIES => tries += 1,
                opened => return opened,
            }
        }
    }

    fn of(searcher: Searcher, before: Option<&Snapshot>) -> tantivy::Result<Self> {
        let known = |id: SegmentId| before.and_then(|b| b.parts.iter().find(|p| p.segment == id)).cloned();
        let parts = |s: &SegmentReader| known(s.segment_id()).map_or_else(|| Parts::open(s).map(Arc::new), Ok);
        let parts = searcher.segment_readers().iter().map(parts).collect::<tantivy::Result<_>>()?;
        Ok(Snapshot { searcher, parts })
    }

    /// All segments with their numbers and parts.
    pub fn segments(&self) -> impl Iterator<Item = (u32, &SegmentReader, &Parts)> {
        let all = self.searcher.segment_readers().iter().zip(&self.parts);
        (0..).zip(all).map(|(ord, (segment, parts))| (ord, segment, parts.as_ref()))
    }

    /// The packed record of a document; `None` if it is none.
    pub fn packed(&self, at: tantivy::DocAddress) -> Option<&[u8]> {
        self.parts.get(at.segment_ord as usize)?.records.get(at.doc_id)
    }
}

impl Deref for Snapshot {
    type Target = Searcher;

    fn deref(&self) -> &Searcher {
        &self.searcher
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{T0, batch, mail};
    use super::super::{Seen, Store};
    use crate::model::event::Action;

    #[test]
    fn what_nobody_looked_at_yet_stays_readable_when_its_segments_are_merged_away() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open_or_create(dir.path()).unwrap();
        let mut w = store.writer().unwrap();
        let one = |n: i64| mail("mx1", &format!("4Q{n:04}"), T0 + n, "a@b.example", "r@c.example", Action::Relayed);
        for n in 0..3 {
            w.apply(batch(vec![one(2 * n), one(2 * n + 1)], "")).unwrap();
        }
        store.reload().unwrap();
        let other = Store::open(dir.path()).unwrap();
        let held = other.snapshot();
        w.compact().unwrap();
        w.purge(0.0).unwrap();
        for reader in [&store, &other] {
            assert_eq!(reader.segments().unwrap().len(), 3);
            assert_eq!(reader.by_id("4Q0003", 9, &mut Seen::default()).unwrap().len(), 1);
            assert!(reader.get("mx1/postfix/4Q0005").unwrap().is_some());
        }
        // A long reading goes on with what it began with, whatever others reload meanwhile.
        other.reload().unwrap();
        assert_eq!((other.segments().unwrap().len(), held.segments().count()), (1, 3));
        assert!(held.segments().all(|(ord, ..)| other.fetch(&held, tantivy::DocAddress::new(ord, 0)).is_ok()));
    }
}
