//! The one writer of an index: atomic commits, and merges that end before anything else begins.

use super::engine::{Opened, dictionaries, engine_error, open_index, sync_dir};
use super::guard::Latch;
use super::pack::Packing;
use super::schema::{self, Fields};
use super::{Batch, CommitInfo, KeyFilter, Result, StoreError};
use crate::model::record::StoredRecord;
use rayon::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tantivy::index::SegmentId;
use tantivy::indexer::{IndexWriterOptions, NoMergePolicy, UserOperation};
use tantivy::{Index, IndexReader, IndexWriter, ReloadPolicy, Term};

/// Name of the lock file; it holds the pid of the writing process.
pub(super) const LOCK: &str = "msgtrk.lock";
/// Bytes of terms a thread gathers before it writes a segment.
const MEMORY: usize = 160_000_000;
/// Threads that index a bulk batch.
const THREADS: usize = 1;
/// Documents that one thread takes at once in bulk; a batch up to this goes to one thread and makes one segment.
const CHUNK: usize = 1024;
/// Up to so many records are deleted by key without asking whether they are there.
const FEW: usize = 256;

/// The one writer of an index. See the module for what to do after an error.
pub struct Writer {
    pub(super) dir: PathBuf,
    fields: Fields,
    open: Option<Open>,
    /// Length of a window of time, microseconds.
    pub(super) window: i64,
    /// The newest arrival of each segment that was looked at.
    pub(super) newest: HashMap<SegmentId, Option<i64>>,
    known: Option<KeyFilter>,
    packing: Packing,
    /// About how many records were ever stored.
    stored: u64,
    _lock: File,
}

pub(super) struct Open {
    pub(super) writer: IndexWriter,
    pub(super) index: Index,
    latch: Arc<Latch>,
}

fn lock(dir: &Path) -> Result<File> {
    let path = dir.join(LOCK);
    let io = |doing, source| StoreError::Io { doing, path: path.clone(), source };
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(|e| io("open lock file", e))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _ = Read::by_ref(&mut file).take(32).read_to_string(&mut pid);
            let pid = pid.trim();
            let known = !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit());
            return Err(StoreError::Locked { dir: dir.into(), pid: if known { pid.into() } else { "unknown".into() } });
        }
        Err(TryLockError::Error(e)) => return Err(io("lock", e)),
    }
    let pid = format!("{}\n", std::process::id());
    let write = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(pid.as_bytes()));
    // A full disk must not keep the lock from being taken; the pid is a courtesy.
    if let Err(e) = write {
        tracing::warn!("cannot write the pid to {}: {e}", path.display());
    }
    Ok(file)
}

impl Writer {
    pub(super) fn take(dir: &Path) -> Result<Writer> {
        let lock = lock(dir)?;
        let Opened { index, fields, latch } = open_index(dir)?;
        let options =
            IndexWriterOptions::builder().num_worker_threads(THREADS).num_merge_threads(1).memory_budget_per_thread(MEMORY).build();
        let writer: IndexWriter = index.writer_with_options(options).map_err(|e| engine_error(dir, "open writer", e))?;
        writer.set_merge_policy(Box::new(NoMergePolicy));
        // An interrupted commit leaves files that belong to nothing. They must go: the same batch applied again would
        // want to write a deletion file of the very same name (it is made of segment and operation number) and fail for ever.
        writer.garbage_collect_files().wait().map_err(|e| engine_error(dir, "remove files of an interrupted commit", e))?;
        let searcher = reader(dir, &index)?.searcher();
        let packing = Packing::new(dictionaries(&searcher, &fields).map_err(|e| engine_error(dir, "read dictionaries", e))?);
        Ok(Writer {
            dir: dir.into(),
            fields,
            packing,
            stored: writer.commit_opstamp(),
            open: Some(Open { writer, index, latch }),
            window: super::merge::WINDOW,
            newest: HashMap::new(),
            known: None,
            _lock: lock,
        })
    }

    /// Keys and slots (`host/instance/queue id`, [`crate::model::record::Slot::key`]) of all records stored.
    ///
    /// The first call reads them from the index (about a second for some ten million); [`Writer::apply`] keeps them up to date.
    ///
    /// # Errors
    /// When the index cannot be read, or the writer has stopped.
    pub fn known(&mut self) -> Result<&KeyFilter> {
        let open = self.open.as_ref().ok_or_else(|| StoreError::Stopped { dir: self.dir.clone() })?;
        let filter = match self.known.take() {
            Some(filter) => filter,
            None => read_known(&self.dir, &open.index, &self.fields)?,
        };
        Ok(self.known.insert(filter))
    }

    /// Stores a batch in one atomic, durable commit, and merges segments when there are too many.
    ///
    /// # Errors
    /// As [`Writer::commit`].
    pub fn apply(&mut self, batch: Batch) -> Result<CommitInfo> {
        let put = batch.put.len();
        self.commit(batch)?;
        Ok(CommitInfo { put, ..self.tidy(u64::MAX)? })
    }

    /// Stores a batch in one atomic, durable commit.
    ///
    /// # Errors
    /// Any error stops the writer. Nothing or (when the error came after the commit) all of the batch is stored:
    /// [`Store::positions`](super::Store::positions) of a freshly opened store says which.
    pub fn commit(&mut self, batch: Batch) -> Result<()> {
        self.guarded(|w, open| w.try_commit(open, batch))
    }

    /// As [`Writer::commit`], with further records that are made on the way, some at a time, so that they never lie in
    /// memory all at once. `make` is told the keys and slots stored so far, and gives records to put and keys to remove;
    /// returns how many records were put. `when` says about when a record arrived, microseconds: a bulk over several
    /// windows of time is one commit a window, the oldest first, and only the last bears `batch` with its positions. Should
    /// it end in between, the same lines are read again and change nothing (R1).
    ///
    /// # Errors
    /// As [`Writer::commit`], and what `make` fails with.
    pub fn commit_made<T: Send>(
        &mut self,
        batch: Batch,
        from: Vec<T>,
        when: impl Fn(&T) -> i64,
        make: impl Fn(&KeyFilter, T) -> Result<(Vec<StoredRecord>, Vec<String>)> + Sync,
    ) -> Result<u64> {
        let (older, last) = self.bulk_by_window(from, when);
        self.guarded(|w, open| {
            let mut put = batch.put.len() as u64;
            if w.known.is_none() {
                w.known = Some(read_known(&w.dir, &open.index, &w.fields)?);
            }
            for some in older {
                put += w.send_made(open, some, &make)?;
                let positions = w.payload(open)?;
                w.commit_one(open, Batch { positions, ..Batch::default() })?;
            }
            put += w.send_made(open, last, &make)?;
            w.try_commit(open, batch)?;
            Ok(put)
        })
    }

    /// What makes a bulk of a window of its own, oldest first, and the rest.
    fn bulk_by_window<T>(&self, from: Vec<T>, when: impl Fn(&T) -> i64) -> (Vec<Vec<T>>, Vec<T>) {
        if from.len() <= CHUNK {
            return (Vec::new(), from);
        }
        let mut windows: BTreeMap<i64, Vec<T>> = BTreeMap::new();
        for one in from {
            windows.entry(when(&one).div_euclid(self.window)).or_default().push(one);
        }
        let mut last = windows.pop_last().map(|(_, some)| some).unwrap_or_default();
        let (many, few): (Vec<_>, Vec<_>) = windows.into_values().partition(|some| some.len() > CHUNK);
        last.extend(few.into_iter().flatten());
        (many, last)
    }

    fn send_made<T: Send>(
        &mut self,
        open: &Open,
        from: Vec<T>,
        make: &(impl Fn(&KeyFilter, T) -> Result<(Vec<StoredRecord>, Vec<String>)> + Sync),
    ) -> Result<u64> {
        let mut from = from.into_iter();
        let mut sent = 0;
        loop {
            let some: Vec<T> = from.by_ref().take(CHUNK).collect();
            let (Some(known), false) = (&self.known, some.is_empty()) else { return Ok(sent) };
            let made: Vec<_> = some.into_par_iter().map(|t| make(known, t)).collect::<Result<_>>()?;
            let (put, remove): (Vec<_>, Vec<_>) = made.into_iter().unzip();
            let put: Vec<StoredRecord> = put.into_iter().flatten().collect();
            let mut ops: Vec<UserOperation> = self.removals(remove.iter().flatten()).collect();
            sent += put.len() as u64;
            self.put(&mut ops, put, false);
            self.run(open, ops)?;
        }
    }

    fn removals<'a>(&self, keys: impl Iterator<Item = &'a String>) -> impl Iterator<Item = UserOperation> {
        let fields = self.fields;
        keys.map(move |key| UserOperation::Delete(schema::key_term(&fields, key)))
    }

    /// What stores records: each after the deletion of what its key had.
    fn put(&mut self, ops: &mut Vec<UserOperation>, records: Vec<StoredRecord>, masked: bool) {
        let fields = self.fields;
        let dictionary = self.packing.learn(&records, self.stored);
        self.stored += records.len() as u64;
        ops.extend(dictionary.map(|bytes| UserOperation::Add(schema::dictionary_document(&fields, &bytes))));
        let dictionary = self.packing.latest();
        let documents: Vec<_> = records.par_iter().map(|r| schema::document(&fields, dictionary, r, masked)).collect();
        for (record, document) in records.iter().zip(documents) {
            if self.note_key(record) {
                ops.push(UserOperation::Delete(schema::key_term(&fields, &record.key)));
            }
            ops.push(UserOperation::Add(document));
        }
    }

    fn run(&self, open: &Open, ops: Vec<UserOperation>) -> Result<()> {
        open.writer.run(ops).map(drop).map_err(|e| engine_error(&self.dir, "index", e))
    }

    fn payload(&self, open: &Open) -> Result<String> {
        let metas = open.index.load_metas().map_err(|e| engine_error(&self.dir, "read meta.json", e))?;
        Ok(metas.payload.unwrap_or_default())
    }

    /// Sets the length of the windows of time that segments keep to, microseconds (at least an hour).
    pub fn set_window(&mut self, window: i64) {
        self.window = window.max(3_600_000_000);
    }

    /// Runs `work`; on an error shuts the folder's writes and drops the engine's writer for good (R2).
    pub(super) fn guarded<T>(&mut self, work: impl FnOnce(&mut Self, &mut Open) -> Result<T>) -> Result<T> {
        let Some(mut open) = self.open.take() else { return Err(StoreError::Stopped { dir: self.dir.clone() }) };
        match work(self, &mut open) {
            Ok(done) => {
                self.open = Some(open);
                Ok(done)
            }
            Err(e) => {
                self.known = None;
                let latch = open.latch.clone();
                latch.shut();
                let first = latch.take_error();
                drop(open);
                latch.shut();
                Err(match first {
                    Some((file, source)) => StoreError::Io { doing: "write", path: self.dir.join(file), source },
                    None => e,
                })
            }
        }
    }

    fn try_commit(&mut self, open: &mut Open, batch: Batch) -> Result<()> {
        if self.known.is_none() && batch.put.len() > FEW {
            self.known = Some(read_known(&self.dir, &open.index, &self.fields)?);
        }
        let mut batch = batch;
        let arrival = |r: &StoredRecord| r.events().next().map_or(0, |e| e.head.time);
        let (older, last) = self.bulk_by_window(std::mem::take(&mut batch.put), arrival);
        for put in older {
            let (masked, positions) = (batch.masked, self.payload(open)?);
            self.commit_one(open, Batch { put, masked, positions, ..Batch::default() })?;
        }
        batch.put = last;
        self.commit_one(open, batch)
    }

    pub(super) fn commit_one(&mut self, open: &mut Open, mut batch: Batch) -> Result<()> {
        let positions = std::mem::take(&mut batch.positions);
        self.send(open, batch)?;
        let fail = |e| engine_error(&self.dir, "commit", e);
        let mut prepared = open.writer.prepare_commit().map_err(fail)?;
        prepared.set_payload(&positions);
        prepared.commit().map_err(fail)?;
        sync_dir(&self.dir)
    }

    /// Tests: the `n`-th write from here on fails.
    #[cfg(test)]
    pub(crate) fn fail_at(&self, n: usize) {
        use std::sync::atomic::Ordering::SeqCst;
        if let Some(open) = &self.open {
            let latch = &open.latch;
            latch.fail_at.store(latch.writes.load(SeqCst) + n, SeqCst);
        }
    }

    /// Tests: applies a batch whose `n`-th write fails.
    #[cfg(test)]
    pub(super) fn apply_failing_at(&mut self, n: usize, batch: Batch) -> Result<CommitInfo> {
        self.fail_at(n);
        self.apply(batch)
    }

    /// Hands a batch to the indexing thread, removals first.
    fn send(&mut self, open: &Open, batch: Batch) -> Result<()> {
        if let Some(before) = batch.expire_before {
            let expired = super::scan::expired(&self.fields, before);
            open.writer.delete_query(expired).map_err(|e| engine_error(&self.dir, "index", e))?;
        }
        let mut ops: Vec<UserOperation> = self.removals(batch.remove.iter()).collect();
        for (key, json) in &batch.sources {
            ops.push(UserOperation::Delete(Term::from_field_text(self.fields.source_key, key)));
            ops.push(UserOperation::Add(schema::source_document(&self.fields, key, json)));
        }
        let mut put = batch.put.into_iter();
        loop {
            let some: Vec<StoredRecord> = put.by_ref().take(CHUNK).collect();
            if some.is_empty() {
                return self.run(open, ops);
            }
            self.put(&mut ops, some, batch.masked);
            self.run(open, std::mem::take(&mut ops))?;
        }
    }

    /// Adds a record's key and slot to what is known; says whether the key may be stored already.
    fn note_key(&mut self, record: &StoredRecord) -> bool {
        let Some(known) = &mut self.known else { return true };
        let seen = known.may_contain(&record.key);
        known.insert(&record.key);
        if record.reused {
            known.insert(&record.slot.key());
        }
        seen
    }
}

fn reader(dir: &Path, index: &Index) -> Result<IndexReader> {
    index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into().map_err(|e| engine_error(dir, "open reader", e))
}

/// The filter of all keys and slots in an index.
fn read_known(dir: &Path, index: &Index, fields: &Fields) -> Result<KeyFilter> {
    let fail = |e| engine_error(dir, "read keys", e);
    let searcher = reader(dir, index)?.searcher();
    let mut dictionaries = Vec::new();
    for segment in searcher.segment_readers() {
        for field in [fields.key, fields.slot] {
            dictionaries.push(segment.inverted_index(field).map_err(fail)?);
        }
    }
    let keys: usize = dictionaries.iter().map(|d| d.terms().num_terms()).sum();
    let mut filter = KeyFilter::with_room(keys + keys / 2);
    for dictionary in dictionaries {
        let mut stream = dictionary.terms().stream().map_err(|e| fail(e.into()))?;
        while stream.advance() {
            filter.insert_bytes(stream.key());
        }
    }
    Ok(filter)
}
