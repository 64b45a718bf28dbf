//! The embedded engine: one tantivy index in one folder, opened, read and listed.

use super::guard::{Guard, Latch};
use super::ids::IdsPlugin;
use super::pack::{self, Dictionary};
use super::records::RecordsPlugin;
use super::schema::{self, Fields};
use super::snapshot::Snapshot;
use super::{Result, StoreError, Writer};
use crate::model::record::{Slot, StoredRecord};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use tantivy::directory::MmapDirectory;
use tantivy::directory::error::OpenReadError;
use tantivy::schema::IndexRecordOption;
use tantivy::{
    DocAddress, DocSet, Index, IndexReader, IndexSettings, ReloadPolicy, Searcher, SegmentPlugin, TERMINATED, TantivyDocument,
    TantivyError, Term,
};

/// An open index, for reading. Sees what was committed when it was opened or last [`reload`](Store::reload)ed.
pub struct Store {
    pub(super) dir: PathBuf,
    pub(super) index: Index,
    pub(super) fields: Fields,
    reader: IndexReader,
    /// Those met so far.
    dictionaries: RwLock<Vec<Arc<Dictionary>>>,
    snapshot: RwLock<Arc<Snapshot>>,
}

/// An error of the engine in our words.
pub(super) fn engine_error(dir: &Path, doing: &'static str, e: TantivyError) -> StoreError {
    let what = e.to_string();
    match e {
        TantivyError::DataCorruption(_) | TantivyError::IncompatibleIndex(_) => StoreError::Damaged { dir: dir.into(), what },
        TantivyError::OpenReadError(OpenReadError::IoError { io_error, filepath }) => {
            let source = io::Error::new(io_error.kind(), io_error.to_string());
            StoreError::Io { doing, path: dir.join(filepath), source }
        }
        TantivyError::OpenReadError(_) => StoreError::Damaged { dir: dir.into(), what },
        TantivyError::IoError(source) => {
            let source = source.raw_os_error().map_or_else(|| std::io::Error::new(source.kind(), what), std::io::Error::from_raw_os_error);
            StoreError::Io { doing, path: dir.into(), source }
        }
        _ => StoreError::Engine { dir: dir.into(), doing, what },
    }
}

/// An index just opened, with the latch of its folder.
pub(super) struct Opened {
    pub(super) index: Index,
    pub(super) fields: Fields,
    pub(super) latch: Arc<Latch>,
}

/// What the engine does not write by itself.
fn plugins(fields: &Fields) -> [Arc<dyn SegmentPlugin>; 2] {
    [Arc::new(IdsPlugin { field: fields.ids }), Arc::new(RecordsPlugin { field: fields.record })]
}

fn guard(dir: &Path) -> Result<Guard> {
    let inner = MmapDirectory::open(dir).map_err(|e| engine_error(dir, "open folder", e.into()))?;
    Ok(Guard::new(dir, inner))
}

/// Opens the index of a folder afresh.
pub(super) fn open_index(dir: &Path) -> Result<Opened> {
    let meta = dir.join("meta.json");
    match std::fs::metadata(&meta) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return Err(StoreError::Io { doing: "open", path: meta, source: e }),
        Ok(m) if m.is_file() => {}
        _ => return Err(StoreError::Absent { dir: dir.into() }),
    }
    let guard = guard(dir)?;
    let latch = guard.latch.clone();
    let mut index = Index::open(guard).map_err(|e| engine_error(dir, "open", e))?;
    let fields = schema::check(&index.schema()).map_err(|found| StoreError::Version { dir: dir.into(), found, wanted: schema::VERSION })?;
    plugins(&fields).into_iter().for_each(|plugin| index.register_plugin(plugin));
    Ok(Opened { index, fields, latch })
}

fn create(dir: &Path) -> Result<()> {
    let io = |doing, source| StoreError::Io { doing, path: dir.into(), source };
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir).map_err(|e| io("create folder", e))?;
    let mut entries = std::fs::read_dir(dir).map_err(|e| io("read folder", e))?;
    let foreign = entries.find_map(|e| e.ok().filter(|e| !is_ours(&e.file_name().to_string_lossy())));
    if let Some(entry) = foreign {
        let what = format!("it has no meta.json but holds {}: name an empty or new folder", entry.file_name().display());
        return Err(StoreError::Damaged { dir: dir.into(), what });
    }
    // A folder that was there before is the index' own from now on.
    #[cfg(unix)]
    let own = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    #[cfg(unix)]
    std::fs::set_permissions(dir, own).map_err(|e| io("make private", e))?;
    let settings = IndexSettings { docstore_compress_dedicated_thread: false, ..Default::default() };
    let (schema, fields) = schema::schema();
    let builder = Index::builder().schema(schema).settings(settings);
    let builder = plugins(&fields).into_iter().fold(builder, |b, plugin| b.register_plugin(plugin));
    builder.open_or_create(guard(dir)?).map_err(|e| engine_error(dir, "create", e))?;
    sync_dir(dir)
}

/// Files that an interrupted creation may leave: they are no reason to refuse the folder.
fn is_ours(name: &str) -> bool {
    name.starts_with('.') || name == super::writer::LOCK
}

/// Makes a folder's entries durable.
pub(super) fn sync_dir(dir: &Path) -> Result<()> {
    let io = |source| StoreError::Io { doing: "sync folder", path: dir.into(), source };
    std::fs::File::open(dir).and_then(|f| f.sync_all()).map_err(io)
}

/// All live documents with a term.
fn with_term(searcher: &Searcher, term: &Term) -> tantivy::Result<Vec<DocAddress>> {
    let mut found = Vec::new();
    for (ord, segment) in searcher.segment_readers().iter().enumerate() {
        let inverted = segment.inverted_index(term.field())?;
        let Some(mut postings) = inverted.read_postings(term, IndexRecordOption::Basic)? else { continue };
        while postings.doc() != TERMINATED {
            if !segment.is_deleted(postings.doc()) {
                found.push(DocAddress::new(ord as u32, postings.doc()));
            }
            postings.advance();
        }
    }
    Ok(found)
}

/// All dictionaries of an index.
pub(super) fn dictionaries(searcher: &Searcher, fields: &Fields) -> tantivy::Result<Vec<Dictionary>> {
    let mut found = Vec::new();
    for at in with_term(searcher, &Term::from_field_text(fields.terms, schema::prefix::DICTIONARY))? {
        let doc: TantivyDocument = searcher.doc(at)?;
        found.extend(schema::dictionary_of(fields, &doc).and_then(Dictionary::new));
    }
    Ok(found)
}

impl Store {
    /// Opens an index that exists.
    ///
    /// # Errors
    /// [`StoreError::Absent`], [`StoreError::Version`], [`StoreError::Damaged`], [`StoreError::Io`].
    pub fn open(dir: &Path) -> Result<Store> {
        let Opened { index, fields, .. } = open_index(dir)?;
        let reader =
            index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into().map_err(|e| engine_error(dir, "open reader", e))?;
        let snapshot = Snapshot::newest(&reader, None).map_err(|e| engine_error(dir, "open segments", e))?;
        let snapshot = RwLock::new(Arc::new(snapshot));
        Ok(Store { dir: dir.into(), index, fields, reader, dictionaries: RwLock::default(), snapshot })
    }

    /// Opens an index, or makes an empty one; its folder is readable by its owner only.
    ///
    /// # Errors
    /// As [`Store::open`], and when the folder cannot be made or holds something else.
    pub fn open_or_create(dir: &Path) -> Result<Store> {
        if !dir.join("meta.json").exists() {
            create(dir)?;
        }
        Store::open(dir)
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Takes the one writer of this index, on the folder opened afresh.
    ///
    /// # Errors
    /// [`StoreError::Locked`] with the pid of who has it.
    pub fn writer(&self) -> Result<Writer> {
        Writer::take(&self.dir)
    }

    /// Makes what was committed since (by any process) visible.
    ///
    /// # Errors
    /// When files cannot be opened; what was visible before stays so.
    pub fn reload(&self) -> Result<()> {
        let before = self.snapshot();
        let newest = Snapshot::newest(&self.reader, Some(&before)).map_err(|e| engine_error(&self.dir, "reload", e))?;
        *self.snapshot.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(newest);
        Ok(())
    }

    /// What is visible now; it stays as it is whatever is committed meanwhile.
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn error(&self, doing: &'static str) -> impl Fn(TantivyError) -> StoreError + '_ {
        move |e| engine_error(&self.dir, doing, e)
    }

    pub(super) fn damaged(&self, what: impl Into<String>) -> StoreError {
        StoreError::Damaged { dir: self.dir.clone(), what: what.into() }
    }

    /// All live documents with a term.
    pub(super) fn with_term(&self, snapshot: &Snapshot, term: &Term) -> Result<Vec<DocAddress>> {
        with_term(snapshot, term).map_err(self.error("read"))
    }

    /// The record of a document.
    pub(super) fn fetch(&self, snapshot: &Snapshot, at: DocAddress) -> Result<StoredRecord> {
        let packed = snapshot.packed(at).ok_or_else(|| self.damaged("a document bears no record"))?;
        self.unpacked(snapshot, packed)
    }

    pub(super) fn unpacked(&self, snapshot: &Snapshot, packed: &[u8]) -> Result<StoredRecord> {
        let dictionary = pack::needs(packed).map(|number| self.dictionary(snapshot, number)).transpose()?;
        let plain = pack::unpack(dictionary.as_deref(), packed);
        plain.and_then(|plain| schema::decode(&plain)).ok_or_else(|| self.damaged("a record cannot be decoded"))
    }

    fn dictionary(&self, snapshot: &Snapshot, number: u32) -> Result<Arc<Dictionary>> {
        let of = |all: &[Arc<Dictionary>]| all.iter().find(|d| d.number == number).cloned();
        if let Some(known) = of(&self.dictionaries.read().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(known);
        }
        let stored: Vec<_> =
            dictionaries(snapshot, &self.fields).map_err(self.error("read dictionaries"))?.into_iter().map(Arc::new).collect();
        let found = of(&stored).ok_or_else(|| self.damaged(format!("dictionary {number} of its records is missing")));
        *self.dictionaries.write().unwrap_or_else(PoisonError::into_inner) = stored;
        found
    }

    /// The record of a key, if there is one (aborted transactions too).
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn get(&self, key: &str) -> Result<Option<StoredRecord>> {
        let snapshot = self.snapshot();
        let found = self.with_term(&snapshot, &schema::key_term(&self.fields, key))?;
        found.last().map(|&at| self.fetch(&snapshot, at)).transpose()
    }

    /// All messages that ever were in a slot, in the order of their keys (aborted transactions too).
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn by_slot(&self, slot: &Slot) -> Result<Vec<StoredRecord>> {
        let snapshot = self.snapshot();
        let name = slot.key();
        let mut at = self.with_term(&snapshot, &schema::key_term(&self.fields, &name))?;
        at.extend(self.with_term(&snapshot, &Term::from_field_text(self.fields.slot, &name))?);
        at.sort_unstable();
        at.dedup();
        let mut records = Vec::with_capacity(at.len());
        for at in at {
            let record = self.fetch(&snapshot, at)?;
            if record.slot == *slot {
                records.push(record);
            }
        }
        records.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(records)
    }

    /// The positions of the last commit on disk, as given to [`Writer::apply`]; `None` before the first.
    ///
    /// # Errors
    /// When `meta.json` cannot be read.
    pub fn positions(&self) -> Result<Option<String>> {
        Ok(self.index.load_metas().map_err(self.error("read meta.json"))?.payload)
    }

    /// The JSON of all finished sources.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn sources(&self) -> Result<Vec<String>> {
        Ok(self.source_documents()?.into_iter().map(|(_, json)| json).collect())
    }

    /// All finished sources: key and JSON.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn source_documents(&self) -> Result<Vec<(String, String)>> {
        let snapshot = self.snapshot();
        let mut found = Vec::new();
        for (ord, segment) in snapshot.segment_readers().iter().enumerate() {
            let read = |e: std::io::Error| self.error("read sources")(e.into());
            let inverted = segment.inverted_index(self.fields.source_key).map_err(self.error("read sources"))?;
            let mut stream = inverted.terms().stream().map_err(read)?;
            while let Some((key, info)) = stream.next() {
                let key = String::from_utf8_lossy(key).into_owned();
                let mut postings = inverted.read_postings_from_terminfo(info, IndexRecordOption::Basic).map_err(read)?;
                while postings.doc() != TERMINATED {
                    if !segment.is_deleted(postings.doc()) {
                        let at = DocAddress::new(ord as u32, postings.doc());
                        let doc: TantivyDocument = snapshot.doc(at).map_err(self.error("read source"))?;
                        found.extend(schema::source_of(&self.fields, &doc).map(|json| (key.clone(), json)));
                    }
                    postings.advance();
                }
            }
        }
        Ok(found)
    }
}
