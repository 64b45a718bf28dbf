//! The packed records of a segment: a file of their own, from which one is read as it lies there.
//!
//! The engine keeps documents in blocks, to pack many together; these come packed. The file: the records one behind the
//! other in the order of their documents, then where each ends (40 bits each), then how many there are (32 bits). Little
//! endian. Documents that are no records have empty ones.

use super::plugin;
use std::any::Any;
use std::io::Write;
use tantivy::directory::{OwnedBytes, TerminatingWrite};
use tantivy::index::SegmentReader;
use tantivy::indexer::DocIdMapping;
use tantivy::schema::document::ErasedDocument;
use tantivy::schema::{Field, Schema};
use tantivy::{DocId, PluginMergeContext, PluginWriter, PluginWriterContext, Segment, SegmentPlugin};

/// The file's ending.
pub(super) const EXTENSION: &str = "records";
/// Bytes of the place where a record ends.
const PLACE: usize = 5;

/// The engine's hook: writes the records of each segment, and joins them when segments are merged.
pub(super) struct RecordsPlugin {
    /// Bears the packed record of a document.
    pub field: Field,
}

impl SegmentPlugin for RecordsPlugin {
    fn extensions(&self) -> &[&str] {
        &[EXTENSION]
    }

    fn create_writer(&self, _: &PluginWriterContext) -> tantivy::Result<Box<dyn PluginWriter>> {
        Ok(Box::new(RecordsWriter { field: self.field, bytes: Vec::new(), ends: Vec::new() }))
    }

    fn merge(&self, ctx: PluginMergeContext) -> tantivy::Result<()> {
        plugin::in_order(&ctx)?;
        let parts: Vec<Records> = ctx.readers.iter().map(Records::open).collect::<tantivy::Result<_>>()?;
        let mut out = plugin::create(ctx.target_segment, EXTENSION)?;
        let live = || ctx.readers.iter().zip(&parts).flat_map(|(r, part)| r.doc_ids_alive().map(move |doc| part.get(doc)));
        for record in live() {
            out.write_all(record.unwrap_or_default())?;
        }
        let (mut end, mut count) = (0, 0);
        for record in live() {
            end += record.unwrap_or_default().len();
            count += 1;
            out.write_all(&place(end))?;
        }
        out.write_all(&u32::to_le_bytes(count))?;
        Ok(out.terminate()?)
    }
}

fn place(end: usize) -> [u8; PLACE] {
    let [a, b, c, d, e, ..] = (end as u64).to_le_bytes();
    [a, b, c, d, e]
}

/// Gathers the records of a segment that is being written.
struct RecordsWriter {
    field: Field,
    bytes: Vec<u8>,
    ends: Vec<[u8; PLACE]>,
}

impl PluginWriter for RecordsWriter {
    fn add_document(&mut self, _: DocId, document: &dyn ErasedDocument, _: &Schema) -> tantivy::Result<()> {
        self.bytes.extend_from_slice(plugin::value(document, self.field));
        self.ends.push(place(self.bytes.len()));
        Ok(())
    }

    fn serialize(self: Box<Self>, segment: &Segment, order: Option<&DocIdMapping>) -> tantivy::Result<()> {
        plugin::same_order(order)?;
        let mut out = plugin::create(segment, EXTENSION)?;
        out.write_all(&self.bytes)?;
        out.write_all(self.ends.as_flattened())?;
        out.write_all(&(self.ends.len() as u32).to_le_bytes())?;
        Ok(out.terminate()?)
    }

    fn mem_usage(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * PLACE
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

/// The records of a segment.
pub(super) struct Records {
    bytes: OwnedBytes,
    ends: OwnedBytes,
}

impl Records {
    pub fn open(segment: &SegmentReader) -> tantivy::Result<Self> {
        plugin::open(segment, EXTENSION, Records::read)
    }

    fn read(bytes: OwnedBytes) -> Option<Self> {
        let (rest, count) = bytes.split_last_chunk()?;
        let ends = rest.len().checked_sub(PLACE * u32::from_le_bytes(*count) as usize)?;
        Some(Records { ends: bytes.slice(ends..rest.len()), bytes: bytes.slice(0..ends) })
    }

    /// The packed record of a document; `None` if it is none, or damaged.
    pub fn get(&self, doc: DocId) -> Option<&[u8]> {
        let ends = self.ends.as_chunks().0;
        let end = |n: usize| ends.get(n).map(|&[a, b, c, d, e]: &[u8; PLACE]| u64::from_le_bytes([a, b, c, d, e, 0, 0, 0]) as usize);
        let start = (doc as usize).checked_sub(1).map_or(Some(0), end)?;
        self.bytes.get(start..end(doc as usize)?).filter(|r| !r.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(records: &[&[u8]]) -> Vec<u8> {
        let mut bytes = records.concat();
        let ends = records.iter().scan(0, |end, r| {
            *end += r.len();
            Some(place(*end))
        });
        bytes.extend(ends.flatten());
        bytes.extend((records.len() as u32).to_le_bytes());
        bytes
    }

    #[test]
    fn each_document_has_its_record_and_those_without_have_none() {
        let records = Records::read(OwnedBytes::new(file(&[b"one", b"", b"three"]))).unwrap();
        let all: Vec<_> = (0..4).map(|doc| records.get(doc)).collect();
        assert_eq!(all, [Some(&b"one"[..]), None, Some(b"three"), None]);
    }

    proptest! {
        #[test]
        fn damaged_files_answer_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..60), count in 0..12u32, doc in 0..14u32) {
            let whole = [bytes.as_slice(), &count.to_le_bytes()].concat();
            if let Some(record) = Records::read(OwnedBytes::new(whole)).as_ref().and_then(|r| r.get(doc)) {
                prop_assert!(record.len() <= bytes.len());
            }
        }
    }
}
