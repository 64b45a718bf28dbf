//! The packed records of a segment: a file of their own, from which one is read as it lies there.
//!
//! The engine keeps documents in blocks, to pack many together; these come packed. The file: the records one behind the
//! other in the order of their documents, then where each ends (40 bits each), then how many there are (32 bits). Little
//! endian. Documents that are no records have empty ones.

use super::ids::in_order;
use std::any::Any;
use std::io::Write;
use tantivy::directory::{OwnedBytes, TerminatingWrite};
use tantivy::index::{SegmentComponent, SegmentReader};
use tantivy::indexer::DocIdMapping;
use tantivy::schema::document::ErasedDocument;
use tantivy::schema::{Field, Schema, Value};
use tantivy::{DocId, PluginMergeContext, PluginWriter, PluginWriterContext, Segment, SegmentPlugin, TantivyDocument, TantivyError};

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
        in_order(&ctx)?;
        let parts: Vec<Records> = ctx.readers.iter().map(Records::open).collect::<tantivy::Result<_>>()?;
        let mut out = ctx.target_segment.open_write(SegmentComponent::Custom(EXTENSION.into()))?;
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
        let document = document.as_any().downcast_ref::<TantivyDocument>();
        let record = document.and_then(|d| d.get_first(self.field)).and_then(|v| v.as_custom());
        self.bytes.extend_from_slice(record.unwrap_or_default());
        self.ends.push(place(self.bytes.len()));
        Ok(())
    }

    fn serialize(self: Box<Self>, segment: &Segment, order: Option<&DocIdMapping>) -> tantivy::Result<()> {
        super::ids::same_order(order)?;
        let mut out = segment.open_write(SegmentComponent::Custom(EXTENSION.into()))?;
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
        let bytes = segment.open_read(SegmentComponent::Custom(EXTENSION.into()))?.read_bytes()?;
        let damaged = || TantivyError::InternalError(format!("the records of segment {} cannot be read", segment.segment_id()));
        Records::read(bytes).ok_or_else(damaged)
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
