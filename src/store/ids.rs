//! Which records bear an id: a table a segment, beside the engine's own files.
//!
//! Ids are asked for whole, and nearly each is in one or two records only: as terms of the engine they would be most of
//! what it sorts and writes, and the slowest of what it looks up. Here each is a number of 32 bits, a hash. That two ids
//! share one is rare, but happens: whoever looks up is told of records that *may* bear the id.
//!
//! The file of a segment: its entries (hash in the upper, number of the document in the lower half of 64 bits; sorted),
//! then where each bucket of hashes begins (32 bits each, and one more for the end), then how many bits of a hash are the
//! number of its bucket (8 bits). Little endian.

use super::plugin;
use std::any::Any;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::io::Write;
use tantivy::directory::{OwnedBytes, TerminatingWrite, WritePtr};
use tantivy::index::SegmentReader;
use tantivy::indexer::DocIdMapping;
use tantivy::schema::document::ErasedDocument;
use tantivy::schema::{Field, Schema};
use tantivy::{DocId, PluginMergeContext, PluginWriter, PluginWriterContext, Segment, SegmentPlugin};

/// The file's ending.
pub(super) const EXTENSION: &str = "ids";
/// Entries of a bucket, about.
const BUCKET: usize = 16;

/// The number of an id. Ids are compared without case.
pub(super) fn hash(lower: &str) -> u32 {
    (xxhash_rust::xxh3::xxh3_64(lower.as_bytes()) >> 32) as u32
}

/// The engine's hook: writes the table of each segment, and joins them when segments are merged.
pub(super) struct IdsPlugin {
    /// Bears the hashes of a document's ids, 4 bytes each.
    pub field: Field,
}

impl SegmentPlugin for IdsPlugin {
    fn extensions(&self) -> &[&str] {
        &[EXTENSION]
    }

    fn create_writer(&self, _: &PluginWriterContext) -> tantivy::Result<Box<dyn PluginWriter>> {
        Ok(Box::new(IdsWriter { field: self.field, entries: Vec::new() }))
    }

    fn merge(&self, ctx: PluginMergeContext) -> tantivy::Result<()> {
        plugin::in_order(&ctx)?;
        let mut parts = Vec::with_capacity(ctx.readers.len());
        let mut base = 0;
        for reader in ctx.readers {
            parts.push((Table::open(reader)?, Moved::new(reader, base)));
            base += reader.num_docs();
        }
        let most = parts.iter().map(|(table, _)| table.len()).sum();
        let mut out = TableWriter::new(ctx.target_segment, most)?;
        let mut streams: Vec<_> = parts.iter().map(|(table, moved)| table.all().filter_map(|e| moved.entry(e))).collect();
        let mut heads: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
        heads.extend(streams.iter_mut().enumerate().filter_map(|(n, s)| Some(Reverse((s.next()?, n)))));
        while let Some(mut head) = heads.peek_mut() {
            let Reverse((entry, n)) = *head;
            out.push(entry)?;
            match streams.get_mut(n).and_then(Iterator::next) {
                Some(next) => *head = Reverse((next, n)),
                None => drop(PeekMut::pop(head)),
            }
        }
        out.finish()
    }
}

/// Gathers the entries of a segment that is being written.
struct IdsWriter {
    field: Field,
    entries: Vec<u64>,
}

impl PluginWriter for IdsWriter {
    fn add_document(&mut self, id: DocId, document: &dyn ErasedDocument, _: &Schema) -> tantivy::Result<()> {
        let hashes = plugin::value(document, self.field);
        self.entries.extend(hashes.as_chunks().0.iter().map(|h| u64::from(u32::from_le_bytes(*h)) << 32 | u64::from(id)));
        Ok(())
    }

    fn serialize(mut self: Box<Self>, segment: &Segment, order: Option<&DocIdMapping>) -> tantivy::Result<()> {
        plugin::same_order(order)?;
        self.entries.sort_unstable();
        let mut out = TableWriter::new(segment, self.entries.len())?;
        for entry in self.entries {
            out.push(entry)?;
        }
        out.finish()
    }

    fn mem_usage(&self) -> usize {
        self.entries.capacity() * size_of::<u64>()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

/// Where the documents of a segment go when it is merged: behind those of the segments before it, without what is deleted.
struct Moved {
    base: DocId,
    /// Of each document, if any is deleted: how many live ones are before it; [`DocId::MAX`] if it is deleted itself.
    ranks: Option<Vec<DocId>>,
}

impl Moved {
    fn new(reader: &SegmentReader, base: DocId) -> Self {
        let ranks = reader.alive_bitset().map(|alive| {
            let mut rank = 0;
            let one = |doc| {
                let live = alive.is_alive(doc);
                let at = if live { rank } else { DocId::MAX };
                rank += DocId::from(live);
                at
            };
            (0..reader.max_doc()).map(one).collect()
        });
        Moved { base, ranks }
    }

    fn entry(&self, entry: u64) -> Option<u64> {
        let doc = entry as DocId;
        let rank = match &self.ranks {
            None => doc,
            Some(ranks) => *ranks.get(doc as usize)?,
        };
        (rank < DocId::MAX).then(|| (entry & !u64::from(DocId::MAX)) | u64::from(self.base + rank))
    }
}

/// Writes a table, entry by entry in their order.
struct TableWriter {
    out: WritePtr,
    bits: u32,
    starts: Vec<u32>,
    written: u32,
}

impl TableWriter {
    /// Begins one of at most `most` entries.
    fn new(segment: &Segment, most: usize) -> tantivy::Result<Self> {
        let bits = (most / BUCKET).max(1).ilog2();
        let out = plugin::create(segment, EXTENSION)?;
        Ok(TableWriter { out, bits, starts: Vec::with_capacity((1 << bits) + 1), written: 0 })
    }

    fn push(&mut self, entry: u64) -> std::io::Result<()> {
        let bucket = bucket_of(entry, self.bits);
        while self.starts.len() <= bucket {
            self.starts.push(self.written);
        }
        self.written = self.written.checked_add(1).ok_or_else(|| std::io::Error::other("too many ids for one segment"))?;
        self.out.write_all(&entry.to_le_bytes())
    }

    fn finish(mut self) -> tantivy::Result<()> {
        self.starts.resize((1 << self.bits) + 1, self.written);
        for start in &self.starts {
            self.out.write_all(&start.to_le_bytes())?;
        }
        self.out.write_all(&[self.bits as u8])?;
        Ok(self.out.terminate()?)
    }
}

fn bucket_of(entry: u64, bits: u32) -> usize {
    entry.unbounded_shr(64 - bits) as usize
}

/// The table of a segment.
pub(super) struct Table {
    entries: OwnedBytes,
    starts: OwnedBytes,
    bits: u32,
}

impl Table {
    pub fn open(segment: &SegmentReader) -> tantivy::Result<Self> {
        plugin::open(segment, EXTENSION, Table::read)
    }

    fn read(bytes: OwnedBytes) -> Option<Self> {
        let bits = u32::from(*bytes.last()?);
        if bits >= 32 {
            return None;
        }
        let starts = 4 * ((1 << bits) + 1);
        let entries = bytes.len().checked_sub(1 + starts)?;
        let table = Table { entries: bytes.slice(0..entries), starts: bytes.slice(entries..entries + starts), bits };
        (entries % 8 == 0).then_some(table)
    }

    fn len(&self) -> usize {
        self.entries.len() / 8
    }

    fn all(&self) -> impl Iterator<Item = u64> + '_ {
        self.entries.as_chunks().0.iter().map(|e| u64::from_le_bytes(*e))
    }

    /// Documents that may bear an id, in their order.
    pub fn documents(&self, hash: u32) -> impl Iterator<Item = DocId> + '_ {
        let bucket = bucket_of(u64::from(hash) << 32, self.bits);
        let start = |n: usize| self.starts.as_chunks().0.get(n).map_or(0, |s| u32::from_le_bytes(*s) as usize);
        let entries = self.entries.as_chunks().0.get(start(bucket)..start(bucket + 1)).unwrap_or_default();
        let entries = entries.iter().map(|e| u64::from_le_bytes(*e));
        let before = move |e: &u64| (*e >> 32) as u32 != hash;
        entries.skip_while(before).take_while(move |e| !before(e)).map(|e| e as DocId)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{T0, batch, mail};
    use super::super::{Seen, Store};
    use super::*;
    use crate::model::event::Action;
    use crate::model::query::{Pattern, Query};
    use proptest::prelude::*;

    fn table(entries: &[u64], bits: u32) -> Vec<u8> {
        let mut bytes: Vec<u8> = entries.iter().flat_map(|e| e.to_le_bytes()).collect();
        for bucket in 0..=1 << bits {
            bytes.extend((entries.iter().filter(|e| bucket_of(**e, bits) < bucket).count() as u32).to_le_bytes());
        }
        bytes.push(bits as u8);
        bytes
    }

    #[test]
    fn ids_of_one_hash_are_all_told_and_no_others() {
        let entry = |hash: u32, doc: u32| u64::from(hash) << 32 | u64::from(doc);
        let entries = [entry(0, 7), entry(5, 1), entry(5, 9), entry(6, 2), entry(u32::MAX, 3)];
        for bits in [0, 1, 4] {
            let table = Table::read(OwnedBytes::new(table(&entries, bits))).unwrap();
            let found = |hash| table.documents(hash).collect::<Vec<_>>();
            assert_eq!((found(5), found(0), found(u32::MAX), found(1)), (vec![1, 9], vec![7], vec![3], vec![]), "{bits}");
            assert_eq!(table.all().collect::<Vec<_>>(), entries);
        }
    }

    proptest! {
        #[test]
        fn damaged_tables_answer_without_harm(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), bits in prop_oneof![0..6u8, any::<u8>()], hash: u32) {
            bytes.push(bits);
            if let Some(table) = Table::read(OwnedBytes::new(bytes)) {
                prop_assert!(table.documents(hash).count() <= table.len());
            }
        }
    }

    #[test]
    fn after_changes_merges_and_reopening_each_record_is_found_by_its_ids_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open_or_create(dir.path()).unwrap();
        let mut w = store.writer().unwrap();
        let one = |n: usize, to: &str| mail("mx1", &format!("4Q{n:04}"), T0 + n as i64, "a@b.example", to, Action::Relayed);
        for round in 0..9 {
            // Each round changes a part of what the round before stored.
            w.apply(batch((round * 40..round * 40 + 60).map(|n| one(n, &format!("r{round}@c.example"))).collect(), "")).unwrap();
        }
        let check = |store: &Store| {
            for n in 0..380 {
                let id = format!("4Q{n:04}");
                let found = store.by_id(&id, 9, &mut Seen::default()).unwrap();
                let newest = (n / 40).min(8);
                assert_eq!(found.len(), 1, "{id}");
                assert_eq!(found[0].recipients[0].final_recipient, format!("r{newest}@c.example"), "{id}");
                assert_eq!(store.by_id(&format!("{id}.x@b.example"), 9, &mut Seen::default()).unwrap().len(), 1);
            }
            let query = Query { queue_id: Some(Pattern::new("4q001*")), ..Query::default() };
            assert_eq!(store.find(&query).unwrap().records.len(), 10, "a part of an id");
        };
        store.reload().unwrap();
        check(&store);
        w.compact().unwrap();
        store.reload().unwrap();
        assert_eq!(store.segments().unwrap().len(), 1);
        check(&store);
        drop(w);
        check(&Store::open(dir.path()).unwrap());
        assert!(Store::verify(dir.path()).unwrap().is_ok());
    }
}
