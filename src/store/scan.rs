//! Walks over everything that is stored, and what segments hold: for export, forgetting and retention.

use super::schema::{self, prefix};
use super::{Result, Store, StoreError};
use crate::model::record::StoredRecord;
use std::ops::Bound;
use tantivy::collector::Count;
use tantivy::query::{BooleanQuery, Occur, Query, RangeQuery, TermQuery};
use tantivy::schema::IndexRecordOption;
use tantivy::{BitSet, DocAddress, DocSet, SegmentReader, TERMINATED, Term};

/// A piece of the index that can be dropped as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentFigures {
    /// Arrival of its oldest and newest record, microseconds since 1970; `None` if it holds no record.
    pub span: Option<(i64, i64)>,
    /// Documents that count.
    pub alive: u64,
    /// Documents that are deleted but still there.
    pub deleted: u64,
    /// Bytes of its files.
    pub bytes: u64,
}

/// The arrivals of a segment's records, deleted ones too.
pub(super) fn span(segment: &SegmentReader) -> tantivy::Result<Option<(i64, i64)>> {
    let first = segment.fast_fields().i64(schema::FIRST)?;
    Ok((first.values.num_vals() > 0).then(|| (first.min_value(), first.max_value())))
}

/// Records whose message arrived before a time, but for those that are still queued and were heard of since.
pub(super) fn expired(f: &schema::Fields, before: i64) -> Box<dyn Query> {
    let arrived = RangeQuery::new(Bound::Unbounded, Bound::Excluded(Term::from_field_i64(f.first, before)));
    let heard = RangeQuery::new(Bound::Included(Term::from_field_i64(f.last, before)), Bound::Unbounded);
    let open = TermQuery::new(Term::from_field_text(f.terms, prefix::OPEN), IndexRecordOption::Basic);
    let queued = BooleanQuery::intersection(vec![Box::new(open), Box::new(heard)]);
    Box::new(BooleanQuery::new(vec![(Occur::Must, Box::new(arrived)), (Occur::MustNot, Box::new(queued))]))
}

impl Store {
    /// Calls `each` for every record (aborted transactions and witnesses too) until it says `false`. Sees one commit, however long it takes.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn scan(&self, each: &mut dyn FnMut(StoredRecord) -> bool) -> Result<()> {
        let snapshot = self.snapshot();
        for (_, segment, parts) in snapshot.segments() {
            for packed in segment.doc_ids_alive().filter_map(|doc| parts.records.get(doc)) {
                let record = self.unpacked(&snapshot, packed)?;
                if !each(record) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Up to `most` records that arrived before a time (microseconds) and personal data was not taken out of yet ([`super::Batch::masked`]).
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn plain_before(&self, before: i64, most: usize) -> Result<Vec<StoredRecord>> {
        let snapshot = self.snapshot();
        let mut found = Vec::new();
        for (ord, segment, parts) in snapshot.segments() {
            let Some((oldest, _)) = span(segment).map_err(self.error("read times"))? else { continue };
            if oldest >= before {
                continue;
            }
            let first = parts.first(segment).map_err(self.error("read times"))?;
            let masked = self.documents_with(segment, prefix::MASKED)?;
            if masked.len() == segment.max_doc() as usize {
                continue;
            }
            for doc in 0..segment.max_doc() {
                if segment.is_deleted(doc) || masked.contains(doc) || first.first(doc).is_none_or(|t| t >= before) {
                    continue;
                }
                if found.len() >= most {
                    return Ok(found);
                }
                found.push(self.fetch(&snapshot, DocAddress::new(ord, doc))?);
            }
        }
        Ok(found)
    }

    /// Whether a name or IP is that of a host whose log is in the index (in full, or its first label), or of one that mail was handed to.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn is_mail_host(&self, name: &str) -> Result<bool> {
        let name = name.to_lowercase();
        let own = |name: &str| format!("{}{name}", prefix::HOST);
        let label = name.split('.').next().filter(|l| l.parse::<u32>().is_err()).unwrap_or(&name);
        let terms = [own(&name), own(label), format!("{}{name}", prefix::RELAY)];
        for segment in self.snapshot().segment_readers() {
            let inverted = segment.inverted_index(self.fields.terms).map_err(self.error("read terms"))?;
            for term in &terms {
                if inverted.terms().get(term.as_bytes()).map_err(self.io_error("read terms"))?.is_some() {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn documents_with(&self, segment: &SegmentReader, term: &str) -> Result<BitSet> {
        let mut set = BitSet::with_max_value(segment.max_doc());
        let inverted = segment.inverted_index(self.fields.terms).map_err(self.error("read terms"))?;
        let term = Term::from_field_text(self.fields.terms, term);
        let postings = inverted.read_postings(&term, IndexRecordOption::Basic).map_err(self.io_error("read terms"))?;
        if let Some(mut postings) = postings {
            while postings.doc() != TERMINATED {
                set.insert(postings.doc());
                postings.advance();
            }
        }
        Ok(set)
    }

    /// How many records [`super::Batch::expire_before`] would take away.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn count_expired(&self, before: i64) -> Result<u64> {
        let count = self.snapshot().search(&expired(&self.fields, before), &Count).map_err(self.error("count"))?;
        Ok(count as u64)
    }

    /// The segments of the index.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn segments(&self) -> Result<Vec<SegmentFigures>> {
        let io = |source| StoreError::Io { doing: "read folder", path: self.dir.clone(), source };
        let mut files: Vec<(String, u64)> = Vec::new();
        for entry in std::fs::read_dir(&self.dir).map_err(io)?.flatten() {
            files.push((entry.file_name().to_string_lossy().into_owned(), entry.metadata().map_or(0, |m| m.len())));
        }
        let mut found = Vec::new();
        for segment in self.snapshot().segment_readers() {
            let name = segment.segment_id().uuid_string();
            found.push(SegmentFigures {
                span: span(segment).map_err(self.error("read times"))?,
                alive: u64::from(segment.num_docs()),
                deleted: u64::from(segment.num_deleted_docs()),
                bytes: files.iter().filter(|(file, _)| file.starts_with(&name)).map(|(_, n)| n).sum(),
            });
        }
        Ok(found)
    }
}
