//! What is in an index: figures, which hosts' logs cover which times, and whether every byte is as it was written.

use super::engine::{Opened, open_index};
use super::schema::{self, prefix};
use super::snapshot::Snapshot;
use super::{Result, Store, StoreError};
use crate::model::event::decode_all;
use crate::model::record::Role;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use tantivy::schema::IndexRecordOption;
use tantivy::{BitSet, DocAddress, DocSet, SegmentReader, TERMINATED, TantivyDocument};

/// Width of the time slots in which a host's records are noted, microseconds (ten minutes).
const SLOT: i64 = 600 * 1_000_000;

/// Figures of an index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Messages in MTAs' queues (aborted transactions do not count).
    pub hops: u64,
    /// Refusals before queueing.
    pub rejects: u64,
    /// Reports of programs that are no MTA.
    pub witnesses: u64,
    /// Notifications that came back as mail.
    pub reports: u64,
    /// Messages that have not left their queue, of `hops`.
    pub open: u64,
    /// Segments.
    pub segments: usize,
    /// Documents deleted but not yet merged away.
    pub deleted: u64,
    /// Bytes of the folder's files.
    pub bytes: u64,
    /// Earliest arrival, microseconds since 1970 (of deleted documents too, until they are merged away).
    pub first: Option<i64>,
    /// Latest event, likewise.
    pub last: Option<i64>,
}

/// Which times each host's records cover.
#[derive(Debug, Clone, Default)]
pub struct Coverage {
    /// One a host, by name (in lower case).
    pub hosts: Vec<HostCoverage>,
}

/// Which times one host's records cover.
#[derive(Debug, Clone)]
pub struct HostCoverage {
    /// Name, in lower case.
    pub host: String,
    /// Records in the range asked for.
    pub records: u64,
    /// First arrival, microseconds since 1970.
    pub first: i64,
    /// Last event, microseconds since 1970.
    pub last: i64,
    /// Per slot of ten minutes: earliest and latest instant known.
    slots: BTreeMap<i64, (i64, i64)>,
}

impl HostCoverage {
    /// Spans of `from..until` longer than `least` (microseconds) in which no record of the host began or ended.
    ///
    /// The times are those of records' first and last events, so a span may hold lines of longer-lived messages.
    pub fn gaps(&self, from: i64, until: i64, least: i64) -> Vec<(i64, i64)> {
        let mut gaps = Vec::new();
        let mut at = from;
        for &(first, last) in self.slots.values() {
            if last < from || first >= until {
                continue;
            }
            if first.saturating_sub(at) > least {
                gaps.push((at, first));
            }
            at = at.max(last);
        }
        if until.saturating_sub(at) > least {
            gaps.push((at, until));
        }
        gaps
    }

    fn note(&mut self, time: i64) {
        let slot = self.slots.entry(time.div_euclid(SLOT)).or_insert((time, time));
        *slot = (slot.0.min(time), slot.1.max(time));
    }
}

/// What [`Store::verify`] found.
#[derive(Debug, Clone, Default)]
pub struct VerifyReport {
    /// Files whose checksum was compared.
    pub files: usize,
    /// Files that are missing, cut off, or whose checksum is wrong.
    pub damaged: Vec<PathBuf>,
    /// Records read.
    pub records: u64,
    /// What is wrong with single records or with the index as a whole, in words.
    pub problems: Vec<String>,
}

impl VerifyReport {
    /// Whether all is well.
    pub fn is_ok(&self) -> bool {
        self.damaged.is_empty() && self.problems.is_empty()
    }
}

impl Store {
    fn count(&self, segment: &SegmentReader, term: &str) -> Result<u64> {
        let inverted = segment.inverted_index(self.fields.terms).map_err(self.error("count"))?;
        let Some(info) = inverted.terms().get(term.as_bytes()).map_err(self.io_error("count"))? else { return Ok(0) };
        let Some(alive) = segment.alive_bitset() else { return Ok(u64::from(info.doc_freq)) };
        let mut postings = inverted.read_postings_from_terminfo(&info, IndexRecordOption::Basic).map_err(self.io_error("count"))?;
        Ok(u64::from(postings.count(alive)))
    }

    /// Figures of the index.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn stats(&self) -> Result<Stats> {
        let snapshot = self.snapshot();
        let mut s = Stats { segments: snapshot.segment_readers().len(), ..Stats::default() };
        for (_, segment, parts) in snapshot.segments() {
            s.hops += self.count(segment, schema::role_term(Role::Hop))?;
            s.rejects += self.count(segment, schema::role_term(Role::Reject))?;
            s.witnesses += self.count(segment, schema::role_term(Role::Witness))?;
            s.reports += self.count(segment, schema::role_term(Role::Report))?;
            s.open += self.count(segment, prefix::OPEN)?;
            s.deleted += u64::from(segment.num_deleted_docs());
            let first = parts.first(segment).map_err(self.error("read times"))?;
            let last = segment.fast_fields().i64(schema::LAST).map_err(self.error("read times"))?;
            if first.values.num_vals() > 0 && last.values.num_vals() > 0 {
                s.first = Some(s.first.map_or(first.min_value(), |t| t.min(first.min_value())));
                s.last = s.last.max(Some(last.max_value()));
            }
        }
        let entries =
            std::fs::read_dir(&self.dir).map_err(|source| StoreError::Io { doing: "read folder", path: self.dir.clone(), source })?;
        s.bytes = entries.flatten().filter_map(|e| e.metadata().ok()).map(|m| m.len()).sum();
        Ok(s)
    }

    /// Which times the records of each host cover, within arrivals of `since..until` (microseconds; `None` is open).
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn coverage(&self, since: Option<i64>, until: Option<i64>) -> Result<Coverage> {
        let range = since.unwrap_or(i64::MIN)..until.unwrap_or(i64::MAX);
        let mut hosts: BTreeMap<String, HostCoverage> = BTreeMap::new();
        let snapshot = self.snapshot();
        for (_, segment, parts) in snapshot.segments() {
            let first = parts.first(segment).map_err(self.error("read times"))?;
            let last = segment.fast_fields().i64(schema::LAST).map_err(self.error("read times"))?;
            let inverted = segment.inverted_index(self.fields.terms).map_err(self.error("read hosts"))?;
            let mut stream = inverted.terms().range().ge(prefix::HOST.as_bytes()).into_stream().map_err(self.io_error("read hosts"))?;
            // What a host says of itself in a mail is no log of it.
            let mut reports = BitSet::with_max_value(segment.max_doc());
            if let Some(info) = inverted.terms().get(prefix::REPORT.as_bytes()).map_err(self.io_error("read hosts"))? {
                let mut postings =
                    inverted.read_postings_from_terminfo(&info, IndexRecordOption::Basic).map_err(self.io_error("read hosts"))?;
                while postings.doc() != TERMINATED {
                    reports.insert(postings.doc());
                    postings.advance();
                }
            }
            while let Some((key, info)) = stream.next() {
                let Some(host) = key.strip_prefix(prefix::HOST.as_bytes()) else { break };
                let host = String::from_utf8_lossy(host).into_owned();
                let mut postings =
                    inverted.read_postings_from_terminfo(info, IndexRecordOption::Basic).map_err(self.io_error("read hosts"))?;
                let mut doc = postings.doc();
                while doc != TERMINATED {
                    let times = (first.first(doc), last.first(doc));
                    if let ((Some(a), Some(z)), false) = (times, segment.is_deleted(doc) || reports.contains(doc))
                        && range.contains(&a)
                    {
                        cover(&mut hosts, &host, a, z);
                    }
                    doc = postings.advance();
                }
            }
        }
        Ok(Coverage { hosts: hosts.into_values().collect() })
    }

    /// Reads the whole index of a folder and says what is wrong with it: checksums, every record, every key.
    ///
    /// # Errors
    /// Only when the index cannot be opened at all; everything else is in the report.
    pub fn verify(dir: &Path) -> Result<VerifyReport> {
        let Opened { index, .. } = open_index(dir)?;
        let mut report = VerifyReport::default();
        let metas = index.load_metas().map_err(|e| StoreError::Damaged { dir: dir.into(), what: e.to_string() })?;
        for meta in &metas.segments {
            for file in files_of(meta) {
                report.files += 1;
                if !matches!(index.directory().validate_checksum(&file), Ok(true)) {
                    report.damaged.push(dir.join(file));
                }
            }
        }
        report.damaged.sort();
        if report.damaged.is_empty() {
            match Store::open(dir) {
                Ok(store) => store.verify_records(&mut report)?,
                Err(e) => report.problems.push(e.to_string()),
            }
        }
        Ok(report)
    }

    fn verify_records(&self, report: &mut VerifyReport) -> Result<()> {
        let snapshot = self.snapshot();
        let mut keys: HashSet<u128> = HashSet::new();
        for (ord, segment, _) in snapshot.segments() {
            let reader = segment.get_store_reader(1).map_err(self.io_error("read documents"))?;
            let mut documents = 0u32;
            let all = segment.doc_ids_alive().zip(reader.iter::<TantivyDocument>(segment.alive_bitset()));
            for (doc, document) in all {
                documents += 1;
                match document {
                    Ok(document) if schema::is_no_record(&self.fields, &document) => {}
                    Ok(_) => self.verify_record(&snapshot, DocAddress::new(ord, doc), &mut keys, report),
                    Err(e) => report.problems.push(format!("segment {}: a document cannot be read: {e}", segment.segment_id())),
                }
            }
            if documents != segment.num_docs() {
                let (id, want) = (segment.segment_id(), segment.num_docs());
                report.problems.push(format!("segment {id}: {documents} documents instead of {want}"));
            }
        }
        Ok(())
    }

    fn verify_record(&self, snapshot: &Snapshot, at: DocAddress, keys: &mut HashSet<u128>, report: &mut VerifyReport) {
        report.records += 1;
        let record = match self.fetch(snapshot, at) {
            Ok(record) => record,
            Err(e) => return report.problems.push(e.to_string()),
        };
        let mut events = record.events.as_slice();
        while let Some((_, rest)) = crate::model::event::Event::decode(events) {
            events = rest;
        }
        if !events.is_empty() || decode_all(&record.events).next().is_none() {
            report.problems.push(format!("record {}: its events cannot be read", record.key));
        }
        if !keys.insert(xxhash_rust::xxh3::xxh3_128(record.key.as_bytes())) {
            report.problems.push(format!("record {} is stored twice", record.key));
        }
        match self.get(&record.key) {
            Ok(Some(found)) if found.key == record.key => {}
            _ => report.problems.push(format!("record {} is not found by its key", record.key)),
        }
    }
}

fn cover(hosts: &mut BTreeMap<String, HostCoverage>, host: &str, first: i64, last: i64) {
    if !hosts.contains_key(host) {
        let new = HostCoverage { host: host.to_owned(), records: 0, first, last, slots: BTreeMap::new() };
        hosts.insert(host.to_owned(), new);
    }
    if let Some(h) = hosts.get_mut(host) {
        h.records += 1;
        h.first = h.first.min(first);
        h.last = h.last.max(last);
        h.note(first);
        h.note(last);
    }
}

/// The files of a segment that must be there.
fn files_of(meta: &tantivy::SegmentMeta) -> Vec<PathBuf> {
    use tantivy::index::SegmentComponent::{Custom, Delete};
    // No field has positions or norms, but the engine writes those files all the same.
    let mut files: Vec<PathBuf> = EXTENSIONS.iter().map(|e| meta.relative_path(Custom((*e).to_owned()))).collect();
    if meta.has_deletes() {
        files.push(meta.relative_path(Delete));
    }
    files
}

/// What the engine calls the files of a segment.
const EXTENSIONS: &[&str] = &["idx", "pos", "term", "store", "fast", "fieldnorm", super::ids::EXTENSION, super::records::EXTENSION];
